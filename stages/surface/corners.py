"""A closed triangle mesh as a table of corners, and the three operations that change its triangles.

Corner ``c`` is vertex ``c % 3`` of face ``c // 3``; ``opposite[c]`` is the corner that faces it across the
edge opposite to it. The table is always closed: every operation keeps that.

References
----------
Rossignac, Safonova & Szymczak, 3D compression made simple: Edgebreaker on a corner table, SMI 2001,
doi:10.1109/SMA.2001.923399.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from jaxtyping import Float, Int

from stages.surface.mesh import Faces, Mesh, Points

NONE = -1

LEAST_VALENCE = 4
"""Vertices opposite to a collapsed edge lose a neighbour and must keep three."""

LEAST_COSINE = 0.7
"""A triangle's normal may turn by 45 degrees in one operation: shape stays, and no triangle turns over."""

LEAST_SHAPE = 0.02
"""Twice the area over the longest edge squared: operations leave no needles."""


class Table(NamedTuple):
    """Hold the corner table; arrays are longer than what is used of them.

    Parameters
    ----------
    points
        Vertices, mm.
    vertex
        Vertex of each corner.
    opposite
        Opposite corner of each corner.
    label
        Patch of each face, `NONE` where the face is gone.
    corner
        One corner of each vertex, `NONE` where the vertex is gone.
    valence
        Number of neighbours of each vertex.
    size_mm
        Target length of edges at each vertex.
    is_rim
        Whether the vertex lies between patches.
    used
        Number of vertices and of faces.
    """

    points: Float[np.ndarray, "vertex 3"]
    vertex: Int[np.ndarray, "corner"]
    opposite: Int[np.ndarray, "corner"]
    label: Int[np.ndarray, "face"]
    corner: Int[np.ndarray, "vertex"]
    valence: Int[np.ndarray, "vertex"]
    size_mm: Float[np.ndarray, "vertex"]
    is_rim: Int[np.ndarray, "vertex"]
    used: Int[np.ndarray, "2"]


def table_of(mesh: Mesh, label: Int[np.ndarray, "face"], size_mm: float) -> Table:
    """Build the table of a closed mesh; vertices at which sheets only touch become two."""
    points, faces = _without_pinches(mesh)
    opposite = _opposite(faces)
    vertex = faces.ravel().astype(np.int64)
    corner = np.full(len(points), NONE)
    corner[vertex] = np.arange(len(vertex))
    owner = np.repeat(label, 3)
    rim = np.zeros(len(points), dtype=np.int64)
    seam = np.flatnonzero(owner != owner[opposite])
    for ahead in (1, 2):
        rim[vertex[seam - seam % 3 + (seam + ahead) % 3]] = 1
    return Table(
        points.copy(),
        vertex,
        opposite,
        label.astype(np.int64),
        corner,
        np.bincount(vertex, minlength=len(points)),
        np.full(len(points), size_mm),
        rim,
        np.array([len(points), len(faces)]),
    )


def _opposite(faces: Faces) -> Int[np.ndarray, "corner"]:
    start, end = np.roll(faces, -1, axis=1).ravel(), np.roll(faces, -2, axis=1).ravel()
    count = int(faces.max()) + 1
    own, other = start * count + end, end * count + start
    order = np.argsort(own)
    found: Int[np.ndarray, "corner"] = order[np.searchsorted(own[order], other)]
    return found


def _without_pinches(mesh: Mesh) -> tuple[Points, Faces]:
    """Give each fan of triangles around a vertex a vertex of its own."""
    vertex = mesh.faces.ravel()
    fan = _fans(_opposite(mesh.faces))
    first, index = np.unique(fan, return_inverse=True)
    return mesh.points[vertex[first]], index.reshape(-1, 3)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _fans(opposite: np.ndarray) -> np.ndarray:
    """Return for each corner the least corner of the fan around its vertex."""
    fan = np.full(len(opposite), -1)
    for start in range(len(opposite)):
        if fan[start] < 0:
            c = start
            while fan[c] < 0:
                fan[c] = start
                c = swing(opposite, c)
    return fan


