"""Plane sections of a closed surface: the connected part around a centre."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from pipeline.core.planes import Plane

_WHOLE = 0.9
"""A section smaller than this share of those half a cell beside it lies on an opening."""
_LARGEST_GRID = 1200
"""Sample points across a section at most."""


def section_points(
    triangles_mm: Float[np.ndarray, "face 3 3"], plane: Plane, step_mm: float
) -> tuple[Float[np.ndarray, "point 3"], float]:
    """Cover the section with points; return them and the area of each, mm2.

    Parameters
    ----------
    triangles_mm
        The closed surface.
    plane
        The section is the part of the cut within the radius that is connected to the centre; if the
        centre lies outside, the part nearest to it.
    step_mm
        Distance between points.

    Returns
    -------
    points, area
        No point if the plane cuts nothing within the radius.
    """
    axes = _plane_axes(np.array(plane.normal))
    centre = np.array(plane.centre_mm)
    count = int(np.clip(np.ceil(plane.radius_mm / step_mm), 8, _LARGEST_GRID // 2))
    step = plane.radius_mm / count
    ticks = (np.arange(-count, count) + 0.5) * step
    u, v = np.meshgrid(ticks, ticks, indexing="ij")
    inside = _inside(_outline(triangles_mm, centre, np.array(plane.normal), axes), ticks)
    part = _connected_part(inside & (np.hypot(u, v) <= plane.radius_mm))
    points = centre + u[part][:, None] * axes[0] + v[part][:, None] * axes[1]
    return points, step**2


def section_inside(
    triangles_mm: Float[np.ndarray, "face 3 3"],
    plane: Plane,
    step_mm: float,
    *,
    margin_mm: float,
) -> tuple[Float[np.ndarray, "point 3"], float]:
    """Cover the section like `section_points`, moved by a margin if it lies on the surface's end.

    A plane that coincides with an opening cuts shreds of it; half a cell further in it cuts the
    whole passage.
    """
    found = []
    for offset in (0.0, margin_mm, -margin_mm):
        centre = np.array(plane.centre_mm) + offset * np.array(plane.normal)
        x, y, z = (float(v) for v in centre)
        moved = Plane(plane.name, (x, y, z), plane.normal, plane.radius_mm)
        found.append(section_points(triangles_mm, moved, step_mm))
    largest = max(found, key=lambda section: len(section[0]))
    return found[0] if len(found[0][0]) > _WHOLE * len(largest[0]) else largest


def _plane_axes(normal: Float[np.ndarray, "3"]) -> Float[np.ndarray, "2 3"]:
    helper = np.eye(3)[np.argmin(np.abs(normal))]
    first = np.cross(normal, helper)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(normal, first)])


def _outline(
    triangles: Float[np.ndarray, "face 3 3"],
    centre: Float[np.ndarray, "3"],
    normal: Float[np.ndarray, "3"],
    axes: Float[np.ndarray, "2 3"],
) -> Float[np.ndarray, "segment 2 2"]:
    """Return the segments in which the plane cuts the triangles, in plane coordinates.

    A corner that lies in the plane counts as above it, so that every cut edge gives one point.
    """
    height = (triangles - centre) @ normal
    above = height >= 0.0
    cut = above.any(axis=1) & ~above.all(axis=1)
    corners, height, above = triangles[cut], height[cut], above[cut]
    lone_is_above = above.sum(axis=1) == 1
    lone = np.argmax(above == lone_is_above[:, None], axis=1)
    rows = np.arange(len(lone))
    ends = []
    for other in ((lone + 1) % 3, (lone + 2) % 3):
        h0, h1 = height[rows, lone], height[rows, other]
        share = (h0 / (h0 - h1))[:, None]
        point = corners[rows, lone] * (1 - share) + corners[rows, other] * share
        ends.append((point - centre) @ axes.T)
    return np.stack(ends, axis=1)


def _inside(
    outline: Float[np.ndarray, "segment 2 2"], ticks: Float[np.ndarray, "tick"]
) -> Bool[np.ndarray, "u v"]:
    """Return which grid points lie inside the outline, by parity along the second axis."""
    step = ticks[1] - ticks[0]
    crossings = np.zeros((len(ticks), len(ticks) + 1), dtype=np.int64)
    low, high = outline[:, :, 0].min(axis=1), outline[:, :, 0].max(axis=1)
    first = np.clip(np.ceil((low - ticks[0]) / step), 0, len(ticks)).astype(int)
    last = np.clip(np.ceil((high - ticks[0]) / step), 0, len(ticks)).astype(int)
    for k in np.flatnonzero(last > first):
        (u0, v0), (u1, v1) = outline[k]
        rows = np.arange(first[k], last[k])
        v = v0 + (v1 - v0) * (ticks[rows] - u0) / (u1 - u0)
        place = np.clip(np.ceil((v - ticks[0]) / step), 0, len(ticks)).astype(int)
        np.add.at(crossings, (rows, place), 1)
    parity: Bool[np.ndarray, "u v"] = (np.cumsum(crossings, axis=1)[:, :-1] % 2).astype(bool)
    return parity


def _connected_part(fluid: Bool[np.ndarray, "u v"]) -> Bool[np.ndarray, "u v"]:
    label, count = ndimage.label(fluid)
    if count == 0:
        return fluid
    centre = (np.array(fluid.shape) - 1) / 2
    places = np.argwhere(fluid)
    nearest = places[np.argmin(np.square(places - centre).sum(axis=1))]
    part: Bool[np.ndarray, "u v"] = label == label[tuple(nearest)]
    return part
