"""Turn a volume, without resampling, so that its array axes follow the patient's."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from pipeline.core.geometry import Axes, Triple, VoxelGrid
from pipeline.core.volume import Volume

THICK_RATIO = 1.5
"""A spacing this much larger than both others is taken to lie between slices."""
_ORDER = (2, 1, 0)
"""Patient directions z, y, x as components of a world vector."""


def orient(volume: Volume, slice_axis: int) -> Volume:
    """Permute and flip the array so that axis 0 is the slice axis and every axis grows.

    Growing means towards the patient's head, back and left, in the order z, y, x as far as the
    slice axis leaves a choice. Only indices move: every voxel keeps its place and value.
    """
    axes = np.array(volume.grid.axes)
    order = _axis_order(axes, slice_axis)
    values = volume.values.transpose(order)
    directions, signs = axes[list(order)], np.ones(3)
    for i in range(3):
        signs[i] = 1.0 if directions[i][np.argmax(np.abs(directions[i]))] > 0 else -1.0
    flips = tuple(slice(None, None, int(sign)) for sign in signs)
    return Volume(np.ascontiguousarray(values[flips]), _turned_grid(volume.grid, order, signs))


def thick_axis(grid: VoxelGrid) -> int:
    """Return the array axis between slices: the one of by far largest spacing, else z."""
    spacing = np.array(grid.spacing_mm)
    largest = int(np.argmax(spacing))
    if spacing[largest] >= THICK_RATIO * np.delete(spacing, largest).max():
        return largest
    return int(np.argmax(np.abs(np.array(grid.axes)[:, 2])))


def _axis_order(axes: Float[np.ndarray, "3 3"], slice_axis: int) -> tuple[int, int, int]:
    one, other = (i for i in range(3) if i != slice_axis)
    along = int(np.argmax(np.abs(axes[slice_axis])))
    second, third = (c for c in _ORDER if c != along)
    straight = abs(axes[one][second]) + abs(axes[other][third])
    crossed = abs(axes[other][second]) + abs(axes[one][third])
    return (slice_axis, one, other) if straight >= crossed else (slice_axis, other, one)


def _turned_grid(
    grid: VoxelGrid, order: tuple[int, int, int], signs: Float[np.ndarray, 3]
) -> VoxelGrid:
    shape = tuple(grid.shape[i] for i in order)
    spacing = tuple(grid.spacing_mm[i] for i in order)
    axes = np.array(grid.axes)[list(order)]
    corner = np.zeros(3)
    for i, axis in enumerate(order):
        corner[axis] = grid.shape[axis] - 1 if signs[i] < 0 else 0
    origin = grid.to_world_mm(corner)
    turned = axes * signs[:, None]
    return VoxelGrid(
        (shape[0], shape[1], shape[2]),
        (spacing[0], spacing[1], spacing[2]),
        _triple(origin),
        _axes(turned),
    )


def _triple(values: Float[np.ndarray, 3]) -> Triple:
    a, b, c = (float(v) for v in values)
    return (a, b, c)


def _axes(rows: Float[np.ndarray, "3 3"]) -> Axes:
    return (_triple(rows[0]), _triple(rows[1]), _triple(rows[2]))
