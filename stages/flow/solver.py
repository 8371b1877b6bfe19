"""Drive the lattice to a steady or statistically steady flow and average its pressure loss.

Notes
-----
The time step follows from the peak velocity: u_peak dt = lattice_velocity dx. The peak is
unknown before the run, so the step is adapted while the flow develops; populations are then
rescaled through their density and velocity.

The outlet's pressure is p = P + rho c (Q_out - Q) / A: it answers a flux that differs from the
target with exactly the impedance of sound, so that pressure waves leave (Thompson 1987,
doi:10.1016/0021-9991(87)90041-6), and drives the flux to the target. With total-pressure inlets P
integrates what is left of the error, slower than sound crosses the domain.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from pipeline.core.errors import NumericalError
from pipeline.core.progress import Progress
from pipeline.core.units import m3_s_to_ml_s, ml_s_to_m3_s
from stages.flow import engine
from stages.flow.lattice import SOUND_SPEED_SQUARED_LU
from stages.flow.openings import (
    Opening,
    imposed_pressure,
    imposed_velocity,
    opening_links,
)
from stages.flow.settings import FlowSettings
from stages.flow.voxels import SparseLattice
from stages.flow.walls import interpolated_walls

_CHECKS_PER_WINDOW = 40
"""Samples of the pressure loss in one averaging window."""
_WINDOWS_PER_FLOW_THROUGH = 12
"""Length of an averaging window as a share of the time that fills the fluid volume once."""
_IMPEDANCE_SHARE = 0.8
"""Outlet impedance over that of sound: 1 absorbs waves fully, but the flux is one step old."""
_INTEGRAL_TRANSITS = 4.0
"""Time constant of the outlet's integral control in transits of sound."""
_SCALE_RELAXATION = 0.002
"""Share of the inlet profiles' flux error that is corrected in one step."""
_RAMP_WINDOWS = 1.0
"""The flow rate is raised over this many windows, so that no pressure wave breaks the run."""
_PEAK_MARGIN = (0.55, 1.15)
"""Peak velocities within this range of the target leave the time step as it is."""
_MAX_LATTICE_VELOCITY = 0.4
"""Beyond Mach 0.7 the collision's expansion in the Mach number has no meaning."""
_MAX_IMBALANCE = 5e-3
"""Largest relative difference of inflow and outflow of a converged run."""
_GUESSED_PEAK = 3.0
"""First guess of the peak velocity over the mean velocity in the smallest opening."""


@dataclass(frozen=True)
class Scales:
    """Convert between lattice units and SI.

    Parameters
    ----------
    spacing_m
        Cell edge, m.
    time_step_s
        Time step, s.
    density_kg_m3
        Density of the fluid.
    """

    spacing_m: float
    time_step_s: float
    density_kg_m3: float

    @property
    def velocity_m_s(self) -> float:
        """Return one lattice velocity in m/s."""
        return self.spacing_m / self.time_step_s

    @property
    def pressure_pa(self) -> float:
        """Return the pressure of a density deviation of one, Pa."""
        return SOUND_SPEED_SQUARED_LU * self.density_kg_m3 * self.velocity_m_s**2

    @property
    def flow_rate_m3_s(self) -> float:
        """Return the volume flow of a mass flow of one per step, m3/s."""
        return self.spacing_m**3 / self.time_step_s

    def relaxation_time(self, kinematic_viscosity_m2_s: float) -> float:
        """Return tau = nu dt / (c_s^2 dx^2) + 1/2."""
        nu_lu = kinematic_viscosity_m2_s * self.time_step_s / self.spacing_m**2
        return nu_lu / SOUND_SPEED_SQUARED_LU + 0.5


@dataclass
class OpeningSample:
    """Hold one reading of an opening: mass flow (lattice) and flux-weighted pressures (lattice)."""

    flow_lu: float
    static_lu: float
    total_lu: float


