"""Where links of fluid cells cut the triangles of a surface."""

from __future__ import annotations

import numba
import numpy as np
from jaxtyping import Float, Int

from stages.flow.cell_table import CellTable, column_cells
from stages.flow.crossings import slab_range
from stages.flow.lattice import VELOCITIES, Q

_SLACK = 1e-9
_REACH = 1.01
"""Cells along an axis from a triangle to the centres whose links may cut it: one, and room for rounding."""


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _is_within(s, u, v, normal, c, distance):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Say whether a link cuts a triangle's plane within the triangle (Moller-Trumbore)."""
    p0, p1, p2 = s[0] + distance * c[0], s[1] + distance * c[1], s[2] + distance * c[2]
    scale = 1.0 / (normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2)
    beta = scale * (
        normal[0] * (p1 * v[2] - p2 * v[1])
        + normal[1] * (p2 * v[0] - p0 * v[2])
        + normal[2] * (p0 * v[1] - p1 * v[0])
    )
    gamma = scale * (
        normal[0] * (u[1] * p2 - u[2] * p1)
        + normal[1] * (u[2] * p0 - u[0] * p2)
        + normal[2] * (u[0] * p1 - u[1] * p0)
    )
    return beta >= -_SLACK and gamma >= -_SLACK and beta + gamma <= 1.0 + _SLACK


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _cut_cell(cell, s, u, v, normal, slope, velocities, number, cut, cut_patch):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Shorten the links of a cell, at s from the triangle's first corner, that the triangle cuts."""
    height = s[0] * normal[0] + s[1] * normal[1] + s[2] * normal[2]
    for q in range(1, 19):
        if slope[q] == 0.0:
            continue
        distance = -height / slope[q]
        if not -_SLACK <= distance <= 1.0 + _SLACK or distance >= cut[q, cell]:
            continue
        if _is_within(s, u, v, normal, velocities[q], distance):
            cut[q, cell] = distance
            cut_patch[q, cell] = number


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _nearest_cuts(triangles, patch, low, first, start, z, velocities, cut, cut_patch):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Keep for each link of a fluid cell the nearest triangle that cuts it."""
    slope, s = np.zeros(19), np.empty(3)
    u, v, normal = np.empty(3), np.empty(3), np.empty(3)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        for d in range(3):
            u[d], v[d] = b[d] - a[d], c[d] - a[d]
        normal[0] = u[1] * v[2] - u[2] * v[1]
        normal[1] = u[2] * v[0] - u[0] * v[2]
        normal[2] = u[0] * v[1] - u[1] * v[0]
        # a link is at most 1.414 cells long
        reach = 1.5 * np.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2)
        for q in range(1, 19):
            w = velocities[q]
            slope[q] = w[0] * normal[0] + w[1] * normal[1] + w[2] * normal[2]
        i0 = max(int(np.ceil(min(a[0], b[0], c[0]) - _REACH)), 0)
        i1 = min(int(np.floor(max(a[0], b[0], c[0]) + _REACH)), len(low) - 1)
        for i in range(i0, i1 + 1):
            y0, y1 = slab_range(a, b, c, 0, i - _REACH, i + _REACH, 1)
            z0, z1 = slab_range(a, b, c, 0, i - _REACH, i + _REACH, 2)
            if y0 > y1:
                continue
            k1 = z1 + _REACH
            s[0] = i - a[0]
            for j in range(int(np.ceil(y0 - _REACH)), int(np.floor(y1 + _REACH)) + 1):
                s[1] = j - a[1]
                k0 = int(np.ceil(z0 - _REACH))
                cell, end = column_cells(low, first, start, z, i, j, k0)
                while cell < end and z[cell] <= k1:
                    s[2] = z[cell] - a[2]
                    height = s[0] * normal[0] + s[1] * normal[1] + s[2] * normal[2]
                    if abs(height) <= reach:
                        _cut_cell(
                            cell, s, u, v, normal, slope, velocities, patch[t], cut, cut_patch
                        )
                    cell += 1


def nearest_cuts(
    triangles: Float[np.ndarray, "face 3 3"],
    patch: Int[np.ndarray, "face"],
    table: CellTable,
) -> tuple[Float[np.ndarray, "q cell"], Int[np.ndarray, "q cell"]]:
    """Return for each link of each cell where the surface cuts it first, in link lengths, and its patch.

    Links that no triangle cuts have infinity and -1.
    """
    number = len(table.z)
    cut = np.full((Q, number), np.inf, dtype=np.float32)
    cut_patch = np.full((Q, number), -1, dtype=np.int16)
    _nearest_cuts(
        *(triangles, patch, table.low, table.first, table.start, table.z),
        *(VELOCITIES.astype(np.float64), cut, cut_patch),
    )
    return cut, cut_patch
