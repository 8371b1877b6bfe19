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
    plane = np.take(volume.values, np.clip(place, 0, volume.values.shape[axis] - 1), axis=axis)
    rows, columns = (a for a in range(3) if a != axis)
    first = volume.grid.to_world_mm(np.zeros(3))
    offset = baseline.to_index(first) * baseline.spacing_mm
    spans = [_span(volume.grid, offset, frame, a) for a in (rows, columns)]
    shown = plane[spans[0][0], spans[1][0]]
    (_, top, bottom), (_, left, right) = spans
    if view == "axial":
        return Slice(shown, (left, right, bottom, top))
    return Slice(shown[::-1], (left, right, top, bottom))


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
    """Return each volume's difference to the baseline, for those on the baseline's grid."""
    return {
        name: volume.with_values(volume.values.astype(np.float32) - baseline.values)
        for name, volume in volumes.items()
        if volume.grid.matches(baseline.grid, tolerance_mm=0.01)
    }
