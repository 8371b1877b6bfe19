"""A training asked to repeat itself switches torch to deterministic algorithms, and back."""

from __future__ import annotations

import os

import pytest
import torch
from sr_volumes import TINY

from pipeline.core.artefacts import read_json
from pipeline.core.errors import UsageError
from stages.super_resolution.checkpoint import CheckpointFolder
from stages.super_resolution.determinism import CUBLAS, deterministic_algorithms
from stages.super_resolution.stage import train

QUICK = TINY.model_copy(update={"steps": 2})
LOSSES = "stages.super_resolution.losses.LOSSES"


def switches():
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark,
        os.environ.get(CUBLAS),
    )


@pytest.fixture
def searching(monkeypatch):
    """Leave cuDNN searching for its fastest algorithm, as a user's own code may have done."""
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    return switches()


@pytest.mark.parametrize("deterministic", [True, False])
def test_switches_are_set_while_training_recorded_and_set_back(
    manifest, tmp_path, monkeypatch, searching, deterministic
):
    seen = []
    save = CheckpointFolder.save

    def look(self, *arguments):
        seen.append(switches()[:2])
        save(self, *arguments)

    monkeypatch.setattr(CheckpointFolder, "save", look)
    settings = QUICK.model_copy(update={"deterministic": deterministic})
    train(manifest, tmp_path / "model", settings)
    assert seen == [(True, False) if deterministic else (False, True)]
    assert switches() == searching
    found = read_json(tmp_path / "model" / "model.json")
    assert found["training"]["deterministic"] is deterministic
    assert ("--deterministic" in found["provenance"]["command"]) is deterministic


def test_operation_without_a_deterministic_form_is_named_and_all_is_set_back(
    manifest, tmp_path, monkeypatch, searching
):
    def scattered(found, _):
        place = torch.zeros(1, dtype=torch.long)
        return found.mean.put(place, found.mean.flatten()[:1])

    monkeypatch.setattr(LOSSES, {"l1": scattered})
    settings = QUICK.model_copy(update={"deterministic": True, "loss": "l1"})
    with pytest.raises(UsageError, match=r"--deterministic: put_ has no deterministic form"):
        train(manifest, tmp_path / "model", settings)
    assert switches() == searching


@pytest.mark.parametrize(
    ("device", "given", "used"),
    [
        ("cuda", None, ":4096:8"),
        ("cuda", ":16:8", ":16:8"),
        ("cuda", ":0:0", ":4096:8"),
        ("cpu", None, None),
    ],
)
def test_cublas_gets_a_workspace_that_is_deterministic_and_only_on_a_gpu(
    monkeypatch, device, given, used
):
    monkeypatch.delenv(CUBLAS, raising=False)
    if given is not None:
        monkeypatch.setenv(CUBLAS, given)
    with deterministic_algorithms(device, wanted=True):
        assert os.environ.get(CUBLAS) == used
    assert os.environ.get(CUBLAS) == given


def test_what_fails_for_another_reason_keeps_its_reason():
    with (
        pytest.raises(RuntimeError, match="something else"),
        deterministic_algorithms("cpu", wanted=True),
    ):
        raise RuntimeError("something else")
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.gpu
def test_two_trainings_on_a_gpu_give_the_same_bytes(manifest, tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    settings = TINY.model_copy(update={"deterministic": True, "device": "cuda"})
    for name in ("first", "second"):
        train(manifest, tmp_path / name, settings)
    first, second = (tmp_path / n / "weights.safetensors" for n in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
