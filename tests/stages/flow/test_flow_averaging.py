"""The fields that a run hands over are means of its last windows, of nothing before."""

from __future__ import annotations

import numpy as np
import pytest
from flow_meshes import circle, tube
from flow_runs import simulate

from stages.flow.openings import OpeningState
from stages.flow.run_state import RunState


def fresh_state(window_s: float) -> RunState:
    control = OpeningState(
        given_velocity=False,
        level=np.zeros(2),
        speed=np.zeros(2),
        flux=np.zeros(2),
        outlet=np.zeros(6),
    )
    return RunState.begin(
        *(3, 2, control),
        time_step_s=1.0,
        window_s=window_s,
        ramp_s=window_s,
        peak_ratio=1.0,
        lattice_velocity=0.1,
    )


@pytest.mark.parametrize("interval_s", [1.0, 3.0, 40.0])
def test_what_lies_two_windows_back_is_forgotten(interval_s: float) -> None:
    state = fresh_state(window_s=10.0)
    for step in range(200):
        state.time_s = step * interval_s
        old = state.time_s < 199 * interval_s - 20.0 - interval_s
        state.average(np.full((4, 3), 1e6 if old else 7.0), anew=False)
    assert state.mean() == pytest.approx(np.full((4, 3), 7.0), rel=1e-12)


def test_at_least_one_window_is_averaged() -> None:
    state = fresh_state(window_s=10.0)
    for step in range(57):
        state.time_s = float(step)
        state.average(np.full((4, 3), float(step)), anew=False)
        assert state.counts.sum() >= min(step + 1, 10)
    last = np.arange(57 - state.counts.sum(), 57)
    assert state.mean() == pytest.approx(np.full((4, 3), last.mean()), rel=1e-12)


def test_a_run_that_begins_anew_forgets_all() -> None:
    state = fresh_state(window_s=10.0)
    state.average(np.full((4, 3), 1e6), anew=False)
    state.average(np.full((4, 3), 2.0), anew=True)
    assert np.all(state.mean() == 2.0)


def test_the_pressure_of_a_short_converged_run_is_that_of_a_longer_one() -> None:
    """A pipe whose windows are shorter than its samples' mean used to be: 4 % off along the middle."""
    cases = [
        simulate(tube(circle(8.0), 32.0), 8.0 / 6.0, 12.0, inlet="developed", tolerance=tolerance)
        for tolerance in (1e-4, 1e-7)
    ]
    usual, longer = (case.result for case in cases)
    assert longer.steps > 1.3 * usual.steps
    span = float(np.ptp(longer.pressure_pa))
    assert np.abs(usual.pressure_pa - longer.pressure_pa).max() < 2e-3 * span
