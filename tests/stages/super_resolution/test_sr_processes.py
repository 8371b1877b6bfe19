"""Several processes train what one would have trained, and fail with one voice.

Real processes are started from the command line, on processors.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sr_networks import make_small
from sr_volumes import TINY, write_manifest
from torch import distributed, nn

from pipeline import cli
from pipeline.config import flags
from pipeline.core.artefacts import read_json
from pipeline.core.errors import InputError, NumericalError, UsageError
from stages.super_resolution import processes
from stages.super_resolution.checkpoint import CheckpointFolder
from stages.super_resolution.launching import is_started_by_launcher, start_processes
from stages.super_resolution.processes import (
    OneVoice,
    check_batch,
    leave_if_abandoned,
    own_part,
    refuse_several,
)
from stages.super_resolution.shared_statistics import SharedBatchNorm, share_statistics
from stages.super_resolution.training_stage import train

SETTINGS = TINY.model_copy(
    update={"batch_size": 4, "keep_last": True, "wall_weight": 20.0, "noise_hu": 100.0}
)
LAST = "last.safetensors"
TOLERANCE = 0.03
"""Share of what half the batch changes. Sums in another order make 2e-5 of it, and 0.005 to 0.016
where they carry a pixel across the kink of a rectifier: so does one process whose first weights are
changed by a float32 epsilon. A training that shares no gradients, statistics of batch normalisation
or weights of walls differs by 0.3 to
1.1: tried by leaving out each."""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Return a folder with a manifest and what one and two processes made of it."""
    folder = tmp_path_factory.mktemp("study")
    manifest = write_manifest(folder, shape=(12, 32, 32))
    train(manifest, folder / "one", SETTINGS)
    train(manifest, folder / "half", SETTINGS.model_copy(update={"batch_size": 2}))
    done = run(folder, "two", SETTINGS, "--devices", "2", progress="progress.jsonl")
    assert done.returncode == 0, done.stderr
    return folder


def run(folder, output, settings, *more, program=("-P", "-m"), progress=None):
    words = [*(("--progress-file", folder / progress) if progress else ()), "train"]
    words += [folder / "manifest.csv", "--output", folder / output]
    words += [*shlex.split(flags(settings)), *more]
    command = [sys.executable, *program, "pipeline.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def distance(folder, other):
    """Return how far the weights, and the statistics of normalisation, lie apart (L2)."""
    first, second = (load_file(path / LAST) for path in (folder, other))
    assert first.keys() == second.keys()
    apart = {name: float((first[name] - second[name]).double().norm()) for name in first}
    statistics = {name for name in apart if name.endswith(("running_mean", "running_var"))}
    groups = (set(apart) - statistics, statistics)
    return np.array([np.linalg.norm([apart[name] for name in group]) for group in groups])


def assert_same_training(folder, other, control):
    """Hold two trainings equal beside a control that learnt from half of each batch."""
    assert np.all(distance(folder, other) < TOLERANCE * distance(folder, control))


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_train_to_the_weights_of_one(study):
    assert_same_training(study / "one", study / "two", study / "half")


def test_only_the_leader_writes(study):
    names = {path.name for path in study.iterdir() if path.name.startswith((".", "two"))}
    assert names == {"two"}
    one, two = lines(study / "one"), lines(study / "two")
    assert [line["step"] for line in two] == [2, 4, 6]
    for alone, shared in zip(one, two, strict=True):
        assert alone.keys() == shared.keys()
        # Losses are means over all processes; float32 sums of 1e3 pixels in another order.
        assert shared["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    ends = [
        line
        for line in map(json.loads, (study / "progress.jsonl").read_text().splitlines())
        if line["done"] == line["total"]
    ]
    assert [line["task"] for line in ends] == [
        "read training cases",
        "read validation cases",
        "train",
    ]


def test_description_does_not_tell_how_many_processes_trained(study):
    one, two = (read_json(study / name / "model.json") for name in ("one", "two"))
    assert one["training"] == two["training"]
    assert one["provenance"] == two["provenance"]


@pytest.mark.slow
def test_training_begun_by_one_process_is_finished_by_two(study, monkeypatch):
    save = CheckpointFolder.save

    def save_then_die(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(CheckpointFolder, "save", save_then_die)
    with pytest.raises(KeyboardInterrupt):
        train(study / "manifest.csv", study / "grown", SETTINGS)
    begun = lines(study / "grown.training")
    assert [line["step"] for line in begun] == [2]
    done = run(study, "grown", SETTINGS, "--devices", "2")
    assert done.returncode == 0, done.stderr
    assert lines(study / "grown")[:1] == begun
    assert_same_training(study / "one", study / "grown", study / "half")


@pytest.fixture(scope="module")
def failed(study):
    """Return a run of two processes whose leader fails in step 4, when the state of 2 is kept."""
    blocked = study / "failed.training" / ".partial.best.safetensors"
    blocked.mkdir(parents=True)
    done = run(study, "failed", SETTINGS, "--devices", "2")
    blocked.rmdir()
    return done


def test_a_process_that_fails_ends_all_with_one_sentence_and_its_exit_code(study, failed):
    assert failed.returncode == InputError.exit_code
    said = [line for line in failed.stderr.splitlines() if "INFO" not in line]
    assert len(said) == 1
    assert said[0].startswith("ct2flow: error [3]: .partial.best.safetensors")
    assert not list(study.glob(".partial.failed*"))


def test_training_begun_by_two_processes_is_finished_by_one(study, failed):
    shutil.copytree(study / "failed.training", study / "shrunk.training")
    begun = lines(study / "shrunk.training")
    assert [line["step"] for line in begun] == [2]
    train(study / "manifest.csv", study / "shrunk", SETTINGS)
    assert lines(study / "shrunk")[:1] == begun
    assert_same_training(study / "one", study / "shrunk", study / "half")


@pytest.mark.slow
def test_two_processes_go_on_to_the_very_weights_of_two_that_were_not_interrupted(study, failed):
    shutil.copytree(study / "failed.training", study / "again.training")
    done = run(study, "again", SETTINGS, "--devices", "2")
    assert done.returncode == 0, done.stderr
    for name in (LAST, "weights.safetensors", "metrics.jsonl", "model.json"):
        assert (study / "again" / name).read_bytes() == (study / "two" / name).read_bytes()


@pytest.mark.slow
def test_processes_started_by_torchrun_train_against_a_discriminator(study):
    """Both networks normalise by the whole batch; the discriminator is asked twice a step."""
    small = ("discriminator_width=4", "discriminator_depth=2")
    changes = {"network": "srgan", "width": 6, "depth": 2, "network_settings": small}
    settings = SETTINGS.model_copy(update=changes)
    train(study / "manifest.csv", study / "gan-one", settings)
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "-m")
    done = run(study, "gan-two", settings, program=launcher)
    assert done.returncode == 0, done.stderr
    half = settings.model_copy(update={"batch_size": 2})
    train(study / "manifest.csv", study / "gan-half", half)
    assert_same_training(study / "gan-one", study / "gan-two", study / "gan-half")
    for alone, shared in zip(lines(study / "gan-one"), lines(study / "gan-two"), strict=True):
        for name in ("adversarial_loss", "discriminator_loss"):
            assert shared[name] == pytest.approx(alone[name], rel=1e-5)


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--devices 0", "--devices 0: needed is 1 or more"),
        ("--devices -2", "--devices -2: needed is 1 or more"),
        ("--devices 3", "--batch-size 4: is shared by 3 processes"),
        ("--devices 8", "give --batch-size 8 or another number"),
    ],
)
def test_wrong_number_of_devices_is_refused_before_anything_starts(
    tmp_path, capsys, flag, sentence
):
    words = f"train m.csv --output {tmp_path}/model --device cpu --batch-size 4 {flag}"
    assert cli.exit_code(words.split()) == UsageError.exit_code
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_more_devices_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    settings = SETTINGS.model_copy(update={"device": "cuda"})
    with pytest.raises(UsageError, match="shows 1 GPU; give --devices 1"):
        start_processes(2, settings)


