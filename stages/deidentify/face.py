"""Find the front of a head and lay a smooth surface behind it, along which the face is cut away.

Notes
-----
The front is a height field: for each place (x, z) the y of the first tissue met from the front (LPS:
y grows to the back). The cut is an upper envelope of it, smooth at the scale of the features that
tell faces apart (brows, eyes, nose, lips, chin), plus a depth and a smooth random part. Everything in
front of it becomes air, so that nothing of the skin's shape is left, not even as the border between
noisy and even air.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy import ndimage

from pipeline.core.errors import InputError
from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume

COARSE_MM = 1.5
"""Sampling at which the head is told from its surroundings; the cut itself is per voxel."""
STRAP_MM = 3.0
"""Radius of the ball that removes what is thinner than 6 mm: straps, tubes, the edges of ears."""
PIT_MM = 9.0
"""Openings narrower than 18 mm (nostrils, parted lips) do not draw the cut inwards."""
BUMP_MM = 22.0
"""Elevations narrower than 44 mm (nose, chin, brows, lips) do not push the cut outwards."""
SMOOTH_MM = 7.0
"""Width of each smoothing; `PASSES` of them, 14 mm together, leave features of 30 mm and more."""
PASSES = 4
LEAST_DEPTH_MM = 4.0
"""The skin, 1.5 to 3 mm thick on a face, is cut through everywhere but where it is protected."""
ROUGH_MM = 14.0
"""Scale of the random part."""
LEAST_TISSUE_MM3 = 3.0e5
"""A newborn's head has 0.6 litres; half of it may be outside the field of view."""


@dataclass(frozen=True)
class HeightField:
    """Hold a y (mm, LPS) for each place of a grid in x and z.

    Parameters
    ----------
    y_mm
        Array (z, x).
    x_mm, z_mm
        Place of the first element.
    step_mm
        Distance of elements along both.
    """

    y_mm: Float[np.ndarray, "z x"]
    x_mm: float
    z_mm: float
    step_mm: float

    def at(self, points_mm: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "..."]:
        """Return y at the x and z of world points, interpolated linearly, mm."""
        rows = (points_mm[..., 2] - self.z_mm) / self.step_mm
        columns = (points_mm[..., 0] - self.x_mm) / self.step_mm
        found: Float[np.ndarray, "..."] = ndimage.map_coordinates(
            self.y_mm, [rows, columns], order=1, mode="nearest"
        )
        return found


@dataclass(frozen=True)
class Front:
    """Hold the front of a head: the first tissue, and the y of the head's middle."""

    skin: HeightField
    middle_mm: float


def sample(volume: Volume) -> Volume:
    """Return every n-th voxel along each axis, about `COARSE_MM` apart."""
    steps = [max(round(COARSE_MM / s), 1) for s in volume.grid.spacing_mm]
    values = volume.values[:: steps[0], :: steps[1], :: steps[2]]
    a, b, c = (s * n for s, n in zip(volume.grid.spacing_mm, steps, strict=True))
    z, y, x = values.shape
    grid = VoxelGrid((z, y, x), (a, b, c), volume.grid.origin_mm, volume.grid.axes)
    return Volume(np.ascontiguousarray(values), grid)


def find_head(coarse: Volume, isolevel_hu: float) -> Bool[np.ndarray, "z y x"]:
    """Return the largest connected tissue, without what is thinner than a strap.

    Raises
    ------
    InputError
        If there is no tissue of a head's size.
    """
    tissue = coarse.values > isolevel_hu
    opened = open_by_ball(tissue, STRAP_MM, coarse.grid)
    labels, count = ndimage.label(opened)
    sizes = np.bincount(labels.ravel(), minlength=2)[1:]
    volume_mm3 = float(sizes.max()) * coarse.grid.voxel_volume_mm3 if count else 0.0
    if volume_mm3 < LEAST_TISSUE_MM3:
        raise InputError(
            f"The volume holds {volume_mm3 / 1000:.0f} ml of connected tissue (needed: "
            f"{LEAST_TISSUE_MM3 / 1000:.0f}); give the CT of a head in HU.",
            tissue_mm3=volume_mm3,
        )
    head: Bool[np.ndarray, "z y x"] = labels == int(sizes.argmax()) + 1
    return head


