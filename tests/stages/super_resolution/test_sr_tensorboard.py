"""TensorBoard shows the numbers of metrics.jsonl, all of them and no others."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sr_volumes import TINY

from pipeline.cli import exit_code
from pipeline.core.artefacts import read_sidecar
from pipeline.core.errors import InputError, UsageError
from stages.super_resolution.metrics_view import EVENTS, Scalar, event_file, read_metrics
from stages.super_resolution.stage import SHIPPED_FOLDER, train, view_metrics

MISSING = "needs ct2flow[tensorboard]"


def curves_in(folder):
    """Return what TensorBoard itself reads in a folder of logs: steps and values by name."""
    module = "tensorboard.backend.event_processing.event_accumulator"
    found = pytest.importorskip(module, reason=MISSING).EventAccumulator(str(folder)).Reload()
    return {n: [(s.step, s.value) for s in found.Scalars(n)] for n in found.Tags()["scalars"]}


def curve_of(lines, *names):
    """Return one curve as the JSON lines hold it."""
    curve = []
    for record in map(json.loads, lines):
        value = record
        for name in names:
            value = value.get(name) if value else None
        if value is not None:
            curve.append((record["step"], value))
    return curve


def test_tensorboard_shows_the_curves_of_the_shipped_network(tmp_path):
    pytest.importorskip("tensorboard", reason=MISSING)
    logs = tmp_path / "logs"
    assert exit_code(["train", "tensorboard", str(SHIPPED_FOLDER), "--output", str(logs)]) == 0
    lines = (SHIPPED_FOLDER / "metrics.jsonl").read_text().splitlines()
    expected = {
        "loss": ("loss",),
        "learning_rate": ("learning_rate",),
        "psnr_db/phantom-201": ("psnr_db", "phantom-201"),
        "wall_psnr_db/phantom-201": ("wall_psnr_db", "phantom-201"),
        "psnr_db/phantom-202": ("psnr_db", "phantom-202"),
        "wall_psnr_db/phantom-202": ("wall_psnr_db", "phantom-202"),
        "mean_psnr_db": ("mean_psnr_db",),
        "histospline_mean_psnr_db": ("histospline_mean_psnr_db",),
    }
    found = curves_in(logs)
    assert set(found) == set(expected)
    for name, keys in expected.items():
        steps, values = zip(*curve_of(lines, *keys), strict=True)
        shown_steps, shown = zip(*found[name], strict=True)
        assert shown_steps == steps
        assert_allclose(shown, values, rtol=np.finfo(np.float32).eps)  # its format is float32
    assert read_sidecar(logs)["kind"] == "tensorboard"


def test_a_training_just_made_can_be_looked_at_and_gives_the_same_bytes_again(manifest, tmp_path):
    pytest.importorskip("tensorboard", reason=MISSING)
    train(manifest, tmp_path / "model", TINY)
    for name in ("first", "second"):
        view_metrics(tmp_path / "model", tmp_path / name)
    assert (tmp_path / "first" / EVENTS).read_bytes() == (
        tmp_path / "second" / EVENTS
    ).read_bytes()
    assert [step for step, _ in curves_in(tmp_path / "first")["loss"]] == [2, 4, 6]


def test_a_line_that_a_running_training_has_not_ended_is_left_out():
    whole = '{"step": 2, "loss": 0.5, "psnr_db": {"head": 30.0}}\n'
    expected = [Scalar(2, "loss", 0.5), Scalar(2, "psnr_db/head", 30.0)]
    assert read_metrics(whole, "m") == read_metrics(whole + '{"step": 4, "lo', "m") == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "holds no step yet"),
        ('{"step": 2', "holds no step yet"),
        ("loss 0.5\n", "line 1: is no JSON record with a step"),
        ('{"step": 2, "loss": 1.0}\n{"loss": 1.0}\n', "line 2: is no JSON record with a step"),
        ("[1]\n", "line 1: is no JSON record"),
    ],
)
def test_what_is_no_record_of_a_training_is_refused(text, sentence):
    with pytest.raises(InputError, match=sentence):
        read_metrics(text, "metrics.jsonl")


def test_a_folder_without_metrics_is_refused(tmp_path, capsys):
    arguments = ["train", "tensorboard", str(tmp_path), "--output", str(tmp_path / "logs")]
    assert exit_code(arguments) == 3
    assert "holds no metrics.jsonl" in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()


def test_without_the_package_one_sentence_names_the_extra(monkeypatch):
    for name in ("tensorboard", "tensorboard.compat.proto.event_pb2"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=r"is missing; .*pip install 'ct2flow\[tensorboard\]'"):
        event_file([])
