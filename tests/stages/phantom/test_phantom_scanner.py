"""The simulated scanner conserves what it averages and is reproducible."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from pipeline.core.geometry import VoxelGrid
from stages.phantom.coverage import cover
from stages.phantom.metal import streaks
from stages.phantom.scanner import (
    Optics,
    blur,
    draw_textures,
    grid_axes,
    noise,
    paint,
    profile_parts,
    reconstruction_circle,
    scan,
    sharpen,
)
from stages.phantom.shapes import ellipsoid
from stages.phantom.textures import draw_field
from stages.phantom.tissues import AIR, EVERYWHERE, Material, Tissue

ANYWHERE = ((-100.0, 100.0),) * 3


def ball(radius_mm, centre=(0.0, 0.0, 0.0)):
    return lambda x, y, z: ellipsoid(x, y, z, centre_mm=centre, radii_mm=(radius_mm,) * 3)


def test_shares_of_a_ball_add_up_to_its_volume():
    axes = tuple(np.arange(-12.0, 12.01, s) for s in (1.0, 0.5, 0.5))
    _, share = cover(ball(9.3, (0.13, 0.2, 0.31)), axes, ANYWHERE, thickness_mm=1.0)
    volume = share.sum(dtype=np.float64) * 0.25
    # A ramp over a sub-sample of h = 0.33 mm puts the ball's shell off by about h^2/(12 r^2).
    assert_allclose(volume, 4 / 3 * np.pi * 9.3**3, rtol=3e-4)


def test_share_of_a_voxel_that_a_plane_halves_is_one_half():
    axes = (np.arange(0.0, 8.0), np.arange(0.0, 16.0, 0.5), np.arange(0.0, 16.0, 0.5))
    cut = 4.0
    for normal in np.eye(3):

        def below(x, y, z, n=normal):
            return (x * n[0] + y * n[1] + z * n[2]).astype(np.float32) - np.float32(4.0)

        _, share = cover(below, axes, ANYWHERE, thickness_mm=1.0)
        _, j, i = np.meshgrid(*axes, indexing="ij")
        k = np.meshgrid(*axes, indexing="ij")[0]
        position = i * normal[0] + j * normal[1] + k * normal[2]
        assert_allclose(share[position == cut], 0.5, atol=1e-6)


def test_search_by_blocks_finds_what_dense_sampling_finds(make_patient):
    patient = make_patient(7)
    axes = (
        patient.anatomy.shift_mm[2] + np.arange(2.0, 10.0),
        patient.anatomy.shift_mm[1] + np.arange(-50.0, -20.0, 0.45),
        patient.anatomy.shift_mm[0] + np.arange(-16.0, 16.0, 0.45),
    )
    distance = patient.frame.posed(patient.airway.distance)
    _, share = cover(distance, axes, ANYWHERE, thickness_mm=1.0)
    offsets = [(np.arange(6) + 0.5) / 6 - 0.5] * 3
    z, y, x = np.meshgrid(*axes, indexing="ij")
    dense = np.mean(
        [
            distance(x + 0.45 * dx, y + 0.45 * dy, z + dz) < 0
            for dz in offsets[0]
            for dy in offsets[1]
            for dx in offsets[2]
        ],
        axis=0,
    )
    assert np.sqrt(np.mean((share - dense) ** 2)) < 0.015
    assert abs(share.mean() - dense.mean()) < 5e-4


def test_painted_hu_is_the_mix_of_tissues_weighted_by_their_shares():
    grid = VoxelGrid((20, 40, 40), (1.0, 0.5, 0.5), (-9.75, -9.75, -9.5))
    tissue = Tissue("ball", Material(60.0), ball(7.0), EVERYWHERE)
    hu = paint([tissue], draw_textures(0), grid, 0, 20, thickness_mm=1.0)
    _, share = cover(ball(7.0), grid_axes(grid), EVERYWHERE, thickness_mm=1.0)
    total = hu.sum(dtype=np.float64)
    assert_allclose(total, (-1000.0 + 1060.0 * share.astype(np.float64)).sum(), rtol=1e-6)
    exact = -1000.0 * hu.size + 1060.0 * 4 / 3 * np.pi * 7.0**3 / grid.voxel_volume_mm3
    assert_allclose(total, exact, rtol=3e-4)


def test_later_tissues_cover_earlier_ones():
    grid = VoxelGrid((9, 9, 9), (1.0, 1.0, 1.0), (-4.0, -4.0, -4.0))
    tissues = [
        Tissue("ball", Material(60.0), ball(4.0), EVERYWHERE),
        Tissue("hole", AIR, ball(2.0), EVERYWHERE),
    ]
    hu = paint(tissues, draw_textures(0), grid, 0, 9, thickness_mm=1.0)
    assert hu[4, 4, 4] == -1000.0
    assert hu[4, 4, 7] == 60.0


def test_a_thick_slice_is_the_mean_of_thin_slices(make_patient):
    patient = make_patient(7)
    x, y, z = patient.anatomy.shift_mm
    thin = VoxelGrid((9, 90, 90), (1.0, 0.8, 0.8), (x - 36.0, y - 90.0, z + 1.0))
    thick = VoxelGrid((3, 90, 90), (3.0, 0.8, 0.8), (x - 36.0, y - 90.0, z + 2.0))
    plain = [
        Tissue(t.name, Material(t.material.hu), t.distance, t.bounds_mm) for t in patient.tissues
    ]
    textures = draw_textures(0)
    fine = paint(plain, textures, thin, 0, 9, thickness_mm=1.0)
    coarse = paint(plain, textures, thick, 0, 3, thickness_mm=3.0)
    difference = coarse - fine.reshape(3, 3, 90, 90).mean(axis=1)
    # Shares are averaged before tissues are mixed in the one case and after in the other; where
    # three tissues meet within a voxel the two differ.
    assert np.sqrt(np.mean(difference**2)) < 15.0
    assert abs(difference.mean()) < 1.5


def test_blur_keeps_the_mean_and_spreads_a_point_to_its_width():
    grid = VoxelGrid((1, 101, 101), (1.0, 0.2, 0.2))
    point = np.zeros(grid.shape, dtype=np.float32)
    point[0, 50, 50] = 1.0
    spread = blur(point, grid, 1.2)[0]
    assert_allclose(spread.sum(), 1.0, rtol=1e-5)
    # Half the peak's value half the width away; 1.2 mm is six pixels.
    assert_allclose(spread[50, 53] / spread[50, 50], 0.5, rtol=2e-2)


def test_no_blur_leaves_the_slices_alone():
    hu = np.random.default_rng(1).normal(size=(2, 9, 9)).astype(np.float32)
    assert_array_equal(blur(hu, VoxelGrid((2, 9, 9), (1.0, 0.5, 0.5), (0.0, 0.0, 0.0)), 0.0), hu)


def test_noise_has_the_set_deviation_and_a_soft_texture():
    grid = VoxelGrid((1, 256, 256), (1.0, 0.45, 0.45))
    slices = np.stack([noise(grid, 14.0, np.random.default_rng(k)) for k in range(8)])
    # 8 x 65536 pixels, correlated over about 3x3: standard error of the deviation 0.3 %.
    assert_allclose(slices.std(), 14.0, rtol=0.02)
    assert abs(slices.mean()) < 1.0
    neighbours = np.mean(slices[:, :, 1:] * slices[:, :, :-1]) / slices.var()
    assert 0.4 < neighbours < 0.9


def test_random_fields_are_continuous_across_slabs_and_of_unit_variance():
    field = draw_field(np.random.default_rng(0), 1.5)
    axis = np.arange(0.0, 60.0, 0.7)
    whole = field.on_grid(axis, axis, axis)
    parts = np.concatenate([field.on_grid(a, axis, axis) for a in np.array_split(axis, 5)])
    assert_array_equal(whole, parts)
    assert_allclose(whole.std(), 1.0, atol=0.05)


def test_scans_repeat_with_the_seed_and_differ_without(make_patient):
    def make(seed, noise_seed):
        grid = VoxelGrid((6, 64, 64), (2.0, 3.6, 3.6), (-113.4, -101.4, 0.0))
        slabs = scan(make_patient(seed), grid, Optics(2.0, 0.9, 14.0, noise_seed))
        return np.concatenate(list(slabs))

    first = make(7, 7)
    assert_array_equal(first, make(7, 7))
    assert np.any(first != make(8, 7))
    assert np.any(first != make(7, 8))


def test_scan_pads_outside_the_circle_and_stays_within_twelve_bits(make_patient):
    grid = VoxelGrid((3, 96, 96), (2.0, 2.4, 2.4), (-114.0, -102.0, 0.0))
    hu = np.concatenate(list(scan(make_patient(7), grid, Optics(2.0, 0.9, 60.0, 1))))
    assert np.all(hu[:, ~reconstruction_circle(grid)] == -1024)
    assert hu.min() >= -1024
    assert hu.max() <= 3071
    assert hu.dtype == np.int16


def test_the_brain_has_its_mean_value(make_patient):
    patient = make_patient(7)
    found = {t.name: t for t in patient.tissues}["brain"]
    x, y, z = patient.anatomy.shift_mm
    grid = VoxelGrid((4, 120, 120), (1.0, 1.6, 1.6), (x - 95.0, y - 80.0, z + 38.0))
    hu = paint(patient.tissues, draw_textures(1), grid, 0, 4, thickness_mm=1.0)
    points = grid.to_world_mm(np.stack(np.indices(grid.shape), axis=-1))
    deep = found.distance(*np.moveaxis(points, -1, 0)) < -2.5
    assert deep.sum() > 50
    # Slow variation of 4 HU over 9 mm leaves about 1 HU in the mean over the slab.
    assert_allclose(hu[deep].mean(), found.material.hu, atol=4.0)


@pytest.mark.parametrize("profile", ["box", "triangle", "gaussian"])
def test_a_profile_has_its_width_at_half_maximum_and_weight_one(profile):
    z = np.linspace(-15, 15, 60001)
    shape = sum(
        weight / width * (np.abs(z - offset) < width / 2)
        for weight, offset, width in profile_parts(profile, 4.0)
    )
    assert np.trapezoid(shape, z) == pytest.approx(1.0, abs=1e-3)
    assert np.trapezoid(shape * z, z) == pytest.approx(0.0, abs=1e-3)
    # Variances of the profiles of this width at half maximum: box, box on box, Gaussian.
    variance = {"box": 1 / 12, "triangle": 1 / 6, "gaussian": 1 / (8 * np.log(2))}[profile] * 16
    assert np.trapezoid(shape * z**2, z) == pytest.approx(variance, rel=0.05)


def test_sharpening_keeps_the_mean_and_overshoots_at_edges():
    grid = VoxelGrid((1, 64, 64), (1.0, 0.5, 0.5), (0.0, 0.0, 0.0))
    hu = np.full((1, 64, 64), -1000.0, dtype=np.float32)
    hu[:, 16:48, 16:48] = 40.0
    sharp = sharpen(hu, grid, 0.8)
    assert sharp.mean() == pytest.approx(hu.mean(), abs=0.5)
    assert sharp.max() > 90
    assert np.array_equal(sharpen(hu, grid, 0.0), hu)


def phantom_slice(*metal_at):
    y, x = np.mgrid[-1:1:256j, -1:1:256j]
    hu = np.where(x**2 + y**2 < 0.7, 40.0, -1000.0)
    metal = np.zeros_like(hu)
    for cx, cy in metal_at:
        metal[(x - cx) ** 2 + (y - cy) ** 2 < 0.03**2] = 1.0
    return np.where(metal > 0, 8000.0, hu), metal, x, y


def test_without_metal_there_are_no_streaks():
    hu, metal, _, _ = phantom_slice()
    assert np.array_equal(streaks(hu, metal, 0.8, np.random.default_rng(1)), np.zeros_like(hu))


def test_between_two_fillings_lies_a_dark_band():
    hu, metal, x, y = phantom_slice((-0.3, 0.0), (0.3, 0.0))
    added = streaks(hu, metal, 0.8, np.random.default_rng(1))
    between = (np.abs(x) < 0.2) & (np.abs(y) < 0.02)
    away = (np.abs(x) < 0.2) & (np.abs(np.abs(y) - 0.5) < 0.1)
    assert added[between].mean() < -50
    assert abs(added[away].mean()) < 0.3 * abs(added[between].mean())
    assert not added[metal > 0].any()
    again = streaks(hu, metal, 0.8, np.random.default_rng(1))
    assert np.array_equal(added, again)
