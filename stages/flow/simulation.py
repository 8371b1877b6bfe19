"""Drive the lattice to a steady or statistically steady flow and average it.

Notes
-----
The time step follows from the peak velocity: u_peak dt = lattice_velocity dx. The peak is unknown
before the run, so the step is adapted while the flow develops; the populations are then rescaled
through their density and velocity. The flow rate is raised smoothly over one window, a share of the
time in which the flow fills the fluid volume once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, Int

from pipeline.core.errors import NumericalError
from pipeline.core.progress import Progress
from pipeline.core.units import ml_s_to_m3_s
from stages.flow.collision import Collision
from stages.flow.convergence import History, Sample
from stages.flow.engine_interface import Engine
from stages.flow.engines import engine_name, make_engine
from stages.flow.flow_control import aim_outlets, corrected_speeds, risen, smooth_share
from stages.flow.lattice import SOUND_SPEED_SQUARED_LU
from stages.flow.mesh import WALL
from stages.flow.openings import (
    Opening,
    OpeningLinks,
    OpeningState,
    longest_path_mm,
    opening_links,
    outlet_control,
)
from stages.flow.readings import make_gauge
from stages.flow.result import FlowResult
from stages.flow.run_state import RunState, read_run, run_arrays
from stages.flow.sampling import NodeTable
from stages.flow.settings import FlowSettings
from stages.flow.start import FlowField, Start, fitted_start
from stages.flow.time_step import first_scales, fitted_time_step_s, guessed_peak_m_s, usual_ratio
from stages.flow.voxels import SparseLattice
from stages.flow.walls import WallLinks, interpolated_walls

__all__ = ["FlowResult", "Simulation", "Snapshot"]

_CHECKS_PER_WINDOW = 32
"""Samples of the flow in one averaging window."""
_SETTLING = 1.2
"""Windows until which fields are not averaged: the flow rate has just been raised."""
_WINDOWS_PER_FLOW_THROUGH = 12
"""Length of an averaging window as a share of the time that fills the fluid volume once."""
_SHORTEST_INTERVAL = 32
"""Steps between samples at least: a sample costs about as much as a few steps."""
_SOUND_TRANSITS = 6.0
"""Shortest window in transits of sound from inlet to outlet: waves must have left."""
_WINDOWS_FROM_REST, _WINDOWS_FROM_FIELD = 2, 3
"""Windows whose means must agree in a steady flow, for runs from rest and from another flow."""
_RAMP_STEPS = 16
"""Steps between corrections of the target flux while the flow rate is raised."""
_MAX_LATTICE_VELOCITY = 0.4
"""Beyond Mach 0.7 the collision's expansion in the Mach number has no meaning."""
_CHEAP_UPDATES = 2e9
_CHEAP_FLOW_THROUGHS = 6.0
"""A run goes on beyond the flow-throughs set, up to this many, while it took fewer cell updates (about
a minute): straight pipes develop slowly, and they are small."""
_BLOCK_CELLS = 32
"""Edge of the blocks in which walls conserve mass: one cell makes noise of half the dynamic pressure,
the whole lattice lets the flow rate drift along a passage."""

Arrays = Mapping[str, np.ndarray]
Snapshot = Callable[[], dict[str, np.ndarray]]


