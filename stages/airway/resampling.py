"""Put an image on an upright isotropic grid, whatever grid the scanner used."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk  # noqa: N813 -- its own documentation calls it so
from jaxtyping import Bool, Float, Shaped

from pipeline.core.geometry import Triple, VoxelGrid
from pipeline.core.units import PADDING_HU
from pipeline.core.volume import Volume

Box = tuple[Triple, Triple]
"""Lower and upper corner (x, y, z) of a box along the patient axes, mm."""


def bounding_box_mm(grid: VoxelGrid) -> Box:
    """Return the box along the patient axes that holds every voxel centre."""
    last = np.array(grid.shape) - 1
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * last
    points = grid.to_world_mm(corners)
    return triple(points.min(axis=0)), triple(points.max(axis=0))


def intersect(box: Box, other: Box) -> Box:
    """Return the box common to both."""
    return triple(np.maximum(box[0], other[0])), triple(np.minimum(box[1], other[1]))


def upright_grid(box: Box, spacing_mm: float) -> VoxelGrid:
    """Return an isotropic grid along the patient axes that fills a box.

    Its voxels lie at multiples of the spacing, whatever the box: two images of one patient are
    then looked at in the same places, however they were cropped.
    """
    first = np.ceil(np.divide(box[0], spacing_mm) - 1e-6)
    counts = np.maximum(np.floor(np.divide(box[1], spacing_mm) + 1e-6) - first + 1, 1).astype(int)
    shape = (int(counts[2]), int(counts[1]), int(counts[0]))
    return VoxelGrid(shape, (spacing_mm, spacing_mm, spacing_mm), triple(first * spacing_mm))


def resample(
    volume: Volume, grid: VoxelGrid, *, smoothly: bool = False
) -> Float[np.ndarray, "z y x"]:
    """Interpolate a volume at a grid's points; beyond its border it is air (-1024 HU).

    Parameters
    ----------
    volume
        Grey values, HU.
    grid
        Where they are wanted.
    smoothly
        Take cubic B-splines instead of straight lines between voxels.
    """
    image = _to_itk(volume.values.astype(np.float32), volume.grid)
    out = sitk.Resample(
        image,
        [int(n) for n in grid.shape[::-1]],
        sitk.Transform(),
        sitk.sitkBSpline if smoothly else sitk.sitkLinear,
        [float(v) for v in grid.origin_mm],
        [float(v) for v in grid.spacing_mm[::-1]],
        _direction(grid),
        PADDING_HU,
    )
    values: Float[np.ndarray, "z y x"] = sitk.GetArrayFromImage(out)
    return values


def resample_mask(
    mask: Shaped[np.ndarray, "z y x"], grid: VoxelGrid, target: VoxelGrid
) -> Bool[np.ndarray, "z y x"]:
    """Carry a mask to another grid by its nearest voxel; outside its own grid it is 0."""
    image = _to_itk(mask.astype(np.uint8), grid)
    out = sitk.Resample(
        image,
        [int(n) for n in target.shape[::-1]],
        sitk.Transform(),
        sitk.sitkNearestNeighbor,
        [float(v) for v in target.origin_mm],
        [float(v) for v in target.spacing_mm[::-1]],
        _direction(target),
        0,
    )
    carried: Bool[np.ndarray, "z y x"] = np.asarray(sitk.GetArrayFromImage(out)) > 0
    return carried


def block_mean(values: Float[np.ndarray, "z y x"], factor: int) -> Float[np.ndarray, "z y x"]:
    """Average cubes of voxels; what does not fill a cube at the end is left out."""
    z, y, x = (n // factor for n in values.shape)
    cut = values[: z * factor, : y * factor, : x * factor]
    blocks = cut.reshape(z, factor, y, factor, x, factor)
    mean: Float[np.ndarray, "z y x"] = blocks.mean(axis=(1, 3, 5))
    return mean


def triple(values: Float[np.ndarray, "3"]) -> Triple:
    """Return three plain floats."""
    a, b, c = (float(v) for v in values)
    return (a, b, c)


def _direction(grid: VoxelGrid) -> list[float]:
    columns = np.array(grid.axes)[::-1].T
    return [float(v) for v in columns.ravel()]


def _to_itk(values: Shaped[np.ndarray, "z y x"], grid: VoxelGrid) -> sitk.Image:
    image = sitk.GetImageFromArray(values)
    image.SetOrigin([float(v) for v in grid.origin_mm])
    image.SetSpacing([float(v) for v in grid.spacing_mm[::-1]])
    image.SetDirection(_direction(grid))
    return image
