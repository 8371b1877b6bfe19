"""Thin slices to thick ones: the slice-sensitivity profile, never plain decimation.

LR(j) = sum over t of w(t) HR(stride j + c + t), c = (stride - 1) / 2, with an odd number of taps w
that sum to 1. Beyond the stack's ends its outermost slice is repeated.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped

from stages.super_resolution.baselines import checked_factor

_GAUSSIAN_REACH = 1.5
"""Half-length of the Gaussian's taps in widths; the profile is 0.2 % of its peak there."""

_SIGMA_PER_FWHM = 1.0 / (2.0 * np.sqrt(2.0 * np.log(2.0)))


def profile_taps(profile: str, factor: int) -> Float[np.ndarray, " tap"]:
    """Return the taps of a slice profile whose full width at half maximum is the thick slice.

    Parameters
    ----------
    profile
        ``box`` (mean of the thin slices), ``triangle`` or ``gaussian``.
    factor
        Thin slices per thick slice, odd.
    """
    checked_factor(factor)
    if profile == "box":
        return np.full(factor, 1.0 / factor)
    reach = factor - 1 if profile == "triangle" else int(_GAUSSIAN_REACH * factor)
    offset = np.arange(-reach, reach + 1)
    if profile == "triangle":
        weights = 1.0 - np.abs(offset) / factor
    else:
        weights = np.exp(-0.5 * (offset / (_SIGMA_PER_FWHM * factor)) ** 2)
    taps: Float[np.ndarray, " tap"] = weights / weights.sum()
    return taps


def degrade(
    thin: Shaped[np.ndarray, "thin y x"], taps: Float[np.ndarray, " tap"], stride: int
) -> Float[np.ndarray, "thick y x"]:
    """Simulate thick slices, one for each `stride` thin ones; a rest at the end is dropped.

    Parameters
    ----------
    thin
        Thin slices, HU.
    taps
        Slice profile, of odd length and sum 1.
    stride
        Thin slices per thick slice, odd.
    """
    count, (last, *_) = thin.shape[0] // stride, np.array(thin.shape) - 1
    first = (stride - 1) // 2 - (len(taps) - 1) // 2
    thick = np.zeros((count, *thin.shape[1:]), dtype=np.float32)
    for tap, weight in enumerate(taps):
        index = np.clip(stride * np.arange(count) + first + tap, 0, last)
        thick += np.float32(weight) * thin[index]
    return thick
