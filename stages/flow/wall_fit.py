"""Values and slopes at a wall from the cells in front of it.

Notes
-----
Around a point of the wall, with n the distance along the normal into the fluid and s, t along the wall,
a field that is known on the wall is fitted by

    f - f_wall = a n + b s + c t + d n^2 + e n s + f n t + g s^2 + h s t + i t^2

to the cells within 2.25 cells that links connect to the one in front, and to the known values where their
links cross the wall, by least squares weighted with (1 - r^2 / 2.25^2)^2. Parabolas are exact but for a small
weight of a straight profile, so slopes are of second order on curved walls, and in gaps of one or two cells
the crossings of the opposite wall complete the parabola. Only connected cells count: what lies behind a thin
wall is another passage.

A field that is not known on the wall is fitted by a plane to the same cells.

References
----------
.. [1] Lancaster & Salkauskas (1981), Math. Comput. 37, 141, doi:10.2307/2007507.
"""

from __future__ import annotations

import numba
import numpy as np
from jaxtyping import Float, Int

from stages.flow.lattice import VELOCITIES
from stages.flow.mesh import WALL
from stages.flow.voxels import SparseLattice
from stages.flow.wall_faces import WallFaces

_RADIUS_CELLS = 2.25
"""At 2.5 errors of smooth profiles are a third larger, at 2 spots appear where one layer of cells lies on the
wall and the next but one beyond reach."""
_RINGS = 2
_TERMS = 9
_RIDGE = 1e-7
"""Share of the mean of the normal equations' diagonal that is added to it where data are few."""
_CURVATURE_RIDGE = 0.003
"""Weight, in data, of a straight profile: decides only where a single layer of cells cannot tell slope from
curvature; at eight cells per diameter it moves the slope by 0.2 %."""
_JIT = {"cache": True, "fastmath": {"contract", "nsz", "arcp"}}


def wall_slopes(
    lattice: SparseLattice, faces: WallFaces, fields: Float[np.ndarray, "field cell"]
) -> Float[np.ndarray, "field face"]:
    """Return the slopes along the inward normal of fields that vanish on the wall, per mm.

    NaN where no fluid lies in front of the triangle.
    """
    links = _links_by_cell(lattice)
    slopes = np.full((len(faces.cell), len(fields)), np.nan)
    values = np.ascontiguousarray(fields.T, dtype=np.float64)
    _fit_slopes(*_tables(lattice, faces), *links, values, _VELOCITIES, slopes)
    return slopes.T / lattice.spacing_mm


def wall_values(
    lattice: SparseLattice, faces: WallFaces, field: Float[np.ndarray, "cell"]
) -> Float[np.ndarray, "face"]:
    """Return a field at the wall, extrapolated from the cells in front; NaN where there are none."""
    found = np.full(len(faces.cell), np.nan)
    _fit_values(*_tables(lattice, faces), field.astype(np.float64), _VELOCITIES, found)
    return found


_VELOCITIES = VELOCITIES.copy()


def _tables(
    lattice: SparseLattice, faces: WallFaces
) -> tuple[Int[np.ndarray, "q cell"], Int[np.ndarray, "cell 3"], *tuple[np.ndarray, ...]]:
    centres = (faces.centres_mm - lattice.origin_mm) / lattice.spacing_mm
    return lattice.neighbour, lattice.cells, centres, -faces.normal, faces.cell


def _links_by_cell(lattice: SparseLattice) -> tuple[np.ndarray, ...]:
    """Return the first wall link of each cell and its end, and direction and distance, by cell."""
    link = lattice.links_of(WALL)
    link = link[np.argsort(lattice.link_cell[link], kind="stable")]
    first = np.searchsorted(lattice.link_cell[link], np.arange(len(lattice.cells) + 1))
    distance = lattice.link_distance[link].astype(np.float64)
    return first, lattice.link_direction[link], distance


@numba.njit(**_JIT)  # type: ignore[untyped-decorator]
def _connected(neighbour, seed, velocities, found, ring):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """List the cells that two links connect to a seed; return their number.

    `ring` is a work array of the 5 x 5 x 5 places around the seed.
    """
    ring[:] = -1
    ring[62] = seed
    found[0] = seed
    count, start = 1, 0
    places = np.empty(125, dtype=np.int64)
    places[0] = 62
    for _ in range(_RINGS):
        end = count
        for k in range(start, end):
            for q in range(1, 19):
                ahead = neighbour[q, found[k]]
                place = places[k] + 25 * velocities[q, 0] + 5 * velocities[q, 1] + velocities[q, 2]
                if ahead >= 0 and ring[place] < 0:
                    ring[place] = ahead
                    found[count] = ahead
                    places[count] = place
                    count += 1
        start = end
    return count


@numba.njit(**_JIT)  # type: ignore[untyped-decorator]
def _frame(normal, axes):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Write a normal and two directions across it into the rows of `axes`."""
    least = 0
    for d in range(1, 3):
        if abs(normal[d]) < abs(normal[least]):
            least = d
    helper = np.zeros(3)
    helper[least] = 1.0
    axes[0] = normal
    axes[1] = np.cross(normal, helper)
    axes[1] /= np.sqrt(np.sum(axes[1] ** 2))
    axes[2] = np.cross(normal, axes[1])


@numba.njit(**_JIT)  # type: ignore[untyped-decorator]
def _terms(axes, offset, terms):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Write the nine terms of a place and return its weight, 0 beyond the radius."""
    square = offset[0] ** 2 + offset[1] ** 2 + offset[2] ** 2
    inside = 1.0 - square / _RADIUS_CELLS**2
    if inside <= 0.0:
        return 0.0
    n, s, t = 0.0, 0.0, 0.0
    for d in range(3):
        n += axes[0, d] * offset[d]
        s += axes[1, d] * offset[d]
        t += axes[2, d] * offset[d]
    terms[0], terms[1], terms[2] = n, s, t
    terms[3], terms[4], terms[5] = n * n, n * s, n * t
    terms[6], terms[7], terms[8] = s * s, s * t, t * t
    return inside * inside


