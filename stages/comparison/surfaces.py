"""Distances between two surfaces.

Notes
-----
Points are drawn evenly by area from one surface with a fixed seed, and the exact distance to the
triangles of the other is taken; both directions are pooled. Openings are left out: the cuts are
the same planes for every variant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyvista
import trimesh
from jaxtyping import Float

from pipeline.core.units import MM3_PER_ML

SAMPLES = 40_000
_SEED = 20240715
DEFINITION = {
    "points_per_surface": SAMPLES,
    "mean_distance_mm": "mean over both directions, points evenly by area to exact triangles",
    "hausdorff95_mm": "95 % quantile of the same distances, both directions pooled",
    "volume_ml": "enclosed by wall, inlets and outlets",
}


@dataclass(frozen=True)
class SurfaceDistance:
    """Hold the symmetric distances of two surfaces, mm."""

    mean_mm: float
    hausdorff95_mm: float
    largest_mm: float
    largest_place_mm: tuple[float, float, float]


def surface_distance(
    reference: Float[np.ndarray, "face 3 3"], other: Float[np.ndarray, "face 3 3"]
) -> SurfaceDistance:
    """Return mean, 95 % and largest symmetric distance of two triangle surfaces."""
    points_a, points_b = sample_by_area(reference), sample_by_area(other)
    points = np.concatenate([points_a, points_b])
    distance = np.concatenate(
        [distance_to_surface(points_a, other), distance_to_surface(points_b, reference)]
    )
    x, y, z = (float(v) for v in points[int(np.argmax(distance))])
    return SurfaceDistance(
        float(distance.mean()),
        float(np.quantile(distance, 0.95)),
        float(distance.max()),
        (x, y, z),
    )


def sample_by_area(
    triangles: Float[np.ndarray, "face 3 3"], count: int = SAMPLES
) -> Float[np.ndarray, "point 3"]:
    """Draw points evenly by area, the same ones for the same surface."""
    generator = np.random.default_rng(_SEED)
    area = trimesh.triangles.area(triangles)
    cumulative = np.cumsum(area)
    places = (np.arange(count) + generator.random(count)) / count * cumulative[-1]
    face = np.minimum(np.searchsorted(cumulative, places), len(triangles) - 1)
    u, v = generator.random((2, count))
    flip = u + v > 1
    u, v = np.where(flip, 1 - u, u), np.where(flip, 1 - v, v)
    a, b, c = triangles[face].transpose(1, 0, 2)
    points: Float[np.ndarray, "point 3"] = a + u[:, None] * (b - a) + v[:, None] * (c - a)
    return points


def distance_to_surface(
    points: Float[np.ndarray, "point 3"], triangles: Float[np.ndarray, "face 3 3"]
) -> Float[np.ndarray, "point"]:
    """Return the exact distance of points to a triangle surface."""
    faces = np.arange(3 * len(triangles)).reshape(-1, 3)
    mesh = pyvista.PolyData.from_regular_faces(triangles.reshape(-1, 3), faces).clean()
    _, closest = mesh.find_closest_cell(points, return_closest_point=True)
    distance: Float[np.ndarray, "point"] = np.linalg.norm(points - closest, axis=1)
    return distance


def enclosed_ml(triangles: Float[np.ndarray, "face 3 3"]) -> float:
    """Return the volume that a closed surface encloses, ml, by the divergence theorem."""
    centred = triangles - triangles.mean(axis=(0, 1))
    crossed = np.cross(centred[:, 1], centred[:, 2])
    return abs(float(np.einsum("fi,fi->", centred[:, 0], crossed))) / 6.0 / MM3_PER_ML
