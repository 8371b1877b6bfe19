"""When a run may end: what the history of its pressure loss must and must not show."""

from __future__ import annotations

import numpy as np
import pytest

from stages.flow.convergence import MAX_IMBALANCE, History, Sample, State

INLET = np.array([True, False])
PER_WINDOW = 32


def judged(loss, windows, *, outflow=1.0, windows_judged=2) -> State:
    """Judge a run of some windows of one second whose loss is a function of the time in windows."""
    history = History(INLET, 1.0, windows_judged)
    for k in range(1, round(windows * PER_WINDOW) + 1):
        time = k / PER_WINDOW
        pressure = np.array([loss(time), 0.0])
        history.append(Sample(time, np.array([1.0, outflow]), pressure, pressure))
    return history.state(1.0)


def noisy(seed, scatter, drift=0.0):
    values = np.random.default_rng(seed).normal(0.0, scatter, 1000)
    return lambda time: 10.0 * (1 + drift * time + values[round(time * PER_WINDOW)])


def test_windows_that_agree_because_the_loss_turns_between_them_are_not_convergence():
    turn = 3.0 + 0.5 / PER_WINDOW

    def turning(time):
        return 10.0 + 0.1 * (time - turn) ** 2

    history = History(INLET, 1.0)
    for k in range(1, 4 * PER_WINDOW + 1):
        pressure = np.array([turning(k / PER_WINDOW), 0.0])
        history.append(Sample(k / PER_WINDOW, np.array([1.0, 1.0]), pressure, pressure))
    means = [history.window(age).loss_pa[1] for age in (0, 1)]
    assert means[0] == pytest.approx(means[1], rel=1e-9)
    assert history.state(1.0).change > 1e-3


def test_a_settled_loss_has_converged_three_windows_after_the_start():
    def settling(time):
        return 10.0 + (5.0 if time < 1.0 else 0.0)

    assert not judged(settling, 2.9).reached(1e-4)
    assert judged(settling, 3.0).reached(1e-4)


@pytest.mark.parametrize("share", [0.9, 1.1])
def test_a_run_that_loses_mass_has_not_converged(share):
    state = judged(lambda _: 10.0, 4.0, outflow=1.0 - share * MAX_IMBALANCE)
    assert state.change == 0.0
    assert state.reached(1e-4) is (share < 1)


def test_scatter_without_drift_is_an_unsteady_flow_with_a_mean():
    states = [judged(noisy(seed, 0.02), 4.0) for seed in range(40)]
    assert not any(state.reached(1e-4) for state in states)
    assert sum(state.stationary for state in states) > 30


def test_the_error_of_a_mean_over_time_is_that_of_its_independent_samples():
    scatter = 0.02
    errors = [judged(noisy(seed, scatter), 4.0).mean_error for seed in range(40)]
    known = np.array([error for error in errors if error is not None])
    np.testing.assert_allclose(
        np.sqrt(np.mean(known**2)), scatter / np.sqrt(PER_WINDOW), rtol=0.15
    )


def test_scatter_so_large_that_its_mean_is_unknown_is_not_a_steady_mean():
    states = [judged(noisy(seed, 0.3), 4.0) for seed in range(200)]
    assert sum(state.stationary for state in states) < 4  # by chance: the means alone agree in 28


def test_waves_that_fade_are_on_their_way_to_a_steady_flow():
    def fading(time, *, rate):
        return 10.0 * (1 + 0.05 * np.exp(-rate * (time - 1)) * np.sin(2 * np.pi * 3.7 * time))

    assert not judged(lambda t: fading(t, rate=0.7), 4.0).stationary
    assert judged(lambda t: fading(t, rate=0.0), 4.0).stationary


def test_a_drifting_flow_is_not_a_statistically_steady_one():
    states = [judged(noisy(seed, 0.003, drift=-0.02), 6.0) for seed in range(40)]
    assert not any(state.stationary for state in states)
    assert all(state.mean_error is None for state in states)


def test_scatter_is_not_judged_before_three_windows_are_there():
    assert not any(judged(noisy(seed, 0.02), 3.9).stationary for seed in range(40))
