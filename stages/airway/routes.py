"""Find the way of least resistance through the head, through tissue if it must be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from skimage.graph import MCP_Geometric

TISSUE_COST = 300.0
"""Cost of a voxel of tissue: that of a detour of 300 voxels through air 0.7 mm from a wall, so that a route
crosses tissue only where there is no other way."""

WALL_OFFSET_MM = 0.4
"""Keeps the cost finite at the wall; about half a voxel."""


@dataclass(frozen=True)
class Route:
    """Hold a way through the head, from its far end to its source.

    Parameters
    ----------
    index
        Voxel indices (z, y, x) along the way.
    in_tissue
        Whether each voxel is tissue.
    """

    index: Int[np.ndarray, "point 3"]
    in_tissue: Bool[np.ndarray, "point"]

    @property
    def is_open(self) -> bool:
        """Say whether the way leads through air only."""
        return not bool(self.in_tissue.any())


def travel_cost(
    air: Bool[np.ndarray, "z y x"],
    forbidden: Bool[np.ndarray, "z y x"],
    spacing_mm: float,
) -> Float[np.ndarray, "z y x"]:
    """Return the cost of each voxel: 1/d^2 at the distance d from the wall; -1 where forbidden."""
    wall_mm = ndimage.distance_transform_edt(air).astype(np.float32) * spacing_mm
    cost = np.where(air, 1.0 / np.square(wall_mm + WALL_OFFSET_MM), TISSUE_COST)
    return np.where(forbidden, -1.0, cost).astype(np.float32)


def find_route(
    cost: Float[np.ndarray, "z y x"],
    air: Bool[np.ndarray, "z y x"],
    source: tuple[int, int, int],
    ends: Bool[np.ndarray, "z y x"],
) -> Route | None:
    """Return the cheapest way from the nearest of the ends to the source, or None without any."""
    candidates = np.argwhere(ends & (cost > 0))
    if len(candidates) == 0 or cost[source] <= 0:
        return None
    search = MCP_Geometric(cost)
    total, _ = search.find_costs([source])
    reached = total[tuple(candidates.T)]
    if not np.isfinite(reached).any():
        return None
    end = tuple(int(i) for i in candidates[int(np.argmin(reached))])
    path = np.array(search.traceback(end))[::-1]
    return Route(path, ~air[tuple(path.T)])


def smooth_line(
    points_mm: Float[np.ndarray, "point 3"], *, spacing_mm: float, sigma_mm: float
) -> Float[np.ndarray, "point 3"]:
    """Return the line at equal steps of one spacing, smoothed by a Gaussian along its length."""
    steps = np.linalg.norm(np.diff(points_mm, axis=0), axis=1)
    length = np.concatenate([[0.0], np.cumsum(steps)])
    at = np.arange(0.0, length[-1], spacing_mm)
    even = np.stack([np.interp(at, length, points_mm[:, i]) for i in range(3)], axis=1)
    smooth: Float[np.ndarray, "point 3"] = ndimage.gaussian_filter1d(
        even, sigma_mm / spacing_mm, axis=0, mode="nearest"
    )
    return smooth


def tangents(line_mm: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, "point 3"]:
    """Return unit vectors along a line."""
    gradient = np.gradient(line_mm, axis=0)
    unit: Float[np.ndarray, "point 3"] = gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
    return unit