@numba.njit(**_JIT)  # type: ignore[untyped-decorator]
def _add_normal(matrix, terms, weight):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Add a datum to the upper half of the normal equations."""
    if weight == 0.0:
        return
    for a in range(len(matrix)):
        share = weight * terms[a]
        for b in range(a, len(matrix)):
            matrix[a, b] += share * terms[b]


@numba.njit(**_JIT)  # type: ignore[untyped-decorator]
def _add_values(right, terms, weight, values):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Add a datum's values to the right-hand sides of the normal equations."""
    for a in range(len(right)):
        share = weight * terms[a]
        for v in range(len(values)):
            right[a, v] += share * values[v]


@numba.njit(**_JIT)  # type: ignore[untyped-decorator]
def _solve(matrix, right):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Solve the normal equations of which the upper half is given, by Cholesky's factors, in place."""
    size = len(matrix)
    ridge = _RIDGE * np.trace(matrix) / size + 1e-30
    for a in range(size):
        matrix[a, a] += ridge
        for k in range(a):
            matrix[a, a] -= matrix[k, a] ** 2
        matrix[a, a] = np.sqrt(max(matrix[a, a], 0.5 * ridge))
        for b in range(a + 1, size):
            for k in range(a):
                matrix[a, b] -= matrix[k, a] * matrix[k, b]
            matrix[a, b] /= matrix[a, a]
    for v in range(right.shape[1]):
        for a in range(size):
            for k in range(a):
                right[a, v] -= matrix[k, a] * right[k, v]
            right[a, v] /= matrix[a, a]
        for a in range(size - 1, -1, -1):
            for k in range(a + 1, size):
                right[a, v] -= matrix[a, k] * right[k, v]
            right[a, v] /= matrix[a, a]


@numba.njit(**_JIT)  # type: ignore[untyped-decorator]
def _fit_slopes(  # type: ignore[no-untyped-def] # noqa: ANN202
    neighbour,  # noqa: ANN001
    cells,  # noqa: ANN001
    centres,  # noqa: ANN001
    normals,  # noqa: ANN001
    seeds,  # noqa: ANN001
    first,  # noqa: ANN001
    direction,  # noqa: ANN001
    distance,  # noqa: ANN001
    values,  # noqa: ANN001
    velocities,  # noqa: ANN001
    slopes,  # noqa: ANN001
):
    found, ring = np.empty(125, dtype=np.int64), np.empty(125, dtype=np.int64)
    axes, terms, offset = np.empty((3, 3)), np.empty(_TERMS), np.empty(3)
    matrix = np.empty((_TERMS, _TERMS))
    right = np.empty((_TERMS, values.shape[1]))
    count, last = 0, -1
    # Triangles in front of one cell share its neighbours.
    for face in np.argsort(seeds, kind="mergesort"):
        if seeds[face] < 0:
            continue
        if seeds[face] != last:
            last = seeds[face]
            count = _connected(neighbour, last, velocities, found, ring)
        _frame(normals[face], axes)
        matrix[:] = 0.0
        right[:] = 0.0
        for k in range(count):
            cell = found[k]
            for d in range(3):
                offset[d] = cells[cell, d] - centres[face, d]
            weight = _terms(axes, offset, terms)
            if weight > 0.0:
                _add_normal(matrix, terms, weight)
                _add_values(right, terms, weight, values[cell])
            for w in range(first[cell], first[cell + 1]):
                for d in range(3):
                    way = velocities[direction[w], d] * distance[w]
                    offset[d] = cells[cell, d] - centres[face, d] + way
                _add_normal(matrix, terms, _terms(axes, offset, terms))
        for a in range(3, 6):
            matrix[a, a] += _CURVATURE_RIDGE
        _solve(matrix, right)
        slopes[face] = right[0]


@numba.njit(**_JIT)  # type: ignore[untyped-decorator]
def _fit_values(neighbour, cells, centres, normals, seeds, values, velocities, fitted):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    found, ring = np.empty(125, dtype=np.int64), np.empty(125, dtype=np.int64)
    axes, terms, offset = np.empty((3, 3)), np.empty(_TERMS), np.empty(3)
    plane = np.empty(4)
    matrix, right = np.empty((4, 4)), np.empty((4, 1))
    count, last = 0, -1
    # Triangles in front of one cell share its neighbours.
    for face in np.argsort(seeds, kind="mergesort"):
        if seeds[face] < 0:
            continue
        if seeds[face] != last:
            last = seeds[face]
            count = _connected(neighbour, last, velocities, found, ring)
        _frame(normals[face], axes)
        matrix[:] = 0.0
        right[:] = 0.0
        mean = values[seeds[face]]
        for k in range(count):
            for d in range(3):
                offset[d] = cells[found[k], d] - centres[face, d]
            weight = _terms(axes, offset, terms)
            if weight > 0.0:
                plane[0] = 1.0
                plane[1:] = terms[:3]
                _add_normal(matrix, plane, weight)
                right[:, 0] += weight * plane * (values[found[k]] - mean)
        _solve(matrix, right)
        fitted[face] = mean + right[0, 0]
