"""Go on with a flow that diverged: back to its last whole state, with calmer walls where it broke.

Notes
-----
Quadratic walls ask for the second difference of the velocity beside them; in corners where most links of a
cell are cut and the lattice is much too coarse for the flow, that can feed on itself. Linear walls of the
same places damp it, at the price of a passage there that is too tight. So the run goes back to its last
sample and is watched step by step; where it leaves the range of lattice velocities again, walls become
linear. A flow that diverges away from walls, or where they are linear already, is computed with plain
convection, and after that in shorter time steps.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from pipeline.core.errors import NumericalError
from stages.flow.openings import OpeningState
from stages.flow.voxels import SparseLattice

MAX_LATTICE_VELOCITY = 0.4
"""Beyond Mach 0.7 the collision's expansion in the Mach number has no meaning."""
MOST_RESCUES = 64
"""Times that a run goes back before its time step is made shorter."""
SMALLEST_SHARE = 0.25
"""Share of the lattice velocity asked for below which a run is given up."""
_USUAL_RATIO = 3.0
"""Peak velocity over the one aimed at beyond which a few cells of a developed flow are not whole."""
_FEW_CELLS, _FEW_SHARE = 32, 0.001
"""What diverges in so many cells or in this share of all has been seen where it began."""
_TAIL, _DENSITY_MARGIN = 0.001, 0.1
"""A density deviation is usual that lies beyond all but this share of the cells by no more than what they
span and the margin, the dynamic pressure of 2.6 times the usual peak velocity."""
_SAMPLED_CELLS = 100_000
_RINGS, _MOST_RINGS = 2, 6
"""Cells around those that diverged whose walls become linear as well: more where the nearest are already."""


@dataclass(frozen=True)
class Refuge:
    """Hold a state of the flow that was whole.

    Parameters
    ----------
    time_s
        When it was.
    fields
        Density deviation and velocity of each cell, lattice units, (4, cell).
    control
        What the openings imposed and carried.
    """

    time_s: float
    fields: Float[np.ndarray, "4 cell"]
    control: OpeningState

    @classmethod
    def of(
        cls, time_s: float, fields: Float[np.ndarray, "4 cell"], control: OpeningState
    ) -> Refuge:
        """Return a refuge that later steps do not change."""
        return cls(time_s, fields.copy(), copy.deepcopy(control))

    def in_step(self, factor: float) -> Refuge:
        """Return the same state in lattice units of a time step that is longer by a factor."""
        moved = Refuge.of(self.time_s, in_step(self.fields, factor), self.control)
        change_step(moved.control, factor)
        return moved


def in_step(fields: Float[np.ndarray, "4 cell"], factor: float) -> Float[np.ndarray, "4 cell"]:
    """Return density deviation and velocity in the units of a time step that is longer by a factor."""
    return np.concatenate([fields[:1] * factor**2, fields[1:] * factor])


def change_step(control: OpeningState, factor: float) -> None:
    """Bring what openings impose and carry to a time step that is longer by a factor, in place."""
    control.outlet[[0]] *= factor**2
    control.outlet[[3, 4]] *= factor
    control.flux *= factor


def peak_speed(fields: Float[np.ndarray, "4 cell"]) -> float:
    """Return the largest velocity; not finite if one is not."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.sqrt(np.square(fields[1:]).sum(axis=0).max()))


@dataclass(frozen=True)
class Divergence:
    """Hold where a flow diverged.

    Parameters
    ----------
    cells
        Cells whose velocity is not finite or outside what the lattice can carry, and those around them.
    can_calm
        Whether some of them lie beside quadratic walls.
    local
        Whether it has not spread yet.
    """

    cells: Bool[np.ndarray, "cell"]
    can_calm: bool
    local: bool


def wild_cells(
    fields: Float[np.ndarray, "4 cell"], lattice_velocity: float, *, developed: bool
) -> Bool[np.ndarray, "cell"]:
    """Return the cells that no whole flow has: too fast, or far from the pressures of all others.

    While a flow develops its time step follows the peak. Later a few cells of three times the peak aimed
    at are not the flow's: they grow beside a wall. Many are the flow's.

    Parameters
    ----------
    fields
        Density deviation and velocity, lattice units.
    lattice_velocity
        Peak velocity that the time step aims at.
    developed
        Whether the time step has been settled.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        square = np.square(fields[1:]).sum(axis=0)
    wild = ~(square <= MAX_LATTICE_VELOCITY**2) | ~_is_usual(fields[0])
    fast = square > (_USUAL_RATIO * lattice_velocity) ** 2
    if developed and fast.sum() <= _few(len(fast)):
        wild |= fast
    found: Bool[np.ndarray, "cell"] = wild
    return found


def _is_usual(density: Float[np.ndarray, "cell"]) -> Bool[np.ndarray, "cell"]:
    some = density[:: 1 + len(density) // _SAMPLED_CELLS]
    some = some[np.isfinite(some)]
    if len(some) == 0:
        return np.zeros(len(density), dtype=bool)
    low, high = np.quantile(some, (_TAIL, 1.0 - _TAIL))
    margin = high - low + _DENSITY_MARGIN
    usual: Bool[np.ndarray, "cell"] = (density >= low - margin) & (density <= high + margin)
    return usual


def _few(cells: int) -> float:
    """Return how many cells can diverge before it has spread."""
    return max(_FEW_CELLS, _FEW_SHARE * cells)


def find_divergence(
    fields: Float[np.ndarray, "4 cell"],
    wild: Bool[np.ndarray, "cell"],
    neighbour: Int[np.ndarray, "q cell"],
    curved: Bool[np.ndarray, "cell"],
) -> Divergence:
    """Find the surroundings of the cells that diverged, up to the nearest quadratic walls.

    Parameters
    ----------
    fields
        Density deviation and velocity, lattice units.
    wild
        What `wild_cells` found.
    neighbour
        Cell one link ahead in each direction, or -1.
    curved
        Cells beside walls that are still quadratic.
    """
    cells = wild.copy()
    local = bool(np.isfinite(fields).all() and cells.sum() <= _few(len(cells)))
    for ring in range(_MOST_RINGS):
        if ring >= _RINGS and (cells & curved).any():
            break
        ahead = neighbour[1:, cells]
        cells[ahead[ahead >= 0]] = True
    return Divergence(cells, bool((cells & curved).any()), local)


def diverged(
    lattice: SparseLattice,
    fields: Float[np.ndarray, "4 cell"],
    step: int,
    relaxation_time: float,
) -> NumericalError:
    """Return the error of a flow that no calmer wall and no shorter time step holds."""
    squares = np.nan_to_num(np.square(fields[1:]).sum(axis=0), nan=np.inf)
    place = lattice.centres_mm[int(np.argmax(squares))]
    return NumericalError(
        f"the flow diverged at step {step} near ({place[0]:.1f}, {place[1]:.1f}, {place[2]:.1f}) mm: peak "
        f"velocity {peak_speed(fields):.3g} cells per step, relaxation "
        f"time {relaxation_time:.5f}; choose a smaller --lattice-velocity or --spacing-mm, and check the "
        "surface at that place.",
        step=step,
        place_mm=tuple(place),
    )
