"""Restoration gives what it promises, on the grid it promises."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sr_networks import make_small, wake
from sr_volumes import TINY, make_head, write_manifest

from pipeline.core.artefacts import read_sidecar
from pipeline.core.errors import InputError, UsageError
from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume, read_volume, write_volume
from stages.super_resolution.baselines import restore_baseline
from stages.super_resolution.degradation import degrade, profile_taps
from stages.super_resolution.layout import Layout
from stages.super_resolution.model import Model, Normalisation
from stages.super_resolution.model_io import load_model, new_model, save_model
from stages.super_resolution.restoration import Arithmetic, restore_volume
from stages.super_resolution.settings import RestorationSettings, TrainingSettings
from stages.super_resolution.stage import SHIPPED_FOLDER, restore, train
from stages.super_resolution.validation import psnr_db

NORMALISATION = Normalisation(-200.0, 500.0)
EXACT = {"precision": "float32", "device": "cpu", "threads": 1}


def make_model(context=3, factor=3, depth=3):
    layout = Layout(factor, context, "box")
    return new_model("unet", {"width": 4, "depth": depth}, layout, NORMALISATION, seed=0)


def awake(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        model.network.exit.weight.normal_(std=0.2, generator=generator)
    model.network.eval()
    return model


def thick_head(factor=3, shape=(30, 37, 50)):
    thin = make_head(2, shape=shape)
    return degrade(thin.values, profile_taps("box", factor), factor)


def restored(model, thick, **arithmetic):
    slices = restore_volume(model, thick, Arithmetic(**arithmetic))
    return np.concatenate([one.values for one in slices])


@pytest.mark.parametrize("factor", [3, 5])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_untrained_network_is_the_histospline(factor, precision):
    thick = thick_head(factor)
    model = make_model(factor=factor)
    model.network.eval()
    # two roundings of float32 at 1000 HU, from normalising and back
    expected = restore_baseline(thick, "histospline", factor=factor)
    assert_allclose(restored(model, thick, precision=precision), expected, atol=1e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_restored_slices_average_to_the_measured_slice(precision):
    thick = thick_head()
    thin = restored(awake(make_model()), thick, precision=precision)
    assert np.abs(thin - restore_baseline(thick, "histospline", factor=3)).max() > 10.0
    assert_allclose(thin.reshape(len(thick), 3, *thick.shape[1:]).mean(1), thick, atol=1e-2)


@pytest.mark.parametrize("tile", [16, 24, 40])
def test_tiled_equals_untiled(tile):
    model, thick = awake(make_model()), thick_head(shape=(9, 90, 75))
    # float32 convolutions of another size may sum in another order
    assert_allclose(restored(model, thick, tile=tile), restored(model, thick), atol=0.05)


def test_trained_or_not_a_constant_stays_that_constant_on_average():
    thick = np.full((4, 20, 20), 40.0, dtype=np.float32)
    thin = restored(awake(make_model()), thick)
    assert_allclose(thin.reshape(4, 3, 20, 20).mean(1), 40.0, atol=1e-2)


@pytest.mark.parametrize("shape", [(1, 40, 40), (2, 17, 9), (5, 3, 61)])
@pytest.mark.parametrize("method", ["linear", "spline", "histospline", "network"])
def test_any_number_of_slices_and_any_size_are_restored(tmp_path, shape, method):
    values = np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)
    write_volume(tmp_path / "lr.nii.gz", Volume(values, VoxelGrid(shape, (3.0, 0.5, 0.5))))
    model = method
    if method == "network":
        model = str(save(awake(make_model()), tmp_path / "model"))
    restore(
        tmp_path / "lr.nii.gz", tmp_path / "sr.nii.gz", RestorationSettings(**EXACT), model=model
    )
    found = read_volume(tmp_path / "sr.nii.gz").values
    assert found.shape == (3 * shape[0], *shape[1:])
    if method in ("histospline", "network"):
        mean = found.reshape(shape[0], 3, *shape[1:]).mean(1)
        assert_allclose(mean, values, atol=0.5)  # whole HU


def save(model, folder: Path, **changes) -> Path:
    folder.mkdir()
    record = {
        "training": {},
        "metrics": {"step": 0, "validation": {}},
        "provenance": {"cases": [], "command": "none"},
    }
    save_model(folder, model, {"width": 4, "depth": 3}, record)
    if changes:
        description = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps(description | changes))
    return folder


@pytest.fixture
def scan(tmp_path):
    """A thin-slice head and its thick slices, on the grid of their centres."""
    head = make_head(4, shape=(18, 24, 24))
    thick = degrade(head.values, profile_taps("box", 3), 3)
    x, y, z = head.grid.origin_mm
    grid = VoxelGrid((6, 24, 24), (3.0, *head.grid.spacing_mm[1:]), (x, y, z + 1.0))
    write_volume(tmp_path / "lr.nii.gz", Volume(thick, grid))
    return head, tmp_path / "lr.nii.gz"


@pytest.mark.parametrize("method", ["linear", "spline", "histospline"])
def test_restored_volume_lies_on_the_grid_of_the_thin_slices(scan, tmp_path, method):
    head, thick = scan
    restore(thick, tmp_path / "sr.nii.gz", RestorationSettings(), model=method)
    assert read_volume(tmp_path / "sr.nii.gz").grid.matches(head.grid)
    record = read_sidecar(tmp_path / "sr.nii.gz")
    assert record["properties"] == {"method": method, "factor": 3}


def test_unrounded_histospline_is_consistent_to_float32(scan, tmp_path):
    _, path = scan
    settings = RestorationSettings(whole_hu=False)
    restore(path, tmp_path / "sr.nii.gz", settings, model="histospline")
    thick, thin = read_volume(path).values, read_volume(tmp_path / "sr.nii.gz").values
    assert_allclose(thin.reshape(6, 3, 24, 24).mean(1), thick, atol=1e-3)


def test_saved_model_restores_as_before(tmp_path):
    model, thick = awake(make_model()), thick_head()
    same = load_model(save(model, tmp_path / "model"))
    assert same.layout == model.layout
    assert same.normalisation == model.normalisation
    assert np.array_equal(restored(same, thick), restored(model, thick))


def test_bytes_of_a_restoration_repeat(scan, tmp_path):
    _, thick = scan
    model = str(save(awake(make_model()), tmp_path / "model"))
    for name in ("a.nii.gz", "b.nii.gz"):
        restore(thick, tmp_path / name, RestorationSettings(**EXACT), model=model)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_model_of_another_factor_is_refused(scan, tmp_path):
    model = str(save(make_model(factor=5), tmp_path / "model"))
    with pytest.raises(UsageError, match="give --factor 5"):
        restore(scan[1], tmp_path / "sr.nii.gz", RestorationSettings(), model=model)


@pytest.mark.parametrize(
    "changes", [{"format": 9}, {"network": "none"}, {"settings": {"width": 8}}, {"layout": {}}]
)
def test_description_that_does_not_fit_is_refused(scan, tmp_path, changes):
    model = str(save(make_model(), tmp_path / "model", **changes))
    with pytest.raises(InputError, match=r"model\.json|no usable model"):
        restore(scan[1], tmp_path / "sr.nii.gz", RestorationSettings(), model=model)


def test_weights_that_are_a_pickle_are_refused(scan, tmp_path):
    folder = save(make_model(), tmp_path / "model")
    torch.save({"a": torch.zeros(1)}, folder / "weights.safetensors")
    with pytest.raises(InputError, match="no usable model"):
        restore(scan[1], tmp_path / "sr.nii.gz", RestorationSettings(), model=str(folder))


def test_unknown_model_is_refused_with_what_there_is(scan, tmp_path):
    with pytest.raises(InputError, match="shipped"):
        restore(scan[1], tmp_path / "sr.nii.gz", RestorationSettings(), model="cubic")


def test_volume_with_holes_is_refused(tmp_path):
    values = np.zeros((3, 8, 8), dtype=np.float32)
    values[1, 2, 3] = np.nan
    write_volume(tmp_path / "lr.nii.gz", Volume(values, VoxelGrid((3, 8, 8), (3.0, 1.0, 1.0))))
    with pytest.raises(InputError, match="not finite"):
        restore(
            tmp_path / "lr.nii.gz", tmp_path / "sr.nii.gz", RestorationSettings(), model="linear"
        )


def test_psnr_of_one_hu_over_the_range_of_a_12_bit_scanner():
    assert psnr_db(1.0) == pytest.approx(72.2451, abs=1e-4)  # 20 log10 4095


def test_shipped_model_is_small_and_names_its_data():
    weights = SHIPPED_FOLDER / "weights.safetensors"
    assert weights.stat().st_size < 5e6
    found = json.loads((SHIPPED_FOLDER / "model.json").read_text())
    cases = [case["case"] for case in found["provenance"]["cases"]]
    assert cases
    assert not any("pcir" in case for case in cases)
    assert all(case["licence"] for case in found["provenance"]["cases"])


def test_shipped_model_beats_the_histospline_on_a_head_made_in_code():
    head = make_head(7, shape=(36, 96, 96), spacing_mm=(1.0, 0.6, 0.6)).values.astype(np.float32)
    thick = degrade(head, profile_taps("box", 3), 3)
    base = restore_baseline(thick, "histospline", factor=3)
    thin = restored(load_model(SHIPPED_FOLDER), thick)
    assert psnr_db(np.square(thin - head).mean()) > psnr_db(np.square(base - head).mean()) + 0.5


def test_train_then_restore(tmp_path, scan):
    train(write_manifest(tmp_path), tmp_path / "model", TINY)
    settings = RestorationSettings(**EXACT)
    restore(scan[1], tmp_path / "sr.nii.gz", settings, model=str(tmp_path / "model"))
    assert read_volume(tmp_path / "sr.nii.gz").grid.matches(scan[0].grid)


def awake_with_sigma(folder):
    layout = Layout(3, 3, "box", predicts_variance=True)
    model = Model("unet", wake(make_small("unet", 6, 6)), layout, NORMALISATION)
    return save(model, folder)


def test_sigma_is_written_beside_the_restored_volume(scan, tmp_path):
    head, thick = scan
    model = str(awake_with_sigma(tmp_path / "model"))
    settings = RestorationSettings(**EXACT)
    restore(thick, tmp_path / "sr.nii.gz", settings, model=model, sigma=tmp_path / "sd.nii.gz")
    sigma = read_volume(tmp_path / "sd.nii.gz")
    assert sigma.grid.matches(head.grid)
    assert (sigma.values > 0).all()
    assert read_sidecar(tmp_path / "sd.nii.gz")["properties"]["quantity"] == "sigma_hu"
    restore(thick, tmp_path / "alone.nii.gz", settings, model=model)
    assert (tmp_path / "alone.nii.gz").read_bytes() == (tmp_path / "sr.nii.gz").read_bytes()


def test_sigma_of_a_model_without_one_is_refused_before_any_work(scan, tmp_path):
    model = str(save(make_model(), tmp_path / "model"))
    for name in (model, "spline"):
        with pytest.raises(UsageError, match="--loss nll"):
            restore(
                scan[1],
                tmp_path / "sr.nii.gz",
                RestorationSettings(**EXACT),
                model=name,
                sigma=tmp_path / "sd.nii.gz",
            )
    assert not (tmp_path / "sr.nii.gz").exists()


def test_untrained_network_is_a_tenth_of_the_unit_unsure():
    layout = Layout(3, 3, "box", predicts_variance=True)
    model = Model("unet", make_small("unet", 6, 6).eval(), layout, NORMALISATION)
    (first, *_) = restore_volume(model, thick_head(), Arithmetic())
    assert_allclose(first.sigma, 0.1 * NORMALISATION.scale_hu, rtol=5e-3)


def test_variance_and_its_tiles_are_those_of_the_whole_image():
    layout = Layout(3, 3, "box", predicts_variance=True)
    model = Model("unet", wake(make_small("unet", 6, 6)), layout, NORMALISATION)
    thick = thick_head(shape=(9, 90, 75))
    whole, tiled = (
        np.concatenate([one.sigma for one in restore_volume(model, thick, Arithmetic(tile))])
        for tile in (768, 24)
    )
    assert whole.std() > 1.0
    assert_allclose(tiled, whole, rtol=1e-3)  # float32 sums of another order, exponentiated


@pytest.mark.slow
def test_predicted_sigma_is_the_error_that_is_made(tmp_path):
    """On a head not seen, where it is unsure: their squares agree, and errors rank as sigma does.

    Far from edges the head is constant and nearly free of error: sigma is a bound there.
    """
    settings = TrainingSettings(
        width=8,
        depth=3,
        steps=400,
        batch_size=4,
        patch=32,
        noise_hu=0.0,
        validation_interval=200,
        validation_slices=4,
        loss="nll",
        threads=1,
        learning_rate=5e-3,
        average_decay=0.95,
        precision="float32",
        device="cpu",
    )
    train(write_manifest(tmp_path), tmp_path / "model", settings)
    head = make_head(9, shape=(30, 48, 48)).values.astype(np.float32)
    thick = degrade(head, profile_taps("box", 3), 3)
    found = list(restore_volume(load_model(tmp_path / "model"), thick, Arithmetic()))
    error, sigma = (
        np.concatenate([getattr(one, name) for one in found]) for name in ("values", "sigma")
    )
    error = np.abs(error - head)
    sure, unsure = sigma < np.quantile(sigma, 0.5), sigma > np.quantile(sigma, 0.9)
    ratio = np.sqrt(np.square(error[unsure]).mean() / np.square(sigma[unsure]).mean())
    assert 0.6 < ratio < 1.7
    assert error[unsure].mean() > 3 * error[sure].mean()
