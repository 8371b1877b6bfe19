"""Find what the cut must leave untouched: the airway, and other air inside the head."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume

BALL_MM = 8.0
"""A ball of 16 mm does not enter a nostril (short axis 5 to 12 mm) but rolls over the skin."""
LEAST_CAVITY_MM3 = 500.0
"""Smaller pockets, the creases of the skin among them, lead nowhere."""
AIR_MARGIN_HU = 100.0
"""Walls are sought at a level above the isolevel: a wall that is thin there is protected too."""


def near_lumen(lumen: Volume, grid: VoxelGrid, margin_mm: float) -> Bool[np.ndarray, "z y x"]:
    """Return the voxels of a grid that lie nearer than a margin to a lumen on its own grid.

    Notes
    -----
    The distance is known at the centres of the lumen's voxels and interpolated linearly; a diagonal
    of these voxels is added to the margin, so that none is missed.
    """
    slack = float(np.linalg.norm(lumen.grid.spacing_mm))
    pad = int(np.ceil((margin_mm + 2 * slack) / min(lumen.grid.spacing_mm)))
    mask = np.pad(lumen.values > 0, pad)
    distance = ndimage.distance_transform_edt(~mask, sampling=lumen.grid.spacing_mm)
    return _below(distance, lumen.grid, pad, grid, margin_mm + slack)


def near_cavities(
    coarse: Volume,
    head: Bool[np.ndarray, "z y x"],
    grid: VoxelGrid,
    margin_mm: float,
    *,
    isolevel_hu: float,
) -> Bool[np.ndarray, "z y x"]:
    """Return the voxels of a grid that lie nearer than a margin to air inside the head.

    Parameters
    ----------
    coarse
        The volume, sampled.
    head
        Its head without straps and other thin things, on the same samples.
    grid
        Grid of the result.
    margin_mm
        Distance.
    isolevel_hu
        What is below is air.
    """
    air = coarse.values < isolevel_hu + AIR_MARGIN_HU
    inside = _pockets(_enclosed(air, coarse.grid), _enclosed(~head, coarse.grid), coarse.grid)
    slack = float(np.linalg.norm(coarse.grid.spacing_mm)) / 2
    distance = ndimage.distance_transform_edt(~inside, sampling=coarse.grid.spacing_mm)
    return _below(distance, coarse.grid, 0, grid, margin_mm + slack)


def _enclosed(air: Bool[np.ndarray, "z y x"], grid: VoxelGrid) -> Bool[np.ndarray, "z y x"]:
    """Return the air that a ball rolling in from the sides does not reach.

    Only the sides count: the first and last slice cut through the head, where pharynx, trachea or a
    sinus may be open to the border.
    """
    padded = np.pad(air, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    start = ndimage.distance_transform_edt(padded, sampling=grid.spacing_mm) > BALL_MM
    rim = np.zeros_like(start)
    rim[:, [0, -1]] = rim[:, :, [0, -1]] = True
    labels, _ = ndimage.label(start | rim)
    centres = np.isin(labels, np.unique(labels[rim]))
    swept = ndimage.distance_transform_edt(~centres, sampling=grid.spacing_mm) <= BALL_MM
    inner: Bool[np.ndarray, "z y x"] = air & ~swept[:, 1:-1, 1:-1]
    return inner


def _pockets(
    enclosed: Bool[np.ndarray, "z y x"],
    enclosed_by_head: Bool[np.ndarray, "z y x"],
    grid: VoxelGrid,
) -> Bool[np.ndarray, "z y x"]:
    """Return the pockets of a size that the head itself encloses: none between skin and a strap.

    The head without thin parts has no wings of the nose; a nose counts as a whole, with its cavity.
    """
    labels, _ = ndimage.label(enclosed)
    counts = np.bincount(labels.ravel())
    own = np.bincount(labels.ravel(), weights=enclosed_by_head.ravel())
    large = (counts * grid.voxel_volume_mm3 >= LEAST_CAVITY_MM3) & (own > 0.5 * counts)
    large[0] = False
    pockets: Bool[np.ndarray, "z y x"] = large[labels]
    return pockets


def _below(
    distance_mm: Float[np.ndarray, "z y x"],
    source: VoxelGrid,
    pad: int,
    grid: VoxelGrid,
    limit_mm: float,
) -> Bool[np.ndarray, "z y x"]:
    """Say for each voxel of a grid whether the distance, known on another grid, is below a limit."""
    near = np.zeros(grid.shape, dtype=bool)
    rows, columns = np.mgrid[: grid.shape[1], : grid.shape[2]]
    for index in range(grid.shape[0]):
        points = grid.to_world_mm(np.stack([np.full_like(rows, index), rows, columns], axis=-1))
        places = source.to_index(points) + pad
        found = ndimage.map_coordinates(
            distance_mm, np.moveaxis(places, -1, 0), order=1, mode="constant", cval=np.inf
        )
        near[index] = found <= limit_mm
    return near
