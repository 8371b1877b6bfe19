"""A model written as ONNX restores as it does in torch, and says how to feed it."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sr_networks import make_small, wake
from sr_volumes import make_head

from pipeline.cli import exit_code
from pipeline.core.artefacts import read_sidecar
from pipeline.core.errors import UsageError
from stages.super_resolution.baselines import restore_baseline
from stages.super_resolution.degradation import degrade
from stages.super_resolution.layout import Layout
from stages.super_resolution.model import Model, Normalisation
from stages.super_resolution.model_io import load_model
from stages.super_resolution.networks import NETWORKS
from stages.super_resolution.onnx_export import export_onnx
from stages.super_resolution.restoration import Arithmetic, restore_volume, slice_inputs
from stages.super_resolution.stage import SHIPPED_FOLDER

onnx = pytest.importorskip("onnx", reason="needs ct2flow[onnx]")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs ct2flow[onnx]")
pytest.importorskip("onnxscript", reason="needs ct2flow[onnx]")

NORMALISATION = Normalisation(-200.0, 500.0)
BOX = Layout(3, 3, "box")
TIED_TO_ONE_SIZE = {"swinir"}


def make(name, layout=BOX):
    network = wake(make_small(name, layout.in_channels, layout.out_channels))
    return Model(name, network, layout, NORMALISATION)


def restored_outside(exported, model, thick):
    """Restore a stack with onnxruntime alone, sides a multiple of the network's."""
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    inputs = slice_inputs(thick, range(len(thick)), model)
    return [session.run(None, {"input_hu": one[None]}) for one in inputs]


def metadata_of(exported):
    found = onnx.load_from_string(exported)
    properties = {p.key.removeprefix("ct2flow."): p.value for p in found.metadata_props}
    assert len(properties) > 10
    return properties


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - TIED_TO_ONE_SIZE))
def test_every_network_restores_as_in_torch_at_a_size_not_traced(name):
    """float32 in another order of sums, at some thousand HU: a tenth of the rounding to whole HU."""
    model = make(name)
    exported, difference_hu = export_onnx(model)
    head = make_head(3, shape=(9, 32, 96)).values
    thick = degrade(head, BOX.profile_taps, 3)
    found = np.concatenate([one[0][0] for one in restored_outside(exported, model, thick)])
    expected = np.concatenate([o.values for o in restore_volume(model, thick, Arithmetic())])
    assert np.abs(expected - restore_baseline(thick, "histospline", factor=3)).max() > 10
    assert_allclose(found, expected, atol=0.05)
    assert difference_hu <= 0.05


@pytest.mark.slow
def test_a_network_tied_to_one_size_is_refused_and_exported_for_one(tmp_path):
    model = make("swinir")
    with pytest.raises(UsageError, match="give --edge"):
        export_onnx(model)
    exported, _ = export_onnx(model, edge=32)
    assert metadata_of(exported)["in_plane_size"] == "32 x 32"
    with pytest.raises(UsageError, match="multiple of 4"):
        export_onnx(model, edge=30)


def test_sigma_and_an_upright_plane_are_exported():
    layout = Layout(3, 3, "triangle", consistent=True, predicts_variance=True, view="upright")
    model = make("espcn", layout)
    exported, _ = export_onnx(model)
    names = [output.name for output in onnx.load_from_string(exported).graph.output]
    assert names == ["restored_hu", "sigma_hu"]
    facts = metadata_of(exported)
    assert facts["view"] == "upright"
    assert facts["agreement"].startswith("outside the graph")


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    assert exit_code(["export-onnx", "shipped", "--output", str(path)]) == 0
    return path


def test_command_writes_a_model_and_what_it_differs_by(shipped):
    record = read_sidecar(shipped)
    assert record["kind"] == "onnx"
    assert record["properties"]["difference_from_torch_max_hu"] < 0.05
    onnx.checker.check_model(onnx.load(shipped))


def test_bytes_repeat_and_name_no_place(shipped, tmp_path):
    again = tmp_path / "again.onnx"
    assert exit_code(["export-onnx", "shipped", "--output", str(again)]) == 0
    exported = again.read_bytes()
    assert exported == shipped.read_bytes()
    for word in (b".py", b"site-packages", str(tmp_path).encode()):
        assert word not in exported


def test_metadata_suffice_to_restore_without_this_package(shipped):
    """A stack restored from the file's own statements, far from its ends."""
    exported = shipped.read_bytes()
    facts = metadata_of(exported)
    slices, context = int(facts["slices"]), int(facts["context"])
    weights = np.array(json.loads(facts["baseline_weights"]))
    reach = weights.shape[1] // 2
    thick = degrade(make_head(3, shape=(90, 32, 32)).values, BOX.profile_taps, 3)
    j = len(thick) // 2
    base = np.tensordot(weights, thick[j - reach : j + reach + 1], axes=1)
    seen = np.concatenate([thick[j - context // 2 : j + context // 2 + 1], base])
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"input_hu": seen[None].astype(np.float32)})
    expected = list(restore_volume(load_model(SHIPPED_FOLDER), thick, Arithmetic()))[j].values
    assert found[0].shape == (slices, 32, 32)
    assert_allclose(found[0], expected, atol=0.05)


def test_normalisation_is_within_the_graph(shipped):
    """What comes out of a constant body is that constant, in HU."""
    session = onnxruntime.InferenceSession(shipped, providers=["CPUExecutionProvider"])
    seen = np.full((1, 6, 32, 32), 40.0, dtype=np.float32)
    (found,) = session.run(None, {"input_hu": seen})
    assert_allclose(found.mean(axis=1), 40.0, atol=1e-2)


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UsageError, match=r"onnxscript is missing.*ct2flow\[onnx\]"):
        export_onnx(make("espcn"))


def test_a_folder_without_a_model_is_unusable_input(tmp_path):
    arguments = ["export-onnx", str(tmp_path), "--output", str(tmp_path / "m.onnx")]
    assert exit_code(arguments) == 3


def test_another_name_than_onnx_is_refused(tmp_path):
    arguments = ["export-onnx", "shipped", "--output", str(tmp_path / "model.pt")]
    assert exit_code(arguments) == 2
    assert not list(tmp_path.iterdir())


def test_a_network_that_differs_outside_torch_is_refused(monkeypatch):
    model = make("espcn")
    monkeypatch.setattr(
        "stages.super_resolution.onnx_export._difference_hu", lambda *_: float("nan")
    )
    with pytest.raises(UsageError, match="differs by nan HU"):
        export_onnx(model)
