"""Where lines along x cross a closed surface, and the cells between the crossings.

Notes
-----
A cell is fluid if the surface is crossed an odd number of times before it. Only crossings and the runs of
fluid between them are held, so that memory goes with the surface and the fluid, not with their bounding box.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numba
import numpy as np
from jaxtyping import Bool, Float, Int

if TYPE_CHECKING:
    from stages.flow.mesh import PatchedSurface

_MARGIN = 0.01
"""Widening, in cells, of the lines that may meet a triangle, far above rounding; `_crossing` decides."""


@dataclass(frozen=True)
class Crossings:
    """Hold the crossings of the lines through cell centres along x, line by line and along each line.

    Parameters
    ----------
    shape
        Cells of the box along x, y, z.
    line
        Number of the line, y * shape[2] + z.
    beyond
        First cell beyond the crossing.
    face
        The triangle crossed.
    side
        1 where the triangle's normal points along +x, -1 where against it.
    """

    shape: tuple[int, int, int]
    line: Int[np.ndarray, "crossing"]
    beyond: Int[np.ndarray, "crossing"]
    face: Int[np.ndarray, "crossing"]
    side: Int[np.ndarray, "crossing"]


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
    """Return where the line along x through (y, z) meets a triangle, NaN if it does not, and its side."""
    normal_x = (b[1] - a[1]) * (c[2] - a[2]) - (b[2] - a[2]) * (c[1] - a[1])
    if normal_x == 0.0:
        return np.nan, 0
    e0 = _edge_side(a[1], a[2], b[1], b[2], y, z)
    e1 = _edge_side(b[1], b[2], c[1], c[2], y, z)
    e2 = _edge_side(c[1], c[2], a[1], a[2], y, z)
    if e0 != e1 or e1 != e2 or e0 == 0:
        return np.nan, 0
    normal_y = (b[2] - a[2]) * (c[0] - a[0]) - (b[0] - a[0]) * (c[2] - a[2])
    normal_z = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    x = a[0] - (normal_y * (y - a[1]) + normal_z * (z - a[2])) / normal_x
    low, high = min(a[0], b[0], c[0]), max(a[0], b[0], c[0])
    return min(max(x, low), high), e0


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def slab_range(a, b, c, along, low, high, across):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    """Return the extent on one axis of the part of a triangle that lies in a slab of another axis."""
    least, most = np.inf, -np.inf
    for edge in range(3):
        p = a if edge == 0 else (b if edge == 1 else c)
        q = b if edge == 0 else (c if edge == 1 else a)
        if p[along] > q[along]:
            p, q = q, p
        if q[along] < low or p[along] > high:
            continue
        span = q[along] - p[along]
        t0 = (low - p[along]) / span if p[along] < low else 0.0
        t1 = (high - p[along]) / span if q[along] > high else 1.0
        first = p[across] + t0 * (q[across] - p[across])
        last = p[across] + t1 * (q[across] - p[across])
        least, most = min(least, first, last), max(most, first, last)
    return least, most


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _write_crossings(triangles, shape, key, face, side):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Write the crossings as long as there is room and return how many there are."""
    nx, ny, nz = shape
    number = 0
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        y0 = max(int(np.ceil(min(a[1], b[1], c[1]))), 0)
        y1 = min(int(np.floor(max(a[1], b[1], c[1]))), ny - 1)
        for j in range(y0, y1 + 1):
            low, high = slab_range(a, b, c, 1, j - _MARGIN, j + _MARGIN, 2)
            if low > high:
                continue
            z0 = max(int(np.ceil(low - _MARGIN)), 0)
            z1 = min(int(np.floor(high + _MARGIN)), nz - 1)
            for k in range(z0, z1 + 1):
                x, sign = _crossing(a, b, c, float(j), float(k))
                if sign == 0 or not np.isfinite(x):
                    continue
                if number < len(key):
                    first = min(max(int(np.floor(x)) + 1, 0), nx - 1)
                    key[number] = (np.int64(j) * nz + k) * nx + first
                    face[number], side[number] = t, sign
                number += 1
    return number


