"""Slices through the airway: every variant at the same place, and its difference to HR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume

VIEWS = ("axial", "coronal", "sagittal")


@dataclass(frozen=True)
class Slice:
    """Hold a slice with its extent in mm.

    Parameters
    ----------
    values
        HU, rows from top to bottom as shown.
    extent_mm
        Left, right, bottom, top along the two shown axes.
    """

    values: Float[np.ndarray, "row column"]
    extent_mm: tuple[float, float, float, float]


@dataclass(frozen=True)
class Frame:
    """Say where to cut and what to show: a box in the baseline's index directions, mm.

    Parameters
    ----------
    centre_mm
        World point through which all three slices run.
    low_mm, high_mm
        Corners of the shown box as distances from the baseline's first voxel along z, y, x.
    """

    centre_mm: Float[np.ndarray, "3"]
    low_mm: Float[np.ndarray, "3"]
    high_mm: Float[np.ndarray, "3"]


def frame_around(lumen: Volume, margin_mm: float) -> Frame:
    """Frame the lumen of an airway; the cuts run through its middle, off the septum."""
    index = np.argwhere(lumen.values > 0)
    spacing = np.array(lumen.grid.spacing_mm)
    if len(index) == 0:
        index = np.array([[0, 0, 0], np.array(lumen.values.shape) - 1])
        margin_mm = 0.0
    middle = np.median(index, axis=0)
    x = index[:, 2]
    middle[2] = np.quantile(x, 0.35)
    centre = lumen.grid.to_world_mm(middle)
    return Frame(
        centre, index.min(axis=0) * spacing - margin_mm, index.max(axis=0) * spacing + margin_mm
    )


def cut(volume: Volume, baseline: VoxelGrid, frame: Frame, view: str) -> Slice:
    """Cut a volume at the frame's centre and crop it to the frame's box.

    The volume's own voxels are shown; nothing is interpolated.
    """
    axis = VIEWS.index(view)
    place = int(np.rint(volume.grid.to_index(frame.centre_mm)[axis]))
    if not 0 <= place < volume.values.shape[axis]:
        return Slice(np.zeros((0, 0)), (0.0, 0.0, 0.0, 0.0))
    plane = np.take(volume.values, place, axis=axis)
    rows, columns = (a for a in range(3) if a != axis)
    first = volume.grid.to_world_mm(np.zeros(3))
    offset = baseline.to_index(first) * baseline.spacing_mm
    shift = _along_axes(baseline)
    (part, top, bottom), (across, left, right) = (
        _span(volume.grid, offset, frame, a) for a in (rows, columns)
    )
    top, bottom = top + shift[rows], bottom + shift[rows]
    left, right = left + shift[columns], right + shift[columns]
    shown = plane[part, across]
    if view == "axial":
        return Slice(shown, (left, right, bottom, top))
    return Slice(shown[::-1], (left, right, top, bottom))


def shown_range(baseline: VoxelGrid, frame: Frame, view: str) -> tuple[float, float, float, float]:
    """Return what every panel of a view shows: left, right, bottom, top, mm.

    Positions are along the image's axes: patient coordinates (LPS) where the axes are the patient's.
    """
    rows, columns = (a for a in range(3) if a != VIEWS.index(view))
    size = np.array(baseline.extent_mm)
    half = np.array(baseline.spacing_mm) / 2
    low = np.maximum(frame.low_mm, -half) + _along_axes(baseline)
    high = np.minimum(frame.high_mm, size - half) + _along_axes(baseline)
    left, right = float(low[columns]), float(high[columns])
    bottom, top = float(low[rows]), float(high[rows])
    return (left, right, top, bottom) if view == "axial" else (left, right, bottom, top)


def _along_axes(grid: VoxelGrid) -> Float[np.ndarray, "3"]:
    """Return where the first voxel lies along each axis, mm."""
    along: Float[np.ndarray, "3"] = np.array(grid.axes) @ np.array(grid.origin_mm)
    return along


def _span(
    grid: VoxelGrid, offset: Float[np.ndarray, "3"], frame: Frame, axis: int
) -> tuple[slice, float, float]:
    spacing = grid.spacing_mm[axis]
    low = int(np.floor((frame.low_mm[axis] - offset[axis]) / spacing))
    high = int(np.ceil((frame.high_mm[axis] - offset[axis]) / spacing)) + 1
    low, high = max(low, 0), min(high, grid.shape[axis])
    start = offset[axis] + (low - 0.5) * spacing
    return slice(low, high), start, start + (high - low) * spacing


def differences(volumes: Mapping[str, Volume], baseline: Volume) -> dict[str, Volume]:
    """Return each volume's difference to the baseline; coarser ones repeat their voxels."""
    return {
        name: baseline.with_values(_repeated(volume, baseline.grid) - baseline.values)
        for name, volume in volumes.items()
    }


def _repeated(volume: Volume, grid: VoxelGrid) -> Float[np.ndarray, "z y x"]:
    """Return the nearest voxel's value at each voxel of another grid with the same axes."""
    if volume.grid.matches(grid, tolerance_mm=0.01):
        return volume.values.astype(np.float32)
    corner = volume.grid.to_index(grid.to_world_mm(np.zeros(3)))
    ratio = np.array(grid.spacing_mm) / volume.grid.spacing_mm
    index = [
        np.clip(np.rint(corner[a] + ratio[a] * np.arange(n)).astype(int), 0, size - 1)
        for a, (n, size) in enumerate(zip(grid.shape, volume.grid.shape, strict=True))
    ]
    return volume.values[np.ix_(*index)].astype(np.float32)
