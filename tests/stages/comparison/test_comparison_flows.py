"""Deviations have the right sign, and none is called resolved that its error covers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.comparison.flows import (
    compare_flows,
    deviation_percent,
    discretisation_percent,
    mean_absolute_deviation,
)


def flow(total, spacing=0.5, left=100.0, right=150.0):
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
        "convergence": {"reached": True, "pressure_loss_std_pa": 0.1},
    }


def test_the_published_pressure_losses_give_the_recomputed_deviations():
    # Liu et al., status report: HR 9.695, LR 8.965, interpolated 7.706, U-Net 9.849 Pa.
    found = [deviation_percent(value, 9.695) for value in (8.965, 7.706, 9.849)]
    np.testing.assert_allclose(found, [-7.53, -20.52, 1.59], atol=0.005)


@given(st.floats(0.5, 100), st.floats(-5, 5), st.floats(1.2, 3))
def test_error_estimate_is_exact_for_a_first_order_sequence(limit, slope, ratio):
    fine, coarse = limit + slope, limit + slope * ratio
    if abs(fine) > 0.1:
        estimated = discretisation_percent(fine, coarse, ratio) * abs(fine) / 100
        np.testing.assert_allclose(estimated, abs(slope), rtol=1e-6, atol=1e-9)


@given(st.floats(0.1, 5), st.floats(1.2, 3))
def test_error_estimate_bounds_a_second_order_sequence(slope, ratio):
    fine, coarse = 20 + slope, 20 + slope * ratio**2
    assert discretisation_percent(fine, coarse, ratio) * fine / 100 >= slope


def test_a_coarse_lattice_must_be_coarser():
    with pytest.raises(ValueError, match="larger"):
        discretisation_percent(1.0, 1.1, 1.0)


def test_a_deviation_within_its_error_is_not_resolved():
    fine = {"hr": flow(20), "lr": flow(24), "sr": flow(20.2)}
    coarse = {"hr": flow(20.4, 0.7), "lr": flow(24.5, 0.7), "sr": flow(20.6, 0.7)}
    entries = compare_flows(fine, "hr", coarse)
    assert entries["lr"]["resolved"] is True
    assert entries["sr"]["resolved"] is False
    assert entries["hr"]["resolved"] is None
    assert entries["hr"]["deviation_from_hr_percent"] == 0


def test_without_a_second_lattice_nothing_is_called_resolved():
    entries = compare_flows({"hr": flow(20), "lr": flow(24)}, "hr", {})
    assert entries["lr"]["resolved"] is None
    assert entries["lr"]["discretisation_percent"] is None


def test_resistances_in_parallel_give_the_combined_one():
    entry = compare_flows({"hr": flow(20)}, "hr", {})["hr"]
    sides = [path["resistance_pa_s_ml"] for path in entry["paths"].values()]
    np.testing.assert_allclose(1 / sum(1 / r for r in sides), entry["resistance_pa_s_ml"])


def test_mean_deviation_counts_magnitudes_and_cases():
    summary = mean_absolute_deviation([-8.0, 10.0])
    assert summary["mean_percent"] == 9.0
    assert summary["cases"] == 2
    assert mean_absolute_deviation([-8.0])["std_percent"] is None
