"""Say how good the triangles of a surface are for a solver that meshes from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from stages.surface.mesh import Mesh

EQUILATERAL = 2.0 / np.sqrt(3.0)
"""Longest edge over shortest height of an equilateral triangle."""


@dataclass(frozen=True)
class TriangleQuality:
    """Hold statistics of a surface's triangles.

    Parameters
    ----------
    min_angle_degrees_p1, min_angle_degrees_median
        First percentile and median of the triangles' smallest angles.
    aspect_ratio_p99
        99th percentile of longest edge over shortest height, 1 for an equilateral triangle.
    edge_mm_mean, edge_mm_sd
        Mean and standard deviation of the edges' lengths.
    """

    min_angle_degrees_p1: float
    min_angle_degrees_median: float
    aspect_ratio_p99: float
    edge_mm_mean: float
    edge_mm_sd: float


def triangle_quality(mesh: Mesh) -> TriangleQuality:
    """Measure the triangles of a closed mesh."""
    lengths = _edge_lengths(mesh)
    angles = _smallest_angles(lengths)
    longest = lengths.max(axis=1)
    half = lengths.sum(axis=1) / 2.0
    squared = half * np.prod(half[:, None] - lengths, axis=1)
    height = 2.0 * np.sqrt(np.maximum(squared, 0.0)) / longest
    aspect = longest / np.maximum(height, 1e-12) / EQUILATERAL
    # Each edge of a closed mesh is met twice: mean and spread are those of single edges.
    return TriangleQuality(
        float(np.quantile(angles, 0.01)),
        float(np.median(angles)),
        float(np.quantile(aspect, 0.99)),
        float(lengths.mean()),
        float(lengths.std()),
    )


def _edge_lengths(mesh: Mesh) -> Float[np.ndarray, "face 3"]:
    corners = mesh.points[mesh.faces]
    lengths: Float[np.ndarray, "face 3"] = np.linalg.norm(
        corners - np.roll(corners, -1, axis=1), axis=2
    )
    return lengths


def _smallest_angles(lengths: Float[np.ndarray, "face 3"]) -> Float[np.ndarray, "face"]:
    """Return the angle opposite to the shortest edge, by the law of cosines."""
    a, b, c = np.sort(lengths, axis=1).T
    cosine = (b**2 + c**2 - a**2) / np.maximum(2.0 * b * c, 1e-30)
    angles: Float[np.ndarray, "face"] = np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))
    return angles
