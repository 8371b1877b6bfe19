"""Put the decoded slices of a regular stack together into a volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from pipeline.core.errors import InputError
from pipeline.core.geometry import Axes, Triple, VoxelGrid
from pipeline.core.units import PADDING_HU
from pipeline.core.volume import Volume
from stages.ingest.headers import SliceHeader
from stages.ingest.pixels import DecodedSlice
from stages.ingest.stacking import Stack, slice_normal
from stages.ingest.straightening import (
    LARGEST_SHIFT,
    lies_straight,
    shift_slice,
    straightened_shape,
    tilt_degrees,
)


@dataclass(frozen=True)
class Layout:
    """Say where each slice of a stack goes in the volume.

    Parameters
    ----------
    grid
        Grid of the volume; axis 0 along the slice normal.
    shifts
        Shift of each slice along rows and columns, pixels, zero or more.
    tilt_degrees
        Angle between the slice normal and the line through the slices; 0 if straight.
    """

    grid: VoxelGrid
    shifts: Float[np.ndarray, "slice 2"]
    tilt_degrees: float


def lay_out(headers: Sequence[SliceHeader], stack: Stack) -> Layout:
    """Return the grid that holds the slices of a stack, shifted sideways where they need it.

    Raises
    ------
    InputError
        If the slices are shifted sideways by more than half the field of view.
    """
    example = headers[0]
    normal = slice_normal(example.row_direction, example.column_direction)
    down, along = np.array(example.column_direction), np.array(example.row_direction)
    positions = stack.first_mm + stack.spacing_mm * np.arange(len(headers))
    corners = np.array([header.position_mm for header in headers])
    shifts_mm = np.stack([corners @ down, corners @ along], axis=1)
    shifts = shifts_mm / example.spacing_mm
    straight = lies_straight(shifts)
    start_mm = np.median(shifts_mm, axis=0) if straight else shifts_mm.min(axis=0)
    shape = (example.rows, example.columns)
    tilt = 0.0 if straight else tilt_degrees(shifts_mm, positions)
    shifts = np.zeros_like(shifts) if straight else (shifts_mm - start_mm) / example.spacing_mm
    _refuse_wide(shifts, shape, tilt)
    shape = shape if straight else straightened_shape(shape, shifts)
    origin = start_mm[0] * down + start_mm[1] * along + stack.first_mm * normal
    spacing = (stack.spacing_mm, *example.spacing_mm)
    axes: Axes = (_triple(normal), example.column_direction, example.row_direction)
    grid = VoxelGrid((len(headers), *shape), spacing, _triple(origin), axes)
    return Layout(grid, shifts, tilt)


def assemble(
    layout: Layout, count: int, decode_slice: Callable[[int], DecodedSlice]
) -> tuple[Volume, int, int]:
    """Decode slice after slice into one volume; return it with the padded and clipped pixels.

    The volume is allocated after the first slice has decoded to the size it claims.
    """
    decoded = decode_slice(0)
    straight = decoded.values.shape == layout.grid.shape[1:]
    kind = decoded.values.dtype if straight else np.dtype(np.float32)
    values = np.empty((count, *layout.grid.shape[1:]), dtype=kind)
    padded = clipped = 0
    for index in range(count):
        decoded = decoded if index == 0 else decode_slice(index)
        padded, clipped = padded + decoded.padded, clipped + decoded.clipped
        if decoded.values.dtype.kind == "f" and values.dtype.kind != "f":
            values = values.astype(np.float32)
        values[index] = _placed(decoded.values, layout, index)
    return Volume(values, layout.grid), padded, clipped


def _placed(
    values: Shaped[np.ndarray, "row column"], layout: Layout, index: int
) -> Shaped[np.ndarray, "y x"]:
    shape = layout.grid.shape[1:]
    down, along = (float(s) for s in layout.shifts[index])
    if values.shape == shape:
        return values
    return shift_slice(values.astype(np.float32), (down, along), shape=shape, padding=PADDING_HU)


def _refuse_wide(
    shifts: Float[np.ndarray, "slice 2"], shape: tuple[int, int], tilt: float
) -> None:
    spread = np.ptp(shifts, axis=0) / shape
    if spread.max() <= LARGEST_SHIFT:
        return
    raise InputError(
        f"The slices are shifted sideways by {100 * spread.max():.0f} % of the field of view "
        f"(allowed: {100 * LARGEST_SHIFT:.0f} %; tilt {tilt:.1f} degrees); export an untilted "
        "reconstruction.",
        spread=float(spread.max()),
    )


def _triple(values: Float[np.ndarray, 3]) -> Triple:
    a, b, c = (float(v) for v in values)
    return (a, b, c)
