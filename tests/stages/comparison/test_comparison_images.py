"""Image errors have closed forms for known differences and known shapes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.artefacts import read_json
from pipeline.core.errors import InputError
from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume, write_volume
from stages.comparison.images import FULL_RANGE_HU, image_errors, psnr_db, rms_hu, ssim
from stages.comparison.settings import ComparisonSettings
from stages.comparison.stage import run_images
from stages.comparison.walls import enclosed, wall_band

SHAPE = (9, 40, 48)


@pytest.fixture
def reference():
    return np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype(np.int16)


@given(st.floats(0.5, 400))
def test_psnr_of_a_constant_error_is_the_range_over_it(error):
    truth = np.zeros(SHAPE)
    expected = 20 * np.log10(4095 / error)
    np.testing.assert_allclose(psnr_db(truth, truth + error), expected, rtol=1e-9)


def test_psnr_pools_the_error_over_the_volume_and_not_over_slices():
    truth = np.zeros((2, 8, 8))
    restored = truth.copy()
    restored[0] += 100
    np.testing.assert_allclose(psnr_db(truth, restored), 20 * np.log10(4095 / np.sqrt(5000)))


def test_psnr_ignores_what_lies_beyond_the_range():
    truth = np.array([[FULL_RANGE_HU[1], FULL_RANGE_HU[0], 0.0]])
    restored = truth + np.array([[500.0, -500.0, 3.0]])
    np.testing.assert_allclose(psnr_db(truth, restored), 20 * np.log10(4095 / np.sqrt(3.0)))


def test_identical_volumes_have_no_error(reference):
    errors = image_errors(reference, reference, reference < -400)
    assert errors["psnr_db"] is None
    assert errors["rms_airway_wall_hu"] == 0
    np.testing.assert_allclose(errors["ssim"], 1, atol=1e-12)


def test_rms_is_symmetric(reference):
    other = reference[::-1]
    assert rms_hu(reference, other) == rms_hu(other, reference) > 0


def test_noise_lowers_similarity(reference):
    noise = np.random.default_rng(1).normal(0, 50, SHAPE)
    assert ssim(reference, reference + 4 * noise) < ssim(reference, reference + noise) < 1


def ball_distance(shape, spacing, centre_mm):
    index = np.stack(np.indices(shape), axis=-1)
    return np.linalg.norm(index * spacing - np.array(centre_mm), axis=-1)


@pytest.mark.parametrize("spacing", [(0.5, 0.5, 0.5), (1.25, 0.5, 0.5)])
def test_wall_band_of_a_sphere_has_the_volume_of_its_shell(spacing):
    radius, width = 8.0, 1.5
    shape = tuple(int(24 / s) + 1 for s in spacing)
    distance = ball_distance(shape, spacing, (12.1, 11.9, 12.0))
    values = np.clip(-400 + 300 * (distance - radius), -1000, 40)
    band = wall_band(values, spacing, isolevel_hu=-400, width_mm=width)
    volume = band.sum() * np.prod(spacing)
    shell = 4 / 3 * np.pi * ((radius + width) ** 3 - (radius - width) ** 3)
    # Crossings lie at most half an in-plane diagonal beside the foot point: sqrt(1.5^2 + 0.125)
    # - 1.5 = 0.04 mm on each face of 3 mm in all; counting voxels adds 1 %.
    np.testing.assert_allclose(volume, shell, rtol=0.08 / 3 + 0.01)
    assert np.abs(distance[band] - radius).max() <= width + 1e-6


def test_wall_band_follows_the_region_of_the_airway_and_leaves_other_air():
    shape, spacing = (24, 40, 80), (1.0, 1.0, 1.0)
    first = ball_distance(shape, spacing, (12, 20, 20))
    second = ball_distance(shape, spacing, (12, 20, 60))
    values = np.clip(-400 + 300 * (np.minimum(first, second) - 6), -1000, 40)
    region = np.zeros(shape, dtype=bool)
    region[:, :, :40] = True
    band = wall_band(values, spacing, isolevel_hu=-400, width_mm=1.5, region=region)
    assert band.any()
    assert not band[second < 10].any()


def test_without_a_region_the_skin_is_no_airway_wall():
    shape, spacing = (10, 60, 60), (1.0, 1.0, 1.0)
    column = np.hypot(*(np.indices(shape[1:]) - 30.0))
    column = np.broadcast_to(column, shape)
    values = np.where((column < 5) | (column > 22), -1000.0, 40.0)
    band = wall_band(values, spacing, isolevel_hu=-400, width_mm=1.5)
    assert band[(column > 4) & (column < 6)].all()
    assert not band[column > 10].any()
    assert not enclosed(values < -400)[column > 22].any()


def test_a_volume_without_air_has_no_wall():
    water = np.zeros(SHAPE)
    band = wall_band(water, (1, 1, 1), isolevel_hu=-400, width_mm=1.5)
    assert image_errors(water, water + 1, band)["psnr_airway_wall_db"] is None


@pytest.fixture
def volume_file(tmp_path):
    def write(name, values, spacing=(1.0, 1.0, 1.0)):
        write_volume(tmp_path / name, Volume(values, VoxelGrid(values.shape, spacing)))
        return tmp_path / name

    return write


def test_the_record_states_the_range_and_how_errors_are_pooled(volume_file, tmp_path, reference):
    truth = volume_file("hr.nii.gz", reference)
    restored = volume_file("spline.nii.gz", reference + np.int16(10))
    run_images([restored], tmp_path / "i.json", ComparisonSettings(), reference=truth)
    content = read_json(tmp_path / "i.json")
    assert content["definition"]["psnr_peak_hu"] == 4095
    assert "all voxels" in content["definition"]["psnr_pooling"]
    np.testing.assert_allclose(content["methods"]["spline"]["psnr_db"], 20 * np.log10(409.5))
    np.testing.assert_allclose(content["methods"]["spline"]["rms_airway_wall_hu"], 10.0)


def test_a_volume_on_another_grid_is_refused(volume_file, tmp_path, reference):
    truth = volume_file("hr.nii.gz", reference)
    other = volume_file("lr.nii.gz", reference[::3], spacing=(3.0, 1.0, 1.0))
    with pytest.raises(InputError, match="grid"):
        run_images([other], tmp_path / "i.json", ComparisonSettings(), reference=truth)


def test_a_region_on_a_finer_grid_finds_the_same_wall(volume_file, tmp_path):
    shape = (20, 30, 30)
    distance = ball_distance(shape, (1.0, 1.0, 1.0), (10, 15, 15))
    values = np.clip(-400 + 300 * (distance - 6), -1000, 40).astype(np.float32)
    truth = volume_file("hr.nii.gz", values)
    restored = volume_file("sr.nii.gz", values + np.float32(5))
    fine = ball_distance((40, 60, 60), (0.5, 0.5, 0.5), (10, 15, 15)) < 8
    same = volume_file("same.nii.gz", (distance < 8).astype(np.uint8))
    finer = volume_file("fine.nii.gz", fine.astype(np.uint8), spacing=(0.5, 0.5, 0.5))
    counts = []
    for region in (same, finer):
        output = tmp_path / f"{region.name}.json"
        run_images([restored], output, ComparisonSettings(), reference=truth, region=region)
        counts.append(read_json(output)["definition"]["airway_wall_voxels"])
    assert counts[0] == counts[1] > 0
