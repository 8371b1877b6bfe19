"""Lines along the mean flow from the inlets, in proportion to what each carries.

Notes
-----
Lines start half a cell inside the inlets, at points that cut each inlet's flow into equal parts along a curve
that fills it, so that every line stands for the same flow. They follow the velocity interpolated between
cells, with the values beyond walls that make it vanish there, by the pair of Dormand and Prince with an
adaptive step. A line ends in an outlet, where it stands still, or when it has become too long.

Interpolated velocities are not exactly parallel to walls that cut cells, so that lines would end in them: at
cells of 0.7 mm 30 % did in a nose. A line that comes closer to a wall than a fifth of a cell is moved back to
that distance, at right angles to the wall.

References
----------
.. [1] Dormand & Prince (1980), J. Comput. Appl. Math. 6, 19, doi:10.1016/0771-050X(80)90013-3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Bool, Float, Int

from stages.flow.lattice import VELOCITIES
from stages.flow.mesh import WALL, is_outlet
from stages.flow.openings import Opening
from stages.flow.readings import patch_points
from stages.flow.sampling import NodeTable
from stages.flow.voxels import SparseLattice

_SEED_DEPTH = 0.5
"""Cells inside an inlet at which lines start."""
_SAMPLES_PER_CELL = 6
_TOLERANCE = 1e-4
"""Largest error of a step in cells."""
_LONGEST_STEP = 0.5
"""Longest step in cells: the interpolated velocity has kinks at cell centres."""
_KEPT_EVERY = 0.5
"""Distance between kept points in cells."""
_MOST_POINTS = 8_000
_SLOWEST = 1e-5
"""Share of the largest velocity below which a line stands still."""
_NEAREST, _LONGEST_MOVE = 0.2, 0.3
"""Distance that lines keep from walls, and the longest move back, in cells."""
_FAR = 1.5
"""Distance in cells that stands for all larger ones."""
_JIT = {"cache": True, "fastmath": {"contract", "nsz", "arcp"}}


@dataclass(frozen=True)
class Streamlines:
    """Hold lines along the flow, one after the other.

    Parameters
    ----------
    points_mm
        Points of all lines, world LPS, mm.
    time_s
        Time since the inlet.
    velocity_m_s, pressure_pa
        The flow at the points.
    first
        First point of each line, and the end, (line + 1).
    inlet
        Number of the inlet from which each line comes.
    inlets
        Their names.
    reached
        Whether each line ends in an outlet.
    temperature_c
        Temperature at the points, degrees C, or None.
    """

    points_mm: Float[np.ndarray, "point 3"]
    time_s: Float[np.ndarray, "point"]
    velocity_m_s: Float[np.ndarray, "point 3"]
    pressure_pa: Float[np.ndarray, "point"]
    first: Int[np.ndarray, "line_end"]
    inlet: Int[np.ndarray, "line"]
    inlets: tuple[str, ...]
    reached: Bool[np.ndarray, "line"]
    temperature_c: Float[np.ndarray, "point"] | None = None


def streamlines(
    lattice: SparseLattice,
    openings: tuple[Opening, ...],
    nodes: NodeTable,
    velocity_m_s: Float[np.ndarray, "3 cell"],
    pressure_pa: Float[np.ndarray, "cell"],
    *,
    count: int,
    temperature_c: Float[np.ndarray, "cell"] | None = None,
) -> Streamlines:
    """Return lines along the flow from all inlets together.

    Parameters
    ----------
    lattice, openings, nodes
        Fluid cells, openings that they reach and their interpolation.
    velocity_m_s, pressure_pa, temperature_c
        Fields of the cells.
    count
        Number of lines.
    """
    inlets = [o for o in openings if o.inlet]
    seeds, inlet = _seeds(inlets, nodes, lattice.spacing_mm, velocity_m_s, count)
    places = (seeds - lattice.origin_mm) / lattice.spacing_mm
    rates = velocity_m_s / (lattice.spacing_mm * 1e-3)
    index, extended = _extended(lattice, rates)
    slowest = _SLOWEST * float(np.sqrt(np.square(rates).sum(axis=0).max()))
    parts, times, reached = [], [], []
    path, clock = np.empty((_MOST_POINTS, 3)), np.empty(_MOST_POINTS)
    outlet = _outlet_cells(lattice)
    for place in places:
        number, out = _trace(place, index, extended, outlet, slowest, path, clock)
        parts.append(path[:number].copy())
        times.append(clock[:number].copy())
        reached.append(out)
    first = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    points = np.concatenate([*parts, np.empty((0, 3))]) * lattice.spacing_mm + lattice.origin_mm
    sampler = nodes.sampler(points, curved=False)  # as the lines are traced
    return Streamlines(
        points,
        np.concatenate([*times, np.empty(0)]),
        sampler.velocity(velocity_m_s).T,
        sampler.pressure(pressure_pa),
        first,
        inlet,
        tuple(o.name for o in inlets),
        np.array(reached, dtype=bool),
        None if temperature_c is None else sampler.pressure(temperature_c),
    )


def _seeds(
    inlets: list[Opening],
    nodes: NodeTable,
    spacing_mm: float,
    velocity_m_s: Float[np.ndarray, "3 cell"],
    count: int,
) -> tuple[Float[np.ndarray, "line 3"], Int[np.ndarray, "line"]]:
    """Return starting points and the number of the inlet of each, one flow for every line."""
    points, flows, numbers = [], [], []
    for number, opening in enumerate(inlets):
        covered, area = patch_points(opening.triangles_mm, spacing_mm / _SAMPLES_PER_CELL)
        covered = covered + opening.direction * _SEED_DEPTH * spacing_mm
        order = _filling_order(covered, opening.direction)
        sampler = nodes.sampler(covered, curved=False)
        through = opening.direction @ sampler.velocity(velocity_m_s)
        points.append(covered[order])
        flows.append(np.maximum(np.nan_to_num(through * area), 0.0)[order])
        numbers.append(np.full(len(covered), number))
    flow = np.cumsum(np.concatenate(flows))
    if count == 0 or flow[-1] <= 0.0:
        return np.empty((0, 3)), np.empty(0, dtype=np.int64)
    wanted = (np.arange(count) + 0.5) / count * flow[-1]
    chosen = np.searchsorted(flow, wanted)
    return np.concatenate(points)[chosen], np.concatenate(numbers)[chosen]


def _filling_order(
    points: Float[np.ndarray, "point 3"], normal: Float[np.ndarray, "3"]
) -> Int[np.ndarray, "point"]:
    """Sort points of a plane along Hilbert's curve (1891, doi:10.1007/BF01199431)."""
    axis = int(np.argmax(np.abs(normal)))
    flat = np.delete(points, axis, axis=1)
    low = flat.min(axis=0)
    size = float(np.ptp(flat, axis=0).max()) + 1e-12
    x, y = np.minimum((flat - low) / size * 1024, 1023).astype(np.int64).T
    place = np.zeros(len(points), dtype=np.int64)
    for step in 2 ** np.arange(9, -1, -1):
        right, upper = (x & step) > 0, (y & step) > 0
        place += step * step * ((3 * right) ^ upper)
        mirrored = ~upper & right
        x, y = np.where(mirrored, 1023 - x, x), np.where(mirrored, 1023 - y, y)
        x, y = np.where(upper, x, y), np.where(upper, y, x)
    return np.argsort(place, kind="stable")


