"""What a simulation ends with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from stages.flow.convergence import History, Means, State
from stages.flow.lattice import SOUND_SPEED_SQUARED_LU
from stages.flow.run_state import RunState
from stages.flow.scales import Scales
from stages.flow.settings import FlowSettings


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
    calm
        Cells whose walls are linear all the same, since the flow diverged there.
    lattice_velocity
        Peak velocity that the time step aimed at in the end, lattice units.
    rescues
        Times that the run diverged and went back to its last whole state.
    convection
        ``corrected`` or ``plain``.
    quadrature
        Flux over the cells' sum of velocities; see `FluxQuadrature`.
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
    calm: Bool[np.ndarray, "cell"]
    lattice_velocity: float
    rescues: int
    convection: str
    quadrature: float
    engine: str


def flow_result(
    run: RunState,
    history: History,
    scales: Scales,
    settings: FlowSettings,
    inlet: Bool[np.ndarray, "opening"],
    *,
    flow_m3_s: float,
    engine: str,
    bytes_per_cell: int,
) -> FlowResult:
    """Return the averaged flow of a run that has ended."""
    state, mean, means = history.state(flow_m3_s), run.mean(), history.latest()
    reference = means.outlet_pa(inlet)
    return FlowResult(
        scales=scales,
        velocity_m_s=mean[1:].astype(np.float32),
        pressure_pa=(mean[0] - reference).astype(np.float32),
        reference_pa=reference,
        means=means,
        state=state,
        reached=state.reached(settings.tolerance),
        steps=run.step,
        time_s=run.time_s,
        mach_max=run.peak_lu / np.sqrt(SOUND_SPEED_SQUARED_LU),
        window_s=run.window_s,
        bytes_per_cell=bytes_per_cell,
        walls=settings.walls,
        calm=run.calm,
        lattice_velocity=run.lattice_velocity,
        rescues=run.rescues,
        convection="corrected" if run.corrected else "plain",
        quadrature=run.quadrature,
        engine=engine,
    )
