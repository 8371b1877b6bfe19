"""Training learns, repeats itself exactly and survives a kill."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from numpy.testing import assert_allclose
from safetensors.torch import load_file
from sr_networks import make_small
from sr_volumes import TINY

from pipeline.core.artefacts import read_json, read_sidecar
from pipeline.core.errors import InputError, NumericalError, UsageError
from stages.super_resolution.checkpoint import CheckpointFolder
from stages.super_resolution.layout import Layout
from stages.super_resolution.model import Model, Normalisation
from stages.super_resolution.networks import build_discriminator
from stages.super_resolution.optimisation import Objective, adversarial_step, make_learner
from stages.super_resolution.plan import completed
from stages.super_resolution.schedule import update_average
from stages.super_resolution.settings import TrainingSettings
from stages.super_resolution.stage import train
from stages.super_resolution.training import _make_learners, _step_of, rate_at

WEIGHTS = "weights.safetensors"


def weights(folder):
    return (folder / "weights.safetensors").read_bytes()


def test_learning_rate_rises_to_its_peak_and_falls_to_a_hundredth():
    settings = TrainingSettings(steps=1000, warmup_steps=50, learning_rate=1e-3)
    rates = [rate_at(step, settings) for step in range(1, 1001)]
    assert np.argmax(rates) == 49
    assert max(rates) == pytest.approx(1e-3)
    assert np.all(np.diff(rates[49:]) < 0)
    assert rates[-1] == pytest.approx(1e-5)


LOOPS = {
    "plain": {},
    "against a discriminator": {
        "network": "srgan",
        "network_settings": ("discriminator_width=4", "discriminator_depth=2"),
    },
    "any network against a discriminator": {"loss": "l1+0.01*adversarial"},
    "likelihood": {"loss": "nll+0.1*gradient", "wall_weight": 5.0},
    "bfloat16": {"precision": "bfloat16"},
    "dense": {"network": "msd", "width": None, "depth": 12},
    "windows": {
        "network": "swinir",
        "width": 6,
        "depth": 1,
        "network_settings": ("blocks=2", "heads=2"),
    },
}


@pytest.mark.parametrize(("loop", "kill_at"), [("plain", 2), *((loop, 1) for loop in LOOPS)])
def test_killed_training_goes_on_to_the_weights_of_an_uninterrupted_one(
    manifest, tmp_path, monkeypatch, kill_at, loop
):
    settings = TINY.model_copy(update=LOOPS[loop])
    train(manifest, tmp_path / "whole", settings)
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
        train(manifest, tmp_path / "killed", settings)
    assert not (tmp_path / "killed").exists()
    with (tmp_path / "killed.training" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "los')  # the kill may tear a line
    train(manifest, tmp_path / "killed", settings)
    assert saves == 3  # three reports in all: the second training did only what was left
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    for name in ("metrics.jsonl", "model.json", "MODEL_CARD.md"):
        assert (tmp_path / "killed" / name).read_text() == (tmp_path / "whole" / name).read_text()
    assert not (tmp_path / "killed.training").exists()


def test_metrics_of_an_adversarial_training_name_every_part(manifest, tmp_path):
    train(manifest, tmp_path / "model", TINY.model_copy(update={"network": "srgan"}))
    text = (tmp_path / "model" / "metrics.jsonl").read_text()
    for line in map(json.loads, text.splitlines()):
        parts = line["charbonnier_loss"] + 0.001 * line["adversarial_loss"]
        assert line["loss"] == pytest.approx(parts, rel=1e-5)
        assert line["discriminator_loss"] > 0
    found = read_json(tmp_path / "model" / "model.json")
    assert found["training"]["loss"] == "charbonnier+0.001*adversarial"
    assert not any("discriminator." in n for n in load_file(tmp_path / "model" / WEIGHTS))


def test_adversarial_training_teaches_both_networks():
    """The discriminator's own loss falls under its optimiser, the generator stays as it is."""
    fabric = Fabric(accelerator="cpu", devices=1)
    network, judge = (
        make_learner(fabric, module, rate=rate, weight_decay=0.0)
        for module, rate in (
            (make_small("srgan"), 0.0),
            (build_discriminator("unet", 3, {}, torch.Generator().manual_seed(0)), 1e-3),
        )
    )
    before = [p.clone() for p in network.module.parameters()]
    objective = Objective({"l1": 1.0, "adversarial": 0.1}, 1.0, 0.0, 1.0)
    step = adversarial_step(network, judge, Layout(3, 3, "box"), objective)
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(4, 3, 16, 16, generator=generator)
    inputs = torch.cat([true, 0.3 * true], dim=1)
    told = [float(step(inputs, true)["discriminator_loss"]) for _ in range(12)]
    assert told[-1] < 0.5 * told[0]
    after = network.module.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.requires_grad for p in judge.module.parameters())


