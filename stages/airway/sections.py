"""Cut the airway with planes: sections, their areas and whether walls enclose them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from pipeline.core.geometry import VoxelGrid


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
        Its grid.
    isolevel_hu
        What is below is air.
    """

    hu: Float[np.ndarray, "z y x"]
    outside: Bool[np.ndarray, "z y x"]
    grid: VoxelGrid
    isolevel_hu: float


@dataclass(frozen=True)
class Section:
    """Hold a section: the air around a point in a plane.

    Parameters
    ----------
    area_mm2
        Its area.
    is_enclosed
        Whether walls enclose it within the reach that was looked at.
    points_mm
        Sample points of the section, world.
    """

    area_mm2: float
    is_enclosed: bool
    points_mm: Float[np.ndarray, "point 3"]


def plane_axes(normal: Float[np.ndarray, 3]) -> tuple[Float[np.ndarray, 3], Float[np.ndarray, 3]]:
    """Return two unit vectors that span the plane with this normal."""
    helper = np.eye(3)[int(np.argmin(np.abs(normal)))]
    first = np.cross(normal, helper)
    first /= np.linalg.norm(first)
    return first, np.cross(normal, first)


def cut(
    image: Image,
    centre_mm: Float[np.ndarray, 3],
    normal: Float[np.ndarray, 3],
    *,
    reach_mm: float,
    step_mm: float = 0.5,
) -> Section:
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
    step_mm
        Distance of the samples in the plane.
    """
    u, v = plane_axes(normal)
    count = int(np.ceil(reach_mm / step_mm))
    offsets = np.arange(-count, count + 1) * step_mm
    points = centre_mm + offsets[:, None, None] * u + offsets[None, :, None] * v
    index = np.moveaxis(image.grid.to_index(points), -1, 0)
    values = ndimage.map_coordinates(image.hu, index, order=1, mode="nearest")
    rim = np.hypot(offsets[:, None], offsets[None, :]) > reach_mm - step_mm
    part = _connected(values < image.isolevel_hu, count)
    outside = ndimage.map_coordinates(image.outside.view(np.uint8), index, order=0)
    enclosed = not bool((part & (rim | (outside > 0))).any())
    return Section(float(part.sum()) * step_mm**2, enclosed and bool(part.any()), points[part])


def _connected(air: Bool[np.ndarray, "u v"], centre: int) -> Bool[np.ndarray, "u v"]:
    labels, _ = ndimage.label(air)
    label = labels[centre, centre]
    if label == 0:
        near = labels[centre - 1 : centre + 2, centre - 1 : centre + 2]
        label = near.max()
    return (labels == label) & air
