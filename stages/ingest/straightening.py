"""Bring slices that are shifted sideways, as by a tilted gantry, onto one orthogonal grid.

A tilted gantry moves along the table while its slices lean: neighbours are parallel but shifted
along their own plane. Read as a plain stack such a head is sheared. Each slice is shifted back
within its plane by linear interpolation; nothing is interpolated between slices, no slice is
invented, and values never leave the range of their neighbours.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

NEGLIGIBLE_SHIFT = 0.1
"""Shift in pixels below which nothing is resampled; positions are written to about 0.01 mm."""
LARGEST_SHIFT = 0.5
"""Largest spread of the shifts as a fraction of the field of view."""


def lies_straight(shifts: Float[np.ndarray, "slice 2"]) -> bool:
    """Say whether the slices lie above one another, given their shifts in pixels."""
    return bool(np.ptp(shifts, axis=0).max() <= NEGLIGIBLE_SHIFT)


def tilt_degrees(
    shifts_mm: Float[np.ndarray, "slice 2"], positions_mm: Float[np.ndarray, " slice"]
) -> float:
    """Return the angle between the slice normal and the line through the slices, degrees."""
    slope = np.polyfit(positions_mm - positions_mm.mean(), shifts_mm, 1)[0]
    return math.degrees(math.atan(float(np.hypot(*slope))))


def straightened_shape(
    shape: tuple[int, int], shifts: Float[np.ndarray, "slice 2"]
) -> tuple[int, int]:
    """Return rows and columns of the grid that holds every shifted slice."""
    rows, columns = (math.ceil(float(s) - 1e-6) for s in np.ptp(shifts, axis=0))
    return shape[0] + rows, shape[1] + columns


def shift_slice(
    values: Float[np.ndarray, "row column"],
    shift: tuple[float, float],
    *,
    shape: tuple[int, int],
    padding: float,
) -> Float[np.ndarray, "y x"]:
    """Place a slice on a larger grid, moved by a shift of zero or more pixels (row, column).

    Notes
    -----
    out(i, j) = sum over the four neighbours of (i - shift_row, j - shift_column), weighted
    bilinearly; outside the slice the value is `padding`. A shift by whole pixels is a copy.
    """
    moved = _shift_axis(values, shift[0], shape[0], padding)
    return np.ascontiguousarray(_shift_axis(moved.T, shift[1], shape[1], padding).T)


def _shift_axis(
    values: Float[np.ndarray, "row column"], shift: float, count: int, padding: float
) -> Float[np.ndarray, "y column"]:
    whole = math.floor(shift)
    fraction = np.float32(shift - whole)
    padded = np.full((count + 1, values.shape[1]), padding, dtype=np.float32)
    inside = min(len(values), count + 1 - whole)
    padded[whole : whole + inside] = values[:inside]
    moved: Float[np.ndarray, "y column"] = padded[:count].copy()
    before = np.full_like(moved, padding)
    before[1:] = padded[: count - 1]
    moved += fraction * (before - moved)
    return moved
