"""Sagittal and coronal planes: what the network sees, and what comes of it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sr_networks import make_small, wake
from sr_volumes import TINY, make_head, write_manifest

from pipeline.core.artefacts import read_json
from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume, read_volume, write_volume
from stages.super_resolution.baselines import restore_baseline
from stages.super_resolution.channels import plane_inputs, upright_channels
from stages.super_resolution.degradation import degrade, profile_taps
from stages.super_resolution.layout import Layout
from stages.super_resolution.model import Model, Normalisation
from stages.super_resolution.patches import PatchSampler
from stages.super_resolution.restoration import Arithmetic
from stages.super_resolution.settings import RestorationSettings
from stages.super_resolution.stage import restore, train
from stages.super_resolution.training_volumes import prepare_volume
from stages.super_resolution.upright import restore_upright

UPRIGHT = Layout(3, 3, "box", view="upright")
NORMALISATION = Normalisation(-200.0, 500.0)
EXACT = {"precision": "float32", "device": "cpu", "threads": 1}


def thick_head(shape=(30, 22, 27)):
    return degrade(make_head(2, shape=shape).values, profile_taps("box", 3), 3)


def make_model(network):
    return Model("unet", network, UPRIGHT, NORMALISATION)


def test_untrained_network_is_the_baseline():
    thick = thick_head()
    found = restore_upright(make_model(make_small("unet", 3, 1).eval()), thick, Arithmetic())
    # two roundings of float32 at 1000 HU, from normalising and back
    assert_allclose(found.values, restore_baseline(thick, "histospline", factor=3), atol=1e-3)
    assert found.sigma is None


def test_exchanging_the_in_plane_axes_exchanges_the_result():
    """Coronal planes become sagittal ones, and both count alike."""
    model, thick = make_model(wake(make_small("unet", 3, 1))), thick_head()
    found = restore_upright(model, thick, Arithmetic()).values
    turned = restore_upright(model, thick.transpose(0, 2, 1), Arithmetic()).values
    assert np.abs(found - restore_baseline(thick, "histospline", factor=3)).max() > 10.0
    assert_allclose(turned.transpose(0, 2, 1), found, atol=1e-2)  # float32 sums in another order


def test_planes_are_seen_between_their_neighbours():
    base = np.arange(2 * 4 * 5, dtype=np.float32).reshape(2, 4, 5)
    first, last = plane_inputs(base, 2, [0, 4], UPRIGHT)
    assert np.array_equal(first, np.stack([base[:, :, i] for i in (0, 0, 1)]))
    assert np.array_equal(last, np.stack([base[:, :, i] for i in (3, 4, 4)]))


def test_channels_of_training_are_those_of_restoration():
    head = make_head(1, shape=(24, 12, 14)).values.astype(np.float32)
    found = upright_channels(head[:, 4:7], UPRIGHT)
    base = restore_baseline(degrade(head, profile_taps("box", 3), 3), "histospline", factor=3)
    (expected,) = plane_inputs(base, 1, [5], UPRIGHT)
    assert_allclose(found[:3], expected, atol=1e-3)  # float32 at 1000 HU
    assert_allclose(found[3], head[:, 5], atol=0)


@pytest.mark.parametrize("patch", [16, 32])
def test_patches_hold_a_plane_of_the_volume_and_its_baseline(patch):
    """Cells average to the same in both; 32 rows are more than the 30 slices there are."""
    volume = prepare_volume("head", make_head(), np.random.default_rng(0))
    settings = TINY.model_copy(
        update={"noise_hu": 0.0, "shift_hu": 0.0, "patch": patch, "batch_size": 8}
    )
    sampler = PatchSampler([volume], UPRIGHT, NORMALISATION, settings)
    inputs, true = sampler.batch(np.random.default_rng(1))
    assert inputs.shape == (8, 3, patch, patch)
    assert true.shape == (8, 1, patch, patch)
    missed = (inputs[:, 1:2] - true).unflatten(2, (-1, 16)).flatten(0, 2)
    assert missed.abs().max() > 0.05
    # over any 16 rows, five whole cells cancel and at most one row is left of a cut cell
    assert missed.mean(1).abs().max() < 0.2 * missed.abs().max()


def test_patch_does_not_depend_on_how_much_is_cut_around_it(monkeypatch):
    """What is left out of the baseline falls by 2 - sqrt(3) a slice; steps are up to 2000 HU."""
    head = make_head(3, shape=(120, 20, 24))
    volume = prepare_volume("head", head, np.random.default_rng(0))
    sampler = PatchSampler([volume], UPRIGHT, NORMALISATION, TINY)
    patches = []
    for window in (6, 9):
        monkeypatch.setattr("stages.super_resolution.patches.WINDOW", window)
        rng = np.random.default_rng(2)
        slab, planes, start = sampler._planes(head.values, 0.8, np.array([60, 7, 9]), rng)
        thin = slab[:, planes].astype(np.float32)
        patches.append(upright_channels(thin, UPRIGHT)[:, start : start + TINY.patch])
    cut, wider = patches
    assert_allclose(cut[3], wider[3], atol=0)
    assert np.ptp(cut[3]) > 500.0
    assert_allclose(cut, wider, atol=2000 * (2 - np.sqrt(3)) ** 6)


@pytest.mark.parametrize("profile", ["box", "gaussian"])
def test_upright_model_is_trained_restores_and_agrees(tmp_path, profile):
    manifest = write_manifest(tmp_path, shape=(18, 24, 24))
    settings = TINY.model_copy(
        update={"view": "upright", "steps": 2, "profile": profile, "consistent": True}
    )
    train(manifest, tmp_path / "model", settings)
    metrics = read_json(tmp_path / "model" / "model.json")["metrics"]["validation"]["head-2"]
    assert metrics["psnr_db"] == pytest.approx(metrics["histospline_psnr_db"], abs=3.0)
    thick = np.random.default_rng(0).integers(-1000, 1000, (5, 17, 9)).astype(np.int16)
    write_volume(tmp_path / "lr.nii.gz", Volume(thick, VoxelGrid(thick.shape, (3.0, 0.5, 0.5))))
    restore(
        tmp_path / "lr.nii.gz",
        tmp_path / "sr.nii.gz",
        RestorationSettings(**EXACT),
        model=str(tmp_path / "model"),
    )
    thin = read_volume(tmp_path / "sr.nii.gz").values
    assert thin.shape == (15, 17, 9)
    agreed = degrade(thin, profile_taps(profile, 3), 3)
    assert_allclose(agreed, thick, atol=0.501)  # whole HU


def test_variance_of_both_directions_is_averaged():
    layout = Layout(3, 3, "box", view="upright", predicts_variance=True)
    model = Model("unet", make_small("unet", 3, 2).eval(), layout, NORMALISATION)
    found = restore_upright(model, thick_head(shape=(9, 12, 10)), Arithmetic())
    assert_allclose(found.sigma, found.sigma[0, 0, 0], rtol=1e-5)