def find_crossings(
    triangles: Float[np.ndarray, "face 3 3"], shape: tuple[int, int, int]
) -> Crossings:
    """Find where the lines through cell centres along x cross triangles given in cells."""
    none = np.empty(0, dtype=np.int64)
    number = _write_crossings(triangles, shape, none, none.astype(np.int32), none.astype(np.int8))
    key = np.empty(number, dtype=np.int64)
    face, side = np.empty(number, dtype=np.int32), np.empty(number, dtype=np.int8)
    _write_crossings(triangles, shape, key, face, side)
    order = np.argsort(key, kind="stable")
    key = key[order]
    line = key // shape[0]
    beyond = (key - line * shape[0]).astype(np.int32)
    return Crossings(shape, line, beyond, face[order], side[order])


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _count_runs(line, beyond, nx, slab):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Count the fluid cells of each slab of equal x."""
    e = 0
    while e < len(line):
        paired = e + 1 < len(line) and line[e + 1] == line[e]
        for i in range(beyond[e], beyond[e + 1] if paired else nx):
            slab[i] += 1
        e += 2 if paired else 1


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _write_runs(line, beyond, shape, place, cells):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Write the fluid cells, `place` being where each slab begins: lines come in order, so cells do."""
    nx, nz = shape[0], shape[2]
    e = 0
    while e < len(line):
        paired = e + 1 < len(line) and line[e + 1] == line[e]
        for i in range(beyond[e], beyond[e + 1] if paired else nx):
            row = cells[place[i]]
            row[0], row[1], row[2] = i, line[e] // nz, line[e] % nz
            place[i] += 1
        e += 2 if paired else 1


def count_inside(crossings: Crossings) -> Int[np.ndarray, "x"]:
    """Return the number of cells inside the surface in each slab of equal x."""
    slab = np.zeros(crossings.shape[0], dtype=np.int64)
    _count_runs(crossings.line, crossings.beyond, crossings.shape[0], slab)
    return slab


def cells_inside(crossings: Crossings, slab: Int[np.ndarray, "x"]) -> Int[np.ndarray, "cell 3"]:
    """Return the cells (x, y, z) inside the surface in order of x, then y, then z."""
    cells = np.empty((int(slab.sum()), 3), dtype=np.int64)
    place = np.cumsum(slab) - slab
    _write_runs(crossings.line, crossings.beyond, crossings.shape, place, cells)
    return cells


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _count_beyond(triangles, of_face, points, of_point, parity):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Flip the parity of points, sorted by y, for each crossing beyond of a shell but their own."""
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        y0, y1 = min(a[1], b[1], c[1]), max(a[1], b[1], c[1])
        z0, z1 = min(a[2], b[2], c[2]), max(a[2], b[2], c[2])
        for p in range(np.searchsorted(points[:, 1], y0), points.shape[0]):
            y, z = points[p, 1], points[p, 2]
            if y > y1:
                break
            if not z0 <= z <= z1 or of_point[p] == of_face[t]:
                continue
            if _crossing(a, b, c, y, z)[0] > points[p, 0]:
                parity[p] ^= 1


def points_within(
    triangles: Float[np.ndarray, "face 3 3"],
    of_face: Int[np.ndarray, "face"],
    points: Float[np.ndarray, "point 3"],
    of_point: Int[np.ndarray, "point"],
) -> Bool[np.ndarray, "point"]:
    """Return which points lie within the shells but their own, by parity of crossings along x."""
    order = np.argsort(points[:, 1], kind="stable")
    parity = np.zeros(len(points), dtype=np.uint8)
    _count_beyond(triangles, of_face, points[order], of_point[order], parity)
    within = np.empty(len(points), dtype=bool)
    within[order] = parity
    return within


def points_inside(
    surface: PatchedSurface, points_mm: Float[np.ndarray, "point 3"]
) -> Bool[np.ndarray, "point"]:
    """Return which world points lie inside a closed surface."""
    none = np.full(len(points_mm), -1, dtype=np.int64)
    of_face = surface.shells.of_face.astype(np.int64)
    return points_within(surface.triangles_mm, of_face, points_mm, none)