def _outlet_cells(lattice: SparseLattice) -> Bool[np.ndarray, "cell"]:
    """Return which cells have a link to an outlet."""
    numbers = [k for k, name in enumerate(lattice.names) if is_outlet(name)]
    found = np.zeros(len(lattice.cells), dtype=bool)
    found[lattice.link_cell[np.isin(lattice.link_patch, numbers)]] = True
    return found


def _extended(
    lattice: SparseLattice, values: Float[np.ndarray, "3 cell"]
) -> tuple[Int[np.ndarray, "x y z"], Float[np.ndarray, "node 4"]]:
    """Return the number of the node at each place of the box, and values and wall distance of the nodes.

    Nodes are the cells and, after them, the places beyond a link that ends at the surface.
    """
    index = lattice.dense_index()
    ends = lattice.cells[lattice.link_cell] + VELOCITIES[lattice.link_direction]
    beyond = index[tuple(ends.T)] < 0
    keys = np.ravel_multi_index(tuple(ends[beyond].T), lattice.shape)
    unique, number = np.unique(keys, return_inverse=True)
    cell, q = lattice.link_cell[beyond], lattice.link_distance[beyond]
    solid = lattice.link_patch[beyond] == lattice.names.index(WALL)
    factor = np.where(solid, -np.minimum((1.0 - q) / q, 1.0), 1.0)
    links = np.bincount(number)
    mirrored = [np.bincount(number, factor * v[cell]) / links for v in values]
    distance = _wall_distance(lattice)
    behind = np.full(len(unique), _FAR)
    np.minimum.at(behind, number, np.where(solid, -distance[cell] * (1.0 - q) / q, _FAR))
    index.ravel()[unique] = len(lattice.cells) + np.arange(len(unique), dtype=np.int32)
    inner, outer = np.stack([*values, distance]), np.stack([*mirrored, behind])
    return index, np.ascontiguousarray(np.concatenate([inner, outer], axis=1).T, dtype=np.float64)


