"""Restored slices agree with the measurement, for every profile and stride."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from pydantic import ValidationError
from sr_networks import make_small, wake
from sr_volumes import TINY, make_head, write_manifest

from pipeline.core.artefacts import read_json
from pipeline.core.errors import InputError
from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume, read_volume, write_volume
from stages.super_resolution.baselines import histospline_operator
from stages.super_resolution.cases import read_taps
from stages.super_resolution.consistency import (
    baseline_operator,
    correction_operator,
    degradation_operator,
    make_consistent,
    own_block,
)
from stages.super_resolution.degradation import degrade
from stages.super_resolution.layout import Layout
from stages.super_resolution.model import Model, Normalisation, predict_slices, restore_slices
from stages.super_resolution.model_io import save_model
from stages.super_resolution.patches import PatchSampler
from stages.super_resolution.settings import RestorationSettings, TrainingSettings
from stages.super_resolution.stage import restore, train
from stages.super_resolution.training_volumes import measure_normalisation, prepare_volume

LEANING = (0.02, 0.08, 0.2, 0.3, 0.25, 0.1, 0.05)
"""A fitted profile that is not its own mirror image, wider than three slices."""

LAYOUTS = {
    "box": Layout(3, 3, "box"),
    "box of 5": Layout(5, 3, "box"),
    "triangle": Layout(3, 3, "triangle", consistent=True),
    "gaussian": Layout(3, 3, "gaussian", consistent=True),
    "gaussian of 5": Layout(5, 3, "gaussian", consistent=True),
    "fitted": Layout(3, 3, "fitted", taps=LEANING, consistent=True),
    "fitted within a slice": Layout(3, 3, "fitted", taps=(0.2, 0.5, 0.3), consistent=True),
}
EXACT = {"precision": "float32", "device": "cpu", "threads": 1, "whole_hu": False}


@pytest.fixture(params=LAYOUTS, ids=lambda name: name.replace(" ", "-"))
def layout(request):
    return LAYOUTS[request.param]


def test_matrix_of_the_degradation_is_the_degradation(layout):
    thin = np.random.default_rng(0).normal(size=(8 * layout.slices, 4, 3)).astype(np.float32)
    expected = np.tensordot(degradation_operator(8, layout), thin, axes=1)
    # float32 sums of 9 products
    assert_allclose(degrade(thin, layout.profile_taps, layout.slices), expected, atol=2e-6)


def test_correction_is_the_right_inverse_of_the_degradation(layout):
    product = degradation_operator(9, layout) @ correction_operator(9, layout)
    assert_allclose(product, np.eye(9), atol=1e-12)


def test_correction_is_that_of_the_pseudoinverse(layout):
    expected = np.linalg.pinv(degradation_operator(9, layout))
    assert_allclose(correction_operator(9, layout), expected, atol=1e-12)


def test_baseline_agrees_with_the_measurement(layout):
    product = degradation_operator(11, layout) @ baseline_operator(11, layout)
    assert_allclose(product, np.eye(11), atol=1e-12)


def test_baseline_of_the_box_is_the_histospline():
    expected = histospline_operator(11, 3)
    assert_allclose(baseline_operator(11, Layout(3, 3, "box")), expected, atol=0)
    forced = baseline_operator(11, Layout(3, 3, "fitted", taps=(1 / 3,) * 3, consistent=True))
    assert_allclose(forced, expected, atol=1e-12)


def test_projection_makes_any_volume_agree_and_leaves_one_that_does(layout):
    rng = np.random.default_rng(1)
    truth = rng.normal(0.0, 500.0, (10 * layout.slices, 5, 4)).astype(np.float32)
    thick = degrade(truth, layout.profile_taps, layout.slices)
    guess = rng.normal(0.0, 500.0, truth.shape).astype(np.float32)
    found = make_consistent(guess, thick, layout)
    # float32 rounding of sums at 2000 HU
    agreed = degrade(found, layout.profile_taps, layout.slices)
    assert_allclose(agreed, thick, atol=2e-3)
    assert_allclose(make_consistent(truth, thick, layout), truth, atol=2e-3)
    assert_allclose(make_consistent(found, thick, layout), found, atol=2e-3)


def test_projection_never_leads_away_from_the_truth(layout):
    """An orthogonal projection on a set that holds the truth (Pythagoras)."""
    rng = np.random.default_rng(2)
    truth = rng.normal(0.0, 500.0, (10 * layout.slices, 5, 4)).astype(np.float32)
    thick = degrade(truth, layout.profile_taps, layout.slices)
    guess = truth + rng.normal(0.0, 50.0, truth.shape).astype(np.float32)
    found = make_consistent(guess, thick, layout)
    before, after, moved = (
        np.square((a - b).astype(np.float64)).sum()
        for a, b in ((guess, truth), (found, truth), (guess, found))
    )
    assert after < before
    assert after + moved == pytest.approx(before, rel=1e-4)


def test_own_block_is_a_projection_for_profiles_within_a_slice():
    for name in ("box", "box of 5", "fitted within a slice"):
        block = own_block(LAYOUTS[name])
        assert_allclose(block @ block, block, atol=1e-12)
        assert np.linalg.matrix_rank(block) == 1
    assert_allclose(own_block(LAYOUTS["box"]), 1 / 3, atol=1e-15)


def test_own_block_shortens_a_residual_for_wider_profiles(layout):
    eigenvalues = np.linalg.eigvalsh(own_block(layout))
    assert eigenvalues.min() > -1e-12
    assert eigenvalues.max() < 1.0 + 1e-12


def test_slices_of_one_cell_agree_where_the_profile_lies_within_it():
    layout = LAYOUTS["fitted within a slice"]
    network = wake(make_small("unet"))
    inputs = torch.randn(2, 6, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        restored = restore_slices(network, layout, inputs)
        free = predict_slices(network, layout, inputs, consistent=False).mean
    weights = torch.tensor(layout.taps)[None, :, None, None]
    wanted = (weights * inputs[:, 3:]).sum(1)
    assert_allclose((weights * restored).sum(1), wanted, atol=1e-5)  # float32 sums
    assert ((weights * free).sum(1) - wanted).abs().max() > 0.1


def save(folder, layout):
    network = wake(make_small("unet", layout.in_channels, layout.out_channels))
    record = {
        "training": {},
        "metrics": {"step": 0, "validation": {}},
        "provenance": {"cases": [], "command": "none"},
    }
    folder.mkdir()
    model = Model("unet", network, layout, Normalisation(-200.0, 500.0))
    save_model(folder, model, {"width": 4, "depth": 3}, record)
    return str(folder)


@pytest.mark.parametrize("whole_hu", [False, True])
def test_restored_volume_agrees_with_the_measured_one(layout, tmp_path, whole_hu):
    head = make_head(3, shape=(9 * layout.slices, 24, 20)).values
    thick = degrade(head, layout.profile_taps, layout.slices)
    grid = VoxelGrid(thick.shape, (3.0, 1.0, 1.0))
    write_volume(tmp_path / "lr.nii.gz", Volume(thick, grid))
    settings = RestorationSettings(**(EXACT | {"whole_hu": whole_hu, "factor": layout.factor}))
    model = save(tmp_path / "model", layout)
    restore(tmp_path / "lr.nii.gz", tmp_path / "sr.nii.gz", settings, model=model)
    thin = read_volume(tmp_path / "sr.nii.gz").values
    found = degrade(thin, layout.profile_taps, layout.slices)
    # whole HU: a weighted mean of roundings of at most half a unit each; else float32
    assert_allclose(found, thick, atol=0.501 if whole_hu else 1e-2)
    loose = settings.model_copy(update={"consistent": False})
    restore(tmp_path / "lr.nii.gz", tmp_path / "free.nii.gz", loose, model=model)
    free = degrade(
        read_volume(tmp_path / "free.nii.gz").values, layout.profile_taps, layout.slices
    )
    assert np.abs(free - thick).max() > 5.0


def test_agreement_is_off_for_overlapping_slices_and_refused_when_asked_for():
    assert not Layout(3, 3, "box", stride=1).is_consistent
    with pytest.raises(ValidationError, match="overlapping"):
        TrainingSettings(stride=1, consistent=True)


@pytest.mark.parametrize("stride", [2, 5])
def test_even_or_gapped_strides_are_refused(stride):
    with pytest.raises(ValidationError, match="stride must be odd"):
        TrainingSettings(factor=3, stride=stride)


def make_sampler(layout, **changes):
    settings = TINY.model_copy(update={"noise_hu": 0.0, "shift_hu": 0.0, "context": 3, **changes})
    volumes = [prepare_volume("head", make_head(), np.random.default_rng(0))]
    return PatchSampler(volumes, layout, measure_normalisation(volumes), settings)


@pytest.mark.parametrize("profile", ["box", "triangle"])
def test_overlapping_slices_are_the_profiles_mean_around_each_thin_one(profile):
    """At stride 1 the base is the thick slice itself, and there is one thin slice to restore."""
    layout = Layout(3, 3, profile, stride=1)
    inputs, true = make_sampler(layout).batch(np.random.default_rng(0))
    assert inputs.shape[1:] == (4, 16, 16)
    assert true.shape[1:] == (1, 16, 16)
    assert_allclose(inputs[:, 3], inputs[:, 1], atol=1e-5)
    assert (true[:, 0] - inputs[:, 1]).abs().max() > 0.01


def test_mirrored_stacks_are_drawn_for_symmetric_profiles_alone():
    """Air above, tissue below: only a stack turned upside down has the air below."""
    values = np.full((30, 20, 20), 40, dtype=np.int16)
    values[15:] = -1000
    head = Volume(values, VoxelGrid(values.shape, (1.0, 0.8, 0.8)))
    for taps, expected in (((), {-1, 1}), (LEANING, {-1})):
        layout = Layout(3, 3, "fitted" if taps else "box", taps=taps)
        volumes = [prepare_volume("head", head, np.random.default_rng(0))]
        settings = TINY.model_copy(update={"noise_hu": 0.0, "all_axes": False})
        sampler = PatchSampler(volumes, layout, Normalisation(0.0, 500.0), settings)
        slopes = set()
        for seed in range(30):
            inputs, _ = sampler.batch(np.random.default_rng(seed))
            rise = inputs[:, 2].mean((1, 2)) - inputs[:, 0].mean((1, 2))
            slopes |= {int(torch.sign(r)) for r in rise if abs(r) > 0.1}
        assert slopes == expected


def write_profile(path, **changes):
    content = {"format": 1, "taps": list(LEANING), "spacing_mm": 1.0} | changes
    path.write_text(json.dumps(content))
    return str(path)


def test_training_takes_a_fitted_profile_and_the_model_keeps_its_taps(tmp_path):
    manifest = write_manifest(tmp_path, shape=(18, 24, 24))
    (tmp_path / "secret").mkdir()
    profile = write_profile(tmp_path / "secret" / "fitted.json")
    settings = TINY.model_copy(update={"profile": profile, "steps": 2, "consistent": True})
    train(manifest, tmp_path / "model", settings)
    found = read_json(tmp_path / "model" / "model.json")
    assert_allclose(found["layout"]["taps"], np.array(LEANING) / np.sum(LEANING), rtol=1e-12)
    assert found["layout"]["profile"] == "fitted"
    assert "secret" not in "".join(p.read_text() for p in (tmp_path / "model").glob("*.*s*n"))
    assert "--profile fitted.json" in found["provenance"]["command"]


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("profile", ["box", "gaussian"])
def test_models_of_every_stride_are_trained_and_restore(tmp_path, stride, profile):
    manifest = write_manifest(tmp_path, shape=(18, 24, 24))
    settings = TINY.model_copy(update={"stride": stride, "profile": profile, "steps": 2})
    train(manifest, tmp_path / "model", settings)
    thick = np.random.default_rng(0).integers(-1000, 1000, (5, 17, 9)).astype(np.int16)
    grid = VoxelGrid(thick.shape, (3.0, 0.5, 0.5))
    write_volume(tmp_path / "lr.nii.gz", Volume(thick, grid))
    model = str(tmp_path / "model")
    settings = RestorationSettings(**EXACT)
    restore(tmp_path / "lr.nii.gz", tmp_path / "sr.nii.gz", settings, model=model)
    found = read_volume(tmp_path / "sr.nii.gz")
    assert found.grid.shape == (5 * stride, 17, 9)
    assert found.grid.spacing_mm[0] == pytest.approx(3.0 / stride)
    assert_allclose(found.grid.extent_mm, grid.extent_mm, rtol=1e-6)


@pytest.mark.parametrize(
    "changes", [{"taps": [0.5, 0.5]}, {"taps": [0.2, 0.2, 0.2]}, {"taps": "x"}, {"format": 2}]
)
def test_file_that_is_no_fitted_profile_is_refused(tmp_path, changes):
    with pytest.raises(InputError, match="fit-profile"):
        read_taps(write_profile(tmp_path / "fitted.json", **changes))


def test_profile_of_an_unknown_name_is_refused():
    with pytest.raises(ValidationError, match="profile must be one of"):
        TrainingSettings(profile="bell")
