"""What the cut links of a lattice return, from its geometry."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from stages.flow.voxels import SparseLattice
from stages.flow.walls import WallLinks, interpolated_walls


def wall_links(
    lattice: SparseLattice,
    link: Int[np.ndarray, "link"],
    curvature: Float[np.ndarray, "cell"],
    relaxation_time: float,
) -> WallLinks:
    """Return what some links hand back as walls.

    Parameters
    ----------
    lattice
        Cells and links.
    link
        Numbers of the links among all.
    curvature
        For each cell the share of the second-order term: 1 for quadratic walls, 0 for linear ones.
    relaxation_time
        tau.
    """
    cell = lattice.link_cell[link]
    return interpolated_walls(
        link,
        cell,
        lattice.link_direction[link],
        lattice.link_distance[link],
        lattice.neighbour,
        cells=lattice.cells,
        relaxation_time=relaxation_time,
        curvature=curvature[cell],
    )
