"""A potential flow through the lumen tells passages from dead ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, cg, splu

from pipeline.core.errors import NumericalError

RESIDUAL = 1e-5
"""Relative residual of the solver: what is looked for are flows of a hundredth of the whole."""

BLOCK = 6
"""Edge of the cubes, in voxels, that the coarse correction treats as one unknown."""

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class PotentialFlow:
    """Hold the solution of div(m grad p) = 0 with mobility m = d^2, at unit flux.

    Parameters
    ----------
    potential
        1 at the source, 0 at the sink; NaN outside the lumen.
    gradient
        |grad p|, 1/mm; 0 outside the lumen.
    wall_mm
        Distance to the wall.
    flux_mm3
        Integral of m grad p over any cross-section.
    """

    potential: Float[np.ndarray, "z y x"]
    gradient: Float[np.ndarray, "z y x"]
    wall_mm: Float[np.ndarray, "z y x"]
    flux_mm3: float

    @property
    def throughput(self) -> Float[np.ndarray, "z y x"]:
        """Return d |grad p| per flux, mm^-3: large in passages, small in chambers and dead ends.

        The speed d^2 |grad p| alone does not tell a maxillary sinus with two openings from a meatus; divided
        by the width d, it does.
        """
        through: Float[np.ndarray, "z y x"] = self.wall_mm * self.gradient / self.flux_mm3
        return through


def solve_potential(
    lumen: Bool[np.ndarray, "z y x"],
    source: Bool[np.ndarray, "z y x"],
    sink: Bool[np.ndarray, "z y x"],
    spacing_mm: float,
) -> PotentialFlow | None:
    """Solve the flow of a fluid whose mobility is the squared distance to the wall.

    Parameters
    ----------
    lumen
        Where the fluid is; source and sink count as part of it.
    source, sink
        Where the potential is 1 and 0.
    spacing_mm
        Edge of a voxel.

    Returns
    -------
    The flow, or None if no connection leads from the source to the sink.

    Raises
    ------
    NumericalError
        If the iteration does not converge.

    Notes
    -----
    The mobility of laminar flow in a slit of half width d is proportional to d^2 (Poiseuille), so that the
    solution ranks places by the air they can carry, at a thousandth of a flow simulation's cost.
    """
    space = lumen | source | sink
    connected = _joined(space, source, sink)
    if not connected.any():
        return None
    z, y, x = ndimage.find_objects(connected.view(np.uint8))[0]
    box: Box = (z, y, x)
    part, known = connected[box], (source | sink)[box]
    wall = ndimage.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1, 1:-1] * spacing_mm
    fixed = np.where(source[box], 1.0, 0.0)
    free = part & ~known
    matrix, load = _assemble(free, known & part, fixed, np.square(wall))
    potential = np.full(part.shape, np.nan)
    potential[known & part] = fixed[known & part]
    potential[free] = _solve(matrix, load, free)
    gradient = _gradient(potential, spacing_mm)
    flux = _flux(potential, source[box] & part, np.square(wall), spacing_mm)
    return PotentialFlow(
        _restore(potential, lumen.shape, box, np.nan),
        _restore(gradient, lumen.shape, box, 0.0),
        _restore(wall, lumen.shape, box, 0.0),
        flux,
    )


def flux_from(flow: PotentialFlow, layer: Bool[np.ndarray, "z y x"], spacing_mm: float) -> float:
    """Return the integral of m grad p over what leaves a part of the source, mm3."""
    return _flux(flow.potential, layer, np.square(flow.wall_mm), spacing_mm)


def _joined(
    space: Bool[np.ndarray, "z y x"],
    source: Bool[np.ndarray, "z y x"],
    sink: Bool[np.ndarray, "z y x"],
) -> Bool[np.ndarray, "z y x"]:
    labels, _ = ndimage.label(space)
    common = np.intersect1d(labels[source], labels[sink])
    joined: Bool[np.ndarray, "z y x"] = np.isin(labels, common[common > 0])
    return joined


def _restore(
    values: Float[np.ndarray, "z y x"], shape: tuple[int, ...], box: Box, fill: float
) -> Float[np.ndarray, "z y x"]:
    whole = np.full(shape, fill)
    whole[box] = values
    return whole


def _faces(axis: int) -> tuple[Box, Box]:
    low = [slice(None)] * 3
    high = [slice(None)] * 3
    low[axis], high[axis] = slice(None, -1), slice(1, None)
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])


def _conductance(
    mobility: Float[np.ndarray, "z y x"], low: Box, high: Box
) -> Float[np.ndarray, "z y x"]:
    a, b = mobility[low], mobility[high]
    mean: Float[np.ndarray, "z y x"] = 2.0 * a * b / np.maximum(a + b, 1e-12)
    return mean


def _assemble(
    free: Bool[np.ndarray, "z y x"],
    known: Bool[np.ndarray, "z y x"],
    fixed: Float[np.ndarray, "z y x"],
    mobility: Float[np.ndarray, "z y x"],
) -> tuple[sparse.csr_matrix, Float[np.ndarray, "unknown"]]:
    """Build the seven-point matrix of the free voxels and the load of the fixed ones."""
    count = int(free.sum())
    number = np.full(free.shape, -1, dtype=np.int32)
    number[free] = np.arange(count, dtype=np.int32)
    diagonal, load = np.zeros(count), np.zeros(count)
    rows, columns, values = [], [], []
    for axis in range(3):
        low, high = _faces(axis)
        face = _conductance(mobility, low, high)
        for here, there in ((low, high), (high, low)):
            i, j = number[here], number[there]
            both = (i >= 0) & (j >= 0)
            rows.append(i[both])
            columns.append(j[both])
            values.append(-face[both])
            rim = (i >= 0) & known[there]
            # In one direction along one axis each voxel has one neighbour: no index repeats.
            diagonal[i[both]] += face[both]
            diagonal[i[rim]] += face[rim]
            load[i[rim]] += face[rim] * fixed[there][rim]
    every = np.arange(count, dtype=np.int32)
    entries = (
        np.concatenate([*values, diagonal]),
        (np.concatenate([*rows, every]), np.concatenate([*columns, every])),
    )
    return sparse.csr_matrix(entries, shape=(count, count)), load


def _solve(
    matrix: sparse.csr_matrix, load: Float[np.ndarray, "unknown"], free: Bool[np.ndarray, "z y x"]
) -> Float[np.ndarray, "unknown"]:
    """Solve by conjugate gradients with a diagonal and a coarse correction."""
    inverse = 1.0 / matrix.diagonal()
    gather = _aggregates(matrix, free)
    coarse = splu((gather @ matrix @ gather.T).tocsc())

    def correct(residual: Float[np.ndarray, "unknown"]) -> Float[np.ndarray, "unknown"]:
        smooth: Float[np.ndarray, "unknown"] = inverse * residual
        smooth += gather.T @ coarse.solve(gather @ residual)
        return smooth

    precondition = LinearOperator(matrix.shape, matvec=correct)
    solution, code = cg(matrix, load, rtol=RESIDUAL, maxiter=5000, M=precondition)
    if code != 0:
        raise NumericalError("The potential flow in the lumen did not converge.", iterations=code)
    result: Float[np.ndarray, "unknown"] = solution
    return result


def _aggregates(matrix: sparse.csr_matrix, free: Bool[np.ndarray, "z y x"]) -> sparse.csr_matrix:
    """Return the matrix that sums over the connected parts of each cube of voxels.

    Parts, not cubes: the two sides of the septum share cubes but not the potential.
    """
    index = np.argwhere(free) // BLOCK
    sizes = index.max(axis=0) + 1
    block = np.asarray(np.ravel_multi_index(tuple(index.T), tuple(sizes)))
    edges = matrix.tocoo()
    inside = block[edges.row] == block[edges.col]
    graph = sparse.csr_matrix(
        (np.ones(int(inside.sum())), (edges.row[inside], edges.col[inside])), shape=matrix.shape
    )
    found: Any = connected_components(graph, directed=False)
    part: Int[np.ndarray, "unknown"] = found[1]
    count = int(part.max()) + 1
    ones = np.ones(len(part))
    return sparse.csr_matrix((ones, (part, np.arange(len(part)))), shape=(count, len(part)))


def _gradient(
    potential: Float[np.ndarray, "z y x"], spacing_mm: float
) -> Float[np.ndarray, "z y x"]:
    """Return |grad p| as the mean of the differences to the neighbours inside the lumen."""
    square = np.zeros(potential.shape)
    for axis in range(3):
        step = np.diff(potential, axis=axis) / spacing_mm
        valid = np.isfinite(step)
        step = np.where(valid, step, 0.0)
        before = [(1, 0) if i == axis else (0, 0) for i in range(3)]
        after = [(0, 1) if i == axis else (0, 0) for i in range(3)]
        count = np.pad(valid, before).astype(int) + np.pad(valid, after)
        square += np.square((np.pad(step, before) + np.pad(step, after)) / np.maximum(count, 1))
    gradient: Float[np.ndarray, "z y x"] = np.where(np.isfinite(potential), np.sqrt(square), 0.0)
    return gradient


def _flux(
    potential: Float[np.ndarray, "z y x"],
    source: Bool[np.ndarray, "z y x"],
    mobility: Float[np.ndarray, "z y x"],
    spacing_mm: float,
) -> float:
    total = 0.0
    inside = np.isfinite(potential)
    for axis in range(3):
        low, high = _faces(axis)
        face = _conductance(mobility, low, high)
        for here, there in ((low, high), (high, low)):
            rim = source[here] & inside[there] & ~source[there]
            total += float((face[rim] * (1.0 - potential[there][rim])).sum())
    return total * spacing_mm