def _wall_distance(lattice: SparseLattice) -> Float[np.ndarray, "cell"]:
    """Return each cell's distance to the wall in cells, that of the plane through its axial links' ends."""
    link = lattice.links_of(WALL)
    cell, way = lattice.link_cell[link], VELOCITIES[lattice.link_direction[link]]
    q = lattice.link_distance[link]
    axis = np.abs(way).argmax(axis=1)
    axial = np.abs(way).sum(axis=1) == 1
    nearest = np.full((3, len(lattice.cells)), np.inf)
    np.minimum.at(nearest, (axis[axial], cell[axial]), q[axial])
    distance = 1.0 / np.sqrt(np.maximum((nearest**-2.0).sum(axis=0), _FAR**-2.0))
    np.minimum.at(distance, cell[~axial], q[~axial])
    return np.asarray(distance)


@numba.njit(**_JIT)  # type: ignore[untyped-decorator]
def _velocity(place, index, extended, cells, found):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Write velocity, cells per second, and wall distance; return whether a fluid cell is near."""
    i, j, k = int(np.floor(place[0])), int(np.floor(place[1])), int(np.floor(place[2]))
    found[:] = 0.0
    if i < 0 or j < 0 or k < 0:
        return False
    if i + 1 >= index.shape[0] or j + 1 >= index.shape[1] or k + 1 >= index.shape[2]:
        return False
    x, y, z = place[0] - i, place[1] - j, place[2] - k
    total, own = 0.0, 0.0
    for a in range(2):
        for b in range(2):
            for c in range(2):
                node = index[i + a, j + b, k + c]
                if node < 0:
                    continue
                weight = (x if a else 1.0 - x) * (y if b else 1.0 - y) * (z if c else 1.0 - z)
                total += weight
                own += weight if node < cells else 0.0
                for d in range(4):
                    found[d] += weight * extended[node, d]
    if own <= 1e-9:
        return False
    found /= total
    return True


@numba.njit(**_JIT)  # type: ignore[untyped-decorator]
def _keep_off(place, index, extended, cells, slopes):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Move a place too near a wall along the slope of the wall distance; slopes[0] is its velocity."""
    slope, there = np.zeros(3), place.copy()
    for d in range(3):
        for sign in (-1.0, 1.0):
            there[d] = place[d] + 0.25 * sign
            if _velocity(there, index, extended, cells, slopes[1]):
                slope[d] += 2.0 * sign * slopes[1, 3]
            else:
                slope[d] += 2.0 * sign * slopes[0, 3]
        there[d] = place[d]
    square = np.sum(slope**2)
    if square > 1e-6:
        move = min((_NEAREST - slopes[0, 3]) / np.sqrt(square), _LONGEST_MOVE)
        there[:] = place + move * slope / np.sqrt(square)
        if _velocity(there, index, extended, cells, slopes[1]):
            place[:] = there
            slopes[0] = slopes[1]


