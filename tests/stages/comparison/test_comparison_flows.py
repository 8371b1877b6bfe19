"""Deviations have the right sign, and none is called resolved that its error covers."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.artefacts import read_json, read_sidecar
from pipeline.core.errors import InputError, UsageError
from stages.comparison.flow_record import parse_flow
from stages.comparison.flows import (
    compare_flows,
    deviation_percent,
    flow_warnings,
    mean_absolute_deviation,
)
from stages.comparison.stage import run_flows


def record(total, spacing=0.5, left=100.0, right=150.0, *, reached=True, change=0.0):
    outlet = {"flow_rate_ml_s": left + right, "static_pressure_pa": 0.0, "total_pressure_pa": 1.0}
    return {
        "openings": {
            "inlet-left": {"flow_rate_ml_s": left, "total_pressure_pa": total + 1},
            "inlet-right": {"flow_rate_ml_s": right, "total_pressure_pa": total + 1},
            "outlet-pharynx": outlet,
        },
        "pressure_loss": {"static_pa": total - 0.5, "total_pa": total},
        "lattice": {"spacing_mm": spacing},
        "numbers": {"peak_velocity_m_s": 6.0},
        "convergence": {"reached": reached, "pressure_loss_change": change},
    }


def flow(*arguments, **settings):
    return parse_flow("case", record(*arguments, **settings))


@pytest.fixture
def flow_folder(tmp_path):
    def make(name, *arguments, **settings):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "flow.json").write_text(json.dumps(record(*arguments, **settings)))
        return folder

    return make


def test_the_published_pressure_losses_give_the_recomputed_deviations():
    # Liu et al., status report: HR 9.695, LR 8.965, interpolated 7.706, U-Net 9.849 Pa.
    found = [deviation_percent(value, 9.695) for value in (8.965, 7.706, 9.849)]
    np.testing.assert_allclose(found, [-7.53, -20.52, 1.59], atol=0.005)


@given(st.floats(0.1, 100), st.floats(-0.99, 5))
def test_deviation_is_the_relative_change_whatever_the_unit(baseline, change):
    found = deviation_percent(baseline * (1 + change), baseline)
    np.testing.assert_allclose(found, 100 * change, rtol=1e-9, atol=1e-9)


def test_a_deviation_that_the_runs_still_change_by_is_not_resolved():
    coarse = {"hr": [flow(20.01, 0.7)], "lr": [flow(22.01, 0.7)]}
    settled = compare_flows({"hr": flow(20), "lr": flow(22)}, "hr", coarse)["lr"]
    assert settled["resolved"] is True
    assert settled["unsettled_percent"] == 0.0
    moving = {
        "hr": flow(20, reached=False, change=0.03),
        "lr": flow(22, reached=False, change=0.08),
    }
    entry = compare_flows(moving, "hr", coarse)["lr"]
    assert entry["unsettled_percent"] == pytest.approx(8.0)
    assert entry["resolved"] is False  # 10 % within 3 + 8 %


def test_a_run_that_ended_before_its_change_is_known_resolves_nothing():
    coarse = {"hr": [flow(20.01, 0.7)], "lr": [flow(30.01, 0.7)]}
    short = {"hr": flow(20, reached=False, change=1e9), "lr": flow(30)}
    entries = compare_flows(short, "hr", coarse)
    assert entries["hr"]["unsettled_percent"] is None
    assert entries["lr"]["unsettled_percent"] == 0.0
    assert entries["lr"]["resolved"] is False
    short["lr"] = flow(30, reached=False, change=1e9)
    warnings = flow_warnings(compare_flows(short, "hr", coarse))
    assert any("in time unknown)" in warning for warning in warnings)


def test_an_unsteady_flow_carries_two_standard_errors_of_its_mean():
    record = flow(20, reached=False, change=0.08)
    state = {"statistically_steady": True, "time_mean_error": 0.004}
    steady = record.convergence.model_copy(update=state)
    assert steady.settled
    assert not record.convergence.settled
    assert steady.unsettled_percent == pytest.approx(0.8)
    old = steady.model_copy(update={"time_mean_error": None})
    assert old.unsettled_percent == pytest.approx(8.0)


def test_a_deviation_within_its_error_is_not_resolved():
    fine = {"hr": flow(20), "lr": flow(24), "sr": flow(20.2)}
    coarse = {"hr": [flow(20.4, 0.7)], "lr": [flow(24.5, 0.7)], "sr": [flow(20.6, 0.7)]}
    entries = compare_flows(fine, "hr", coarse)
    assert entries["lr"]["resolved"] is True
    assert entries["sr"]["resolved"] is False
    assert entries["hr"]["resolved"] is None
    assert entries["hr"]["deviation_from_hr_percent"] == 0


def test_a_deviation_that_changes_with_the_lattice_is_not_resolved():
    # Both losses move by 1 % only, but in opposite directions.
    fine = {"hr": flow(100), "lr": flow(104)}
    coarse = {"hr": [flow(101, 0.7)], "lr": [flow(103, 0.7)]}
    entry = compare_flows(fine, "hr", coarse)["lr"]
    assert entry["discretisation_percent"] < entry["deviation_from_hr_percent"]
    assert entry["deviation_error_percent"] > entry["deviation_from_hr_percent"]
    assert entry["resolved"] is False


def test_a_lattice_error_shared_by_both_flows_cancels_in_the_deviation():
    fine = {"hr": flow(20), "lr": flow(24)}
    coarse = {"hr": [flow(22, 0.7)], "lr": [flow(26.4, 0.7)]}
    entry = compare_flows(fine, "hr", coarse)["lr"]
    np.testing.assert_allclose(entry["coarser"][0]["deviation_percent"], 20.0)
    np.testing.assert_allclose(entry["deviation_error_percent"], 0.0, atol=1e-9)
    assert entry["discretisation_percent"] > 20


def test_without_a_second_lattice_nothing_is_called_resolved():
    entries = compare_flows({"hr": flow(20), "lr": flow(24)}, "hr", {})
    assert entries["lr"]["resolved"] is None
    assert entries["lr"]["discretisation_percent"] is None


def test_three_lattices_are_extrapolated_with_their_own_order():
    spacings = (0.2, 0.28, 0.392)
    ladder = [flow(20 + 3 * h**2, h) for h in spacings]
    entry = compare_flows({"hr": ladder[0]}, "hr", {"hr": ladder[1:]})["hr"]
    np.testing.assert_allclose(entry["observed_order"], 2.0, rtol=1e-6)
    true = 100 * 3 * 0.2**2 / (20 + 3 * 0.2**2)
    np.testing.assert_allclose(entry["discretisation_percent"], 1.25 * true, rtol=1e-6)


def test_resistances_in_parallel_give_the_combined_one():
    entry = compare_flows({"hr": flow(20)}, "hr", {})["hr"]
    sides = [path["resistance_pa_s_ml"] for path in entry["paths"].values()]
    np.testing.assert_allclose(1 / sum(1 / r for r in sides), entry["resistance_pa_s_ml"])


def test_sides_show_damage_that_the_total_hides():
    flows = {"hr": flow(20, left=125, right=125), "lr": flow(20, left=75, right=175)}
    entry = compare_flows(flows, "hr", {})["lr"]
    assert entry["deviation_from_hr_percent"] == 0
    np.testing.assert_allclose(entry["paths"]["left"]["flow_rate_deviation_percent"], -40)
    np.testing.assert_allclose(entry["paths"]["left"]["resistance_deviation_percent"], 200 / 3)


def test_a_side_without_flow_has_no_resistance():
    entry = compare_flows({"hr": flow(20, left=0.0, right=250.0)}, "hr", {})["hr"]
    assert entry["paths"]["left"]["resistance_pa_s_ml"] is None


def test_mean_deviation_counts_magnitudes_and_cases():
    summary = mean_absolute_deviation([-8.0, 10.0])
    assert summary["mean_percent"] == 9.0
    assert summary["cases"] == 2
    np.testing.assert_allclose(summary["std_percent"], np.sqrt(2.0))
    assert mean_absolute_deviation([-8.0])["std_percent"] is None


def test_the_comparison_says_in_words_what_is_not_resolved(flow_folder, tmp_path):
    fine = [flow_folder("fine/hr", 20), flow_folder("fine/sr", 20.2, reached=False)]
    coarse = [flow_folder("rough/hr", 20.4, 0.7), flow_folder("rough/sr", 20.9, 0.7)]
    output = tmp_path / "flows.json"
    run_flows(fine, output, baseline=fine[0], coarse=coarse)
    warnings = read_sidecar(output)["warnings"]
    assert any(
        "sr" in text and "not resolved: smaller than its error" in text for text in warnings
    )
    assert any("sr" in text and "not converged" in text for text in warnings)
    assert read_json(output)["pressure_loss"]["sr"]["converged"] is False


def test_flows_are_named_by_their_folders_or_as_told(flow_folder, tmp_path):
    folders = [flow_folder("a/hr", 20), flow_folder("b/hr", 21)]
    with pytest.raises(UsageError, match="two inputs"):
        run_flows(folders, tmp_path / "o.json", baseline=folders[0])
    run_flows(folders, tmp_path / "o.json", baseline=folders[0], names=("hr", "other"))
    entries = read_json(tmp_path / "o.json")["pressure_loss"]
    np.testing.assert_allclose(entries["other"]["deviation_from_hr_percent"], 5.0)


@pytest.mark.parametrize("damage", ["lattice", "pressure_loss", "convergence"])
def test_a_damaged_flow_record_is_named(flow_folder, tmp_path, damage):
    folder = flow_folder("hr", 20)
    content = record(20)
    del content[damage]
    (folder / "flow.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=damage):
        run_flows([folder], tmp_path / "o.json", baseline=folder)


def test_a_coarse_run_that_is_finer_is_refused(flow_folder, tmp_path):
    fine, rough = flow_folder("fine/hr", 20, 0.5), flow_folder("rough/hr", 20, 0.4)
    with pytest.raises(InputError, match="coarser"):
        run_flows([fine], tmp_path / "o.json", baseline=fine, coarse=[rough])