def open_by_ball(
    mask: Bool[np.ndarray, "z y x"], radius_mm: float, grid: VoxelGrid
) -> Bool[np.ndarray, "z y x"]:
    """Remove from a mask what a ball does not fit into; the volume's border removes nothing."""
    padded = np.pad(mask, 1, mode="edge")
    inner = ndimage.distance_transform_edt(padded, sampling=grid.spacing_mm) > radius_mm
    if not inner.any():
        return np.zeros_like(mask)
    distance = ndimage.distance_transform_edt(~inner, sampling=grid.spacing_mm)
    opened: Bool[np.ndarray, "z y x"] = (distance <= radius_mm)[1:-1, 1:-1, 1:-1] & mask
    return opened


def find_front(head: Bool[np.ndarray, "z y x"], grid: VoxelGrid) -> Front:
    """Return the first tissue met from the front; beside the head it is the head's middle."""
    points = grid.to_world_mm(np.argwhere(head))
    middle = float(points[:, 1].mean())
    step = max(grid.spacing_mm)
    low = points.min(axis=0) - 2 * BUMP_MM
    counts = np.ceil((points.max(axis=0) + 2 * BUMP_MM - low) / step).astype(int) + 1
    y_mm = np.full((counts[2], counts[0]), middle)
    rows = np.rint((points[:, 2] - low[2]) / step).astype(int)
    columns = np.rint((points[:, 0] - low[0]) / step).astype(int)
    np.minimum.at(y_mm, (rows, columns), points[:, 1])
    # Above and below the stack the face goes on as at its last slice.
    present = np.flatnonzero((y_mm < middle).any(axis=1))
    y_mm = y_mm[np.clip(np.arange(counts[2]), present[0], present[-1])]
    return Front(HeightField(y_mm, float(low[0]), float(low[2]), step), middle)


def lay_cut(front: Front, *, depth_mm: float, rough_mm: Float[np.ndarray, "z x"]) -> HeightField:
    """Return the surface of the cut: smooth, and nowhere nearer to the skin than the least depth.

    Parameters
    ----------
    front
        The skin.
    depth_mm
        Depth below the smooth surface.
    rough_mm
        Random addition at each place of the skin's height field, 0 or more.
    """
    skin, step = front.skin.y_mm, front.skin.step_mm
    without_pits = ndimage.grey_opening(skin, footprint=_disc(PIT_MM / step))
    base = ndimage.grey_closing(without_pits, footprint=_disc(BUMP_MM / step))
    level = base
    for _ in range(PASSES):
        level = ndimage.gaussian_filter(np.maximum(level, base), SMOOTH_MM / step)
    cut = np.maximum(level + depth_mm + rough_mm, without_pits + LEAST_DEPTH_MM)
    y_mm = np.minimum(cut, front.middle_mm)
    return HeightField(y_mm, front.skin.x_mm, front.skin.z_mm, step)


def rough_field(
    front: Front, height_mm: float, generator: np.random.Generator
) -> Float[np.ndarray, "z x"]:
    """Return a smooth random height between 0 and `height_mm` for each place."""
    noise = generator.standard_normal(front.skin.y_mm.shape)
    smooth = ndimage.gaussian_filter(noise, ROUGH_MM / front.skin.step_mm, mode="wrap")
    spread = np.ptp(smooth)
    rough: Float[np.ndarray, "z x"] = (smooth - smooth.min()) * (height_mm / spread)
    return rough


def in_front(cut: HeightField, grid: VoxelGrid, index: int) -> Bool[np.ndarray, "y x"]:
    """Say for each voxel of slice `index` (axis 0) whether it lies in front of the cut."""
    rows, columns = np.mgrid[: grid.shape[1], : grid.shape[2]]
    points = grid.to_world_mm(np.stack([np.full_like(rows, index), rows, columns], axis=-1))
    before: Bool[np.ndarray, "y x"] = points[..., 1] < cut.at(points)
    return before


def replace(
    values: Shaped[np.ndarray, "z y x"],
    grid: VoxelGrid,
    cut: HeightField,
    protected: Bool[np.ndarray, "z y x"],
    *,
    air_hu: float,
) -> Shaped[np.ndarray, "z y x"]:
    """Return the volume with air in front of the cut, except where it is protected."""
    cleared = values.copy()
    for index in range(len(cleared)):
        gone = in_front(cut, grid, index) & ~protected[index]
        cleared[index][gone] = air_hu
    return cleared


def _disc(radius: float) -> Bool[np.ndarray, "y x"]:
    reach = max(int(radius), 1)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc: Bool[np.ndarray, "y x"] = rows**2 + columns**2 <= max(radius, 1.0) ** 2
    return disc
