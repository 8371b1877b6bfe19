"""Geometry: every voxel lies where the patient had it, or the series is refused."""

from __future__ import annotations

import random

import numpy as np
import pytest
from ct_series import IDENTITY, Series, hu_at
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from pipeline.core.errors import InputError
from stages.ingest.settings import IngestSettings
from stages.ingest.stacking import fit_grid, stack_slices
from stages.ingest.stage import read_scan

ROUNDING_HU = 0.51
"""Pixels are stored as integers; positions are written to 16 digits."""
DEFAULTS = IngestSettings()
ORIENTATIONS = {
    "axial": IDENTITY,
    "feet first": (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "prone": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    "rows swapped with columns": (0.0, 1.0, 0.0, 1.0, 0.0, 0.0),
    "sagittal": (0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
    "coronal": (1.0, 0.0, 0.0, 0.0, 0.0, -1.0),
}


def worst_voxel_hu(volume):
    index = np.stack(np.indices(volume.grid.shape), axis=-1)
    truth = hu_at(volume.grid.to_world_mm(index))
    return float(np.abs(volume.values - truth).max())


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_every_voxel_keeps_its_place_in_every_orientation(tmp_path, name):
    folder = Series(orientation=ORIENTATIONS[name]).write(tmp_path / "s")
    reading = read_scan(folder, DEFAULTS)
    assert worst_voxel_hu(reading.volume) <= ROUNDING_HU
    assert reading.volume.grid.spacing_mm[0] == pytest.approx(1.5, abs=1e-6)
    axes = np.array(reading.volume.grid.axes)
    assert all(row[np.argmax(np.abs(row))] > 0 for row in axes)
    assert any("not axial" in w for w in reading.warnings) == (name in ("sagittal", "coronal"))


def test_an_axial_volume_grows_towards_head_back_and_left(tmp_path):
    for orientation in list(ORIENTATIONS.values())[:4]:
        folder = Series(orientation=orientation).write(tmp_path / str(orientation))
        axes = np.array(read_scan(folder, DEFAULTS).volume.grid.axes)
        assert_allclose(axes, [[0, 0, 1], [0, 1, 0], [1, 0, 0]], atol=1e-12)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(angles=st.tuples(*[st.floats(-180, 180)] * 3), spacing=st.floats(0.4, 5))
def test_every_voxel_keeps_its_place_in_any_oblique_stack(tmp_path_factory, angles, spacing):
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    orientation = tuple(float(v) for v in (*turn[0], *turn[1]))
    folder = tmp_path_factory.mktemp("s")
    Series(orientation=orientation, spacing_mm=spacing, count=9).write(folder)
    assert worst_voxel_hu(read_scan(folder, DEFAULTS).volume) <= ROUNDING_HU


def test_names_and_instance_numbers_do_not_order_slices(tmp_path):
    names = [f"z{n}/IM{n}" for n in range(16)]
    random.Random(3).shuffle(names)

    def forget(dataset, k):
        dataset.InstanceNumber = 100 - (k * 7) % 16

    plain = read_scan(Series().write(tmp_path / "a"), DEFAULTS)
    mixed = Series(name=lambda k: names[k], change=forget).write(tmp_path / "b")
    shuffled = read_scan(mixed, DEFAULTS)
    assert plain.volume.grid == shuffled.volume.grid
    assert np.array_equal(plain.volume.values, shuffled.volume.values)


def test_thickness_and_spacing_are_both_kept(tmp_path):
    def thin(dataset, k):
        dataset.SliceThickness = "0.6"

    reading = read_scan(Series(change=thin).write(tmp_path / "s"), DEFAULTS)
    assert reading.properties["slice_thickness_mm"] == 0.6
    assert reading.properties["slice_spacing_mm"] == 1.5
    assert any("was not imaged" in warning for warning in reading.warnings)


@pytest.mark.parametrize("shift_mm", [(0.55, 0.0), (-0.31, 0.0), (0.2, 0.4)])
def test_a_tilted_gantry_is_straightened_to_second_order(tmp_path, shift_mm):
    folder = Series(shift_mm=shift_mm, rows=40, columns=44, pixel_mm=(0.7, 0.7)).write(
        tmp_path / "s"
    )
    reading = read_scan(folder, DEFAULTS)
    volume = reading.volume
    index = np.stack(np.indices(volume.grid.shape), axis=-1)
    truth = hu_at(volume.grid.to_world_mm(index))
    inside = volume.values != -1024
    # Linear interpolation errs by at most h^2/8 max|f''| per axis; |f''| <= 2 A / w^2 with
    # amplitude A of about 1300 HU and width w of 9 mm.
    bound = 2 * 0.7**2 / 8 * 2 * 1300 / 9**2 + ROUNDING_HU
    interior = inside.copy()
    for axis in (1, 2):
        interior &= np.roll(inside, 1, axis) & np.roll(inside, -1, axis)
    assert np.abs(volume.values - truth)[interior].max() <= bound
    degrees = np.degrees(np.arctan(np.hypot(*shift_mm) / 1.5))
    assert reading.properties["tilt_corrected_degrees"] == pytest.approx(degrees, abs=1e-3)
    assert any("gantry tilt" in warning for warning in reading.warnings)


def test_slices_off_the_regular_grid_are_left_out_and_told(tmp_path):
    offsets = [1.25 * k for k in range(20)] + [1.25 * k + 0.52 for k in (1, 2, 3, 4)]
    folder = Series(spacing_mm=1.25, offsets_mm=offsets, count=20, centre_mm=(2, 1, -12)).write(
        tmp_path / "s"
    )
    reading = read_scan(folder, DEFAULTS)
    assert reading.volume.grid.shape[0] == 20
    assert worst_voxel_hu(reading.volume) <= ROUNDING_HU
    warning = next(w for w in reading.warnings if "off the regular grid" in w)
    assert "left out 4 of 24 slices" in warning
    assert "-10.23, -8.98, -7.73, -6.48 mm" in warning


def test_identical_copies_are_dropped(tmp_path):
    offsets = [1.5 * k for k in range(12)] + [3.0, 6.0]
    reading = read_scan(
        Series(offsets_mm=offsets, centre_mm=(2, 1, -9)).write(tmp_path / "s"), DEFAULTS
    )
    assert reading.volume.grid.shape[0] == 12
    assert any("left out 2 identical copies" in w for w in reading.warnings)


def test_of_two_different_images_of_one_place_the_later_acquisition_is_taken(tmp_path):
    def rescan(dataset, k):
        if k == 12:
            dataset.AcquisitionNumber = 9
        if k == 4:
            dataset.PixelData = bytes(len(dataset.PixelData))

    offsets = [1.5 * k for k in range(12)] + [6.0]
    series = Series(offsets_mm=offsets, change=rescan, centre_mm=(2, 1, -9))
    reading = read_scan(series.write(tmp_path / "s"), DEFAULTS)
    assert worst_voxel_hu(reading.volume) <= ROUNDING_HU
    assert any("later acquisition was taken" in w for w in reading.warnings)


def test_two_different_images_of_one_place_and_time_are_refused(tmp_path):
    def clash(dataset, k):
        dataset.InstanceNumber = min(k, 11) + 1
        if k == 12:
            dataset.InstanceNumber = 5
            dataset.PixelData = bytes(len(dataset.PixelData))

    offsets = [1.5 * k for k in range(12)] + [6.0]
    folder = Series(offsets_mm=offsets, change=clash, centre_mm=(2, 1, -9)).write(tmp_path / "s")
    with pytest.raises(InputError, match=r"Two different images lie at -3\.00 mm"):
        read_scan(folder, DEFAULTS)


def test_a_series_scanned_twice_is_split_by_acquisition(tmp_path):
    offsets = [1.5 * k for k in range(12)] * 2

    def contrast(dataset, k):
        dataset.AcquisitionNumber = 1 + k // 12

    series = Series(offsets_mm=offsets, change=contrast, centre_mm=(2, 1, -9))
    reading = read_scan(series.write(tmp_path / "s"), DEFAULTS)
    assert reading.properties["files_found"] == 12
    assert any("also suitable: 2" in warning for warning in reading.warnings)


def test_missing_slices_are_refused_with_number_and_place(tmp_path):
    offsets = [1.5 * k for k in range(20) if k not in (6, 7)]
    folder = Series(offsets_mm=offsets, centre_mm=(2, 1, -14)).write(tmp_path / "s")
    with pytest.raises(InputError, match=r"2 of 20 slices are missing, near -5\.00, -3\.50 mm"):
        read_scan(folder, DEFAULTS)


def test_missing_slices_can_be_cropped_to_the_longest_part(tmp_path):
    offsets = [1.5 * k for k in range(20) if k not in (6, 7)]
    folder = Series(offsets_mm=offsets, centre_mm=(2, 1, -14)).write(tmp_path / "s")
    reading = read_scan(folder, IngestSettings(missing_slices="crop"))
    assert reading.volume.grid.shape[0] == 12
    assert worst_voxel_hu(reading.volume) <= ROUNDING_HU
    assert any("left out 6 slices beyond a gap" in warning for warning in reading.warnings)


def test_uneven_spacing_is_refused(tmp_path):
    offsets = np.cumsum([0, 4.2, 4.2, 4.2, 4.2, 1.1, 7.4, 7.4, 7.4, 7.4, 7.4]).tolist()
    folder = Series(offsets_mm=offsets).write(tmp_path / "s")
    with pytest.raises(InputError, match=r"varies from 1\.10 to 7\.40 mm"):
        read_scan(folder, DEFAULTS)


def test_slices_of_other_thickness_matrix_or_direction_are_not_stacked(tmp_path):
    tilted = (1.0, 0.0, 0.0, 0.0, 0.94, 0.3411744421846396)
    Series().write(tmp_path / "s")
    Series(count=4, orientation=tilted, name=lambda k: f"T{k}").write(tmp_path / "s")
    Series(count=5, rows=22, name=lambda k: f"R{k}").write(tmp_path / "s")
    reading = read_scan(tmp_path / "s", DEFAULTS)
    assert reading.properties["files_found"] == 16
    assert any("left out 9 images of the same series" in w for w in reading.warnings)


@settings(max_examples=200, deadline=None)
@given(
    spacing=st.floats(0.3, 8),
    start=st.floats(-2000, 2000),
    count=st.integers(8, 300),
    digits=st.integers(2, 6),
)
def test_the_grid_is_found_whatever_its_spacing_start_and_rounding(spacing, start, count, digits):
    positions = np.round(start + spacing * np.arange(count), digits)
    first, found, on_grid = fit_grid(positions, 0.05)
    assert on_grid.all()
    # Least squares over n rounded positions: the slope errs by at most the rounding over the
    # mean lever arm.
    assert found == pytest.approx(spacing, abs=10.0**-digits * 6 / count)
    assert first == pytest.approx(start, abs=10.0**-digits)


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(20, 120),
    extra=st.integers(1, 4),
    offset=st.floats(0.1, 0.9),
)
def test_the_majority_grid_wins_over_rescanned_slices(seed, count, extra, offset):
    generator = np.random.default_rng(seed)
    regular = 1.25 * np.arange(count)
    places = generator.choice(count - 1, extra, replace=False)
    positions = np.concatenate([regular, regular[places] + 1.25 * offset])
    order = [(float(i),) for i in range(len(positions))]
    stack = stack_slices(positions.tolist(), order, tolerance=0.05, crop_gaps=False)
    assert stack.members == tuple(range(count))
    assert sorted(stack.off_grid) == list(range(count, count + extra))
