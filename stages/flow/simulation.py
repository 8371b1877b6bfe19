"""Drive the lattice to a steady or statistically steady flow and average it.

Notes
-----
The time step follows from the peak velocity: u_peak dt = lattice_velocity dx. The peak is unknown
before the run, so the step is adapted while the flow develops; the populations are then rescaled
through their density and velocity. The flow rate is raised smoothly over one window, a share of the
time in which the flow fills the fluid volume once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from pipeline.core.errors import NumericalError
from pipeline.core.progress import Progress
from pipeline.core.units import ml_s_to_m3_s
from stages.flow.collision import Collision
from stages.flow.convergence import History, Means, Sample, State
from stages.flow.engine import Engine
from stages.flow.engines import engine_name, make_engine
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
from stages.flow.sampling import NodeTable
from stages.flow.scales import Scales
from stages.flow.settings import FlowSettings
from stages.flow.voxels import SparseLattice
from stages.flow.walls import WallLinks, interpolated_walls

_CHECKS_PER_WINDOW = 32
"""Samples of the flow in one averaging window."""
_WINDOWS_PER_FLOW_THROUGH = 12
"""Length of an averaging window as a share of the time that fills the fluid volume once."""
_SHORTEST_INTERVAL = 32
"""Steps between samples at least: a sample costs about as much as a few steps."""
_SOUND_TRANSITS = 6.0
"""Shortest window in transits of sound from inlet to outlet: waves must have left."""
_RAMP_STEPS = 16
"""Steps between corrections of the target flux while the flow rate is raised."""
_LARGEST_RELAXATION_TIME = 0.8
"""The wall's viscous terms are small corrections below it."""
_PEAK_MARGIN = (0.5, 1.15)
"""Peak velocities within this range of the target leave the time step as it is."""
_MAX_LATTICE_VELOCITY = 0.4
"""Beyond Mach 0.7 the collision's expansion in the Mach number has no meaning."""
_CHEAP_UPDATES = 2e9
_CHEAP_FLOW_THROUGHS = 6.0
"""A run goes on beyond the flow-throughs set, up to this many, while it took fewer cell updates (about
a minute): straight pipes develop slowly, and they are small."""
_BLOCK_CELLS = 32
"""Edge of the blocks in which walls conserve mass: one cell makes noise of half the dynamic pressure,
the whole lattice lets the flow rate drift along a passage."""
_GUESSED_PEAK = 3.0
"""First guess of the peak velocity over the mean velocity in the smaller side's openings."""
_SPEED_CORRECTION = 0.1
"""Share of a velocity inlet's flux error that is corrected at each correction of the target."""


