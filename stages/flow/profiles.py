"""The fully developed velocity profile of a plane section of any shape."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import spsolve

_PROFILE_CELLS = 48
"""Grid cells across an opening on which its developed profile is solved; second order."""
_OFF_THE_RIM = np.array([0.2867, 0.3719])
"""Shift of that grid in cells: points exactly on a straight rim would count as inside, which widens a
square by a cell."""


def developed_profile(
    triangles: Float[np.ndarray, "face 3 3"],
    normal: Float[np.ndarray, "3"],
    points: Float[np.ndarray, "point 3"],
) -> tuple[Float[np.ndarray, "point"], float]:
    """Return the fully developed velocity of a plane section at points, relative to its mean.

    The second value is the conductance, the flux per unit of pressure gradient over viscosity, mm4.

    Notes
    -----
    Solves laplace(w) = -1 with w = 0 on the section's rim by finite differences whose stencils
    end at the rim (Shortley & Weller 1938), on a square grid in the plane of the opening.
    """
    axes = _plane_axes(normal)
    flat = triangles @ axes.T
    low, high = flat.min(axis=(0, 1)), flat.max(axis=(0, 1))
    step = float((high - low).max()) / _PROFILE_CELLS
    counts = np.ceil((high - low) / step).astype(int) + 3
    origin = low - (1.0 + _OFF_THE_RIM) * step
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in counts), indexing="ij"), axis=-1)
    inside = _inside_polygon(flat, origin + grid * step)
    solution = _solve_poisson(inside, flat, origin, step)
    values = _bilinear(solution, (points @ axes.T - origin) / step)
    conductance = float(solution[inside].sum() * step**2)
    return np.maximum(values, 0.0) * _polygon_area(flat) / conductance, conductance


def _plane_axes(normal: Float[np.ndarray, "3"]) -> Float[np.ndarray, "2 3"]:
    helper = np.eye(3)[np.argmin(np.abs(normal))]
    first = np.cross(normal, helper)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(normal, first)])


def _polygon_area(flat: Float[np.ndarray, "face 3 2"]) -> float:
    a, b = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    return float(np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / 2)


def _inside_polygon(
    flat: Float[np.ndarray, "face 3 2"], points: Float[np.ndarray, "x y 2"]
) -> Int[np.ndarray, "x y"]:
    inside = np.zeros(points.shape[:2], dtype=bool)
    for a, b, c in flat:
        weights = [_cross(b - a, points - a), _cross(c - b, points - b), _cross(a - c, points - c)]
        signs = np.stack(weights)
        inside |= (signs >= 0).all(axis=0) | (signs <= 0).all(axis=0)
    return inside


def _cross(u: Float[np.ndarray, "2"], v: Float[np.ndarray, "... 2"]) -> Float[np.ndarray, "..."]:
    return np.asarray(u[0] * v[..., 1] - u[1] * v[..., 0])


def _rim(flat: Float[np.ndarray, "face 3 2"]) -> Float[np.ndarray, "edge 2 2"]:
    """Return the edges that belong to one triangle only."""
    size = float(np.ptp(flat.reshape(-1, 2), axis=0).max())
    keys = np.round(flat.reshape(-1, 2) / (size * 1e-5)).astype(np.int64)
    _, number = np.unique(keys, axis=0, return_inverse=True)
    corner = number.reshape(-1, 3)
    edges = np.concatenate([corner[:, [0, 1]], corner[:, [1, 2]], corner[:, [2, 0]]])
    ends = np.concatenate([flat[:, [0, 1]], flat[:, [1, 2]], flat[:, [2, 0]]])
    _, index, count = np.unique(
        np.sort(edges, axis=1), axis=0, return_index=True, return_counts=True
    )
    return np.asarray(ends[index[count == 1]])


def _distance_to_rim(
    start: Float[np.ndarray, "2"],
    direction: Float[np.ndarray, "2"],
    rim: Float[np.ndarray, "e 2 2"],
) -> float:
    """Return how far along a direction the rim lies, at most one step (1)."""
    edge = rim[:, 1] - rim[:, 0]
    offset = rim[:, 0] - start
    denominator = direction[0] * edge[:, 1] - direction[1] * edge[:, 0]
    safe = np.where(denominator == 0, np.inf, denominator)
    along = (offset[:, 0] * edge[:, 1] - offset[:, 1] * edge[:, 0]) / safe
    across = (offset[:, 0] * direction[1] - offset[:, 1] * direction[0]) / safe
    hits = along[(along > 0) & (along <= 1) & (across >= 0) & (across <= 1)]
    return float(np.clip(hits.min(), 0.05, 1.0)) if len(hits) else 1.0


def _solve_poisson(
    inside: Int[np.ndarray, "x y"],
    flat: Float[np.ndarray, "face 3 2"],
    origin: Float[np.ndarray, "2"],
    step: float,
) -> Float[np.ndarray, "x y"]:
    number = np.full(inside.shape, -1)
    number[inside] = np.arange(inside.sum())
    rim = _rim(flat)
    rows, columns, values = [], [], []
    diagonal = np.zeros(inside.sum())
    for i, j in np.argwhere(inside):
        row = number[i, j]
        here = origin + np.array([i, j]) * step
        for direction in (np.array([1, 0]), np.array([0, 1])):
            ahead, behind = number[i, j], number[i, j]
            ahead = number[tuple(np.array([i, j]) + direction)]
            behind = number[tuple(np.array([i, j]) - direction)]
            h1 = 1.0 if ahead >= 0 else _distance_to_rim(here, direction * step, rim)
            h2 = 1.0 if behind >= 0 else _distance_to_rim(here, -direction * step, rim)
            diagonal[row] += 2.0 / (h1 * h2)
            for column, h in ((ahead, h1), (behind, h2)):
                if column >= 0:
                    rows.append(row)
                    columns.append(column)
                    values.append(-2.0 / (h * (h1 + h2)))
    size = len(diagonal)
    matrix = csr_matrix((values, (rows, columns)), shape=(size, size)) + diags(diagonal)
    solution = np.zeros(inside.shape)
    solution[inside] = spsolve(matrix.tocsc(), np.full(size, step**2))
    return solution


def _bilinear(
    field: Float[np.ndarray, "x y"], index: Float[np.ndarray, "point 2"]
) -> Float[np.ndarray, "point"]:
    base = np.clip(np.floor(index).astype(int), 0, np.array(field.shape) - 2)
    t = np.clip(index - base, 0.0, 1.0)
    i, j = base.T
    u, v = t.T
    lower = (1 - u) * field[i, j] + u * field[i + 1, j]
    upper = (1 - u) * field[i, j + 1] + u * field[i + 1, j + 1]
    return np.asarray((1 - v) * lower + v * upper)
