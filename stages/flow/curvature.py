"""Second differences of velocity along the lines of a lattice, with the wall where it is.

Notes
-----
With cells at -1, 0 and 1 the second difference is that of the three. Where the surface is met at the distance
q ahead, it is that of the parabola through the cell behind, the cell and zero at q; where q is so small that
the cell's own velocity tells no slope, through the two cells behind and zero at q.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix

from stages.flow.lattice import OPPOSITE, Q
from stages.flow.mesh import WALL
from stages.flow.voxels import SparseLattice

CLOSE = 0.25
"""Nearer to the wall, in link lengths, a cell's own velocity tells no slope."""


@dataclass(frozen=True)
class WallDistances:
    """Look up how far the wall is from a cell along a direction.

    Parameters
    ----------
    keys, distances
        Number of each link that ends at the wall, sorted, and its distance in link lengths.
    """

    keys: Int[np.ndarray, "link"]
    distances: Float[np.ndarray, "link"]

    @classmethod
    def of(cls, lattice: SparseLattice) -> WallDistances:
        """Return those of a lattice."""
        link = lattice.links_of(WALL)
        keys = lattice.link_cell[link].astype(np.int64) * Q + lattice.link_direction[link]
        order = np.argsort(keys)
        return cls(keys[order], lattice.link_distance[link][order])

    def at(
        self, cells: Int[np.ndarray, "cell"], directions: Int[np.ndarray, "cell"]
    ) -> Float[np.ndarray, "cell"]:
        """Return distances in link lengths; NaN where no wall is met."""
        if not len(self.keys):
            return np.full(len(cells), np.nan)
        wanted = cells.astype(np.int64) * Q + directions
        place = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where(self.keys[place] == wanted, self.distances[place], np.nan)


def second_differences(
    lattice: SparseLattice,
    walls: WallDistances,
    cells: Int[np.ndarray, "node"],
    directions: Int[np.ndarray, "node"],
) -> csr_matrix:
    """Return the weights (node, fluid cell) of the second difference along a direction from each cell.

    Parameters
    ----------
    lattice, walls
        Fluid cells, and the distances of their walls.
    cells, directions
        A fluid cell and a direction, not 0, for each row. The unit of length is the link's.

    Notes
    -----
    A row is empty, values are straight, where an opening is met or too few cells lie in the line to tell.
    """
    ahead = lattice.neighbour[directions, cells]
    turned = (ahead >= 0) & (lattice.neighbour[OPPOSITE[directions], cells] < 0)
    forward = np.where(turned, OPPOSITE[directions], directions)
    back = OPPOSITE[forward]
    ahead, behind = lattice.neighbour[forward, cells], lattice.neighbour[back, cells]
    beyond = np.where(behind >= 0, lattice.neighbour[back, behind], -1)
    wall = walls.at(cells, forward)
    far = np.maximum(walls.at(np.maximum(behind, 0), back), CLOSE)
    own = np.maximum(walls.at(cells, back), CLOSE)
    edge, close = (ahead < 0) & (behind >= 0), wall < CLOSE
    rows = SparseRows(len(cells), len(lattice.cells))
    centred = (ahead >= 0) & (behind >= 0)
    rows.add(centred, (ahead, 1.0), (cells, -2.0), (behind, 1.0))
    near = edge & (wall >= CLOSE)
    rows.add(near, (behind, 2.0 / (1.0 + wall)), (cells, -2.0 / wall))
    rows.add(
        edge & close & (beyond >= 0),
        *((beyond, 2.0 / (2.0 + wall)), (behind, -2.0 / (1.0 + wall))),
    )
    gap = edge & close & (beyond < 0) & np.isfinite(far)
    rows.add(gap, (behind, -2.0 / (far * (1.0 + wall))))
    alone = (ahead < 0) & (behind < 0) & np.isfinite(wall) & np.isfinite(own)
    rows.add(alone, (cells, -2.0 / (np.maximum(wall, CLOSE) * own)))
    return rows.matrix()


class SparseRows:
    """Gather the entries of a sparse matrix."""

    def __init__(self, rows: int, columns: int) -> None:
        self._shape = (rows, columns)
        self._row: list[np.ndarray] = []
        self._column: list[np.ndarray] = []
        self._value: list[np.ndarray] = []

    def add(self, chosen: np.ndarray, *terms: tuple[np.ndarray, np.ndarray | float]) -> None:
        """Add terms (column, value) to the rows that are chosen."""
        row = np.flatnonzero(chosen)
        for column, value in terms:
            self._row.append(row)
            self._column.append(column[row])
            self._value.append(np.broadcast_to(value, chosen.shape)[row])

    def matrix(self) -> csr_matrix:
        """Return the matrix of all that was added."""
        row, column = np.concatenate(self._row), np.concatenate(self._column)
        return csr_matrix((np.concatenate(self._value), (row, column)), shape=self._shape)
