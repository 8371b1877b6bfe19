"""Baselines along z: linear, cubic spline and area-preserving spline, as exact linear operators.

LR slice j covers the unit cell [j, j + 1] of the through-plane axis; thin slice m = factor j + t
covers [m / factor, (m + 1) / factor]. Linear interpolation and the cubic spline read a slice as
the value at its centre; the histospline reads it as the mean over its cell, which it is.

References
----------
.. [1] de Boor, A Practical Guide to Splines, revised edition (2001), chapter IV (not-a-knot).
.. [2] Boneva, Kendall, Stefanov, J. R. Stat. Soc. B 33 (1971) 1-70: the histospline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from jaxtyping import Float, Shaped
from scipy.interpolate import CubicSpline

from pipeline.core.errors import UsageError
from pipeline.core.geometry import VoxelGrid

_ROWS_PER_BLOCK = 64
"""In-plane rows worked on at once: bounds the float64 copies to a few hundred MB."""


def linear_operator(count: int, factor: int) -> Float[np.ndarray, "thin thick"]:
    """Return the matrix of linear interpolation; the outermost half cells are extrapolated.

    Parameters
    ----------
    count
        Number of thick slices, 1 or more; a single slice is repeated.
    factor
        Thin slices per thick slice.
    """
    return linear_weights(count, _centres(count, factor))


def spline_operator(count: int, factor: int) -> Float[np.ndarray, "thin thick"]:
    """Return the matrix of the interpolating cubic spline through the slice centres.

    Ends are not-a-knot (2 slices: a line, 3: a parabola) and the outermost half cells are
    extrapolated, so that cubic polynomials of the slice centres are reproduced everywhere [1]_.

    Parameters
    ----------
    count
        Number of thick slices, 1 or more; a single slice is repeated.
    factor
        Thin slices per thick slice.
    """
    return spline_weights(count, _centres(count, factor))


def histospline_operator(count: int, factor: int) -> Float[np.ndarray, "thin thick"]:
    """Return the matrix of the area-preserving cubic spline [2]_.

    Parameters
    ----------
    count
        Number of thick slices, 1 or more; a single slice is repeated.
    factor
        Thin slices per thick slice.

    Notes
    -----
    With F(j) = sum of the first j slices at the faces j = 0 ... count, and S its not-a-knot cubic
    spline, thin slice m is factor (S((m + 1) / factor) - S(m / factor)). S meets F at every face,
    hence the thin slices of a cell average to its thick slice; F of a quadratic is a cubic, hence
    cell means of quadratics are reproduced (count >= 3) [1]_. Nothing is extrapolated.
    """
    faces = np.arange(count * factor + 1) / factor
    return cell_means(count, faces[:-1], faces[1:])


def linear_weights(
    count: int, position: Float[np.ndarray, " place"]
) -> Float[np.ndarray, "place thick"]:
    """Return the matrix of linear interpolation at places where slice j lies at j + 1/2.

    Beyond the centres of the outermost slices it extrapolates; a single slice is repeated.
    """
    if count == 1:
        return np.ones((len(position), 1))
    offset = position - 0.5
    left = np.clip(np.floor(offset).astype(int), 0, count - 2)
    matrix = np.zeros((len(position), count))
    rows = np.arange(len(position))
    matrix[rows, left] = 1.0 - (offset - left)
    matrix[rows, left + 1] = offset - left
    return matrix


def spline_weights(
    count: int, position: Float[np.ndarray, " place"]
) -> Float[np.ndarray, "place thick"]:
    """Return the matrix of the not-a-knot cubic spline at places where slice j lies at j + 1/2."""
    if count == 1:
        return np.ones((len(position), 1))
    spline = CubicSpline(np.arange(count) + 0.5, np.eye(count), bc_type="not-a-knot")
    matrix: Float[np.ndarray, "place thick"] = spline(position)
    return matrix


def cell_means(
    count: int, start: Float[np.ndarray, " place"], end: Float[np.ndarray, " place"]
) -> Float[np.ndarray, "place cell"]:
    """Return the matrix of means over intervals, of what has given means over the unit cells.

    Parameters
    ----------
    count
        Number of cells; cell j covers [j, j + 1].
    start
        Where each interval starts, at least 0.
    end
        Where it ends, above its start and at most `count`.
    """
    cumulative = np.concatenate([np.zeros((1, count)), np.cumsum(np.eye(count), axis=0)])
    spline = CubicSpline(np.arange(count + 1), cumulative, bc_type="not-a-knot")
    matrix: Float[np.ndarray, "place cell"] = (spline(end) - spline(start)) / (end - start)[
        :, None
    ]
    return matrix


BASELINES: Mapping[str, Callable[[int, int], Float[np.ndarray, "thin thick"]]] = MappingProxyType(
    {
        "linear": linear_operator,
        "spline": spline_operator,
        "histospline": histospline_operator,
    }
)
"""Baselines by name; each gives its matrix from the number of thick slices and the factor."""


def restore_baseline(
    thick: Shaped[np.ndarray, "thick y x"], method: str, *, factor: int
) -> Float[np.ndarray, "thin y x"]:
    """Restore thin slices by a baseline; float32, HU.

    Parameters
    ----------
    thick
        Thick slices, HU.
    method
        ``linear``, ``spline`` or ``histospline``.
    factor
        Thin slices per thick slice, odd.

    Raises
    ------
    UsageError
        If the factor is even or below 3.
    """
    return apply_operator(BASELINES[method](len(thick), checked_factor(factor)), thick)


def apply_operator(
    matrix: Float[np.ndarray, "thin thick"], thick: Shaped[np.ndarray, "thick y x"]
) -> Float[np.ndarray, "thin y x"]:
    """Apply a through-plane operator in float64, block by block; the result is float32."""
    thin = np.empty((matrix.shape[0], *thick.shape[1:]), dtype=np.float32)
    for start in range(0, thick.shape[1], _ROWS_PER_BLOCK):
        rows = slice(start, start + _ROWS_PER_BLOCK)
        thin[:, rows] = np.tensordot(matrix, thick[:, rows].astype(np.float64), axes=1)
    return thin


def thin_grid(grid: VoxelGrid, factor: int) -> VoxelGrid:
    """Return the grid of the thin slices: same volume of space, slices divided by the factor.

    Thick slice j is centred on thin slice factor j + (factor - 1) / 2, so the first thin slice
    lies (factor - 1) / 2 thin slices before the first thick one.

    Raises
    ------
    UsageError
        If the factor is even or below 3.
    """
    shift = -(checked_factor(factor) - 1) / (2.0 * factor)
    x, y, z = (float(v) for v in grid.to_world_mm(np.array([shift, 0.0, 0.0])))
    slices, rows, columns = grid.shape
    spacing = (grid.spacing_mm[0] / factor, grid.spacing_mm[1], grid.spacing_mm[2])
    return replace(
        grid, shape=(slices * factor, rows, columns), spacing_mm=spacing, origin_mm=(x, y, z)
    )


def checked_factor(factor: int) -> int:
    """Return an odd factor of 3 or more.

    Raises
    ------
    UsageError
        If it is even (no thin slice would lie at the centre of a thick one) or below 3.
    """
    if factor < 3 or factor % 2 == 0:
        raise UsageError(
            f"--factor {factor}: needed is an odd number of thin slices per thick slice, 3 or "
            "more; give 3 or 5.",
            factor=factor,
        )
    return factor


def _centres(count: int, factor: int) -> Float[np.ndarray, " thin"]:
    return (np.arange(count * factor) + 0.5) / factor