@dataclass(frozen=True)
class FlowResult:
    """Hold the averaged flow in SI units.

    Parameters
    ----------
    scales
        Lattice units at the end of the run.
    velocity_m_s
        Mean velocity of each cell, (3, cell).
    pressure_pa
        Mean static pressure of each cell relative to the outlets.
    reference_pa
        Pressure of the outlets that was subtracted, relative to the inlets' total pressure.
    means
        Means of the openings over the last window.
    state
        How far the run has converged.
    reached
        Whether the tolerances were met.
    steps, time_s
        Length of the run.
    mach_max
        Largest velocity over the lattice's speed of sound at the end.
    window_s
        Length of the averaging window.
    bytes_per_cell
        Memory that the engine moves in one update of one cell.
    walls
        ``linear`` or ``quadratic``.
    engine
        Name of the engine that computed.
    """

    scales: Scales
    velocity_m_s: Float[np.ndarray, "3 cell"]
    pressure_pa: Float[np.ndarray, "cell"]
    reference_pa: float
    means: Means
    state: State
    reached: bool
    steps: int
    time_s: float
    mach_max: float
    window_s: float
    bytes_per_cell: int
    walls: str
    engine: str


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
    """

    def __init__(
        self, lattice: SparseLattice, openings: tuple[Opening, ...], settings: FlowSettings
    ) -> None:
        self._lattice, self._openings, self._settings = lattice, openings, settings
        self._inlet = np.array([o.inlet for o in openings])
        self._flow_m3_s = ml_s_to_m3_s(settings.flow_rate_ml_s)
        fill_s = len(lattice.cells) * (lattice.spacing_mm * 1e-3) ** 3 / self._flow_m3_s
        self._scales = self._first_scales()
        self._window_s = max(
            fill_s / _WINDOWS_PER_FLOW_THROUGH, _SOUND_TRANSITS * self._sound_transit_s()
        )
        self._fill_s = fill_s
        self._history = History(self._inlet, self._window_s)
        nodes = NodeTable(lattice)
        self._gauges = [make_gauge(o, nodes, lattice.spacing_mm) for o in openings]
        self._step, self._time_s, self._peak_lu = 0, 0.0, 0.0
        self._mean = np.zeros((4, len(lattice.cells)))
        self._mean_count = 0
        self._control = self._controls()
        self._engine_name = engine_name(settings.engine)
        self._engine = self._make_engine()

    def run(self) -> FlowResult:
        """Run until the flow is steady, statistically steady or the run is at its limit.

        Raises
        ------
        NumericalError
            If the flow diverges.
        """
        shown = 0
        with Progress("simulate", 1000, "thousandths of the longest run") as progress:
            while not self._ended():
                self._advance_to_next_sample()
                done = min(int(1000 * self._share_done()), 1000)
                loss = self._history.latest().loss_pa[1]
                progress.advance(done - shown, loss_pa=loss, step=self._step)
                shown = done
        return self._result()

    def _first_scales(self) -> Scales:
        spacing_m = self._lattice.spacing_mm * 1e-3
        peak = _GUESSED_PEAK * self._flow_m3_s / (self._smallest_area_mm2() * 1e-6)
        scales = Scales(
            spacing_m,
            self._settings.lattice_velocity * spacing_m / peak,
            self._settings.density_kg_m3,
            self._settings.kinematic_viscosity_m2_s,
        )
        longest = scales.time_step_of(_LARGEST_RELAXATION_TIME)
        return scales.with_time_step(min(scales.time_step_s, longest))

    def _sound_transit_s(self) -> float:
        sound_m_s = np.sqrt(SOUND_SPEED_SQUARED_LU) * self._scales.velocity_m_s
        return float(longest_path_mm(self._openings) * 1e-3 / sound_m_s)

    def _controls(self) -> OpeningState:
        links, share = opening_links(
            self._openings, self._lattice, developed=self._settings.inlet == "developed"
        )
        self._links, self._share = links, share
        count = len(self._openings)
        given = self._settings.inlet != "total-pressure"
        outlet = outlet_control(self._openings, self._lattice.spacing_mm, integrate=not given)
        self._base_rate = float(outlet[2])
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

    def _smallest_area_mm2(self) -> float:
        """Return the opening area of the smaller side, inlets or outlets."""
        return min(
            sum(o.area_mm2 for o in self._openings if o.inlet == side) for side in (True, False)
        )

    def _share_done(self) -> float:
        if self._settings.max_steps is not None:
            return self._step / self._settings.max_steps
        steps = _CHEAP_UPDATES / len(self._lattice.cells)
        cheap_s = min(_CHEAP_FLOW_THROUGHS * self._fill_s, steps * self._scales.time_step_s)
        longest_s = max(self._settings.flow_throughs * self._fill_s, 4 * self._window_s, cheap_s)
        return self._time_s / longest_s

    def _ended(self) -> bool:
        if self._share_done() >= 1.0:
            return True
        state = self._history.state(self._flow_m3_s)
        return state.reached(self._settings.tolerance) or state.stationary

    def _advance_to_next_sample(self) -> None:
        left = round(self._window_s / _CHECKS_PER_WINDOW / self._scales.time_step_s)
        left = max(left, _SHORTEST_INTERVAL)
        if self._settings.max_steps is not None:
            left = min(left, self._settings.max_steps - self._step)
        while left > 0:
            count = min(_RAMP_STEPS, left)
            self._aim()
            self._engine.advance(count, self._control)
            self._step += count
            self._time_s += count * self._scales.time_step_s
            left -= count
        self._take_sample()
        self._adapt_time_step()

    def _aim(self) -> None:
        """Set the flux that openings aim at: it rises smoothly to the target."""
        rise = min(self._time_s / self._window_s, 1.0)
        target = self._flow_m3_s / self._scales.flow_rate_m3_s * 0.5 * (1 - np.cos(np.pi * rise))
        self._control.outlet[3] = target
        self._control.outlet[2] = self._integral_rate(target)
        if not self._control.given_velocity:
            return
        area = np.array([o.area_mm2 for o in self._openings]) / self._lattice.spacing_mm**2
        wanted = self._share * target
        error = np.clip((wanted - self._control.flux) / np.maximum(wanted, 1e-30), -0.5, 0.5)
        if self._step == 0 or rise < 0.2:
            self._control.speed = wanted / area
            self._correction = np.ones(len(area))
            return
        self._correction = np.clip(self._correction * (1 + _SPEED_CORRECTION * error), 0.5, 2.0)
        self._control.speed = wanted / area * self._correction

    def _integral_rate(self, target: float) -> float:
        """Return the rate of the outlets' integral: faster by the airway's resistance over theirs.

        The resistance of a flow that loses its pressure to inertia is twice pressure over flux.
        """
        level, impedance = (float(v) for v in self._control.outlet[:2])
        flux = max(float(self._control.outlet[4]), 0.2 * target, 1e-30)
        return self._base_rate * (1.0 + min(2.0 * abs(level) / (impedance * flux), 20.0))

    def _take_sample(self) -> None:
        fields = self._engine.macroscopic()
        speed = float(np.sqrt(np.square(fields[1:]).sum(axis=0).max()))
        if not np.isfinite(speed) or speed > _MAX_LATTICE_VELOCITY:
            self._diverged(fields, speed)
        self._peak_lu = speed
        readings = [
            gauge.read(fields[0] * SOUND_SPEED_SQUARED_LU, fields[1:], 1.0)
            for gauge in self._gauges
        ]
        unit = self._scales.pressure_pa / SOUND_SPEED_SQUARED_LU
        self._history.append(
            Sample(
                self._time_s,
                self._control.flux * self._scales.flow_rate_m3_s,
                np.array([r.static for r in readings]) * unit,
                np.array([r.total for r in readings]) * unit,
            )
        )
        self._average(fields)

    def _average(self, fields: Float[np.ndarray, "4 cell"]) -> None:
        """Average the fields over about the last window of the run so far."""
        self._mean_count = min(self._mean_count + 1, _CHECKS_PER_WINDOW)
        if self._time_s < 1.2 * self._window_s:
            self._mean_count = 1
        share = 1.0 / self._mean_count
        units = (self._scales.pressure_pa, *[self._scales.velocity_m_s] * 3)
        for k, unit in enumerate(units):
            self._mean[k] += share * (fields[k] * unit - self._mean[k])

    def _adapt_time_step(self) -> None:
        """Fit the time step to the peak velocity while the flow develops."""
        ratio = self._peak_lu / self._settings.lattice_velocity
        developing = self._time_s < 2 * self._window_s
        ramping = self._time_s < 1.2 * self._window_s
        too_slow = ratio < _PEAK_MARGIN[0] and developing and not ramping
        too_fast = ratio > _PEAK_MARGIN[1] and (developing or ratio > 2.0)
        if not (too_slow or too_fast):
            return
        factor = float(np.clip(0.95 / ratio, 0.4, 2.0))
        longest = self._scales.time_step_of(_LARGEST_RELAXATION_TIME)
        step = min(self._scales.time_step_s * factor, longest)
        if abs(step / self._scales.time_step_s - 1.0) < 0.02:
            return
        self._rescale(step)

    def _rescale(self, time_step_s: float) -> None:
        factor = time_step_s / self._scales.time_step_s
        self._scales = self._scales.with_time_step(time_step_s)
        fields = self._engine.macroscopic().copy()
        fields[0] *= factor**2
        fields[1:] *= factor
        self._control.outlet[[0]] *= factor**2
        self._control.outlet[[3, 4]] *= factor
        self._control.flux *= factor
        self._engine.restart(fields, self._walls(), self._opening_links(), self._collision())

    def _diverged(self, fields: Float[np.ndarray, "4 cell"], speed: float) -> None:
        squares = np.nan_to_num(np.square(fields[1:]).sum(axis=0), nan=np.inf)
        place = self._lattice.centres_mm[int(np.argmax(squares))]
        raise NumericalError(
            f"the flow diverged at step {self._step} near ({place[0]:.1f}, {place[1]:.1f}, "
            f"{place[2]:.1f}) mm: peak velocity {speed:.3g} cells per step (allowed: "
            f"{_MAX_LATTICE_VELOCITY}), relaxation time {self._scales.relaxation_time:.5f}; choose "
            "a smaller --lattice-velocity or --spacing-mm, and check the surface at that place.",
            step=self._step,
            place_mm=tuple(place),
        )

    def _result(self) -> FlowResult:
        state = self._history.state(self._flow_m3_s)
        means = self._history.latest()
        outlet = ~self._inlet
        flux = means.flux_m3_s[outlet]
        weight = flux / flux.sum() if flux.sum() != 0 else np.full(len(flux), 1 / len(flux))
        reference = float(weight @ np.nan_to_num(means.static_pa[outlet]))
        return FlowResult(
            scales=self._scales,
            velocity_m_s=self._mean[1:].astype(np.float32),
            pressure_pa=(self._mean[0] - reference).astype(np.float32),
            reference_pa=reference,
            means=means,
            state=state,
            reached=state.reached(self._settings.tolerance),
            steps=self._step,
            time_s=self._time_s,
            mach_max=self._peak_lu / np.sqrt(SOUND_SPEED_SQUARED_LU),
            window_s=self._window_s,
            bytes_per_cell=self._engine.bytes_per_cell,
            walls=self._settings.walls,
            engine=self._engine_name,
        )