@dataclass
class FlowState:
    """Hold what changes during a run."""

    scales: Scales
    populations: Float[np.ndarray, "population"]
    following: Float[np.ndarray, "population"]
    macroscopic: Float[np.ndarray, "4 cell"]
    step: int = 0
    time_s: float = 0.0
    outlet_pressure_pa: float = 0.0
    integral_pa: float = 0.0
    inlet_scale: float = 1.0
    history: list[dict[str, float]] = field(default_factory=list)
    mean: Float[np.ndarray, "4 cell"] | None = None
    mean_count: int = 0


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
    openings
        Mean flow rate, ml/s, and pressures, Pa, of each opening.
    static_loss_pa, total_loss_pa
        Flux-weighted pressure loss, inlets minus outlets.
    steps, time_s
        Length of the run.
    reached
        Whether the tolerances were met.
    pressure_loss_change, mass_imbalance
        Relative change of the mean loss between the last two windows; relative imbalance.
    pressure_loss_std_pa
        Standard deviation of the total loss in time over the averaging window, Pa.
    peak_velocity_m_s, mach_max
        Largest velocity and its Mach number on the lattice.
    """

    scales: Scales
    velocity_m_s: Float[np.ndarray, "3 cell"]
    pressure_pa: Float[np.ndarray, "cell"]
    openings: dict[str, dict[str, float]]
    static_loss_pa: float
    total_loss_pa: float
    steps: int
    time_s: float
    reached: bool
    pressure_loss_change: float
    mass_imbalance: float
    pressure_loss_std_pa: float
    peak_velocity_m_s: float
    mach_max: float


class Solver:
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
        self._lattice = lattice
        self._openings = openings
        self._inlets = [o for o in openings if o.inlet]
        self._outlets = [o for o in openings if not o.inlet]
        self._settings = settings
        self._dtype = np.dtype(settings.precision).type
        self._flow_m3_s = ml_s_to_m3_s(settings.flow_rate_ml_s)
        self._volume_m3 = len(lattice.cells) * (lattice.spacing_mm * 1e-3) ** 3
        self._window_s = self._volume_m3 / self._flow_m3_s / _WINDOWS_PER_FLOW_THROUGH
        self._controlled = settings.inlet == "total-pressure"
        wall = np.flatnonzero(np.isin(lattice.link_patch, [0]))
        self._walls = interpolated_walls(
            wall,
            lattice.link_cell[wall],
            lattice.link_direction[wall],
            lattice.link_distance[wall],
            lattice.neighbour,
        )
        self._factor = self._walls.factor.astype(self._dtype)
        self._source = engine.source_table(
            lattice.neighbour, lattice.link_cell, lattice.link_direction
        )
        parts = [
            opening_links(o, lattice.neighbour, velocity=o.inlet and not self._controlled)
            for o in openings
        ]
        self._opening_address = np.concatenate([a for a, _ in parts], axis=1).astype(np.int32)
        self._opening_factor = np.concatenate([f for _, f in parts], axis=1).astype(self._dtype)
        engine.use_threads(settings.threads)

    def run(self) -> FlowResult:
        """Run until the tolerances are met or the run is at its end.

        Raises
        ------
        NumericalError
            If the flow diverges.
        """
        state = self._start()
        limit_s = self._settings.flow_throughs * self._volume_m3 / self._flow_m3_s
        limit_s = max(limit_s, 4 * self._window_s)
        with Progress("simulate", 1000, "thousandths of the longest run") as progress:
            shown = 0
            while not self._ended(state, limit_s):
                self._advance_one_check(state)
                done = min(int(1000 * self._share_done(state, limit_s)), 1000)
                last = state.history[-1]
                progress.advance(
                    done - shown, loss_pa=last["total"], flow_ml_s=last["inflow"] * 1e6
                )
                shown = done
        return self._result(state)

    def _share_done(self, state: FlowState, limit_s: float) -> float:
        if self._settings.max_steps is not None:
            return state.step / self._settings.max_steps
        return state.time_s / limit_s

    def _ended(self, state: FlowState, limit_s: float) -> bool:
        if self._share_done(state, limit_s) >= 1.0:
            return True
        change, imbalance = self._convergence(state)
        return change < self._settings.tolerance and imbalance < _MAX_IMBALANCE

    def _start(self) -> FlowState:
        smallest = min(
            sum(o.area_mm2 for o in self._openings if o.inlet == kind) for kind in (True, False)
        )
        guess = _GUESSED_PEAK * self._flow_m3_s / (smallest * 1e-6)
        scales = self._scales(guess)
        cells, links = len(self._lattice.cells), len(self._lattice.link_cell)
        return FlowState(
            scales,
            engine.populations_for(cells, links, self._dtype),
            engine.populations_for(cells, links, self._dtype),
            np.zeros((4, cells), dtype=self._dtype),
        )

    def _scales(self, peak_m_s: float) -> Scales:
        spacing = self._lattice.spacing_mm * 1e-3
        step = self._settings.lattice_velocity * spacing / peak_m_s
        return Scales(spacing, step, self._settings.density_kg_m3)

    def _advance_one_check(self, state: FlowState) -> None:
        """Advance one check interval, control the openings, record and adapt."""
        interval = max(
            round(self._window_s / _CHECKS_PER_WINDOW / state.scales.time_step_s), 16
        )
        if self._settings.max_steps is not None:
            interval = min(interval, self._settings.max_steps - state.step)
        tau = state.scales.relaxation_time(self._settings.kinematic_viscosity_m2_s)
        omega = np.full(len(self._lattice.cells), 1.0 / tau, dtype=self._dtype)
        self._steps(state, interval, omega)
        self._record(state)
        self._accumulate(state)
        self._adapt_time_step(state)

    def _steps(self, state: FlowState, count: int, omega: Float[np.ndarray, "cell"]) -> None:
        number = len(self._lattice.cells)
        for _ in range(count):
            engine.return_from_walls(
                state.populations, number, self._walls.first, self._walls.address, self._factor
            )
            engine.return_from_openings(
                state.populations,
                number,
                self._opening_address,
                self._opening_factor,
                self._imposed(state).astype(self._dtype),
            )
            engine.collide_and_stream(
                state.populations, state.following, self._source, omega, state.macroscopic
            )
            state.populations, state.following = state.following, state.populations
            state.step += 1
            state.time_s += state.scales.time_step_s
            self._control(state)

    def _target_m3_s(self, state: FlowState) -> float:
        ramp = _RAMP_WINDOWS * self._window_s
        share = min(state.time_s / ramp, 1.0)
        return self._flow_m3_s * 0.5 * (1.0 - np.cos(np.pi * share))

    def _imposed(self, state: FlowState) -> Float[np.ndarray, "link"]:
        parts = []
        outlet_lu = state.outlet_pressure_pa / state.scales.pressure_pa
        for opening in self._openings:
            if not opening.inlet:
                parts.append(imposed_pressure(opening, state.macroscopic, outlet_lu, total=False))
            elif self._controlled:
                parts.append(imposed_pressure(opening, state.macroscopic, 0.0, total=True))
            else:
                area = sum(o.area_mm2 for o in self._inlets) * 1e-6
                mean = self._target_m3_s(state) / area / state.scales.velocity_m_s
                parts.append(imposed_velocity(opening, mean * state.inlet_scale))
        return np.concatenate(parts)

    def _control(self, state: FlowState) -> None:
        """Correct the outlet pressure, or the inlet profiles' scale, towards the flow rate."""
        target = self._target_m3_s(state)
        unit = state.scales.flow_rate_m3_s
        outflow = -unit * sum(float(self._net(state, o).sum()) for o in self._outlets)
        area = sum(o.area_mm2 for o in self._outlets) * 1e-6
        sound = np.sqrt(SOUND_SPEED_SQUARED_LU) * state.scales.velocity_m_s
        impedance = _IMPEDANCE_SHARE * self._settings.density_kg_m3 * sound / area
        if self._controlled:
            constant = _INTEGRAL_TRANSITS * self._length_m / sound
            share = state.scales.time_step_s / constant
            state.integral_pa += impedance * (outflow - target) * share
        else:
            inflow = unit * sum(float(self._net(state, o).sum()) for o in self._inlets)
            if target > 0.1 * self._flow_m3_s and inflow > 0:
                correction = float(np.clip(target / inflow, 0.9, 1.1))
                state.inlet_scale *= correction**_SCALE_RELAXATION
        state.outlet_pressure_pa = state.integral_pa + impedance * (outflow - target)

    def _net(self, state: FlowState, opening: Opening) -> Float[np.ndarray, "link"]:
        """Return the mass that each link of an opening brought in during the last step."""
        number = len(self._lattice.cells)
        returned = state.following[19 * number + opening.link]
        outgoing = state.following[opening.outward * number + opening.cell]
        return (returned - outgoing).astype(np.float64)

    @property
    def _length_m(self) -> float:
        pairs = [(a.centre_mm, b.centre_mm) for a in self._inlets for b in self._outlets]
        return float(np.mean([np.linalg.norm(a - b) for a, b in pairs])) * 1e-3

    def _sample(self, state: FlowState) -> list[tuple[Opening, OpeningSample]]:
        """Read mass flow and flux-weighted pressures of every opening (lattice units)."""
        samples = []
        for opening in self._openings:
            net = self._net(state, opening)
            flow = float(net.sum()) if opening.inlet else -float(net.sum())
            density, *velocity = state.macroscopic[:, opening.cell].astype(np.float64)
            dynamic = 0.5 * np.sum(np.square(velocity), axis=0) / SOUND_SPEED_SQUARED_LU
            weight = np.maximum(net if opening.inlet else -net, 0.0)
            weight = weight / weight.sum() if weight.sum() > 0 else np.full(len(net), 1 / len(net))
            static = float(weight @ density)
            samples.append(
                (opening, OpeningSample(flow, static, static + float(weight @ dynamic)))
            )
        return samples

    def _record(self, state: FlowState) -> None:
        samples = self._sample(state)
        scales = state.scales
        entry: dict[str, float] = {"time_s": state.time_s}
        losses = {"static": 0.0, "total": 0.0}
        for inlet, sign in ((True, 1.0), (False, -1.0)):
            kind = [s for o, s in samples if o.inlet == inlet]
            flux = sum(s.flow_lu for s in kind)
            safe = flux if flux != 0 else 1.0
            losses["static"] += sign * sum(s.flow_lu * s.static_lu for s in kind) / safe
            losses["total"] += sign * sum(s.flow_lu * s.total_lu for s in kind) / safe
            entry["inflow" if inlet else "outflow"] = flux * scales.flow_rate_m3_s
        entry |= {name: value * scales.pressure_pa for name, value in losses.items()}
        for opening, sample in samples:
            entry[f"{opening.name}/flow"] = sample.flow_lu * scales.flow_rate_m3_s
            entry[f"{opening.name}/static"] = sample.static_lu * scales.pressure_pa
            entry[f"{opening.name}/total"] = sample.total_lu * scales.pressure_pa
        speed = float(np.sqrt(np.square(state.macroscopic[1:]).sum(axis=0).max()))
        entry["peak_lu"] = speed
        state.history.append(entry)
        if not np.isfinite(speed) or speed > _MAX_LATTICE_VELOCITY:
            self._diverged(state, speed)

    def _diverged(self, state: FlowState, speed: float) -> None:
        squares = np.nan_to_num(np.square(state.macroscopic[1:]).sum(axis=0), nan=np.inf)
        place = self._lattice.centres_mm[int(np.argmax(squares))]
        tau = state.scales.relaxation_time(self._settings.kinematic_viscosity_m2_s)
        raise NumericalError(
            f"the flow diverged at step {state.step} near ({place[0]:.1f}, {place[1]:.1f}, "
            f"{place[2]:.1f}) mm: peak velocity {speed:.3g} cells per step (allowed: "
            f"{_MAX_LATTICE_VELOCITY}), relaxation time {tau:.5f}; choose a smaller "
            "--lattice-velocity or --spacing-mm.",
            step=state.step,
            place_mm=tuple(place),
        )

    def _adapt_time_step(self, state: FlowState) -> None:
        """Fit the time step to the peak velocity while the flow develops."""
        peak = state.history[-1]["peak_lu"]
        ratio = peak / self._settings.lattice_velocity
        developing = state.time_s < 2 * _RAMP_WINDOWS * self._window_s
        too_slow = ratio < _PEAK_MARGIN[0] and not self._ramping(state) and developing
        too_fast = ratio > _PEAK_MARGIN[1] and (developing or ratio > 2.0)
        if not (too_slow or too_fast):
            return
        factor = float(np.clip(1.0 / (ratio * (1.05 if too_fast else 1.0)), 0.5, 2.0))
        state.scales = Scales(
            state.scales.spacing_m, state.scales.time_step_s * factor, state.scales.density_kg_m3
        )
        state.macroscopic[0] *= factor**2
        state.macroscopic[1:] *= factor
        engine.set_equilibrium(state.populations, state.macroscopic)

    def _ramping(self, state: FlowState) -> bool:
        return state.time_s < 1.2 * _RAMP_WINDOWS * self._window_s

    def _accumulate(self, state: FlowState) -> None:
        """Average the fields over the last window of the run so far."""
        scaled = np.concatenate(
            [
                state.macroscopic[:1] * state.scales.pressure_pa,
                state.macroscopic[1:] * state.scales.velocity_m_s,
            ]
        ).astype(np.float32)
        if state.mean is None or self._ramping(state):
            state.mean, state.mean_count = scaled, 1
            return
        state.mean_count = min(state.mean_count + 1, _CHECKS_PER_WINDOW)
        state.mean += (scaled - state.mean) / state.mean_count

    def _windows(self, state: FlowState) -> list[dict[str, float]]:
        """Return the means of the last two windows, the latest last."""
        ramped = [e for e in state.history if e["time_s"] > 1.5 * _RAMP_WINDOWS * self._window_s]
        if not ramped:
            return []
        end = ramped[-1]["time_s"]
        means = []
        for older in (1, 0):
            high, low = end - older * self._window_s, end - (older + 1) * self._window_s
            inside = [e for e in ramped if low < e["time_s"] <= high]
            complete = ramped[0]["time_s"] <= low + self._window_s / _CHECKS_PER_WINDOW
            if inside and (complete or older == 0):
                means.append({k: float(np.mean([e[k] for e in inside])) for k in inside[0]})
        return means

    def _convergence(self, state: FlowState) -> tuple[float, float]:
        means = self._windows(state)
        if len(means) < 2:
            return np.inf, np.inf
        earlier, later = means
        scale = max(abs(later["total"]), 1e-12)
        imbalance = abs(later["inflow"] - later["outflow"]) / max(abs(later["inflow"]), 1e-30)
        error = abs(later["outflow"] - self._flow_m3_s) / self._flow_m3_s
        return abs(later["total"] - earlier["total"]) / scale, max(imbalance, error)

    def _result(self, state: FlowState) -> FlowResult:
        assert state.mean is not None
        means = self._windows(state) or [state.history[-1]]
        last = means[-1]
        change, imbalance = self._convergence(state)
        end = state.history[-1]["time_s"]
        recent = [e for e in state.history if e["time_s"] > end - self._window_s]
        outlets = [o.name for o in self._outlets]
        flux = sum(last[f"{n}/flow"] for n in outlets) or 1.0
        reference = sum(last[f"{n}/flow"] * last[f"{n}/static"] for n in outlets) / flux
        peak = float(np.sqrt(np.square(state.mean[1:]).sum(axis=0).max()))
        mach = max(e["peak_lu"] for e in recent) / np.sqrt(SOUND_SPEED_SQUARED_LU)
        return FlowResult(
            scales=state.scales,
            velocity_m_s=state.mean[1:],
            pressure_pa=state.mean[0] - reference,
            openings={
                o.name: {
                    "area_mm2": o.area_mm2,
                    "flow_rate_ml_s": m3_s_to_ml_s(last[f"{o.name}/flow"]),
                    "static_pressure_pa": last[f"{o.name}/static"] - reference,
                    "total_pressure_pa": last[f"{o.name}/total"] - reference,
                }
                for o in self._openings
            },
            static_loss_pa=last["static"],
            total_loss_pa=last["total"],
            steps=state.step,
            time_s=state.time_s,
            reached=change < self._settings.tolerance and imbalance < _MAX_IMBALANCE,
            pressure_loss_change=change,
            mass_imbalance=imbalance,
            pressure_loss_std_pa=float(np.std([e["total"] for e in recent])),
            peak_velocity_m_s=peak,
            mach_max=float(mach),
        )