def mesh_of(table: Table) -> tuple[Mesh, Int[np.ndarray, "face"]]:
    """Return the faces that are left and their patches."""
    vertices, faces = table.used
    label = table.label[:faces]
    corners = table.vertex[: 3 * faces].reshape(-1, 3)[label != NONE]
    used, index = np.unique(corners, return_inverse=True)
    return Mesh(table.points[:vertices][used], index.reshape(-1, 3)), label[label != NONE]


def grown(table: Table, vertices: int, faces: int) -> Table:
    """Return the table with room for more vertices and faces."""

    def longer(array: np.ndarray, count: int, fill: float) -> np.ndarray:
        more = np.full((max(count - len(array), 0), *array.shape[1:]), fill, dtype=array.dtype)
        return np.concatenate([array, more])

    return Table(
        longer(table.points, vertices, 0.0),
        longer(table.vertex, 3 * faces, NONE),
        longer(table.opposite, 3 * faces, NONE),
        longer(table.label, faces, NONE),
        longer(table.corner, vertices, NONE),
        longer(table.valence, vertices, 0),
        longer(table.size_mm, vertices, 0.0),
        longer(table.is_rim, vertices, 0),
        table.used,
    )


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def ahead(c: int) -> int:
    """Return the next corner of the face."""
    return c - 2 if c % 3 == 2 else c + 1


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def behind(c: int) -> int:
    """Return the previous corner of the face."""
    return c + 2 if c % 3 == 0 else c - 1


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def swing(opposite: np.ndarray, c: int) -> int:
    """Return the corner of the neighbouring face at the same vertex."""
    there: int = ahead(opposite[ahead(c)])
    return there


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _join(opposite: np.ndarray, c: int, d: int) -> None:
    opposite[c] = d
    opposite[d] = c


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _set_face(t: Table, f: int, a: int, b: int, c: int) -> None:
    t.vertex[3 * f], t.vertex[3 * f + 1], t.vertex[3 * f + 2] = a, b, c
    t.corner[a], t.corner[b], t.corner[c] = 3 * f, 3 * f + 1, 3 * f + 2


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def is_seam(t: Table, c: int) -> bool:
    """Say whether the edge opposite to a corner separates patches."""
    return bool(t.label[c // 3] != t.label[t.opposite[c] // 3])


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def are_neighbours(t: Table, a: int, b: int) -> bool:
    """Say whether an edge joins two vertices."""
    start = t.corner[a]
    c = start
    while True:
        if t.vertex[ahead(c)] == b:
            return True
        c = swing(t.opposite, c)
        if c == start:
            return False


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def normal_of(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[float, float, float]:
    """Return twice the area vector of a triangle."""
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    return uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the distance of two points."""
    return float(np.sqrt((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2))


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def shape_of(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    """Return twice the area over the longest edge squared: 0.87 if equilateral, 0 if degenerate."""
    n = normal_of(a, b, c)
    longest = max(distance(a, b), distance(b, c), distance(c, a))
    size = np.sqrt(n[0] ** 2 + n[1] ** 2 + n[2] ** 2)
    return float(size / longest**2) if longest > 0 else 0.0


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def faces_along(
    n: tuple[float, float, float], a: np.ndarray, b: np.ndarray, c: np.ndarray, cosine: float
) -> bool:
    """Say whether a triangle's normal is near a given one."""
    m = normal_of(a, b, c)
    size = np.sqrt(m[0] ** 2 + m[1] ** 2 + m[2] ** 2)
    given = np.sqrt(n[0] ** 2 + n[1] ** 2 + n[2] ** 2)
    return bool(n[0] * m[0] + n[1] * m[1] + n[2] * m[2] >= cosine * given * size)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def may_move(t: Table, v: int, to: np.ndarray, skip_a: int, skip_b: int) -> bool:
    """Say whether the faces around a vertex, two left out, stay sound if it moves."""
    start = t.corner[v]
    c = start
    while True:
        if c // 3 not in (skip_a, skip_b):
            b, d = t.points[t.vertex[ahead(c)]], t.points[t.vertex[behind(c)]]
            shape = min(shape_of(t.points[v], b, d), LEAST_SHAPE)
            if shape_of(to, b, d) < shape:
                return False
            if not faces_along(normal_of(t.points[v], b, d), to, b, d, LEAST_COSINE):
                return False
        c = swing(t.opposite, c)
        if c == start:
            return True


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def flip(t: Table, c: int) -> None:
    """Turn the edge opposite to a corner."""
    o = t.opposite[c]
    f, g = c // 3, o // 3
    a, b, d, e = t.vertex[c], t.vertex[ahead(c)], t.vertex[behind(c)], t.vertex[o]
    ab, da = t.opposite[behind(c)], t.opposite[ahead(c)]
    be, ed = t.opposite[ahead(o)], t.opposite[behind(o)]
    _set_face(t, f, a, b, e)
    _set_face(t, g, a, e, d)
    _join(t.opposite, 3 * f, be)
    _join(t.opposite, 3 * f + 1, 3 * g + 2)
    _join(t.opposite, 3 * f + 2, ab)
    _join(t.opposite, 3 * g, ed)
    _join(t.opposite, 3 * g + 1, da)
    t.valence[a] += 1
    t.valence[e] += 1
    t.valence[b] -= 1
    t.valence[d] -= 1


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def split(t: Table, c: int) -> None:
    """Put a vertex in the middle of the edge opposite to a corner; there must be room."""
    o = t.opposite[c]
    f, g = c // 3, o // 3
    a, b, d, e = t.vertex[c], t.vertex[ahead(c)], t.vertex[behind(c)], t.vertex[o]
    ab, da = t.opposite[behind(c)], t.opposite[ahead(c)]
    be, ed = t.opposite[ahead(o)], t.opposite[behind(o)]
    m, h, k = t.used[0], t.used[1], t.used[1] + 1
    t.is_rim[m] = 1 if is_seam(t, c) else 0
    t.points[m] = 0.5 * (t.points[b] + t.points[d])
    t.size_mm[m] = 0.5 * (t.size_mm[b] + t.size_mm[d])
    t.used[0] += 1
    t.used[1] += 2
    t.label[h], t.label[k] = t.label[f], t.label[g]
    _set_face(t, f, a, b, m)
    _set_face(t, h, a, m, d)
    _set_face(t, g, e, d, m)
    _set_face(t, k, e, m, b)
    _join(t.opposite, 3 * f, 3 * k)
    _join(t.opposite, 3 * f + 1, 3 * h + 2)
    _join(t.opposite, 3 * f + 2, ab)
    _join(t.opposite, 3 * h, 3 * g)
    _join(t.opposite, 3 * h + 1, da)
    _join(t.opposite, 3 * g + 1, 3 * k + 2)
    _join(t.opposite, 3 * g + 2, ed)
    _join(t.opposite, 3 * k + 1, be)
    t.valence[m] = 4
    t.valence[a] += 1
    t.valence[e] += 1


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def collapse(t: Table, c: int) -> None:
    """Draw the vertex after a corner into the one before it, along the edge opposite to the corner."""
    o = t.opposite[c]
    gone, kept = t.vertex[ahead(c)], t.vertex[behind(c)]
    a, e = t.vertex[c], t.vertex[o]
    start = ahead(c)
    i = start
    while True:
        t.vertex[i] = kept
        i = swing(t.opposite, i)
        if i == start:
            break
    outer = (
        t.opposite[ahead(c)],
        t.opposite[behind(c)],
        t.opposite[ahead(o)],
        t.opposite[behind(o)],
    )
    _join(t.opposite, outer[0], outer[1])
    _join(t.opposite, outer[2], outer[3])
    t.corner[kept], t.corner[a] = behind(outer[0]), ahead(outer[0])
    t.corner[e] = ahead(outer[2])
    t.label[c // 3] = t.label[o // 3] = NONE
    t.corner[gone] = NONE
    t.valence[kept] += t.valence[gone] - 4
    t.valence[a] -= 1
    t.valence[e] -= 1
