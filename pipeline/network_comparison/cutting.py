"""Cut a volume to the airway and its surroundings."""

from __future__ import annotations

from itertools import product

import numpy as np
from jaxtyping import Bool, Int

from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume

LEAST_EDGE = 176
"""In-plane pixels that are kept at least: five scales of MS-SSIM need an 11-pixel window on 1/16."""

Corner = Int[np.ndarray, "3"]


def cut_volume(volume: Volume, first: Corner, last: Corner) -> Volume:
    """Return the voxels from `first` to before `last`, at their place in the patient."""
    box = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    values = np.ascontiguousarray(volume.values[box])
    x, y, z = (float(v) for v in volume.grid.to_world_mm(np.asarray(first, dtype=np.float64)))
    z_count, y_count, x_count = values.shape
    shape = (z_count, y_count, x_count)
    return Volume(values, VoxelGrid(shape, volume.grid.spacing_mm, (x, y, z), volume.grid.axes))


def box_around(
    mask: Bool[np.ndarray, "z y x"], mask_grid: VoxelGrid, grid: VoxelGrid, *, margin_mm: float
) -> tuple[Corner, Corner]:
    """Return the box of a grid's voxels that holds a mask of another grid and a margin.

    Parameters
    ----------
    mask
        Not empty.
    mask_grid
        Where the mask lies.
    grid
        Grid that the box counts in.
    margin_mm
        Added on all sides, mm; in the plane at least `LEAST_EDGE` pixels are kept if there are.

    Returns
    -------
    tuple
        First voxel, and the one after the last, (z, y, x).
    """
    found = np.argwhere(mask)
    ends = np.stack([found.min(axis=0) - 0.5, found.max(axis=0) + 0.5])
    corners = np.array([[ends[i, a] for a, i in enumerate(k)] for k in product((0, 1), repeat=3)])
    index = grid.to_index(mask_grid.to_world_mm(corners))
    margin = margin_mm / np.array(grid.spacing_mm)
    shape = np.array(grid.shape)
    low = np.maximum(np.floor(index.min(axis=0) - margin), 0).astype(int)
    high = np.minimum(np.ceil(index.max(axis=0) + margin) + 1, shape).astype(int)
    size = np.minimum(np.maximum(high - low, (1, LEAST_EDGE, LEAST_EDGE)), shape)
    first = np.clip(low - (size - (high - low)) // 2, 0, shape - size)
    return first, first + size


def shifted(first: Corner, last: Corner, *, phase: int, factor: int) -> tuple[Corner, Corner]:
    """Return the box that starts some slices higher, as many thick slices high for every phase.

    Parameters
    ----------
    first, last
        First voxel, and the one after the last, (z, y, x).
    phase
        Slices left out at the start, below `factor`.
    factor
        Thin slices per thick slice; a box too low for two phases is left as it is.
    """
    count = (int(last[0] - first[0]) - (factor - 1)) // factor * factor
    if count <= 0:
        return first, last
    start = int(first[0]) + phase
    return np.array([start, *first[1:]]), np.array([start + count, *last[1:]])
