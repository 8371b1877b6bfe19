"""The spread of single networks' pressure losses is the ensemble's model_std_pa, and arrives."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_comparison_flows import record

from pipeline.core.artefacts import read_json, read_sidecar
from pipeline.core.errors import UsageError
from stages.comparison.flow_record import parse_flow
from stages.comparison.flows import members_spread
from stages.comparison.stage import run_flows
from stages.report.record import CaseRecords, pressure_loss
from stages.report.tables import pressure_table


@pytest.fixture
def folders(tmp_path):
    """Write flows of HR, LR, SR and of three networks."""
    losses = {"hr": 10.0, "lr": 12.0, "sr": 10.5, "sr-1": 10.0, "sr-2": 11.0, "sr-3": 12.0}
    for name, loss in losses.items():
        (tmp_path / name).mkdir()
        content = record(loss, reached=name != "sr-3")
        (tmp_path / name / "flow.json").write_text(json.dumps(content))
    return tmp_path


def compared(folders, *members, **options):
    flows = [folders / name for name in ("hr", "lr", "sr")]
    output = folders / "flows.json"
    chosen = [folders / name for name in members]
    run_flows(flows, output, baseline=flows[0], members=chosen, overwrite=True, **options)
    return read_json(output)["pressure_loss"]


def test_spread_is_the_sample_standard_deviation():
    members = {f"sr-{i}": parse_flow("case", record(loss)) for i, loss in enumerate([9.0, 13.0])}
    assert members_spread(members)["model_std_pa"] == pytest.approx(np.sqrt(8.0), rel=1e-12)


def test_spread_is_of_the_ensemble_alone_and_changes_no_other_number(folders):
    without, found = compared(folders), compared(folders, "sr-1", "sr-2", "sr-3")
    assert found["sr"]["model_std_pa"] == pytest.approx(1.0, rel=1e-12)
    assert found["sr"]["members"] == {"sr-1": 10.0, "sr-2": 11.0, "sr-3": 12.0}
    assert {n: e for n, e in found.items() if n != "sr"} == {
        n: e for n, e in without.items() if n != "sr"
    }
    assert without["sr"].items() <= found["sr"].items()
    record_of = read_sidecar(folders / "flows.json")
    assert {"member/sr-1", "member/sr-2", "member/sr-3"} <= record_of["inputs"].keys()


def test_one_network_has_no_spread(folders):
    assert compared(folders, "sr-1")["sr"]["model_std_pa"] is None


def test_network_whose_flow_did_not_converge_is_said(folders):
    compared(folders, "sr-1", "sr-3")
    assert any("single network" in w for w in read_sidecar(folders / "flows.json")["warnings"])
    compared(folders, "sr-1", "sr-2")
    assert not read_sidecar(folders / "flows.json")["warnings"]


def test_members_of_a_variant_that_is_not_compared_are_refused(folders):
    with pytest.raises(UsageError, match="the variant best is not compared"):
        compared(folders, "sr-1", "sr-2", ensemble="best")


def test_spread_arrives_in_the_results_of_the_ensemble_alone(folders):
    flows = {"pressure_loss": compared(folders, "sr-1", "sr-2", "sr-3")}
    airways = {name: {"patent": True} for name in ("hr", "lr", "interpolated", "sr")}
    records = CaseRecords("case", {}, {}, airways, {}, flows=flows)
    assert pressure_loss(records, "sr")["model_std_pa"] == pytest.approx(1.0)
    assert pressure_loss(records, "hr")["model_std_pa"] is None
    assert pressure_loss(records, "interpolated")["model_std_pa"] is None


def test_report_says_how_far_the_networks_differ_or_that_there_is_one(folders):
    for members, sentence in (
        (("sr-1", "sr-2", "sr-3"), "mean of 3 networks; the total pressure losses of each alone "
         "have a standard deviation of 1.00 Pa"),
        ((), "not included"),
    ):  # fmt: skip
        content = {"pressure_loss": compared(folders, *members), "provenance": {"settings": {}}}
        assert sentence in pressure_table(content).caption
