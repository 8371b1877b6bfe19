"""Multi-scale similarity agrees with an independent library and is blind to what it should be."""

import numpy as np
import pytest
import torch
from monai.metrics.regression import MultiScaleSSIMMetric
from numpy.testing import assert_allclose
from scipy import ndimage

from pipeline.core.artefacts import read_json
from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume, write_volume
from stages.comparison.images import LEAST_MS_SSIM_EDGE, SCALE_WEIGHTS, ms_ssim
from stages.comparison.settings import ComparisonSettings
from stages.comparison.stage import run_images

EDGE = LEAST_MS_SSIM_EDGE + 16


def make_slices(seed=0, count=2):
    """Return smooth structures of several sizes, -1000 to 1000 HU."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((count, EDGE, EDGE))
    smooth = sum(ndimage.gaussian_filter(noise, (0, s, s)) * s for s in (1, 3, 9))
    return (600 * smooth / smooth.std()).clip(-1000, 1000)


def monai_ms_ssim(a, b):
    metric = MultiScaleSSIMMetric(
        spatial_dims=2,
        data_range=4095.0,
        kernel_size=11,
        kernel_sigma=1.5,
        k1=0.01,
        k2=0.03,
        weights=SCALE_WEIGHTS,
    )
    first, second = (torch.from_numpy(v + 1024.0)[:, None].double() for v in (a, b))
    return float(metric(first, second).mean())


@pytest.mark.parametrize("sigma_hu", [20.0, 200.0])
def test_it_agrees_with_monai(sigma_hu):
    truth = make_slices()
    noisy = truth + np.random.default_rng(1).normal(0, sigma_hu, truth.shape)
    noisy = noisy.clip(-1024, 3071)
    # Ours is float32; MONAI truncates the Gaussian at 5 pixels as we do.
    assert_allclose(ms_ssim(truth, noisy), monai_ms_ssim(truth, noisy), rtol=2e-4)


def test_equal_slices_score_one_and_worse_ones_less():
    truth = make_slices()
    noise = np.random.default_rng(2).normal(0, 100, truth.shape)
    assert_allclose(ms_ssim(truth, truth), 1.0, atol=1e-6)
    assert ms_ssim(truth, truth + 3 * noise) < ms_ssim(truth, truth + noise) < 1


def test_slices_without_room_for_the_coarsest_window_have_none():
    small = np.zeros((2, LEAST_MS_SSIM_EDGE - 1, LEAST_MS_SSIM_EDGE))
    assert ms_ssim(small, small) is None


@pytest.mark.parametrize("asked", [True, False])
def test_the_comparison_gives_it_when_it_is_asked_for(tmp_path, asked):
    truth = make_slices(count=3).astype(np.int16)
    grid = VoxelGrid(truth.shape, (1.0, 0.5, 0.5))
    for name, values in (("hr", truth), ("noisy", truth + 30)):
        write_volume(tmp_path / f"{name}.nii.gz", Volume(values, grid))
    output = tmp_path / "images.json"
    run_images(
        [tmp_path / "noisy.nii.gz"],
        output,
        ComparisonSettings(ms_ssim=asked),
        reference=tmp_path / "hr.nii.gz",
    )
    found = read_json(output)
    errors, definition = found["methods"]["noisy"], found["definition"]
    assert ("ms_ssim" in errors) is asked
    assert "7 x 7 uniform window, HU clipped to -1024..3071, range 4095 HU" in definition["ssim"]
    assert ("11 x 11 Gaussian window" in definition.get("ms_ssim", "")) is asked
    if asked:
        assert_allclose(errors["ms_ssim"], ms_ssim(truth, truth + 30), atol=1e-9)
