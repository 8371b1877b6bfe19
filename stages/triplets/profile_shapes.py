"""Slice profiles as shapes: weights over thin slices, width, and another spacing of the taps.

A tap stands for the profile over its own place, half a thin slice to either side; all here is exact
for a profile that is constant within each tap.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy.special import erf

NAMED = ("box", "triangle", "gaussian")


def profile_weights(
    profile: str, width: float, edges: Float[np.ndarray, " edge"]
) -> Float[np.ndarray, " cell"]:
    """Return a named profile's area over neighbouring cells; the areas sum to 1.

    Parameters
    ----------
    profile
        ``box``, ``triangle`` or ``gaussian``.
    width
        Full width at half maximum, in the unit of the edges.
    edges
        Cell boundaries relative to the profile's centre, ascending.

    Raises
    ------
    ValueError
        If there is no such profile.
    """
    at = np.asarray(edges, dtype=np.float64) / width
    if profile == "box":
        integral = np.clip(at + 0.5, 0.0, 1.0)
    elif profile == "triangle":
        t = np.clip(at, -1.0, 1.0)
        integral = 0.5 + t - 0.5 * np.sign(t) * t**2
    elif profile == "gaussian":
        integral = 0.5 * (1.0 + erf(2.0 * math.sqrt(math.log(2.0)) * at))
    else:
        raise ValueError(f"No slice profile is called {profile!r}.")
    areas = np.diff(integral)
    weights: Float[np.ndarray, " cell"] = areas / areas.sum()
    return weights


def width_at_half_maximum(taps: Float[np.ndarray, " tap"]) -> float:
    """Return the full width at half maximum of linearly joined taps, in taps."""
    padded = np.concatenate([[0.0], taps, [0.0]])
    half, peak = 0.5 * padded.max(), int(np.argmax(padded))
    left = peak - int(np.argmax(padded[peak::-1] < half))
    right = peak + int(np.argmax(padded[peak:] < half))
    rise = left + (half - padded[left]) / (padded[left + 1] - padded[left])
    fall = right - (half - padded[right]) / (padded[right - 1] - padded[right])
    return float(fall - rise)


def centre_offset(taps: Float[np.ndarray, " tap"]) -> float:
    """Return the centroid of taps of sum 1 relative to the middle one, in taps."""
    return float(taps @ (np.arange(len(taps)) - len(taps) // 2))


def resample_taps(taps: Float[np.ndarray, " tap"], ratio: float) -> Float[np.ndarray, " tap"]:
    """Return taps for slices whose spacing is `ratio` times that of the fit; the area is kept.

    The profile's integral is linear within each tap; the new taps are differences of it.
    """
    reach = len(taps) // 2
    edges = np.arange(-reach - 0.5, reach + 1.0)
    integral = np.concatenate([[0.0], np.cumsum(taps)])
    new_reach = max(math.ceil((reach + 0.5) / ratio - 0.5), 0)
    new_edges = np.arange(-new_reach - 0.5, new_reach + 1.0) * ratio
    weights = np.diff(np.interp(new_edges, edges, integral))
    resampled: Float[np.ndarray, " tap"] = weights / weights.sum()
    return resampled
