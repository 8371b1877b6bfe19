"""Even out the vertices of a surface within it, and bring them back onto the original.

References
----------
Botsch & Kobbelt, A remeshing approach to multiresolution modeling, SGP 2004, doi:10.1145/1057432.1057457.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Float, Int

from stages.surface.corners import NONE, Table, ahead, behind, may_move, normal_of, swing
from stages.surface.mesh import Mesh, Points, normals_mm2
from stages.surface.projection import Nearest, Rim, nearest_on

FLAT_MM = 0.01
"""A patch of less depth is a cap on a plane; points of STL files lie within 1e-5 mm of it."""


@dataclass(frozen=True)
class Plain:
    """Hold the plane of a cap: a point and the unit normal."""

    centre_mm: Float[np.ndarray, "3"]
    normal: Float[np.ndarray, "3"]

    def nearest(self, points: Points) -> Points:
        """Return the nearest points on the plane."""
        height = (points - self.centre_mm) @ self.normal
        found: Points = points - height[:, None] * self.normal
        return found


@dataclass(frozen=True)
class Original:
    """Hold what vertices are brought back to: one support per patch, and the rims between them."""

    supports: list[Plain | Nearest]
    rim: Rim


def rim_of(table: Table) -> Rim:
    """Return the edges between patches."""
    start, end = _seams(table)
    return Rim(table.points[start], table.points[end])


def _seams(table: Table) -> tuple[Int[np.ndarray, "edge"], Int[np.ndarray, "edge"]]:
    """Return first and last vertex of the edges between patches, as the earlier patch passes them."""
    corner = np.arange(3 * int(table.used[1]))
    owner = table.label[corner // 3]
    seam = corner[(owner != NONE) & (owner < table.label[table.opposite[corner] // 3])]
    base = seam - seam % 3
    return table.vertex[base + (seam + 1) % 3], table.vertex[base + (seam + 2) % 3]


def support_of(mesh: Mesh) -> Plain | Nearest:
    """Return what a patch's vertices are brought back to."""
    normal = normals_mm2(mesh).sum(axis=0)
    plain = Plain(mesh.points.mean(axis=0), normal / max(float(np.linalg.norm(normal)), 1e-30))
    return plain if np.ptp(mesh.points @ plain.normal) < FLAT_MM else Nearest(mesh)


def relax(table: Table, original: Original) -> None:
    """Move vertices to the middle of their neighbours within the surface, back onto the original."""
    count = int(table.used[0])
    wanted, normal = _tangential(table)
    alive = table.corner[:count] != NONE
    patch = table.label[np.where(alive, table.corner[:count], 0) // 3]
    free = alive & (table.is_rim[:count] == 0)
    for index, support in enumerate(original.supports):
        mine = free & (patch == index)
        if isinstance(support, Plain):
            wanted[mine] = support.nearest(wanted[mine])
        else:
            wanted[mine] = nearest_on(support, wanted[mine], normal[mine])
    _move(table, np.flatnonzero(free), wanted)
    _relax_rims(table, original.rim)


def _relax_rims(table: Table, rim: Rim) -> None:
    """Move vertices between patches to the middle of their neighbours there, back onto the rim."""
    start, end = _seams(table)
    count = int(table.used[0])
    before, after = np.full(count, NONE), np.full(count, NONE)
    after[start], before[end] = end, start
    passes = np.bincount(start, minlength=count)
    mine = np.flatnonzero((passes == 1) & (before != NONE))
    ahead_of, behind_of = table.points[after[mine]], table.points[before[mine]]
    wanted = table.points[:count].copy()
    wanted[mine] = rim.nearest(0.5 * (ahead_of + behind_of), ahead_of - behind_of)
    _move(table, mine, wanted)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _tangential(t: Table) -> tuple[np.ndarray, np.ndarray]:
    """Return for each vertex its neighbours' mean within its tangent plane, and its normal."""
    count = t.used[0]
    wanted, normals = t.points[:count].copy(), np.zeros((count, 3))
    for v in range(count):
        start = t.corner[v]
        if start == NONE:
            continue
        mean, normal = np.zeros(3), np.zeros(3)
        c, total = start, 0
        while True:
            b, d = t.points[t.vertex[ahead(c)]], t.points[t.vertex[behind(c)]]
            n = normal_of(t.points[v], b, d)
            normal[0] += n[0]
            normal[1] += n[1]
            normal[2] += n[2]
            mean += b
            total += 1
            c = swing(t.opposite, c)
            if c == start:
                break
        normals[v] = normal / max(np.sqrt((normal**2).sum()), 1e-30)
        way = mean / total - t.points[v]
        wanted[v] += way - (way * normals[v]).sum() * normals[v]
    return wanted, normals


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _move(t: Table, vertices: np.ndarray, wanted: np.ndarray) -> None:
    for v in vertices:
        if may_move(t, v, wanted[v], -2, -2):
            t.points[v] = wanted[v]
