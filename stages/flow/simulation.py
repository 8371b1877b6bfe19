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
from jaxtyping import Bool, Float, Int

from pipeline.core.errors import NumericalError
from pipeline.core.progress import Progress
from pipeline.core.units import ml_s_to_m3_s
from stages.flow.collision import Collision
from stages.flow.convergence import History
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
from stages.flow.quadrature import FluxQuadrature
from stages.flow.readings import make_gauge, sample_openings
from stages.flow.rescue import (
    SMALLEST_SHARE,
    Refuge,
    change_step,
    diverged,
    find_divergence,
    in_step,
    peak_speed,
    wild_cells,
)
from stages.flow.result import FlowResult, flow_result
from stages.flow.run_state import RunState, read_run, run_arrays
from stages.flow.sampling import NodeTable
from stages.flow.settings import FlowSettings
from stages.flow.start import FlowField, Start, fitted_start
from stages.flow.time_step import (
    DEVELOPING,
    first_scales,
    fitted_time_step_s,
    guessed_peak_m_s,
    usual_ratio,
)
from stages.flow.voxels import SparseLattice
from stages.flow.wall_links import wall_links
from stages.flow.walls import WallLinks

__all__ = ["FlowResult", "Simulation", "Snapshot"]

_CHECKS_PER_WINDOW = 32
"""Samples of the flow in one averaging window."""
_SETTLING = 1.2
"""Windows until which fields are not averaged: the flow rate has just been raised."""
_WINDOWS_PER_FLOW_THROUGH = 12
"""Length of an averaging window as a share of the time that fills the fluid volume once."""
_LEAST_WINDOWS = 6
"""Windows that a run may take whatever is set: one to raise the flow rate, up to two in which a nose forgets
it, and three that show whether what is left is scatter."""
_SHORTEST_INTERVAL = 32
"""Steps between samples at least: a sample costs about as much as a few steps."""
_SOUND_TRANSITS = 6.0
"""Shortest window in transits of sound from inlet to outlet: waves must have left."""
_WINDOWS_FROM_REST, _WINDOWS_FROM_FIELD = 2, 3
"""Windows whose means must agree in a steady flow, for runs from rest and from another flow."""
_RAMP_STEPS = 16
"""Steps between corrections of the target flux while the flow rate is raised."""
_WATCHED_STEPS = 1
"""Steps between looks at a run that went back: what is no number spreads by a block of walls each step."""
_CHEAP_UPDATES, _CHEAP_FLOW_THROUGHS = 2e9, 6.0
"""A run goes on beyond the flow-throughs set, up to this many, while it took fewer cell updates (about
a minute): straight pipes develop slowly, and they are small."""

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
        self._quadrature = FluxQuadrature.of(lattice)
        self._engine_name = engine_name(settings.engine)
        self._precision = np.dtype(settings.precision).type
        if resume is not None:
            self._go_on(resume)
            return
        start, ratio = None if initial is None else self._fitted(initial), usual_ratio(peak_ratio)
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
                if self._state.steps_to_sample > 0 or not self._history.samples:
                    continue
                done = min(int(1000 * self._share_done()), 1000)
                loss = self._history.latest().loss_pa[1]
                progress.advance(max(done - shown, 0), loss_pa=loss, step=self.step)
                shown = max(done, shown)
        if not self._history.samples:
            raise self._diverged(self._engine.macroscopic())
        return self._result()

    def _fitted(self, field: FlowField) -> Start:
        return fitted_start(
            *(field, self._gauges, self._inlet),
            flow_m3_s=self._flow_m3_s,
            density_kg_m3=self._settings.density_kg_m3,
            shared_pressure=self._settings.inlet == "total-pressure",
        )

    def _first_state(self, ratio: float, *, ramp: bool) -> RunState:
        sound_m_s = np.sqrt(SOUND_SPEED_SQUARED_LU) * self._scales.velocity_m_s
        transit_s = float(longest_path_mm(self._openings) * 1e-3 / sound_m_s)
        window_s = max(self._fill_s / _WINDOWS_PER_FLOW_THROUGH, _SOUND_TRANSITS * transit_s)
        return RunState.begin(
            *(len(self._lattice.cells), len(self._openings), self._controls()),
            time_step_s=self._scales.time_step_s,
            window_s=window_s,
            ramp_s=window_s if ramp else 0.0,
            peak_ratio=ratio,
            lattice_velocity=self._settings.lattice_velocity,
            corrected=self._settings.corrects_convection,
        )

    def _begin_with(self, start: Start) -> None:
        scales, control = self._scales, self._control
        pressure, velocity = start.field.pressure_pa, start.field.velocity_m_s
        fields = np.vstack([pressure / scales.pressure_pa, velocity / scales.velocity_m_s])
        self._state.quadrature = self._quadrature.factor(velocity, scales.relaxation_time)
        control.flux[:] = start.flux_m3_s / self._flux_unit_m3_s
        control.outlet[[3, 4]] = self._flow_m3_s / self._flux_unit_m3_s
        control.outlet[0] = start.outlet_pa / scales.pressure_pa
        self._restart_engine(fields)
        self._state.refuge = Refuge.of(0.0, fields, control)

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
        return History(self._inlet, self._window_s, judged, self._state.whole_since_s)

    @property
    def _control(self) -> OpeningState:
        return self._state.control

    @property
    def _window_s(self) -> float:
        return self._state.window_s

    @property
    def _flux_unit_m3_s(self) -> float:
        """Return the volume flow of a mass flow of one per step."""
        return self._scales.flow_rate_m3_s * self._state.quadrature

    def _controls(self) -> OpeningState:
        count = len(self._openings)
        given = self._settings.inlet != "total-pressure"
        outlet = outlet_control(self._openings, self._lattice.spacing_mm, integrate=not given)
        return OpeningState(given, np.zeros(count), np.zeros(count), np.zeros(count), outlet)

    def _make_engine(self) -> Engine:
        return make_engine(
            *(self._engine_name, self._lattice, self._walls(), self._opening_links()),
            collision=self._collision(),
            precision=self._precision,
            threads=self._settings.threads,
        )

    def _collision(self) -> Collision:
        recursive = 1.0 if self._settings.collision == "recursive-regularised" else 0.0
        return Collision(1.0 / self._scales.relaxation_time, 1.0, recursive, self._state.corrected)

    def _surface(self, link: Int[np.ndarray, "link"], curvature: float) -> WallLinks:
        curved = np.where(self._state.calm, 0.0, curvature)
        return wall_links(self._lattice, link, curved, self._scales.relaxation_time)

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
        least_s = self._state.whole_since_s + _LEAST_WINDOWS * self._window_s
        longest_s = max(self._settings.flow_throughs * self._fill_s, least_s, cheap_s)
        return self._state.time_s / longest_s

    def _ended(self) -> bool:
        state = self._history.state(self._flow_m3_s)
        steady = state.reached(self._settings.tolerance) or state.stationary
        return steady or self._share_done() >= 1.0

    def _advance(self) -> None:
        """Advance some steps at one target of the flow rate; take a sample where one is due."""
        state = self._state
        if state.steps_to_sample == 0:
            state.steps_to_sample = self._sample_interval()
        most = _WATCHED_STEPS if state.watch > 0 else _RAMP_STEPS
        count = min(most, state.steps_to_sample)
        self._aim()
        self._engine.advance(count, self._control)
        state.step += count
        state.time_s += count * self._scales.time_step_s
        state.steps_to_sample -= count
        if state.watch == 0 and state.steps_to_sample > 0:
            return
        fields = self._engine.macroscopic()
        state.peak_lu = peak_speed(fields)
        developed = state.time_s > DEVELOPING * state.window_s
        wild = wild_cells(fields, state.lattice_velocity, developed=developed)
        if wild.any():
            self._go_back(fields, wild)
            return
        state.watch = max(0, state.watch - count)
        if state.steps_to_sample == 0:
            self._take_sample(fields)
            state.refuge = Refuge.of(state.time_s, self._fit_time_step(fields), self._control)

    def _go_back(
        self, fields: Float[np.ndarray, "4 cell"], wild: Bool[np.ndarray, "cell"]
    ) -> None:
        """Return to the last whole state, with calmer walls or a shorter time step."""
        state, lattice = self._state, self._lattice
        curved = np.zeros_like(state.calm)
        if self._settings.walls == "quadratic":
            curved[lattice.link_cell[lattice.links_of(WALL)]] = True
        divergence = find_divergence(fields, wild, lattice.neighbour, curved & ~state.calm)
        factor = state.go_back(divergence)
        if state.lattice_velocity < SMALLEST_SHARE * self._settings.lattice_velocity:
            raise self._diverged(fields)
        state.time_step_s = factor * self._scales.time_step_s
        self._scales = self._scales.with_time_step(state.time_step_s)
        state.steps_to_sample = self._sample_interval()
        state.watch = 0 if divergence.local else 2 * state.steps_to_sample
        self._history = self._new_history()
        self._restart_engine(state.refuge.fields)

    def _diverged(self, fields: Float[np.ndarray, "4 cell"]) -> NumericalError:
        return diverged(self._lattice, fields, self.step, self._scales.relaxation_time)

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
        target = self._flow_m3_s / self._flux_unit_m3_s * smooth_share(rise)
        aim_outlets(control, target, self._base_rate)
        if control.given_velocity:
            area = np.array([o.area_mm2 for o in self._openings]) / self._lattice.spacing_mm**2
            wanted = self._share * target
            state.correction = corrected_speeds(control, wanted, state.correction, rise)
            control.speed = wanted / area * state.correction

    def _take_sample(self, fields: Float[np.ndarray, "4 cell"]) -> None:
        state = self._state
        state.quadrature = self._quadrature.factor(fields[1:], self._scales.relaxation_time)
        flux_m3_s = self._control.flux * self._flux_unit_m3_s
        self._history.append(
            sample_openings(self._gauges, fields, flux_m3_s, self._scales, state.time_s)
        )
        units = np.array([self._scales.pressure_pa, *[self._scales.velocity_m_s] * 3])
        settled_s = state.whole_since_s + _SETTLING * self._window_s
        state.average(fields * units[:, None], anew=state.time_s < settled_s)

    def _fit_time_step(self, fields: Float[np.ndarray, "4 cell"]) -> Float[np.ndarray, "4 cell"]:
        """Fit the time step to the peak velocity while the flow develops; return the fields in its units."""
        step_s = fitted_time_step_s(
            self._scales,
            self._state.peak_lu / self._state.lattice_velocity,
            self._state.time_s / self._window_s,
            asked=None if self._state.ramp_s > 0 else self._state.peak_ratio,
        )
        if step_s is None:
            return fields
        factor = step_s / self._scales.time_step_s
        self._scales = self._scales.with_time_step(step_s)
        self._state.time_step_s = step_s
        fields = in_step(fields, factor)
        change_step(self._control, factor)
        self._restart_engine(fields)
        return fields

    def _restart_engine(self, fields: Float[np.ndarray, "4 cell"]) -> None:
        fields = fields.astype(self._precision)
        self._engine.restart(fields, self._walls(), self._opening_links(), self._collision())

    def _result(self) -> FlowResult:
        return flow_result(
            *(self._state, self._history, self._scales, self._settings, self._inlet),
            flow_m3_s=self._flow_m3_s,
            engine=self._engine_name,
            bytes_per_cell=self._engine.bytes_per_cell,
        )
