"""What a network sees and what is true, as channels of one image, HU.

Axial: neighbouring thick slices, the baseline's thin slices of the middle one, and the true ones.
Upright: neighbouring sagittal or coronal planes (z, u) of the baseline, u an in-plane axis, and the
true middle one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from stages.super_resolution.baselines import apply_operator
from stages.super_resolution.consistency import baseline_operator, baseline_rows
from stages.super_resolution.degradation import degrade
from stages.super_resolution.layout import Layout


def slice_channels(
    thin: Float[np.ndarray, "z y x"], index: int, layout: Layout
) -> Float[np.ndarray, "channel y x"]:
    """Degrade thin slices; return the network's input for one thick slice, and its true slices.

    Parameters
    ----------
    thin
        Thin slices, HU.
    index
        Thick slice to restore.
    layout
        What the channels are.
    """
    stride = layout.slices
    thick = degrade(thin, layout.profile_taps, stride)
    return paired_channels(thick, index, thin[stride * index : stride * (index + 1)], layout)


def paired_channels(
    thick: Float[np.ndarray, "thick y x"],
    index: int,
    true: Float[np.ndarray, "z y x"],
    layout: Layout,
) -> Float[np.ndarray, "channel y x"]:
    """Return the network's input for one of several thick slices, and its true slices.

    Parameters
    ----------
    thick
        Thick slices, simulated or measured, HU.
    index
        Thick slice to restore.
    true
        Its thin slices, HU.
    layout
        What the channels are.
    """
    rows = baseline_rows(len(thick), index, layout).astype(np.float32)
    base = np.tensordot(rows, thick, axes=1)
    return np.concatenate([thick[context_indices(index, len(thick), layout)], base, true])


def context_indices(index: int, count: int, layout: Layout) -> Int[np.ndarray, " context"]:
    """Return the thick slices around one; beyond the stack its outermost slice is repeated."""
    reach = layout.context // 2
    return np.clip(np.arange(index - reach, index + reach + 1), 0, count - 1)


def upright_channels(
    thin: Float[np.ndarray, "z plane u"], layout: Layout
) -> Float[np.ndarray, "channel z u"]:
    """Degrade neighbouring planes; return the baseline's planes, and the true middle one.

    Parameters
    ----------
    thin
        Thin slices of `context` neighbouring planes, HU.
    layout
        What the channels are.
    """
    stride = layout.slices
    thick = degrade(thin, layout.profile_taps, stride)
    base = apply_operator(baseline_operator(len(thick), layout), thick)
    true = thin[: len(base), layout.context // 2]
    return np.concatenate([base.transpose(1, 0, 2), true[None]])


def plane_inputs(
    base: Float[np.ndarray, "z y x"], axis: int, indices: Sequence[int], layout: Layout
) -> Iterator[Float[np.ndarray, "channel z u"]]:
    """Yield what a network sees of each listed plane; at the sides the outermost is repeated.

    Parameters
    ----------
    base
        Baseline, HU.
    axis
        1: coronal planes; 2: sagittal ones.
    indices
        Planes along the axis.
    layout
        What the channels are.
    """
    planes = np.moveaxis(base, axis, 0)
    reach = layout.context // 2
    for index in indices:
        seen = np.clip(np.arange(index - reach, index + reach + 1), 0, len(planes) - 1)
        yield planes[seen]