def test_batch_is_shared_evenly_or_not_at_all():
    parts = [own_part(SimpleNamespace(world_size=3, global_rank=r), 12) for r in range(3)]
    assert [index for part in parts for index in part] == list(range(12))
    check_batch(12, 3)
    with pytest.raises(UsageError, match="give --batch-size 9 or"):
        check_batch(10, 3)


@pytest.fixture
def as_second_of_two(monkeypatch):
    """Take the second place of two that a launcher with a store gave."""
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, timeout=timedelta(seconds=5))
    places = {
        "TORCHELASTIC_RUN_ID": "run",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "RANK": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
    }
    for name, value in places.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes.signal, "signal", lambda *_: None)
    return store


def test_first_failure_is_said_and_later_ones_leave_with_its_code(as_second_of_two, monkeypatch):
    with pytest.raises(NumericalError, match="no longer finite"), OneVoice():
        raise NumericalError("no longer finite")
    monkeypatch.setenv("RANK", "0")
    for consequence in (RuntimeError("gloo: Connection closed by peer"), InputError("the same")):
        with pytest.raises(SystemExit) as left, OneVoice():
            raise consequence
        assert left.value.code == NumericalError.exit_code


def test_lost_connection_without_a_known_cause_is_a_sentence(as_second_of_two, monkeypatch):
    monkeypatch.setattr(processes, "_GRACE_S", 0.0)
    with pytest.raises(NumericalError, match="Process 2 of 2 lost the others"), OneVoice():
        raise RuntimeError("[gloo/transport/tcp/pair.cc] Connection reset by peer")


def test_process_without_its_launcher_ends_before_it_writes(as_second_of_two, monkeypatch):
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    # Who started the tests may itself be the first process of the machine.
    monkeypatch.setattr(os, "getppid", lambda: 4711)
    processes._launcher.cache_clear()
    leave_if_abandoned()
    assert not ended
    monkeypatch.setattr(os, "getppid", lambda: 1)
    leave_if_abandoned()
    assert ended == [1]
    processes._launcher.cache_clear()


def test_launcher_of_another_size_and_commands_for_one_process_are_refused(as_second_of_two):
    assert is_started_by_launcher(2)
    with pytest.raises(UsageError, match="torchrun started 2 processes"):
        is_started_by_launcher(4)
    with pytest.raises(UsageError, match="'train on-the-fly' runs in one process"):
        refuse_several("train on-the-fly")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_shared_statistics_keep_names_and_values(device):
    fabric = SimpleNamespace(world_size=2, device=torch.device(device))
    network = make_small("unet")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    weights = dict(network.named_parameters())
    network = share_statistics(network, fabric)
    kind = {"cpu": SharedBatchNorm, "cuda": nn.SyncBatchNorm}[device]
    kinds = {type(part) for part in network.modules() if "Norm" in type(part).__name__}
    assert kinds == {kind}
    assert dict(network.named_parameters()).keys() == weights.keys()
    assert all(value is weights[name] for name, value in network.named_parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
