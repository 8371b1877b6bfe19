"""Training learns, repeats itself exactly and survives a kill."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from safetensors.torch import load_file
from sr_volumes import TINY, make_head, write_manifest

from pipeline.core.artefacts import read_json, read_sidecar
from pipeline.core.errors import InputError, NumericalError, UsageError
from stages.super_resolution.checkpoint import CheckpointFolder
from stages.super_resolution.data import (
    PatchSampler,
    body_mask,
    measure_normalisation,
    prepare_volume,
    slice_channels,
)
from stages.super_resolution.model import Layout
from stages.super_resolution.settings import TrainingSettings
from stages.super_resolution.stage import train
from stages.super_resolution.training import learning_rate

PLAIN = {"noise_hu": 0.0, "shift_hu": 0.0}


def make_sampler(**changes):
    settings = TINY.model_copy(update=changes)
    volumes = [prepare_volume("head", make_head(), np.random.default_rng(0))]
    layout = Layout(settings.factor, settings.context, settings.profile)
    return PatchSampler(volumes, layout, measure_normalisation(volumes), settings)


@pytest.fixture
def manifest(tmp_path):
    return write_manifest(tmp_path)


def weights(folder):
    return (folder / "weights.safetensors").read_bytes()


@pytest.mark.parametrize("changes", [PLAIN, {"noise_hu": 50.0}, {"shift_hu": 100.0}])
@pytest.mark.parametrize("context", [1, 3, 5])
def test_true_slices_of_a_patch_average_to_its_thick_slice_whatever_the_augmentation(
    changes, context
):
    sampler = make_sampler(context=context, **{**PLAIN, **changes})
    inputs, true = sampler.batch(np.random.default_rng(3))
    thick, base = inputs[:, context // 2], inputs[:, context:]
    # float32 bicubic sums of values up to 3 in normalised units
    assert_allclose(true.mean(1), thick, atol=1e-5)
    assert_allclose(base.mean(1), thick, atol=1e-5)


def test_patches_are_what_the_volume_holds_where_nothing_is_augmented():
    sampler = make_sampler(
        **PLAIN, pixel_spacing_min_mm=0.8, pixel_spacing_max_mm=0.8, patch=48, all_axes=False
    )
    values = make_head().values
    slices = {values[z].tobytes() for z in range(len(values))}
    _, true = sampler.batch(np.random.default_rng(4))
    n = sampler.normalisation
    restored = np.rint(true.numpy() * n.scale_hu + n.centre_hu).astype(np.int16)
    turns = [lambda a: a, lambda a: a.T]
    flips = [np.s_[::1, ::1], np.s_[::-1, ::1], np.s_[::1, ::-1], np.s_[::-1, ::-1]]
    for image in restored.reshape(-1, 48, 48):
        views = [turn(image[flip]) for turn in turns for flip in flips]
        assert any(np.ascontiguousarray(view).tobytes() in slices for view in views)


def test_patch_channels_equal_those_of_the_whole_stack():
    thin = make_head(1, shape=(90, 8, 8)).values.astype(np.float32)
    layout = Layout(3, 3, "box")
    whole = slice_channels(thin, 15, layout)
    window = slice_channels(thin[3 * 9 : 3 * 22], 6, layout)
    # the histospline's weights fall by 2 - sqrt(3) a slice; steps are up to 2000 HU
    assert_allclose(window, whole, atol=2000 * (2 - np.sqrt(3)) ** 6)


def test_body_holds_the_air_that_tissue_encloses_and_not_the_outside():
    values = np.full((1, 9, 9), -1000, dtype=np.int16)
    values[0, 2:7, 2:7] = 40
    values[0, 4, 4] = -1000
    body = body_mask(values)
    assert body.sum() == 25


def test_learning_rate_rises_to_its_peak_and_falls_to_a_hundredth():
    settings = TrainingSettings(steps=1000, warmup_steps=50, learning_rate=1e-3)
    rates = [learning_rate(step, settings) for step in range(1, 1001)]
    assert np.argmax(rates) == 49
    assert max(rates) == pytest.approx(1e-3)
    assert np.all(np.diff(rates[49:]) < 0)
    assert rates[-1] == pytest.approx(1e-5)


@pytest.mark.parametrize("kill_at", [1, 2])
def test_killed_training_goes_on_to_the_weights_of_an_uninterrupted_one(
    manifest, tmp_path, monkeypatch, kill_at
):
    train(manifest, tmp_path / "whole", TINY)
    saves = 0
    save = CheckpointFolder.save

    def save_then_die(self, *arguments):
        nonlocal saves
        save(self, *arguments)
        saves += 1
        if saves == kill_at:
            raise KeyboardInterrupt

    monkeypatch.setattr(CheckpointFolder, "save", save_then_die)
    with pytest.raises(KeyboardInterrupt):
        train(manifest, tmp_path / "killed", TINY)
    assert not (tmp_path / "killed").exists()
    with (tmp_path / "killed.training" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "los')  # the kill may tear a line
    train(manifest, tmp_path / "killed", TINY)
    assert saves == 3  # three reports in all: the second training did only what was left
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    for name in ("metrics.jsonl", "model.json", "MODEL_CARD.md"):
        assert (tmp_path / "killed" / name).read_text() == (tmp_path / "whole" / name).read_text()
    assert not (tmp_path / "killed.training").exists()


def test_state_of_another_training_is_not_resumed(manifest, tmp_path, monkeypatch):
    other = TINY.model_copy(update={"seed": 1})
    train(manifest, tmp_path / "whole", other)
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFolder, "save_best", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(manifest, tmp_path / "model", TINY)
    train(manifest, tmp_path / "model", other)
    assert weights(tmp_path / "model") == weights(tmp_path / "whole")


def _interrupt(*_):
    raise KeyboardInterrupt


def test_seed_changes_the_weights(manifest, tmp_path):
    for seed in (0, 1):
        train(manifest, tmp_path / str(seed), TINY.model_copy(update={"seed": seed}))
    assert weights(tmp_path / "0") != weights(tmp_path / "1")


@pytest.mark.slow
def test_training_beats_the_histospline_on_a_head_it_has_not_seen(manifest, tmp_path):
    settings = TINY.model_copy(
        update={
            "width": 8,
            "steps": 300,
            "batch_size": 4,
            "patch": 32,
            "report_interval": 50,
            "validation_interval": 100,
            "loss": "mse",
            "learning_rate": 1e-2,
            "average_decay": 0.95,
            "noise_hu": 0.0,
            "pixel_spacing_min_mm": 0.7,
            "pixel_spacing_max_mm": 0.9,
        }
    )
    train(manifest, tmp_path / "model", settings)
    found = read_json(tmp_path / "model" / "model.json")["metrics"]["validation"]
    assert list(found) == ["head-2"]
    assert found["head-2"]["psnr_db"] > found["head-2"]["histospline_psnr_db"] + 0.2
    lines = (tmp_path / "model" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert losses[-1] < 0.9 * losses[0]


def test_fine_tuning_starts_from_the_given_weights(manifest, tmp_path):
    train(manifest, tmp_path / "first", TINY)
    gentle = TINY.model_copy(update={"learning_rate": 1e-12, "average_decay": 0.0, "steps": 1})
    train(manifest, tmp_path / "second", gentle, initial=tmp_path / "first")
    first, second = (load_file(tmp_path / n / "weights.safetensors") for n in ("first", "second"))
    for name, value in first.items():
        if "running" not in name and "num_batches" not in name:
            assert_allclose(second[name], value, atol=1e-9)


def test_model_names_its_data_and_opens_without_a_pickle(manifest, tmp_path):
    train(manifest, tmp_path / "model", TINY)
    found = read_json(tmp_path / "model" / "model.json")
    cases = {case["case"]: case["role"] for case in found["provenance"]["cases"]}
    assert cases == {"head-0": "train", "head-1": "train", "head-2": "validation"}
    assert read_sidecar(tmp_path / "model")["kind"] == "model"
    assert all(
        isinstance(t, torch.Tensor)
        for t in load_file(tmp_path / "model" / "weights.safetensors").values()
    )
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {
        "weights.safetensors",
        "model.json",
        "MODEL_CARD.md",
        "metrics.jsonl",
        "artefact.json",
    }


def test_unprepared_source_is_refused_with_the_command_that_helps(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("case,patient,role,source,path\na,a,train,phantom,seed=1\n")
    with pytest.raises(InputError, match="ct2flow manifest prepare"):
        train(path, tmp_path / "model", TINY)


def test_manifest_without_training_case_is_refused(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("case,patient,role,source,path\na,a,test,volume,a.nii.gz\n")
    with pytest.raises(InputError, match="role train"):
        train(path, tmp_path / "model", TINY)


@pytest.mark.parametrize(("patch", "needed"), [(17, 16), (15, 16)])
def test_patch_that_does_not_fit_the_network_is_refused(manifest, tmp_path, patch, needed):
    with pytest.raises(UsageError, match=f"give --patch {needed}"):
        train(manifest, tmp_path / "model", TINY.model_copy(update={"patch": patch}))


def test_shipped_network_can_be_fine_tuned(manifest, tmp_path):
    settings = TrainingSettings(
        steps=1, batch_size=1, patch=16, validation_slices=1, device="cpu", precision="float32"
    )
    train(manifest, tmp_path / "model", settings, initial=Path("shipped"))
    found = read_json(tmp_path / "model" / "model.json")
    assert found["provenance"]["initial_sha256"]


def test_initial_model_of_another_size_is_refused(manifest, tmp_path):
    train(manifest, tmp_path / "first", TINY)
    wider = TINY.model_copy(update={"width": 8})
    with pytest.raises(UsageError, match="matching settings"):
        train(manifest, tmp_path / "second", wider, initial=tmp_path / "first")


def test_diverging_training_stops_with_the_step(manifest, tmp_path, monkeypatch):
    monkeypatch.setitem(_losses(monkeypatch), "l1", lambda a, b: (a - b).sum() * float("nan"))
    with pytest.raises(NumericalError, match="step 2"):
        train(manifest, tmp_path / "model", TINY.model_copy(update={"loss": "l1"}))


def _losses(monkeypatch):
    table: dict = {}
    monkeypatch.setattr("stages.super_resolution.training.LOSSES", table)
    return table
