"""Give a closed surface triangles of one edge length; patches keep their planes and shared rims.

References
----------
Botsch & Kobbelt, A remeshing approach to multiresolution modeling, SGP 2004, doi:10.1145/1057432.1057457.
"""

from __future__ import annotations

import numba
import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from pipeline.core.errors import NumericalError
from stages.surface.corners import (
    LEAST_SHAPE,
    LEAST_VALENCE,
    NONE,
    Table,
    ahead,
    are_neighbours,
    behind,
    collapse,
    distance,
    faces_along,
    flip,
    grown,
    is_seam,
    may_move,
    mesh_of,
    normal_of,
    shape_of,
    split,
    swing,
    table_of,
)
from stages.surface.intersections import self_intersections
from stages.surface.mesh import Mesh, area_mm2, join, normals_mm2, volume_mm3
from stages.surface.relaxation import Original, relax, rim_of, support_of

LONGEST, SHORTEST = 4.0 / 3.0, 4.0 / 5.0
"""Edges outside these multiples of the target are split or collapsed: neither undoes the other."""

ROUNDS = 6
"""Rounds of split, collapse, flip and relaxation; Botsch & Kobbelt take 5 to 10."""

ATTEMPTS = 6
"""Where triangles cross, the target is halved around them, at most this often."""

REGULAR = 6
"""Neighbours of a vertex in a regular triangulation."""

VOLUME_STEPS = 3


def remesh_patches(patches: dict[str, Mesh], target_edge_mm: float) -> dict[str, Mesh]:
    """Remesh patches that are closed together; rims stay shared and on their planes.

    Parameters
    ----------
    patches
        ``wall``, and the inlets and outlets.
    target_edge_mm
        Edge length wished for. Where walls are thinner than that would show, edges are shorter.

    Raises
    ------
    NumericalError
        If triangles still cross after the target was halved around them several times.

    Notes
    -----
    Chords cut corners off a curved wall: in the end the wall is moved along its normals by the same
    small distance everywhere, so that the enclosed volume is what it was.
    """
    whole, label = _labelled(patches)
    wall = list(patches).index("wall")
    start = table_of(whole, label, target_edge_mm)
    original = Original([support_of(mesh) for mesh in patches.values()], rim_of(start))
    for _ in range(ATTEMPTS):
        mesh, found = mesh_of(_rounds(_copy(start), original))
        mesh = _with_volume(mesh, found == wall, volume_mm3(whole))
        parts = {name: mesh.part(found == i) for i, name in enumerate(patches)}
        rounded = join([_as_stored(part) for part in parts.values()])
        pairs = self_intersections(rounded)
        if len(pairs) == 0:
            return parts
        # From the start again: what is folded once is not unfolded by finer triangles.
        crossing = rounded.points[rounded.faces[np.unique(pairs)]].reshape(-1, 3)
        _refine_near(start, crossing, target_edge_mm)
    raise NumericalError(
        f"Triangles of {target_edge_mm:g} mm cross where walls are thin; use a smaller target_edge_mm."
    )


def _labelled(patches: dict[str, Mesh]) -> tuple[Mesh, Int[np.ndarray, "face"]]:
    label = np.repeat(np.arange(len(patches)), [len(mesh.faces) for mesh in patches.values()])
    return join(list(patches.values())), label


def _as_stored(mesh: Mesh) -> Mesh:
    return Mesh(mesh.points.astype(np.float32).astype(np.float64), mesh.faces)


def _copy(table: Table) -> Table:
    return Table(*(array.copy() for array in table))


