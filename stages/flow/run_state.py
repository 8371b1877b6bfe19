"""All that changes while a flow is simulated, as one value that can be written down.

Notes
-----
Lattice, openings and settings say everything else: a simulation made from them and loaded with this value
and the engine's own state continues bit by bit. Numbers travel as arrays of 8 bytes, so that nothing is
rounded on the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from stages.flow.convergence import Sample
from stages.flow.openings import OpeningState

_ENGINE = "engine."


@dataclass
class RunState:
    """Hold how far a run is.

    Parameters
    ----------
    step, time_s
        Steps and physical time since the start.
    time_step_s
        Time step; it follows the peak velocity while the flow develops.
    window_s
        Length of an averaging window.
    ramp_s
        Time in which the flow rate is raised; 0 where the run began with a developed flow.
    peak_ratio
        Peak velocity over its target that is asked of a run which began with a developed flow.
    steps_to_sample
        Steps left until the next sample.
    peak_lu
        Largest velocity at the last sample, lattice units.
    block_start_s
        When the stretch that is being averaged began; the one before it is kept.
    counts, sums
        Samples of the stretch before and of this one, and their sums of pressure, Pa, and velocity, m/s.
    correction
        Factor on the speed of each velocity inlet that corrects its flux.
    control
        What the openings impose and carry.
    """

    step: int
    time_s: float
    time_step_s: float
    window_s: float
    ramp_s: float
    peak_ratio: float
    steps_to_sample: int
    peak_lu: float
    block_start_s: float
    counts: Int[np.ndarray, "2"]
    sums: Float[np.ndarray, "2 4 cell"]
    correction: Float[np.ndarray, "opening"]
    control: OpeningState

    def average(self, fields: Float[np.ndarray, "4 cell"], *, anew: bool) -> None:
        """Add a sample, Pa and m/s, to the means over the last one or two windows.

        Parameters
        ----------
        fields
            Pressure and velocity.
        anew
            Forget all samples before this one.
        """
        if anew:
            self.counts[:], self.sums[:], self.block_start_s = 0, 0.0, self.time_s
        elif self.time_s - self.block_start_s > self.window_s:
            self.counts[:], self.block_start_s = (self.counts[1], 0), self.time_s
            self.sums[0], self.sums[1] = self.sums[1], 0.0
        self.counts[1] += 1
        self.sums[1] += fields

    def mean(self) -> Float[np.ndarray, "4 cell"]:
        """Return the means of pressure, Pa, and velocity, m/s."""
        return np.asarray((self.sums[0] + self.sums[1]) / max(int(self.counts.sum()), 1))


_COUNTS = ("step", "steps_to_sample")
_NUMBERS = (
    *("time_s", "time_step_s", "window_s", "ramp_s"),
    *("peak_ratio", "peak_lu", "block_start_s"),
)
_ARRAYS = ("counts", "sums", "correction")
_CONTROLS = ("level", "speed", "flux", "outlet")
_SAMPLED = ("flux_m3_s", "static_pa", "total_pa")


def run_arrays(
    state: RunState, samples: Sequence[Sample], engine: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the arrays that hold a run: its state, its samples and its engine's state."""
    count = len(state.control.flux)
    found = {name: np.array(getattr(state, name)) for name in (*_COUNTS, *_NUMBERS)}
    found |= {name: getattr(state, name) for name in _ARRAYS}
    found |= {f"control.{name}": getattr(state.control, name) for name in _CONTROLS}
    found["control.given_velocity"] = np.array(state.control.given_velocity)
    found["samples.time_s"] = np.array([s.time_s for s in samples])
    for name in _SAMPLED:
        rows = [getattr(s, name) for s in samples]
        found[f"samples.{name}"] = np.array(rows, dtype=np.float64).reshape(-1, count)
    return found | {_ENGINE + name: values for name, values in engine.items()}


def read_run(
    arrays: Mapping[str, np.ndarray],
) -> tuple[RunState, list[Sample], dict[str, np.ndarray]]:
    """Return state, samples and the engine's state from what `run_arrays` returned.

    Raises
    ------
    KeyError
        If an array is missing.
    """
    control = OpeningState(
        bool(arrays["control.given_velocity"]),
        **{name: arrays[f"control.{name}"].copy() for name in _CONTROLS},
    )
    values: dict[str, Any] = {name: int(arrays[name]) for name in _COUNTS}
    values |= {name: float(arrays[name]) for name in _NUMBERS}
    values |= {name: arrays[name].copy() for name in _ARRAYS}
    state = RunState(**values, control=control)
    columns = [arrays[f"samples.{name}"] for name in _SAMPLED]
    times = arrays["samples.time_s"]
    samples = [Sample(float(times[k]), *(c[k] for c in columns)) for k in range(len(times))]
    engine = {k.removeprefix(_ENGINE): v for k, v in arrays.items() if k.startswith(_ENGINE)}
    return state, samples, engine
