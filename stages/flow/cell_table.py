"""Find fluid cells by their place without an array of the whole bounding box.

Notes
-----
Cells sorted by x, then y, then z are columns of equal (x, y). The table holds for each slab of equal x the
columns between its first and its last one and where they begin; within a column z is searched.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Int

from stages.flow.lattice import VELOCITIES, Q


@dataclass(frozen=True)
class CellTable:
    """Hold where the columns of sorted cells begin.

    Parameters
    ----------
    low
        Lowest y of each slab of equal x.
    first
        Number of each slab's first column; one more entry ends the last slab.
    start
        First cell of each column; one more entry ends the last column.
    z
        The cells' z, ascending within a column.
    """

    low: Int[np.ndarray, "x"]
    first: Int[np.ndarray, "slab"]
    start: Int[np.ndarray, "column"]
    z: Int[np.ndarray, "cell"]

    @classmethod
    def of(cls, cells: Int[np.ndarray, "cell 3"], slabs: int) -> CellTable:
        """Make the table of cells sorted by x, then y, then z, of which no x reaches `slabs`."""
        x, y, z = cells.T
        bound = np.searchsorted(x, np.arange(slabs + 1))
        filled = np.flatnonzero(np.diff(bound))
        low, columns = np.zeros(slabs, dtype=np.int64), np.zeros(slabs, dtype=np.int64)
        low[filled] = y[bound[filled]]
        columns[filled] = y[bound[filled + 1] - 1] - low[filled] + 1
        first = np.concatenate([[0], np.cumsum(columns)])
        column = first[x] + y - low[x]
        counts = np.bincount(column, minlength=int(first[-1]))
        return cls(low, first, np.concatenate([[0], np.cumsum(counts)]), z.astype(np.int32))


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def column_cells(low, first, start, z, i, j, k):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    """Return the first cell of the column (i, j) that is not below k, and the end of the column."""
    if i < 0 or i >= len(low):
        return 0, 0
    column = first[i] + j - low[i]
    if j < low[i] or column >= first[i + 1]:
        return 0, 0
    cell, end = start[column], start[column + 1]
    beyond = end
    while cell < beyond:
        middle = (cell + beyond) // 2
        if z[middle] < k:
            cell = middle + 1
        else:
            beyond = middle
    return cell, end


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _write_neighbours(cells, low, first, start, z, velocities, neighbour):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    for q in range(neighbour.shape[0]):
        dx, dy, dz = velocities[q, 0], velocities[q, 1], velocities[q, 2]
        ahead, end = 0, 0
        for cell in range(cells.shape[0]):
            i, j, k = cells[cell, 0], cells[cell, 1], cells[cell, 2]
            new = cell == 0 or i != cells[cell - 1, 0] or j != cells[cell - 1, 1]
            if new:
                ahead, end = column_cells(low, first, start, z, i + dx, j + dy, k + dz)
            while ahead < end and z[ahead] < k + dz:
                ahead += 1
            neighbour[q, cell] = ahead if ahead < end and z[ahead] == k + dz else -1


def neighbours(cells: Int[np.ndarray, "cell 3"], table: CellTable) -> Int[np.ndarray, "q cell"]:
    """Return for each direction and cell the cell one link ahead, or -1."""
    neighbour = np.empty((Q, len(cells)), dtype=np.int32)
    _write_neighbours(cells, table.low, table.first, table.start, table.z, VELOCITIES, neighbour)
    return neighbour
