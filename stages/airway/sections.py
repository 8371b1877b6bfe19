"""Cut the airway with planes: sections, their areas, and whether walls enclose them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from pipeline.core.geometry import VoxelGrid

Vector = Float[np.ndarray, "3"]

STEP_MM = 0.5
"""Distance of the samples in a plane: below a voxel of the head scans met."""


BEYOND_HU = -3000.0
"""Value of samples beyond the image: air that no wall encloses."""


@dataclass(frozen=True)
class Image:
    """Hold the upright image in which sections are cut.

    Parameters
    ----------
    hu
        Image, HU.
    outside
        Air around the head.
    grid
        Its grid, isotropic.
    isolevel_hu
        What is below is air.
    """

    hu: Float[np.ndarray, "z y x"]
    outside: Bool[np.ndarray, "z y x"]
    grid: VoxelGrid
    isolevel_hu: float

    @property
    def air(self) -> Bool[np.ndarray, "z y x"]:
        """Return where the image is air."""
        air: Bool[np.ndarray, "z y x"] = self.hu < self.isolevel_hu
        return air

    @property
    def spacing_mm(self) -> float:
        """Return the edge of a voxel, mm."""
        return self.grid.spacing_mm[0]

    def around(self, mask: Bool[np.ndarray, "z y x"], margin_mm: float) -> Image:
        """Return the part of the image around a mask that is not empty."""
        margin = int(np.ceil(margin_mm / self.spacing_mm))
        where = ndimage.find_objects(mask.view(np.uint8))[0]
        box = tuple(
            slice(max(s.start - margin, 0), min(s.stop + margin, n))
            for s, n in zip(where, mask.shape, strict=True)
        )
        x, y, z = self.grid.to_world_mm(np.array([s.start for s in box]))
        hu = self.hu[box]
        shape = (hu.shape[0], hu.shape[1], hu.shape[2])
        grid = VoxelGrid(shape, self.grid.spacing_mm, (float(x), float(y), float(z)))
        return Image(hu, self.outside[box], grid, self.isolevel_hu)


@dataclass(frozen=True)
class Section:
    """Hold a section: the air around a point in a plane.

    Parameters
    ----------
    centre_mm
        Point of the plane from which the section was looked for.
    normal
        Unit normal.
    mask
        Samples of the plane, `STEP_MM` apart along its two axes, that belong to the section.
    is_enclosed
        Whether walls enclose it within the reach that was looked at.
    """

    centre_mm: Vector
    normal: Vector
    mask: Bool[np.ndarray, "u v"]
    is_enclosed: bool

    @property
    def area_mm2(self) -> float:
        """Return the area, mm2."""
        return float(self.mask.sum()) * STEP_MM**2

    @property
    def centroid_mm(self) -> Vector:
        """Return the sample of the section nearest to its centre of area."""
        u, v = plane_axes(self.normal)
        at = (np.argwhere(self.mask) - self.mask.shape[0] // 2) * STEP_MM
        best = at[int(np.argmin(np.linalg.norm(at - at.mean(axis=0), axis=1)))]
        point: Vector = self.centre_mm + best[0] * u + best[1] * v
        return point

    @property
    def radius_mm(self) -> float:
        """Return the distance from the centre to the farthest sample, mm."""
        at = (np.argwhere(self.mask) - self.mask.shape[0] // 2) * STEP_MM
        return float(np.linalg.norm(at, axis=1).max()) if len(at) else 0.0


def plane_axes(normal: Vector) -> tuple[Vector, Vector]:
    """Return two unit vectors that span the plane with this normal."""
    helper = np.eye(3)[int(np.argmin(np.abs(normal)))]
    first = np.cross(normal, helper)
    first /= np.linalg.norm(first)
    return first, np.cross(normal, first)


def cut(image: Image, centre_mm: Vector, normal: Vector, *, reach_mm: float) -> Section:
    """Cut the air with a plane and keep the part connected to the centre.

    Parameters
    ----------
    image
        The image.
    centre_mm
        Point of the plane that lies in air.
    normal
        Unit normal of the plane.
    reach_mm
        A section that reaches this far from the centre counts as not enclosed.
    """
    u, v = plane_axes(normal)
    count = int(np.ceil(reach_mm / STEP_MM))
    offsets = np.arange(-count, count + 1) * STEP_MM
    points = centre_mm + offsets[:, None, None] * u + offsets[None, :, None] * v
    index = np.moveaxis(image.grid.to_index(points), -1, 0)
    values = ndimage.map_coordinates(image.hu, index, order=1, mode="constant", cval=BEYOND_HU)
    rim = np.hypot(offsets[:, None], offsets[None, :]) > reach_mm - STEP_MM
    part = _connected(values < image.isolevel_hu, count)
    leaks = part & (rim | (values == BEYOND_HU))
    enclosed = bool(part.any()) and not bool(leaks.any())
    within = np.hypot(offsets[:, None], offsets[None, :]) <= reach_mm
    return Section(centre_mm, normal, part & within, enclosed)


def _connected(air: Bool[np.ndarray, "u v"], centre: int) -> Bool[np.ndarray, "u v"]:
    labels, _ = ndimage.label(air)
    near = labels[centre - 1 : centre + 2, centre - 1 : centre + 2]
    label = labels[centre, centre] or near.max()
    part: Bool[np.ndarray, "u v"] = (labels == label) & air
    return part


def column(
    grid: VoxelGrid, section: Section, *, low_mm: float, high_mm: float, margin_mm: float
) -> Bool[np.ndarray, "z y x"]:
    """Return the voxels in the prism over a section, from one signed distance to another.

    Parameters
    ----------
    grid
        Voxels to choose from.
    section
        Base of the prism.
    low_mm, high_mm
        Range of the distance from the plane along its normal.
    margin_mm
        Width by which the section is enlarged on all sides.
    """
    mask = np.zeros(grid.shape, dtype=bool)
    reach = section.radius_mm + margin_mm + max(abs(low_mm), abs(high_mm)) + 2.0
    middle = grid.to_index(section.centre_mm)
    span = reach / np.array(grid.spacing_mm)
    low = np.clip(np.floor(middle - span), 0, grid.shape).astype(int)
    high = np.clip(np.ceil(middle + span) + 1, 0, grid.shape).astype(int)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    index = np.moveaxis(np.mgrid[box], 0, -1)
    offset = grid.to_world_mm(index) - section.centre_mm
    u, v = plane_axes(section.normal)
    pad = int(np.ceil(margin_mm / STEP_MM)) + 1
    base = np.pad(section.mask, pad)
    near = ndimage.distance_transform_edt(~base) * STEP_MM <= margin_mm if margin_mm else base
    at = np.stack([offset @ u, offset @ v]) / STEP_MM + base.shape[0] // 2
    inside = ndimage.map_coordinates(near.view(np.uint8), at, order=0) > 0
    along = offset @ section.normal
    mask[box] = inside & (along >= low_mm) & (along <= high_mm)
    return mask
