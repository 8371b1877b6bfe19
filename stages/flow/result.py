"""What a simulation ends with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from stages.flow.convergence import Means, State
from stages.flow.scales import Scales


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
    engine: str