@pytest.mark.parametrize("loss", ["0.01*mse", "1e5*mse", "1e5*mse+1e5*adversarial"])
def test_a_step_goes_no_further_than_gradients_of_the_largest_norm(loss):
    """Larger gradients are scaled down to the setting, of generator and discriminator alike."""
    settings = TINY.model_copy(update={"loss": loss, "gradient_norm_max": 0.25})
    layout = Layout(3, 3, "box")
    model = Model("unet", make_small("unet"), layout, Normalisation(0.0, 500.0))
    judge = build_discriminator("unet", 3, {}, torch.Generator().manual_seed(0))
    fabric = Fabric(accelerator="cpu", devices=1)
    learners = _make_learners(fabric, model, judge, completed(settings))
    generator = torch.Generator().manual_seed(0)
    inputs, true = (torch.randn(2, n, 16, 16, generator=generator) for n in (6, 3))
    _step_of(learners, model, settings)(inputs, true)
    norms = {
        name: float(torch.cat([p.grad.flatten() for p in learner.module.parameters()]).norm())
        for name, learner in learners.items()
    }
    assert set(norms) == {"network", *(["discriminator"] if "adversarial" in loss else [])}
    if loss == "0.01*mse":
        assert 0 < norms["network"] < 0.2  # what is small stays as it is
    else:
        # torch divides by the norm plus 1e-6; float32 sums of some ten thousand squares
        assert_allclose(norms["network"], 0.25, rtol=1e-5)
    assert all(norm <= 0.25 * (1 + 1e-5) for norm in norms.values())


def test_running_average_of_constant_weights_is_those_weights():
    network, average = make_small("unet", seed=0), make_small("unet", seed=1)
    for _ in range(200):
        update_average(average, network, 0.9)
    # 0.9^200 of the difference is left, 7e-10
    for new, old in zip(network.parameters(), average.parameters(), strict=True):
        assert_allclose(old.detach(), new.detach(), atol=1e-6)


@pytest.mark.parametrize("seed", [0, 3])
def test_last_weights_are_kept_beside_the_best_when_asked_for(manifest, tmp_path, seed):
    """They differ where an earlier step was the best, and there alone."""
    settings = TINY.model_copy(update={"keep_last": True, "seed": seed, "learning_rate": 0.05})
    train(manifest, tmp_path / "model", settings)
    best, last = (load_file(tmp_path / "model" / name) for name in (WEIGHTS, "last.safetensors"))
    assert best.keys() == last.keys()
    found = read_json(tmp_path / "model" / "model.json")["metrics"]
    is_same = all(torch.equal(best[name], last[name]) for name in best)
    assert is_same == (found["step"] == TINY.steps)


def test_network_without_a_given_rate_has_its_own():
    assert completed(TrainingSettings()).learning_rate == 2e-3
    assert completed(TrainingSettings(network="srgan")).learning_rate == 1e-4
    assert completed(TrainingSettings(network="srgan", learning_rate=0.5)).learning_rate == 0.5


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


def test_diverging_training_stops_with_the_step(manifest, tmp_path, monkeypatch):
    table = {"l1": lambda found, _: found.mean * float("nan")}
    monkeypatch.setattr("stages.super_resolution.losses.LOSSES", table)
    with pytest.raises(NumericalError, match="step 2"):
        train(manifest, tmp_path / "model", TINY.model_copy(update={"loss": "l1"}))