class Simulation:
    """Run one flow on one lattice.

    Parameters
    ----------
    lattice
        Fluid cells and links.
    openings
        Inlets and outlets that the fluid reaches.
    settings
        Fluid, flow rate and end of the run.
    initial
        A flow to begin with instead of rest.
    peak_ratio
        Peak velocity over the one set, for a run with `initial` that shall have the Mach number of another.
    resume
        What `snapshot` returned in a run of the same lattice, openings and settings: it goes on bit by bit.
    """

    def __init__(
        self,
        lattice: SparseLattice,
        openings: tuple[Opening, ...],
        settings: FlowSettings,
        *,
        initial: FlowField | None = None,
        peak_ratio: float | None = None,
        resume: Arrays | None = None,
    ) -> None:
        self._lattice, self._openings, self._settings = lattice, openings, settings
        self._inlet = np.array([o.inlet for o in openings])
        self._flow_m3_s = ml_s_to_m3_s(settings.flow_rate_ml_s)
        self._fill_s = len(lattice.cells) * (lattice.spacing_mm * 1e-3) ** 3 / self._flow_m3_s
        nodes = NodeTable(lattice)
        self._gauges = [make_gauge(o, nodes, lattice.spacing_mm) for o in openings]
        self._links, self._share = opening_links(
            openings, lattice, developed=settings.inlet == "developed"
        )
        self._engine_name = engine_name(settings.engine)
        if resume is not None:
            self._go_on(resume)
            return
        start = None if initial is None else self._fitted(initial)
        ratio = usual_ratio(peak_ratio)
        guess_m_s = guessed_peak_m_s(openings, settings)
        self._scales = first_scales(
            settings, guess_m_s if start is None else start.peak_m_s / ratio
        )
        self._state = self._first_state(ratio, ramp=start is None)
        self._base_rate = float(self._control.outlet[2])
        self._history = self._new_history()
        self._engine = self._make_engine()
        if start is not None:
            self._begin_with(start)

    def snapshot(self) -> dict[str, np.ndarray]:
        """Return all that changes from step to step, for `resume`."""
        return run_arrays(self._state, self._history.samples, self._engine.state())

    @property
    def step(self) -> int:
        """Steps done."""
        return self._state.step

    def run(self, keep: Callable[[Snapshot], None] | None = None) -> FlowResult:
        """Run until the flow is steady, statistically steady or the run is at its limit.

        Parameters
        ----------
        keep
            Called after every few steps with what returns a snapshot; it may end the run by an exception.

        Raises
        ------
        NumericalError
            If the flow diverges.
        """
        shown = 0
        with Progress("simulate", 1000, "thousandths of the longest run") as progress:
            while self._state.steps_to_sample > 0 or not self._ended():
                self._advance()
                if keep is not None:
                    keep(self.snapshot)
                if self._state.steps_to_sample > 0:
                    continue
                done = min(int(1000 * self._share_done()), 1000)
                loss = self._history.latest().loss_pa[1]
                progress.advance(done - shown, loss_pa=loss, step=self.step)
                shown = done
        return self._result()

    def _fitted(self, field: FlowField) -> Start:
        return fitted_start(
            *(field, self._gauges, self._inlet),
            flow_m3_s=self._flow_m3_s,
            density_kg_m3=self._settings.density_kg_m3,
            shared_pressure=self._settings.inlet == "total-pressure",
        )

    def _first_state(self, ratio: float, *, ramp: bool) -> RunState:
        window_s = max(
            self._fill_s / _WINDOWS_PER_FLOW_THROUGH, _SOUND_TRANSITS * self._sound_transit_s()
        )
        return RunState(
            *(0, 0.0, self._scales.time_step_s, window_s, window_s if ramp else 0.0, ratio),
            *(
                0,
                0.0,
                0.0,
                np.zeros(2, dtype=np.int64),
                np.zeros((2, 4, len(self._lattice.cells))),
            ),
            *(np.ones(len(self._openings)), self._controls()),
        )

    def _begin_with(self, start: Start) -> None:
        scales, control = self._scales, self._control
        pressure, velocity = start.field.pressure_pa, start.field.velocity_m_s
        fields = np.concatenate(
            [pressure[None] / scales.pressure_pa, velocity / scales.velocity_m_s]
        )
        control.flux[:] = start.flux_m3_s / scales.flow_rate_m3_s
        control.outlet[[3, 4]] = self._flow_m3_s / scales.flow_rate_m3_s
        control.outlet[0] = start.outlet_pa / scales.pressure_pa
        precision = np.dtype(self._settings.precision).type
        self._restart_engine(fields.astype(precision))

    def _go_on(self, arrays: Arrays) -> None:
        self._state, samples, engine = read_run(arrays)
        self._scales = first_scales(self._settings, 1.0).with_time_step(self._state.time_step_s)
        self._base_rate = float(self._controls().outlet[2])
        self._history = self._new_history()
        for sample in samples:
            self._history.append(sample)
        self._engine = self._make_engine()
        self._engine.load(engine)

    def _new_history(self) -> History:
        judged = _WINDOWS_FROM_REST if self._state.ramp_s > 0 else _WINDOWS_FROM_FIELD
        return History(self._inlet, self._window_s, judged)

    @property
    def _control(self) -> OpeningState:
        return self._state.control

    @property
    def _window_s(self) -> float:
        return self._state.window_s

    def _sound_transit_s(self) -> float:
        sound_m_s = np.sqrt(SOUND_SPEED_SQUARED_LU) * self._scales.velocity_m_s
        return float(longest_path_mm(self._openings) * 1e-3 / sound_m_s)

    def _controls(self) -> OpeningState:
        count = len(self._openings)
        given = self._settings.inlet != "total-pressure"
        outlet = outlet_control(self._openings, self._lattice.spacing_mm, integrate=not given)
        return OpeningState(given, np.zeros(count), np.zeros(count), np.zeros(count), outlet)

    def _make_engine(self) -> Engine:
        return make_engine(
            *(self._engine_name, self._lattice, self._walls(), self._opening_links()),
            collision=self._collision(),
            precision=np.dtype(self._settings.precision).type,
            threads=self._settings.threads,
        )

    def _collision(self) -> Collision:
        recursive = 1.0 if self._settings.collision == "recursive-regularised" else 0.0
        return Collision(1.0 / self._scales.relaxation_time, 1.0, recursive)

    def _surface(self, link: Int[np.ndarray, "link"], curvature: float) -> WallLinks:
        lattice = self._lattice
        return interpolated_walls(
            link,
            lattice.link_cell[link],
            lattice.link_direction[link],
            lattice.link_distance[link],
            lattice.neighbour,
            block=lattice.blocks(_BLOCK_CELLS),
            relaxation_time=self._scales.relaxation_time,
            curvature=curvature,
        )

    def _walls(self) -> WallLinks:
        wall = np.setdiff1d(self._lattice.links_of(WALL), self._links.link)
        return self._surface(wall, 1.0 if self._settings.walls == "quadratic" else 0.0)

    def _opening_links(self) -> OpeningLinks:
        return self._links.with_surface(self._surface(self._links.link, 0.0))

    def _share_done(self) -> float:
        if self._settings.max_steps is not None:
            return self.step / self._settings.max_steps
        steps = _CHEAP_UPDATES / len(self._lattice.cells)
        cheap_s = min(_CHEAP_FLOW_THROUGHS * self._fill_s, steps * self._scales.time_step_s)
        longest_s = max(self._settings.flow_throughs * self._fill_s, 4 * self._window_s, cheap_s)
        return self._state.time_s / longest_s

    def _ended(self) -> bool:
        if self._share_done() >= 1.0:
            return True
        state = self._history.state(self._flow_m3_s)
        return state.reached(self._settings.tolerance) or state.stationary

    def _advance(self) -> None:
        """Advance some steps at one target of the flow rate; take a sample where one is due."""
        state = self._state
        if state.steps_to_sample == 0:
            state.steps_to_sample = self._sample_interval()
        count = min(_RAMP_STEPS, state.steps_to_sample)
        self._aim()
        self._engine.advance(count, self._control)
        state.step += count
        state.time_s += count * self._scales.time_step_s
        state.steps_to_sample -= count
        if state.steps_to_sample == 0:
            self._take_sample()
            self._adapt_time_step()

    def _sample_interval(self) -> int:
        steps = round(self._window_s / _CHECKS_PER_WINDOW / self._scales.time_step_s)
        steps = max(steps, _SHORTEST_INTERVAL)
        if self._settings.max_steps is not None:
            steps = min(steps, self._settings.max_steps - self.step)
        return steps

    def _aim(self) -> None:
        """Set the flux that openings aim at: it rises smoothly to the target."""
        state, control = self._state, self._control
        rise = risen(state.time_s, state.ramp_s)
        target = self._flow_m3_s / self._scales.flow_rate_m3_s * smooth_share(rise)
        aim_outlets(control, target, self._base_rate)
        if control.given_velocity:
            area = np.array([o.area_mm2 for o in self._openings]) / self._lattice.spacing_mm**2
            wanted = self._share * target
            state.correction = corrected_speeds(control, wanted, state.correction, rise)
            control.speed = wanted / area * state.correction

    def _take_sample(self) -> None:
        fields = self._engine.macroscopic()
        speed = float(np.sqrt(np.square(fields[1:]).sum(axis=0).max()))
        if not np.isfinite(speed) or speed > _MAX_LATTICE_VELOCITY:
            self._diverged(fields, speed)
        self._state.peak_lu = speed
        readings = [
            gauge.read(fields[0] * SOUND_SPEED_SQUARED_LU, fields[1:], 1.0)
            for gauge in self._gauges
        ]
        unit = self._scales.pressure_pa / SOUND_SPEED_SQUARED_LU
        self._history.append(
            Sample(
                self._state.time_s,
                self._control.flux * self._scales.flow_rate_m3_s,
                np.array([r.static for r in readings]) * unit,
                np.array([r.total for r in readings]) * unit,
            )
        )
        units = np.array([self._scales.pressure_pa, *[self._scales.velocity_m_s] * 3])
        state = self._state
        state.average(fields * units[:, None], anew=state.time_s < _SETTLING * self._window_s)

    def _adapt_time_step(self) -> None:
        """Fit the time step to the peak velocity while the flow develops."""
        step_s = fitted_time_step_s(
            self._scales,
            self._state.peak_lu / self._settings.lattice_velocity,
            self._state.time_s / self._window_s,
            asked=None if self._state.ramp_s > 0 else self._state.peak_ratio,
        )
        if step_s is not None:
            self._rescale(step_s)

    def _rescale(self, time_step_s: float) -> None:
        factor = time_step_s / self._scales.time_step_s
        self._scales = self._scales.with_time_step(time_step_s)
        self._state.time_step_s = time_step_s
        fields = self._engine.macroscopic().copy()
        fields[0] *= factor**2
        fields[1:] *= factor
        self._control.outlet[[0]] *= factor**2
        self._control.outlet[[3, 4]] *= factor
        self._control.flux *= factor
        self._restart_engine(fields)

    def _restart_engine(self, fields: Float[np.ndarray, "4 cell"]) -> None:
        self._engine.restart(fields, self._walls(), self._opening_links(), self._collision())

    def _diverged(self, fields: Float[np.ndarray, "4 cell"], speed: float) -> None:
        squares = np.nan_to_num(np.square(fields[1:]).sum(axis=0), nan=np.inf)
        place = self._lattice.centres_mm[int(np.argmax(squares))]
        raise NumericalError(
            f"the flow diverged at step {self.step} near ({place[0]:.1f}, {place[1]:.1f}, "
            f"{place[2]:.1f}) mm: peak velocity {speed:.3g} cells per step (allowed: "
            f"{_MAX_LATTICE_VELOCITY}), relaxation time {self._scales.relaxation_time:.5f}; choose "
            "a smaller --lattice-velocity or --spacing-mm, and check the surface at that place.",
            step=self.step,
            place_mm=tuple(place),
        )

    def _result(self) -> FlowResult:
        state, mean = self._history.state(self._flow_m3_s), self._state.mean()
        means = self._history.latest()
        outlet = ~self._inlet
        flux = means.flux_m3_s[outlet]
        weight = flux / flux.sum() if flux.sum() != 0 else np.full(len(flux), 1 / len(flux))
        reference = float(weight @ np.nan_to_num(means.static_pa[outlet]))
        return FlowResult(
            scales=self._scales,
            velocity_m_s=mean[1:].astype(np.float32),
            pressure_pa=(mean[0] - reference).astype(np.float32),
            reference_pa=reference,
            means=means,
            state=state,
            reached=state.reached(self._settings.tolerance),
            steps=self.step,
            time_s=self._state.time_s,
            mach_max=self._state.peak_lu / np.sqrt(SOUND_SPEED_SQUARED_LU),
            window_s=self._window_s,
            bytes_per_cell=self._engine.bytes_per_cell,
            walls=self._settings.walls,
            engine=self._engine_name,
        )
