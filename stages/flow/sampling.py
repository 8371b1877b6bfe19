"""Values between cell centres: velocities quadratic in those of the fluid cells, with the wall where it is.

Notes
-----
Trilinear interpolation between nodes, less what straight lines add to a parabola: t (1 - t) / 2 of the second
difference along each axis at the fraction t of a cell. Straight lines alone lie h^2 / 12 laplace(u) off on
average, so that a section of a round passage of radius R would read its flow rate low by 2/3 (h / R)^2.

A node outside the fluid that a link of a fluid cell crosses the surface to reach has a mirrored value. For
velocity it is that of the parabola through zero at the wall's distance q from the cell, the second difference
along the link and the cell or, where q < 1/2, the cell behind it. For scalars it lies on the line through the
cell and the one behind. Beyond an opening both are the cell's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csc_matrix, csr_matrix, diags

from stages.flow.curvature import SparseRows, WallDistances, second_differences
from stages.flow.lattice import OPPOSITE, VELOCITIES
from stages.flow.voxels import SparseLattice


@dataclass(frozen=True)
class Sampler:
    """Interpolate fields of the fluid cells at fixed points.

    Parameters
    ----------
    cells
        The fluid cells that matter.
    scalar, vector
        Weights (point, one of `cells`) for pressure and for velocity.
    known
        Points that have a fluid cell within a cell's edge; others are NaN.
    """

    cells: Int[np.ndarray, "column"]
    scalar: csr_matrix
    vector: csr_matrix
    known: Bool[np.ndarray, "point"]

    def pressure(self, values: Float[np.ndarray, "cell"]) -> Float[np.ndarray, "point"]:
        """Return a scalar field at the points; NaN where unknown."""
        return np.where(self.known, self.scalar @ values[self.cells].astype(np.float64), np.nan)

    def velocity(self, values: Float[np.ndarray, "3 cell"]) -> Float[np.ndarray, "3 point"]:
        """Return a velocity field at the points; NaN where unknown."""
        found = (self.vector @ values[:, self.cells].astype(np.float64).T).T
        return np.where(self.known, found, np.nan)


class NodeTable:
    """Find fluid cells and their mirrored neighbours by position.

    Parameters
    ----------
    lattice
        Geometry of the cells.
    """

    def __init__(self, lattice: SparseLattice) -> None:
        self._lattice = lattice
        self._shape = np.array(lattice.shape, dtype=np.int64) + 4
        cell_keys = self._keys(lattice.cells)
        assert (np.diff(cell_keys) > 0).all()
        ends = lattice.cells[lattice.link_cell] + VELOCITIES[lattice.link_direction]
        end_keys = self._keys(ends)
        ghost = np.flatnonzero(~np.isin(end_keys, cell_keys))
        keys, number = np.unique(end_keys[ghost], return_inverse=True)
        self._cell_keys, self._ghost_keys = cell_keys, keys
        self._ghost_link, self._ghost = ghost, number

    @cached_property
    def _walls(self) -> WallDistances:
        return WallDistances.of(self._lattice)

    def sampler(self, points_mm: Float[np.ndarray, "point 3"], *, curved: bool = True) -> Sampler:
        """Return the weights that interpolate at world points.

        Parameters
        ----------
        points_mm
            World points.
        curved
            Velocities are quadratic; straight lines take less than half of the memory.
        """
        place = (points_mm - self._lattice.origin_mm) / self._lattice.spacing_mm
        finite = np.isfinite(place).all(axis=1) & (np.abs(place) < 2**30).all(axis=1)
        place = np.where(finite[:, None], place, -5.0)
        base = np.floor(place).astype(np.int64)
        fraction = place - base
        corners = np.array(list(np.ndindex(2, 2, 2)))[:, None]
        weight = np.prod(np.where(corners, fraction, 1.0 - fraction), axis=2)
        nodes = base + corners
        keys = np.where(self._in_box(nodes), self._keys(nodes), -1)
        cells = _weights(self._cell_keys, keys, weight)
        ghosts = _weights(self._ghost_keys, keys, weight)
        own = np.asarray(cells.sum(axis=1)).ravel()
        total = own + np.asarray(ghosts.sum(axis=1)).ravel()
        known = finite & (own > 1e-9)
        scale = diags(np.where(known, 1.0 / np.where(known, total, 1.0), 0.0))
        cells, ghosts = (scale @ cells).tocsc(), (scale @ ghosts).tocsc()
        numbers = np.flatnonzero(np.diff(ghosts.indptr))
        ghosts = ghosts[:, numbers].tocsr()
        link, average = self._links_to(numbers)
        scalar = cells + ghosts @ average @ self._scalar_beyond(link)
        vector = cells + ghosts @ average @ self._vector_beyond(link, curved=curved)
        if curved:
            vector = vector - self._bulge(cells, ghosts @ average, link, fraction)
        scalar, vector = scalar.tocsr(), vector.tocsr()
        met = np.zeros(len(self._cell_keys), dtype=bool)
        met[scalar.indices] = met[vector.indices] = True
        used = np.flatnonzero(met)
        return Sampler(used, scalar[:, used], vector[:, used], known)

    def _links_to(
        self, numbers: Int[np.ndarray, "ghost"]
    ) -> tuple[Int[np.ndarray, "link"], csr_matrix]:
        """Return the links that end at some outer nodes, and the weights of their mean (node, link)."""
        chosen = np.isin(self._ghost, numbers)
        row = np.searchsorted(numbers, self._ghost[chosen])
        share = 1.0 / np.bincount(row, minlength=len(numbers))[row]
        shape = (len(numbers), len(row))
        return self._ghost_link[chosen], csr_matrix((share, (row, np.arange(len(row)))), shape)

    def _scalar_beyond(self, link: Int[np.ndarray, "link"]) -> csr_matrix:
        """Return the weights (link, cell) of a scalar at the links' ends: on the line through two cells."""
        lattice = self._lattice
        cell = lattice.link_cell[link]
        behind = lattice.neighbour[OPPOSITE[lattice.link_direction[link]], cell]
        line = (lattice.link_patch[link] == 0) & (behind >= 0)
        rows = SparseRows(len(link), len(lattice.cells))
        rows.add(line, (cell, 2.0), (behind, -1.0))
        rows.add(~line, (cell, 1.0))
        return rows.matrix()

    def _vector_beyond(self, link: Int[np.ndarray, "link"], *, curved: bool) -> csr_matrix:
        """Return the weights (link, cell) of a velocity at the links' ends, mirrored at walls."""
        lattice = self._lattice
        cell, direction = lattice.link_cell[link], lattice.link_direction[link]
        q = lattice.link_distance[link]
        wall = lattice.link_patch[link] == 0
        behind = lattice.neighbour[OPPOSITE[direction], cell]
        rows = SparseRows(len(link), len(lattice.cells))
        rows.add(~wall, (cell, 1.0))
        over = wall & (q < 0.5) & (behind >= 0) & curved
        rows.add(over, (behind, -(1.0 - q) / (1.0 + q)))
        rows.add(wall & ~over, (cell, -np.minimum((1.0 - q) / q, 1.0)))
        found = rows.matrix()
        if not curved:
            return found
        bend = np.where(over, 1.0 - q, np.where(wall & (q >= 0.5), 0.5 * (1.0 - q), 0.0))
        return found + diags(bend) @ second_differences(lattice, self._walls, cell, direction)

    def _bulge(
        self,
        cells: csc_matrix,
        links: csr_matrix,
        link: Int[np.ndarray, "link"],
        fraction: Float[np.ndarray, "point 3"],
    ) -> csr_matrix:
        """Return the weights of what straight lines between the nodes add to a parabola."""
        used = np.flatnonzero(np.diff(cells.indptr))
        near, linked = cells[:, used].tocsr(), self._lattice.link_cell[link]
        total = csr_matrix((len(fraction), len(self._cell_keys)))
        for axis, t in enumerate(fraction.T):
            along = 2 * axis + 1
            bend = near @ self._second(used, along) + links @ self._second(linked, along)
            total = total + diags(0.5 * t * (1.0 - t)) @ bend
        return total

    def _second(self, cells: Int[np.ndarray, "node"], direction: int) -> csr_matrix:
        directions = np.full(len(cells), direction)
        return second_differences(self._lattice, self._walls, cells, directions)

    def _keys(self, cells: Int[np.ndarray, "*node 3"]) -> Int[np.ndarray, "*node"]:
        i, j, k = np.moveaxis(cells.astype(np.int64) + 2, -1, 0)
        keys: Int[np.ndarray, "*node"] = (i * self._shape[1] + j) * self._shape[2] + k
        return keys

    def _in_box(self, cells: Int[np.ndarray, "*node 3"]) -> Bool[np.ndarray, "*node"]:
        return np.asarray(((cells >= -2) & (cells < self._shape - 2)).all(axis=-1))


def _weights(
    known: Int[np.ndarray, "node"],
    keys: Int[np.ndarray, "corner point"],
    weight: Float[np.ndarray, "corner point"],
) -> csr_matrix:
    """Return the weights (point, known node) of the corners that are known."""
    place = np.minimum(np.searchsorted(known, keys), max(len(known) - 1, 0))
    found = known[place] == keys if len(known) else np.zeros(keys.shape, dtype=bool)
    point = np.nonzero(found)[1]
    return csr_matrix((weight[found], (point, place[found])), (keys.shape[1], len(known)))
