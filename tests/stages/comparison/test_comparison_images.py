"""Image errors have closed forms for known differences and known shapes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.comparison.images import FULL_RANGE_HU, image_errors, psnr_db, rms_hu, ssim, wall_band

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


def test_wall_band_of_a_sphere_has_the_volume_of_its_shell():
    spacing = (0.5, 0.4, 0.4)
    radius, width = 8.0, 1.5
    z, y, x = (np.arange(-30, 31) * s for s in spacing)
    distance = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    values = np.where(distance < radius, -1000.0, 0.0)
    band = wall_band(values, spacing, isolevel_hu=-400, width_mm=width)
    volume = band.sum() * np.prod(spacing)
    shell = 4 / 3 * np.pi * ((radius + width) ** 3 - (radius - width) ** 3)
    # Half a voxel on each of two faces bounds the error of counting voxels.
    np.testing.assert_allclose(volume, shell, rtol=0.5 * max(spacing) / width)
    assert band[distance < radius - width - 0.5].sum() == 0
    assert band[distance > radius + width + 0.5].sum() == 0


def test_a_volume_without_air_has_no_wall():
    water = np.zeros(SHAPE)
    band = wall_band(water, (1, 1, 1), isolevel_hu=-400, width_mm=1.5)
    assert image_errors(water, water + 1, band)["psnr_airway_wall_db"] is None