@numba.njit(**_JIT)  # type: ignore[untyped-decorator]
def _step(place, time_step, index, extended, cells, slopes, ahead):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Write the place one step ahead of `place`, whose velocity is slopes[0]; return the error in cells.

    The error is -1 if the step leaves the fluid.
    """
    for stage in range(1, 7):
        for d in range(3):
            ahead[d] = place[d]
            for k in range(stage):
                ahead[d] += time_step * _STAGES[stage, k] * slopes[k, d]
        if not _velocity(ahead, index, extended, cells, slopes[stage]):
            return -1.0
    square = 0.0
    for d in range(3):
        error = 0.0
        for k in range(7):
            error += time_step * _ERRORS[k] * slopes[k, d]
        square += error * error
    return np.sqrt(square)


_STAGES = np.array(
    [
        [0, 0, 0, 0, 0, 0],
        [1 / 5, 0, 0, 0, 0, 0],
        [3 / 40, 9 / 40, 0, 0, 0, 0],
        [44 / 45, -56 / 15, 32 / 9, 0, 0, 0],
        [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729, 0, 0],
        [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656, 0],
        [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
    ]
)
_ERRORS = np.array([71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40])
"""Coefficients of the pair of orders 5 and 4, and the difference between the two."""


@numba.njit(**_JIT)  # type: ignore[untyped-decorator]
def _is_beyond(place, index, cells):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Return whether the nearest node is no fluid cell."""
    node = index[int(np.rint(place[0])), int(np.rint(place[1])), int(np.rint(place[2]))]
    return node < 0 or node >= cells


@numba.njit(**_JIT)  # type: ignore[untyped-decorator]
def _is_at_outlet(place, index, outlet):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Return whether a cell with a link to an outlet is among the 27 nodes nearest to a place."""
    i, j, k = int(np.rint(place[0])), int(np.rint(place[1])), int(np.rint(place[2]))
    for a in range(max(i - 1, 0), min(i + 2, index.shape[0])):
        for b in range(max(j - 1, 0), min(j + 2, index.shape[1])):
            for c in range(max(k - 1, 0), min(k + 2, index.shape[2])):
                node = index[a, b, c]
                if 0 <= node < len(outlet) and outlet[node]:
                    return True
    return False


@numba.njit(**_JIT)  # type: ignore[untyped-decorator]
def _trace(start, index, extended, outlet, slowest, path, clock):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Write a line's points, cells, and times, s; return their number and whether it left by an outlet."""
    cells = len(outlet)
    place, ahead, slopes = start.copy(), np.empty(3), np.empty((7, 4))
    if not _velocity(place, index, extended, cells, slopes[0]):
        return 0, False
    path[0] = place
    clock[0] = 0.0
    kept, time = 1, 0.0
    time_step = 0.1 / max(np.sqrt(np.sum(slopes[0, :3] ** 2)), slowest)
    for _ in range(20 * _MOST_POINTS):
        speed = np.sqrt(np.sum(slopes[0, :3] ** 2))
        if speed <= slowest or kept >= _MOST_POINTS:
            break
        time_step = min(time_step, _LONGEST_STEP / speed)
        error = _step(place, time_step, index, extended, cells, slopes, ahead)
        if error < 0.0 or error > _TOLERANCE:
            shrink = 0.25 if error < 0.0 else max(0.9 * (_TOLERANCE / error) ** 0.2, 0.2)
            time_step *= shrink
            if time_step * speed < 1e-4:
                break
            continue
        time += time_step
        place[:] = ahead
        slopes[0] = slopes[6]
        if slopes[0, 3] < _NEAREST:
            _keep_off(place, index, extended, cells, slopes)
        time_step *= min(0.9 * (_TOLERANCE / max(error, 1e-12)) ** 0.2, 3.0)
        if np.sum((place - path[kept - 1]) ** 2) >= _KEPT_EVERY**2:
            path[kept] = place
            clock[kept] = time
            kept += 1
        if _is_beyond(place, index, cells) and _is_at_outlet(place, index, outlet):
            break
    if kept < _MOST_POINTS and clock[kept - 1] < time:
        path[kept] = place
        clock[kept] = time
        kept += 1
    return kept, _is_at_outlet(place, index, outlet)
