"""Normal equations of thick slices: all that a fit of the slice profile needs of the images.

For one thick slice k and the thin slices X around it these are X'X, X'k and k'k, a few hundred
numbers, in which every sum of squared errors |X w - k|^2 is a quadratic form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from stages.triplets.profile_pair import Supports

LOWEST_HU, HIGHEST_HU = -1024, 3071
"""Ends of the 12-bit scale: a value there is cut off or padding, and no mean of anything."""
TISSUE_HU = -500
"""Halfway from air to water."""
_CHUNK_PIXELS = 1 << 16


@dataclass(frozen=True)
class Sums:
    """Hold normal equations over pixels: X'X, X'k, k'k and the number of pixels."""

    a: Float[np.ndarray, "tap tap"]
    b: Float[np.ndarray, " tap"]
    kk: float
    pixels: int


@dataclass(frozen=True)
class SliceSums:
    """Hold the normal equations of one thick slice over the `2 reach + 2` thin ones around it.

    Parameters
    ----------
    thick
        Index of the thick slice.
    part
        Its place behind thin slice `reach` of the support, 0 ... 1 thin slices.
    usable
        Over all pixels that are nowhere cut off.
    tissue
        Over those of them that are no air in the thick slice.
    """

    thick: int
    part: float
    usable: Sums
    tissue: Sums


def accumulate(
    thin: Shaped[np.ndarray, "z y x"], thick: Shaped[np.ndarray, "k y x"], supports: Supports
) -> list[SliceSums]:
    """Return the normal equations of each thick slice, float64; values in HU.

    Pixels that are cut off, padding or not finite anywhere in the support are left out. One support
    at a time is looked at, in chunks of pixels.
    """
    places = zip(supports.thick, supports.first, supports.part, strict=True)
    return [
        SliceSums(j, part, *_slice_sums(thin, thick[j], first, 2 * supports.reach + 2))
        for j, first, part in places
    ]


def _slice_sums(
    thin: Shaped[np.ndarray, "z y x"], target: Shaped[np.ndarray, "y x"], first: int, count: int
) -> tuple[Sums, Sums]:
    support = thin[first : first + count].reshape(min(count, len(thin) - first), -1)
    flat = target.reshape(-1)
    usable, tissue = [], []
    for start in range(0, len(flat), _CHUNK_PIXELS):
        # A support that ends with the series has part 0, and its last weight is 0.
        x = np.zeros((count, len(flat[start : start + _CHUNK_PIXELS])))
        x[: len(support)] = support[:, start : start + _CHUNK_PIXELS]
        k = flat[start : start + _CHUNK_PIXELS].astype(np.float64)
        lowest, highest = np.minimum(x.min(axis=0), k), np.maximum(x.max(axis=0), k)
        keep = (lowest > LOWEST_HU) & (highest < HIGHEST_HU)
        usable.append(_sums(x[:, keep], k[keep]))
        keep &= k > TISSUE_HU
        tissue.append(_sums(x[:, keep], k[keep]))
    return total(usable), total(tissue)


def _sums(x: Float[np.ndarray, "tap pixel"], k: Float[np.ndarray, " pixel"]) -> Sums:
    return Sums(x @ x.T, x @ k, float(k @ k), len(k))


def total(parts: Sequence[Sums]) -> Sums:
    """Return the normal equations over the pixels of all parts."""
    return Sums(
        np.sum([p.a for p in parts], axis=0),
        np.sum([p.b for p in parts], axis=0),
        sum(p.kk for p in parts),
        sum(p.pixels for p in parts),
    )


def squared_error(sums: Sums, weights: Float[np.ndarray, " tap"]) -> float:
    """Return |X w - k|^2, HU squared; at least 0, which rounding may miss."""
    found = sums.kk - 2.0 * float(weights @ sums.b) + float(weights @ sums.a @ weights)
    return max(found, 0.0)


def interpolation(part: float, taps: int) -> Float[np.ndarray, "thin tap"]:
    """Return the matrix that turns taps around a place into weights of the thin slices."""
    matrix: Float[np.ndarray, "thin tap"] = np.zeros((taps + 1, taps))
    np.fill_diagonal(matrix, 1.0 - part)
    np.fill_diagonal(matrix[1:], part)
    return matrix


def in_taps(slice_sums: SliceSums) -> Sums:
    """Return the normal equations for taps around the thick slice's place."""
    usable = slice_sums.usable
    matrix = interpolation(slice_sums.part, len(usable.b) - 1)
    return Sums(matrix.T @ usable.a @ matrix, matrix.T @ usable.b, usable.kk, usable.pixels)
