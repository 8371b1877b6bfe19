"""The six sides of every fluid cell: a neighbour, a wall at a known distance or an opening."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from stages.flow.lattice import VELOCITIES
from stages.flow.mesh import is_inlet, is_outlet
from stages.flow.voxels import SparseLattice

SIDES = 6
DIRECTIONS = VELOCITIES[1 : SIDES + 1]
"""Outward directions of the sides (x, y, z); sides d and d ^ 1 are opposite."""
OPEN, SOLID, INLET, OUTLET = 0, 1, 2, 3


@dataclass(frozen=True)
class CellSides:
    """Describe the sides of the fluid cells.

    Parameters
    ----------
    neighbour
        The cell beyond each side, or -1, (cell, side).
    kind
        ``OPEN`` to a neighbour, or ending at ``SOLID``, ``INLET`` or ``OUTLET``.
    distance
        From the cell's centre to the surface in cells, in (0, 1]; 1 where open.
    patch
        Number of the patch at which a side ends; -1 where open.
    spacing_m
        Edge of a cell, m.
    """

    neighbour: Int[np.ndarray, "cell 6"]
    kind: Int[np.ndarray, "cell 6"]
    distance: Float[np.ndarray, "cell 6"]
    patch: Int[np.ndarray, "cell 6"]
    spacing_m: float


def cell_sides(lattice: SparseLattice) -> CellSides:
    """Return the sides of a lattice's cells, from its links along the axes."""
    neighbour = np.ascontiguousarray(lattice.neighbour[1 : SIDES + 1].T)
    distance = np.ones(neighbour.shape, dtype=np.float32)
    patch = np.full(neighbour.shape, -1, dtype=np.int16)
    axial = np.flatnonzero((lattice.link_direction >= 1) & (lattice.link_direction <= SIDES))
    place = lattice.link_cell[axial], lattice.link_direction[axial] - 1
    distance[place] = lattice.link_distance[axial]
    patch[place] = lattice.link_patch[axial]
    kinds = np.array([_kind(name) for name in lattice.names] + [OPEN], dtype=np.int8)
    return CellSides(neighbour, kinds[patch], distance, patch, lattice.spacing_mm * 1e-3)


def _kind(name: str) -> int:
    if is_inlet(name):
        return INLET
    return OUTLET if is_outlet(name) else SOLID
