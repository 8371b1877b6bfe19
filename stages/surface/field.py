"""Compose the scalar field whose zero level is the wall of the airway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

from pipeline.core.errors import InputError
from pipeline.core.geometry import VoxelGrid
from pipeline.core.planes import Plane
from pipeline.core.volume import Volume
from stages.surface.outside import Ball, with_outside_air

REGION_HU_PER_MM = 2000.0
"""Slope of the region's term. Air lies 600 HU below the level at most, so that the term moves a wall only
within 0.3 mm of the region's border."""

LEAST_HU = 3.0
"""Nodes nearer than this to the level are moved off it: at a wall's slope of some 500 HU per node, 0.6 % of
an edge, and marching cubes makes no degenerate triangles."""

MARGIN_MM = 1.5

SPECK_MM3 = 2.0
"""Tissue that floats in the airway below this volume is noise."""


@dataclass(frozen=True)
class WallField:
    """Hold a field that is negative in the airway, positive elsewhere, on an isotropic grid."""

    values: Float[np.ndarray, "z y x"]
    grid: VoxelGrid


def compose_field(
    volume: Volume,
    region: Volume,
    planes: dict[str, Plane],
    *,
    isolevel_hu: float,
    spacing_mm: float,
    order: Literal[1, 3],
    ball: Ball | None = None,
) -> WallField:
    """Return max(HU - isolevel, slope x distance to the region), air not connected taken out.

    With a ball, the least of that and of the outside air within it.

    Parameters
    ----------
    volume
        Image, HU.
    region
        Above 0 where space belongs to the airway or to its continuation beyond the planes.
    planes
        Planes that end the airway; ``pharynx`` among them.
    isolevel_hu
        Level of the wall.
    spacing_mm
        Spacing of the field's grid.
    order
        Interpolation of the image: 1 linear, 3 cubic.
    ball
        Outside air before the nostrils that is to be part of the body.

    Raises
    ------
    InputError
        If the pharynx's centre is no air.
    """
    grid = _grid_around(region, spacing_mm, ball)
    above = sample(volume, grid, order=order) - isolevel_hu
    values = np.maximum(above, REGION_HU_PER_MM * _signed_distance_mm(region, grid))
    values = _only_connected(values, grid, planes["pharynx"])
    if ball is not None:
        nostrils = [plane for plane in planes.values() if plane.name != "pharynx"]
        values = with_outside_air(
            above, values, grid, nostrils, ball, slope_hu_per_mm=REGION_HU_PER_MM
        )
        values = _only_connected(values, grid, planes["pharynx"])
    small = np.abs(values) < LEAST_HU
    values[small] = np.where(values[small] < 0, -LEAST_HU, LEAST_HU)
    # The field's border is wall, so that the surface is closed.
    return WallField(np.pad(values, 1, constant_values=LEAST_HU), _padded(grid))


def sample(volume: Volume, grid: VoxelGrid, *, order: Literal[1, 3]) -> Float[np.ndarray, "z y x"]:
    """Interpolate a volume at the points of a grid along the patient axes."""
    corner = volume.grid.to_index(np.array(grid.origin_mm))
    step = np.array(grid.axes) * np.array(grid.spacing_mm)[:, None]
    matrix = (volume.grid.to_index(np.array(grid.origin_mm) + step) - corner).T
    low, high = _used_box(volume, grid)
    part = volume.values[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return np.asarray(
        ndimage.affine_transform(
            part.astype(np.float32),
            matrix,
            offset=corner - low,
            output_shape=grid.shape,
            order=order,
            mode="nearest",
        )
    )


def _used_box(volume: Volume, grid: VoxelGrid) -> tuple[tuple[int, ...], tuple[int, ...]]:
    last = np.array(grid.shape) - 1
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * last
    index = volume.grid.to_index(grid.to_world_mm(corners))
    low = np.clip(np.floor(index.min(axis=0)) - 4, 0, np.array(volume.grid.shape) - 1)
    high = np.clip(np.ceil(index.max(axis=0)) + 5, 1, volume.grid.shape)
    return tuple(int(i) for i in low), tuple(int(i) for i in high)


def _grid_around(region: Volume, spacing_mm: float, ball: Ball | None) -> VoxelGrid:
    where = ndimage.find_objects((region.values > 0).astype(np.uint8))
    if not where or where[0] is None:
        raise InputError("The airway's region is empty; run 'ct2flow airway' again.")
    corners = np.array(
        [
            [[s.start, s.stop - 1][k] for s, k in zip(where[0], ijk, strict=True)]
            for ijk in np.ndindex(2, 2, 2)
        ],
        dtype=float,
    )
    points = region.grid.to_world_mm(corners)
    if ball is not None:
        points = np.concatenate([points, ball.centre_mm + np.outer((-1, 1), [ball.radius_mm] * 3)])
    low, high = points.min(axis=0) - MARGIN_MM, points.max(axis=0) + MARGIN_MM
    # Multiples of the spacing: a variant with another region samples the image at the same points.
    first = np.floor(low / spacing_mm).astype(int)
    counts = np.ceil(high / spacing_mm).astype(int) - first + 1
    origin = first * spacing_mm
    shape = (int(counts[2]), int(counts[1]), int(counts[0]))
    at = (float(origin[0]), float(origin[1]), float(origin[2]))
    return VoxelGrid(shape, (spacing_mm, spacing_mm, spacing_mm), at)


def _padded(grid: VoxelGrid) -> VoxelGrid:
    x, y, z = grid.to_world_mm(np.array([-1.0, -1.0, -1.0]))
    a, b, c = grid.shape
    return VoxelGrid(
        (a + 2, b + 2, c + 2), grid.spacing_mm, (float(x), float(y), float(z)), grid.axes
    )


def _signed_distance_mm(region: Volume, grid: VoxelGrid) -> Float[np.ndarray, "z y x"]:
    inside: UInt8[np.ndarray, "z y x"] = np.pad(region.values > 0, 1)
    spacing = region.grid.spacing_mm
    outer = ndimage.distance_transform_edt(~inside, sampling=spacing)
    inner = ndimage.distance_transform_edt(inside, sampling=spacing)
    # Half a voxel: the border lies between voxel centres.
    half = 0.5 * float(np.mean(spacing))
    signed = np.where(inside, half - inner, outer - half)[1:-1, 1:-1, 1:-1]
    smooth = ndimage.gaussian_filter(signed, 0.7)
    return sample(Volume(smooth.astype(np.float32), region.grid), grid, order=1)


def _only_connected(
    values: Float[np.ndarray, "z y x"], grid: VoxelGrid, pharynx: Plane
) -> Float[np.ndarray, "z y x"]:
    """Turn air that is not connected to the pharynx into wall, and specks of wall into air."""
    labels, _ = ndimage.label(values < 0)
    z, y, x = np.clip(
        np.rint(grid.to_index(np.array(pharynx.centre_mm))).astype(int),
        1,
        np.array(grid.shape) - 2,
    )
    near = labels[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2]
    label = int(labels[z, y, x] or near.max())
    if label == 0:
        raise InputError("The centre of the plane 'pharynx' lies in tissue; check the planes.")
    lost = (labels != label) & (values < 0)
    result = np.where(lost, -values, values)
    islands, _ = ndimage.label(result >= 0)
    sizes = np.bincount(islands.ravel()) * grid.voxel_volume_mm3
    sizes[0] = np.inf
    speck = (sizes < SPECK_MM3)[islands]
    return np.where(speck, -np.maximum(result, LEAST_HU), result)
