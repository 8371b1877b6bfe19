"""Agreement with the measurement: the profile's mean of restored slices is the thick slice.

With A the degradation (thick from thin), y the thick slices and A+ = A' (A A')^-1, a restoration
x becomes x + A+ (y - A x): the nearest one, in the sense of least squares, that agrees.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float, Shaped

from stages.super_resolution.baselines import apply_operator, histospline_operator
from stages.super_resolution.degradation import degrade
from stages.super_resolution.layout import Layout

_FAR = 24
"""Thick slices around one beyond which the ends of the stack no longer change its weights."""


def degradation_operator(count: int, layout: Layout) -> Float[np.ndarray, "thick thin"]:
    """Return the matrix that makes `count` thick slices; the outermost thin ones are repeated."""
    thin = np.eye(count * layout.slices)[:, :, None]
    return _degrade_exactly(thin, layout)[:, :, 0]


@lru_cache(maxsize=8)
def correction_operator(count: int, layout: Layout) -> Float[np.ndarray, "thin thick"]:
    """Return A+, the thin slices of least norm that a change of the thick ones needs."""
    forward = degradation_operator(count, layout)
    found: Float[np.ndarray, "thin thick"] = np.linalg.solve(forward @ forward.T, forward).T
    return found


@lru_cache(maxsize=4)
def baseline_operator(count: int, layout: Layout) -> Float[np.ndarray, "thin thick"]:
    """Return the matrix of the baseline: the histospline, made to agree where the layout says so.

    The histospline takes thick slices as means over their cells. For other profiles than the box
    H + A+ (I - A H) agrees instead.
    """
    histospline = histospline_operator(count, layout.slices)
    if not layout.is_consistent or layout.is_compact_box:
        return histospline
    missed = np.eye(count) - degradation_operator(count, layout) @ histospline
    agreeing: Float[np.ndarray, "thin thick"] = (
        histospline + correction_operator(count, layout) @ missed
    )
    return agreeing


@lru_cache(maxsize=256)
def baseline_rows(count: int, index: int, layout: Layout) -> Float[np.ndarray, "slices thick"]:
    """Return the rows of the baseline that make the thin slices of one thick slice."""
    return baseline_operator(count, layout)[layout.slices * index : layout.slices * (index + 1)]


@lru_cache(maxsize=8)
def own_block(layout: Layout) -> Float[np.ndarray, "z z"]:
    """Return the part of A+ A within the thin slices of one thick slice, far from the ends.

    What a residual of one cell contradicts of its own measurement: all of it for profiles no
    wider than the cell, for wider ones all but what neighbouring cells could make up for.
    """
    if layout.is_compact_box:
        return np.full((layout.slices, layout.slices), 1.0 / layout.slices)
    count = 2 * _FAR + 1
    cell = slice(_FAR * layout.slices, (_FAR + 1) * layout.slices)
    forward = degradation_operator(count, layout)
    found: Float[np.ndarray, "z z"] = (correction_operator(count, layout) @ forward)[cell, cell]
    return found


def make_consistent(
    thin: Float[np.ndarray, "thin y x"], thick: Shaped[np.ndarray, "thick y x"], layout: Layout
) -> Float[np.ndarray, "thin y x"]:
    """Return the nearest restoration whose profile means are the thick slices; float32, HU."""
    missed = thick - degrade(thin, layout.profile_taps, layout.slices)
    found: Float[np.ndarray, "thin y x"] = thin + apply_operator(
        correction_operator(len(thick), layout), missed
    )
    return found


def _degrade_exactly(
    thin: Float[np.ndarray, "thin y x"], layout: Layout
) -> Float[np.ndarray, "thick y x"]:
    """Degrade in float64."""
    taps, stride = layout.profile_taps, layout.slices
    count, last = len(thin) // stride, len(thin) - 1
    first = (stride - 1) // 2 - (len(taps) - 1) // 2
    index = stride * np.arange(count)[:, None] + first + np.arange(len(taps))
    found: Float[np.ndarray, "thick y x"] = np.einsum(
        "t,jtyx->jyx", taps, thin[index.clip(0, last)]
    )
    return found
