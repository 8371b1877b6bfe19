"""A training that the system kills, in whatever it was doing, ends with the bytes of a whole one."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest
from safetensors import safe_open
from sr_volumes import TINY, write_manifest

from pipeline.config import flags
from stages.super_resolution.stage import train

LONG = TINY.model_copy(
    update={"steps": 120, "report_interval": 1, "validation_interval": 120, "batch_size": 1}
)


def steps_done(state):
    with safe_open(state, framework="pt") as file:
        return int(json.loads(file.metadata()["facts"])["step"])


def kill_after_state(words, state):
    """Send SIGKILL once a state lies on disk; return how the process ended."""
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not state.exists():
            time.sleep(0.005)
        process.kill()
        return process.wait()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_killed_training_given_again_ends_with_the_bytes_of_an_undisturbed_one(tmp_path):
    manifest = write_manifest(tmp_path, shape=(12, 24, 24))
    output, state = tmp_path / "killed", tmp_path / "killed.training" / "state.safetensors"
    words = ["train", str(manifest), "--output", str(output), *shlex.split(flags(LONG))]
    command = [sys.executable, "-P", "-m", "pipeline.cli", *words]
    assert kill_after_state(command, state) == -signal.SIGKILL
    assert not output.exists()
    assert 0 < steps_done(state) < LONG.steps
    train(manifest, output, LONG)
    train(manifest, tmp_path / "whole", LONG)
    for name in ("weights.safetensors", "metrics.jsonl", "model.json"):
        assert (output / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not state.parent.exists()
