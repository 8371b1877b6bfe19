"""Say whether two series are reconstructions of one scan, and where their slices lie.

Places come from world coordinates alone: a thick slice may lie anywhere between thin ones, the ratio
of the spacings need not be whole, and the stacks may run in opposite directions.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from pipeline.core.errors import InputError
from pipeline.core.geometry import VoxelGrid

REACH = 1.6
"""Half-length of the taps in nominal widths: profiles have feet beyond their width."""
MIN_THICK = 8
"""Fewer thick slices inside the thin ones leave nothing to hold out."""
SAME_PLACE = 0.1
"""Pixels, and thin slices, by which the corners of the pixel grids may differ."""
SAME_DIRECTION_DEGREES = 0.1
MIN_RATIO = 1.2
"""Thick slices are wider than thin ones are apart by at least this factor."""
_WHOLE = 1e-4
"""Places this near to a thin slice, in thin slices, are its own: headers are rounded."""


@dataclass(frozen=True)
class Supports:
    """Say where thick slices lie among the thin ones.

    Parameters
    ----------
    thick
        Indices of the thick slices whose whole support lies inside the thin series.
    first
        The first thin slice of each support, which is `reach` before the thick slice's place.
    part
        The place of each thick slice behind thin slice `first + reach`, in 0 ... 1 thin slices.
    reach
        Taps on either side.
    """

    thick: tuple[int, ...]
    first: tuple[int, ...]
    part: tuple[float, ...]
    reach: int


def place_supports(thin: VoxelGrid, thick: VoxelGrid, width_mm: float) -> Supports:
    """Return where the thick slices lie among the thin ones, from both geometries.

    Parameters
    ----------
    thin, thick
        Geometry of both series.
    width_mm
        Nominal width of the thick slices, mm.

    Raises
    ------
    InputError
        If the grids are not a pair: other directions, other pixels, thick slices that are not
        thicker, or too few of them inside the thin series.
    """
    _check_directions(thin, thick)
    _check_pixels(thin, thick)
    spacing = thin.spacing_mm[0]
    if width_mm < MIN_RATIO * spacing:
        raise InputError(
            f"The thick slices are {width_mm:g} mm wide and the thin ones {spacing:g} mm apart "
            f"(needed: at least {MIN_RATIO:g} times as wide); give the thin series as --thin and "
            "the thick one as --thick, or their width as --thickness-mm.",
            width_mm=width_mm,
            spacing_mm=spacing,
        )
    reach = math.ceil(REACH * width_mm / spacing)
    index = np.stack([np.arange(thick.shape[0]), *np.zeros((2, thick.shape[0]))], axis=1)
    at = thin.to_index(thick.to_world_mm(index))[:, 0]
    at = np.where(np.abs(at - np.rint(at)) <= _WHOLE, np.rint(at), at)
    found = np.flatnonzero((at - reach >= 0) & (at + reach <= thin.shape[0] - 1))
    if len(found) < MIN_THICK:
        raise InputError(
            f"{len(found)} of {thick.shape[0]} thick slices lie with their whole profile "
            f"({2 * reach + 1} thin slices) inside the thin series (needed: {MIN_THICK}); give "
            "series of the same scan with more slices in common.",
            slices=len(found),
        )
    whole = np.floor(at[found])
    return Supports(
        tuple(int(j) for j in found),
        tuple(int(w) - reach for w in whole),
        tuple(float(p) for p in at[found] - whole),
        reach,
    )


def _check_directions(thin: VoxelGrid, thick: VoxelGrid) -> None:
    cosines = np.sum(np.array(thin.axes) * np.array(thick.axes), axis=1)
    cosines[0] = abs(cosines[0])  # a stack that runs the other way has the same slices
    turned = math.degrees(math.acos(float(np.clip(cosines.min(), -1.0, 1.0))))
    if turned > SAME_DIRECTION_DEGREES:
        raise InputError(
            f"The slices of the two series are turned by {turned:.1f} degrees against each other "
            f"(allowed: {SAME_DIRECTION_DEGREES:g}); reconstruct both from one scan in the same "
            "orientation.",
            turned_degrees=turned,
        )


def _check_pixels(thin: VoxelGrid, thick: VoxelGrid) -> None:
    (_, rows, columns), (_, other_rows, other_columns) = thin.shape, thick.shape
    corners = np.array(
        list(itertools.product((0, thick.shape[0] - 1), (0, rows - 1), (0, columns - 1)))
    )
    found = thin.to_index(thick.to_world_mm(corners))
    apart = float(np.abs(found - corners)[:, 1:].max())
    by_plane = found[:, 0].reshape(2, 4)
    uneven = float(np.ptp(by_plane, axis=1).max())
    if (rows, columns) == (other_rows, other_columns) and max(apart, uneven) <= SAME_PLACE:
        return
    raise InputError(
        f"The series differ in-plane: thin {rows} x {columns} pixels of {_pixel(thin)} mm, thick "
        f"{other_rows} x {other_columns} of {_pixel(thick)} mm, corners {apart:.2f} pixels apart "
        f"(allowed: {SAME_PLACE:g}); reconstruct both from one scan with the same field of view.",
        shift_pixels=apart,
    )


def _pixel(grid: VoxelGrid) -> str:
    return f"{grid.spacing_mm[1]:.4f} x {grid.spacing_mm[2]:.4f}"