def _rounds(table: Table, original: Original) -> Table:
    for _ in range(ROUNDS):
        while True:
            vertices, faces = (int(n) for n in table.used)
            table = grown(table, 2 * vertices, 2 * faces)
            # Caps start as needles across the opening: flips between splits keep them from multiplying.
            if split_long(table) == 0:
                break
            flip_for_angles(table)
        collapse_short(table)
        flip_for_valence(table)
        relax(table, original)
    flip_for_angles(table)
    return table


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def split_long(t: Table) -> int:
    """Split edges that are too long and the longest of both their triangles; return how many."""
    count = 0
    for f in range(t.used[1]):
        if t.label[f] == NONE or t.used[0] + 1 > len(t.points) or t.used[1] + 2 > len(t.label):
            continue
        c = _faces_longest(t, f)
        b, d = t.vertex[ahead(c)], t.vertex[behind(c)]
        length = distance(t.points[b], t.points[d])
        if length > LONGEST * min(t.size_mm[b], t.size_mm[d]):
            o = _faces_longest(t, t.opposite[c] // 3)
            ends = t.points[t.vertex[ahead(o)]], t.points[t.vertex[behind(o)]]
            if distance(ends[0], ends[1]) <= length:
                split(t, c)
                count += 1
    return count


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _faces_longest(t: Table, f: int) -> int:
    """Return the corner opposite to a face's longest edge."""
    best, longest = 3 * f, -1.0
    for c in range(3 * f, 3 * f + 3):
        length = distance(t.points[t.vertex[ahead(c)]], t.points[t.vertex[behind(c)]])
        if length > longest:
            best, longest = c, length
    return best


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def collapse_short(t: Table) -> int:
    """Collapse edges that are too short where shape, rims and topology allow; return how many."""
    count = 0
    for c in range(3 * t.used[1]):
        if t.label[c // 3] == NONE:
            continue
        b, d = t.vertex[ahead(c)], t.vertex[behind(c)]
        size = min(t.size_mm[b], t.size_mm[d])
        if distance(t.points[b], t.points[d]) < SHORTEST * size and _may_collapse(t, c, size):
            collapse(t, c)
            count += 1
    return count


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _may_collapse(t: Table, c: int, size_mm: float) -> bool:
    """Say whether the vertex after a corner may go to the one before it."""
    o = t.opposite[c]
    gone, kept = t.vertex[ahead(c)], t.vertex[behind(c)]
    if t.is_rim[gone] and not is_seam(t, c):
        return False
    if t.valence[t.vertex[c]] < LEAST_VALENCE or t.valence[t.vertex[o]] < LEAST_VALENCE:
        return False
    common = 0
    start = t.corner[gone]
    i = start
    while True:
        other = t.vertex[ahead(i)]
        if other != kept:
            if distance(t.points[other], t.points[kept]) > LONGEST * size_mm:
                return False
            if are_neighbours(t, other, kept):
                common += 1
        i = swing(t.opposite, i)
        if i == start:
            break
    return common == 2 and may_move(t, gone, t.points[kept], c // 3, o // 3)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _may_flip(t: Table, c: int) -> bool:
    if t.label[c // 3] == NONE or is_seam(t, c):
        return False
    o = t.opposite[c]
    a, b, d, e = t.vertex[c], t.vertex[ahead(c)], t.vertex[behind(c)], t.vertex[o]
    if t.valence[b] < LEAST_VALENCE or t.valence[d] < LEAST_VALENCE or are_neighbours(t, a, e):
        return False
    p = t.points
    n, m = normal_of(p[a], p[b], p[d]), normal_of(p[e], p[d], p[b])
    mean = n[0] + m[0], n[1] + m[1], n[2] + m[2]
    shape = min(shape_of(p[a], p[b], p[d]), shape_of(p[e], p[d], p[b]), LEAST_SHAPE)
    for x, y in ((b, e), (e, d)):
        if shape_of(p[a], p[x], p[y]) < shape:
            return False
        if not faces_along(mean, p[a], p[x], p[y], FLAT):
            return False
    return True


FLAT = 0.9
"""Cosine between a flipped triangle and the mean of the two: a flip over a ridge would cut it off."""


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def flip_for_valence(t: Table) -> int:
    """Flip edges so that vertices come nearer to six neighbours; return how many."""
    count = 0
    for c in range(3 * t.used[1]):
        if t.label[c // 3] == NONE:
            continue
        a, e = t.valence[t.vertex[c]], t.valence[t.vertex[t.opposite[c]]]
        b, d = t.valence[t.vertex[ahead(c)]], t.valence[t.vertex[behind(c)]]
        before = abs(a - REGULAR) + abs(e - REGULAR) + abs(b - REGULAR) + abs(d - REGULAR)
        after = (
            abs(a + 1 - REGULAR)
            + abs(e + 1 - REGULAR)
            + abs(b - 1 - REGULAR)
            + abs(d - 1 - REGULAR)
        )
        if after < before and _may_flip(t, c):
            flip(t, c)
            count += 1
    return count


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def flip_for_angles(t: Table) -> int:
    """Flip edges whose opposite angles exceed 180 degrees together (Delaunay); return how many."""
    count = 0
    for _ in range(3):
        for c in range(3 * t.used[1]):
            if t.label[c // 3] == NONE:
                continue
            o = t.opposite[c]
            p, b, d = t.points, t.vertex[ahead(c)], t.vertex[behind(c)]
            one, other = p[t.vertex[c]], p[t.vertex[o]]
            if _cotangent(one, p[b], p[d]) + _cotangent(other, p[b], p[d]) < -1e-6 and _may_flip(
                t, c
            ):
                flip(t, c)
                count += 1
    return count


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _cotangent(at: np.ndarray, b: np.ndarray, d: np.ndarray) -> float:
    """Return the cotangent of an angle: two angles exceed 180 degrees if theirs sum below 0."""
    n = normal_of(at, b, d)
    inner = 0.0
    for i in range(3):
        inner += (b[i] - at[i]) * (d[i] - at[i])
    return float(inner / max(np.sqrt(n[0] ** 2 + n[1] ** 2 + n[2] ** 2), 1e-30))


def _with_volume(mesh: Mesh, on_wall: np.ndarray, target_mm3: float) -> Mesh:
    """Move the wall's inner vertices along their normals until the volume is the target's."""
    points = mesh.points.copy()
    fixed = np.zeros(len(points), dtype=bool)
    fixed[mesh.faces[~on_wall]] = True
    for _ in range(VOLUME_STEPS):
        now = Mesh(points, mesh.faces)
        lacking = target_mm3 - volume_mm3(now)
        area = normals_mm2(now)
        normal = np.zeros_like(points)
        for i in range(3):
            np.add.at(normal, mesh.faces[:, i], area)
        normal[fixed] = 0.0
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
        points = points + lacking / area_mm2(now.part(on_wall)) * normal
    return Mesh(points, mesh.faces)


def _refine_near(
    table: Table, points_mm: Float[np.ndarray, "point 3"], target_edge_mm: float
) -> None:
    """Halve the target at vertices near places, within twice the target length."""
    count = int(table.used[0])
    away, _ = cKDTree(points_mm).query(table.points[:count])
    near = away < 2.0 * target_edge_mm
    table.size_mm[:count][near] *= 0.5
