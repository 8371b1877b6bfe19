"""From a closed triangle surface to a sparse lattice: fluid cells and exact wall distances.

Notes
-----
A cell is fluid if a ray from it along +x crosses the surface an odd number of times. A link from a
fluid cell towards a neighbour ends at the surface if a triangle cuts it; the cut's distance, in
link lengths, is what interpolated walls need. A cut ends a link even if the neighbour is fluid,
so walls thinner than a cell do not leak.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Bool, Float, Int

from pipeline.core.errors import InputError
from stages.flow.lattice import OPPOSITE, VELOCITIES, Q
from stages.flow.mesh import PatchedSurface, is_inlet, is_outlet

OFFSET = np.array([0.50130, 0.50217, 0.50391])
"""Irrational-looking shift of the lattice, in cells, so that no ray meets a vertex of a mesh with
round coordinates."""

MAX_BOX_CELLS = 2**31 - 1


@dataclass(frozen=True)
class SparseLattice:
    """Hold the fluid cells of a lattice and the links that end at the surface.

    Parameters
    ----------
    origin_mm
        Centre of cell (0, 0, 0), world (x, y, z).
    spacing_mm
        Edge of a cell, mm.
    shape
        Cells of the bounding box along x, y, z.
    cells
        Indices (x, y, z) of the fluid cells in the order of the populations.
    neighbour
        For each direction and cell the cell one link ahead, or -1.
    link_cell, link_direction, link_distance, link_patch
        For each link that ends at the surface: its fluid cell, its outward direction, the
        distance to the surface in link lengths (0, 1], and the patch that it meets.
    names
        Patch names.
    """

    origin_mm: Float[np.ndarray, "3"]
    spacing_mm: float
    shape: tuple[int, int, int]
    cells: Int[np.ndarray, "cell 3"]
    neighbour: Int[np.ndarray, "q cell"]
    link_cell: Int[np.ndarray, "link"]
    link_direction: Int[np.ndarray, "link"]
    link_distance: Float[np.ndarray, "link"]
    link_patch: Int[np.ndarray, "link"]
    names: tuple[str, ...]

    @property
    def centres_mm(self) -> Float[np.ndarray, "cell 3"]:
        """Return the centres of the fluid cells, world (x, y, z), mm."""
        return self.origin_mm + self.cells * self.spacing_mm

    def links_of(self, name: str) -> Int[np.ndarray, "link"]:
        """Return the numbers of the links that end at a patch."""
        return np.flatnonzero(self.link_patch == self.names.index(name))

    def blocks(self, edge: int) -> Int[np.ndarray, "cell"]:
        """Return the number of the cube of some cells' edge in which each cell lies."""
        corner = self.cells // edge
        key = np.ravel_multi_index(tuple(corner.T), tuple(n // edge + 1 for n in self.shape))
        return np.unique(key, return_inverse=True)[1]

    def dense_index(self) -> Int[np.ndarray, "x y z"]:
        """Return the number of the fluid cell at each place of the box, -1 elsewhere."""
        index = np.full(self.shape, -1, dtype=np.int32)
        index[tuple(self.cells.T)] = np.arange(len(self.cells), dtype=np.int32)
        return index


def build_lattice(surface: PatchedSurface, spacing_mm: float) -> SparseLattice:
    """Place a lattice in a surface and keep what connects an inlet to an outlet.

    Raises
    ------
    InputError
        If the lattice would be too large, holds no fluid, or no inlet reaches an outlet.
    """
    points = surface.triangles_mm.reshape(-1, 3)
    low, high = points.min(axis=0), points.max(axis=0)
    shape_array = np.ceil((high - low) / spacing_mm).astype(np.int64) + 3
    if np.prod(shape_array.astype(np.float64)) > MAX_BOX_CELLS:
        raise InputError(
            f"a lattice of {spacing_mm} mm would need {np.prod(shape_array.astype(float)):.3g} "
            "cells; choose a larger --spacing-mm, and check that lengths are in mm.",
            shape=tuple(shape_array),
        )
    origin = low - (2.0 - OFFSET) * spacing_mm
    triangles = (surface.triangles_mm - origin) / spacing_mm
    x, y, z = (int(n) for n in shape_array)
    inside = _inside(triangles, (x, y, z))
    if not inside.any():
        raise InputError(
            f"no lattice cell lies inside the surface at {spacing_mm} mm; choose a smaller "
            "--spacing-mm, and check that lengths are in mm.",
            spacing_mm=spacing_mm,
        )
    cells, cut, patch = _cut_links(triangles, surface.patch, inside)
    neighbour, cell, direction, distance, met = _links(cells, cut, patch, inside)
    shape = (x, y, z)
    return _connected(
        SparseLattice(
            *(origin, spacing_mm, shape, cells, neighbour),
            *(cell, direction, distance, met, surface.names),
        )
    )


def _inside(
    triangles: Float[np.ndarray, "face 3 3"], shape: tuple[int, int, int]
) -> Bool[np.ndarray, "x y z"]:
    crossings = np.zeros(shape, dtype=np.uint8)
    _mark_crossings(triangles, crossings)
    return np.bitwise_xor.accumulate(crossings, axis=0).astype(bool)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _edge_side(ay, az, by, bz, y, z):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Return on which side of the edge a-b the point (y, z) lies: 1 or -1, 0 for no edge.

    Both directions of an edge give opposite values of the same bits. A point on the edge is moved
    by an infinitesimal (e, e^2), so that it lies on one side of every edge (Edelsbrunner & Mucke
    1990, doi:10.1145/77635.77639).
    """
    forward = (ay, az) <= (by, bz)
    if not forward:
        ay, az, by, bz = by, bz, ay, az
    side = (by - ay) * (z - az) - (bz - az) * (y - ay)
    if side == 0.0:
        side = -(bz - az) if bz != az else by - ay
    sign = 1 if side > 0 else (-1 if side < 0 else 0)
    return sign if forward else -sign


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _crossing(a, b, c, y, z):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Return where the line along x through (y, z) meets a triangle; NaN if it does not."""
    normal_x = (b[1] - a[1]) * (c[2] - a[2]) - (b[2] - a[2]) * (c[1] - a[1])
    if normal_x == 0.0:
        return np.nan
    e0 = _edge_side(a[1], a[2], b[1], b[2], y, z)
    e1 = _edge_side(b[1], b[2], c[1], c[2], y, z)
    e2 = _edge_side(c[1], c[2], a[1], a[2], y, z)
    if e0 != e1 or e1 != e2 or e0 == 0:
        return np.nan
    normal_y = (b[2] - a[2]) * (c[0] - a[0]) - (b[0] - a[0]) * (c[2] - a[2])
    normal_z = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    x = a[0] - (normal_y * (y - a[1]) + normal_z * (z - a[2])) / normal_x
    low, high = min(a[0], b[0], c[0]), max(a[0], b[0], c[0])
    return min(max(x, low), high)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _mark_crossings(triangles, crossings):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Flip the parity bit of the first cell beyond each crossing of a line along x."""
    nx, ny, nz = crossings.shape
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        y0 = max(int(np.ceil(min(a[1], b[1], c[1]))), 0)
        y1 = min(int(np.floor(max(a[1], b[1], c[1]))), ny - 1)
        z0 = max(int(np.ceil(min(a[2], b[2], c[2]))), 0)
        z1 = min(int(np.floor(max(a[2], b[2], c[2]))), nz - 1)
        for j in range(y0, y1 + 1):
            for k in range(z0, z1 + 1):
                x = _crossing(a, b, c, float(j), float(k))
                if np.isfinite(x):
                    crossings[min(max(int(np.floor(x)) + 1, 0), nx - 1), j, k] ^= 1


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _count_beyond(triangles, points, parity):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Flip the parity of each point for every crossing beyond it along x."""
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        y0, y1 = min(a[1], b[1], c[1]), max(a[1], b[1], c[1])
        z0, z1 = min(a[2], b[2], c[2]), max(a[2], b[2], c[2])
        for p in range(points.shape[0]):
            y, z = points[p, 1], points[p, 2]
            if y0 <= y <= y1 and z0 <= z <= z1 and _crossing(a, b, c, y, z) > points[p, 0]:
                parity[p] ^= 1


def points_inside(
    surface: PatchedSurface, points_mm: Float[np.ndarray, "point 3"]
) -> Bool[np.ndarray, "point"]:
    """Return which world points lie inside a closed surface, by parity of crossings along x."""
    parity = np.zeros(len(points_mm), dtype=np.uint8)
    _count_beyond(surface.triangles_mm, np.ascontiguousarray(points_mm), parity)
    return parity.astype(bool)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _cut_distance(place, a, u, v, normal, c):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Return where a link cuts a triangle, in link lengths; infinity if not (Moller-Trumbore)."""
    slack = 1e-9
    slope = c[0] * normal[0] + c[1] * normal[1] + c[2] * normal[2]
    if slope == 0.0:
        return np.inf
    s = place - a
    distance = -(s[0] * normal[0] + s[1] * normal[1] + s[2] * normal[2]) / slope
    if not -slack <= distance <= 1.0 + slack:
        return np.inf
    p = s + distance * c
    scale = 1.0 / (normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2)
    beta = scale * (
        normal[0] * (p[1] * v[2] - p[2] * v[1])
        + normal[1] * (p[2] * v[0] - p[0] * v[2])
        + normal[2] * (p[0] * v[1] - p[1] * v[0])
    )
    gamma = scale * (
        normal[0] * (u[1] * p[2] - u[2] * p[1])
        + normal[1] * (u[2] * p[0] - u[0] * p[2])
        + normal[2] * (u[0] * p[1] - u[1] * p[0])
    )
    within = beta >= -slack and gamma >= -slack and beta + gamma <= 1.0 + slack
    return distance if within else np.inf


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _nearest_cuts(triangles, patch, index, cut, cut_patch, velocities):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Keep for each link of a fluid cell the nearest triangle that cuts it."""
    low, high = np.empty(3, dtype=np.int64), np.empty(3, dtype=np.int64)
    place = np.empty(3)
    for t in range(triangles.shape[0]):
        a = triangles[t, 0]
        u, v = triangles[t, 1] - a, triangles[t, 2] - a
        normal = np.cross(u, v)
        reach = 1.5 * np.sqrt(np.sum(normal**2))  # a link is at most 1.414 cells long
        for d in range(3):
            low[d] = max(int(np.floor(triangles[t, :, d].min())) - 1, 0)
            high[d] = min(int(np.ceil(triangles[t, :, d].max())) + 1, index.shape[d] - 1)
        for i in range(low[0], high[0] + 1):
            for j in range(low[1], high[1] + 1):
                for k in range(low[2], high[2] + 1):
                    cell = index[i, j, k]
                    place[0], place[1], place[2] = i, j, k
                    if cell < 0 or abs(np.sum((place - a) * normal)) > reach:
                        continue
                    for q in range(1, 19):
                        distance = _cut_distance(place, a, u, v, normal, velocities[q])
                        if distance < cut[q, cell]:
                            cut[q, cell] = distance
                            cut_patch[q, cell] = patch[t]


def _cut_links(
    triangles: Float[np.ndarray, "face 3 3"],
    patch: Int[np.ndarray, "face"],
    inside: Bool[np.ndarray, "x y z"],
) -> tuple[Int[np.ndarray, "cell 3"], Float[np.ndarray, "q cell"], Int[np.ndarray, "q cell"]]:
    cells = np.argwhere(inside)
    index = np.full(inside.shape, -1, dtype=np.int32)
    index[inside] = np.arange(len(cells), dtype=np.int32)
    cut = np.full((Q, len(cells)), np.inf, dtype=np.float32)
    cut_patch = np.full((Q, len(cells)), -1, dtype=np.int16)
    _nearest_cuts(triangles, patch, index, cut, cut_patch, VELOCITIES.astype(np.float64))
    return cells, cut, cut_patch


def _links(
    cells: Int[np.ndarray, "cell 3"],
    cut: Float[np.ndarray, "q cell"],
    cut_patch: Int[np.ndarray, "q cell"],
    inside: Bool[np.ndarray, "x y z"],
) -> tuple[Int[np.ndarray, "q cell"], ...]:
    """Turn cuts into neighbours and a list of links that end at the surface.

    A cut found from one side only (rounding at an edge) is completed from the other, and a
    link that leaves the fluid without a cut ends half-way.
    """
    index = np.full(inside.shape, -1, dtype=np.int32)
    index[inside] = np.arange(len(cells), dtype=np.int32)
    neighbour = np.full((Q, len(cells)), -1, dtype=np.int32)
    neighbour[0] = np.arange(len(cells))
    for q in range(1, Q):
        ahead = index[tuple((cells + VELOCITIES[q]).T)]
        cut[q, (ahead < 0) & ~np.isfinite(cut[q])] = 0.5
        neighbour[q] = np.where(np.isfinite(cut[q]), -1, ahead)
    for q in range(1, Q):
        ahead = neighbour[q]
        back = cut[OPPOSITE[q], ahead]
        one_sided = (ahead >= 0) & np.isfinite(back)
        cut[q, one_sided] = 1.0 - back[one_sided]
        cut_patch[q, one_sided] = cut_patch[OPPOSITE[q], ahead[one_sided]]
        neighbour[q, one_sided] = -1
    direction, cell = np.nonzero(np.isfinite(cut))
    distance = np.clip(cut[direction, cell], 1e-3, 1.0)
    met = np.maximum(cut_patch[direction, cell], 0)
    return neighbour, cell, direction, distance, met


def _connected(lattice: SparseLattice) -> SparseLattice:
    """Keep the components that touch both an inlet and an outlet.

    Raises
    ------
    InputError
        If there is none.
    """
    label = _components(lattice)
    touches = {
        kind: np.unique(label[lattice.link_cell[np.isin(lattice.link_patch, numbers)]])
        for kind, numbers in {
            "inlet": [i for i, name in enumerate(lattice.names) if is_inlet(name)],
            "outlet": [i for i, name in enumerate(lattice.names) if is_outlet(name)],
        }.items()
    }
    both = np.intersect1d(touches["inlet"], touches["outlet"])
    if len(both) == 0:
        raise InputError(
            f"no inlet is connected to an outlet by fluid cells at {lattice.spacing_mm} mm; the "
            "passage is closed or narrower than a cell: choose a smaller --spacing-mm.",
            spacing_mm=lattice.spacing_mm,
        )
    return _select(lattice, np.isin(label, both))


def _components(lattice: SparseLattice) -> Int[np.ndarray, "cell"]:
    """Label face-connected fluid cells; links cut by a wall do not connect."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    number = len(lattice.cells)
    pairs = [(np.flatnonzero(n >= 0), n[n >= 0]) for n in lattice.neighbour[1:7:2]]
    rows = np.concatenate([a for a, _ in pairs])
    columns = np.concatenate([b for _, b in pairs])
    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(number, number))
    label: Int[np.ndarray, "cell"] = connected_components(graph, directed=False)[1]
    return label


def _select(lattice: SparseLattice, keep: Bool[np.ndarray, "cell"]) -> SparseLattice:
    number = np.full(len(keep) + 1, -1, dtype=np.int32)
    number[:-1][keep] = np.arange(keep.sum(), dtype=np.int32)
    link = keep[lattice.link_cell]
    neighbour = np.ascontiguousarray(number[lattice.neighbour[:, keep]])
    diagonal = _dropped_links(lattice, keep, neighbour)
    return SparseLattice(
        lattice.origin_mm,
        lattice.spacing_mm,
        lattice.shape,
        lattice.cells[keep],
        neighbour,
        np.concatenate([number[lattice.link_cell[link]], diagonal[1]]),
        np.concatenate([lattice.link_direction[link], diagonal[0]]),
        np.concatenate([lattice.link_distance[link], np.full(len(diagonal[0]), 0.5)]),
        np.concatenate([lattice.link_patch[link], np.zeros(len(diagonal[0]), np.int64)]),
        lattice.names,
    )


def _dropped_links(
    lattice: SparseLattice,
    keep: Bool[np.ndarray, "cell"],
    neighbour: Int[np.ndarray, "q cell"],
) -> tuple[Int[np.ndarray, "link"], Int[np.ndarray, "link"]]:
    """List links to cells that were dropped (met across an edge only): they become walls."""
    direction, cell = np.nonzero((lattice.neighbour[:, keep] >= 0) & (neighbour < 0))
    return direction, cell


def thin_gap_cells(lattice: SparseLattice) -> int:
    """Count fluid cells that have walls on both sides along an axis: gaps under two cells."""
    blocked = lattice.neighbour[1:7] < 0
    both = (blocked[0] & blocked[1]) | (blocked[2] & blocked[3]) | (blocked[4] & blocked[5])
    return int(both.sum())
