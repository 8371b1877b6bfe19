"""All that changes while a flow is simulated, as one value that can be written down.

Notes
-----
Lattice, openings and settings say everything else: a simulation made from them and loaded with this value
and the engine's own state continues bit by bit. Numbers travel as arrays of 8 bytes, so that nothing is
rounded on the way.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from stages.flow.convergence import Sample
from stages.flow.openings import OpeningState
from stages.flow.rescue import MOST_RESCUES, Divergence, Refuge

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
    lattice_velocity
        Peak velocity that the time step aims at, lattice units.
    calm
        Cells whose walls are linear, since the flow diverged there with curved ones.
    refuge
        The state to go back to.
    whole_since_s
        Time to which the run went back last.
    rescues, tries
        Times that it went back, altogether and since the time step was set so.
    watch
        Steps for which it is watched.
    corrected
        Whether convection is corrected.
    quadrature
        Flux over the cells' sum of velocities at the last sample; see `FluxQuadrature`.
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
    lattice_velocity: float
    calm: Bool[np.ndarray, "cell"]
    refuge: Refuge
    whole_since_s: float = 0.0
    rescues: int = 0
    tries: int = 0
    watch: int = 0
    corrected: bool = False
    quadrature: float = 1.0

    @classmethod
    def begin(
        cls,
        cells: int,
        openings: int,
        control: OpeningState,
        *,
        time_step_s: float,
        window_s: float,
        ramp_s: float,
        peak_ratio: float,
        lattice_velocity: float,
        corrected: bool = False,
    ) -> RunState:
        """Return the state of a run that has not begun, at rest."""
        return cls(
            *(0, 0.0, time_step_s, window_s, ramp_s, peak_ratio, 0, 0.0, 0.0),
            *(np.zeros(2, dtype=np.int64), np.zeros((2, 4, cells)), np.ones(openings), control),
            lattice_velocity,
            np.zeros(cells, dtype=bool),
            Refuge.of(0.0, np.zeros((4, cells)), control),
            corrected=corrected,
        )

    def go_back(self, divergence: Divergence) -> float:
        """Return to the refuge; make walls linear where the flow was seen to diverge.

        What was seen too late is watched first. Where there is no wall to calm, convection is not corrected
        any more; after that the time step becomes half as long.

        Returns
        -------
        The new time step over the old one.
        """
        factor = 1.0
        self.rescues += 1
        self.tries += 1
        if not divergence.can_calm or self.tries > MOST_RESCUES:
            factor, self.tries, self.corrected = (1.0 if self.corrected else 0.5), 0, False
            self.lattice_velocity *= factor
            self.refuge = self.refuge.in_step(factor)
        elif divergence.local or self.watch > 0:
            self.calm |= divergence.cells
            self.refuge.fields[1:, divergence.cells] = 0.0
        self.time_s = self.whole_since_s = self.refuge.time_s
        self.control = copy.deepcopy(self.refuge.control)
        return factor

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


_COUNTS = ("step", "steps_to_sample", "rescues", "tries", "watch", "corrected")
_NUMBERS = (
    *("time_s", "time_step_s", "window_s", "ramp_s"),
    *("peak_ratio", "peak_lu", "block_start_s", "lattice_velocity", "whole_since_s", "quadrature"),
)
_ARRAYS = ("counts", "sums", "correction", "calm")
_CONTROLS = ("level", "speed", "flux", "outlet")
_SAMPLED = ("flux_m3_s", "static_pa", "total_pa")


def run_arrays(
    state: RunState, samples: Sequence[Sample], engine: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the arrays that hold a run: its state, its samples and its engine's state."""
    count = len(state.control.flux)
    found = {name: np.array(getattr(state, name)) for name in (*_COUNTS, *_NUMBERS)}
    found |= {name: getattr(state, name) for name in _ARRAYS}
    found |= _control_arrays("control", state.control) | _control_arrays(
        "refuge", state.refuge.control
    )
    found |= {"refuge.time_s": np.array(state.refuge.time_s), "refuge.fields": state.refuge.fields}
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
    refuge = Refuge.of(
        float(arrays["refuge.time_s"]), arrays["refuge.fields"], _read_control("refuge", arrays)
    )
    values: dict[str, Any] = {name: int(arrays[name]) for name in _COUNTS}
    values["corrected"] = bool(values["corrected"])
    values |= {name: float(arrays[name]) for name in _NUMBERS}
    values |= {name: arrays[name].copy() for name in _ARRAYS}
    state = RunState(**values, control=_read_control("control", arrays), refuge=refuge)
    columns = [arrays[f"samples.{name}"] for name in _SAMPLED]
    times = arrays["samples.time_s"]
    samples = [Sample(float(times[k]), *(c[k] for c in columns)) for k in range(len(times))]
    engine = {k.removeprefix(_ENGINE): v for k, v in arrays.items() if k.startswith(_ENGINE)}
    return state, samples, engine


def _control_arrays(prefix: str, control: OpeningState) -> dict[str, np.ndarray]:
    found = {f"{prefix}.{name}": getattr(control, name) for name in _CONTROLS}
    return found | {f"{prefix}.given_velocity": np.array(control.given_velocity)}


def _read_control(prefix: str, arrays: Mapping[str, np.ndarray]) -> OpeningState:
    return OpeningState(
        bool(arrays[f"{prefix}.given_velocity"]),
        **{name: arrays[f"{prefix}.{name}"].copy() for name in _CONTROLS},
    )
