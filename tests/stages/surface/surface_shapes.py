"""Images of bodies whose surface is known, as CT values."""

from __future__ import annotations

import numpy as np

from pipeline.core.geometry import VoxelGrid
from pipeline.core.planes import Plane
from pipeline.core.volume import Volume

ISOLEVEL_HU = -480.0
SLOPE_HU_PER_MM = 300.0


def grid_around(half_mm, spacing_mm, shift_mm=(0.0, 0.0, 0.0)):
    n = int(np.ceil(2 * half_mm / spacing_mm)) + 1
    origin = tuple(-0.5 * (n - 1) * spacing_mm + np.array(shift_mm))
    return VoxelGrid((n, n, n), (spacing_mm,) * 3, origin)


def points_of(grid):
    return grid.to_world_mm(np.moveaxis(np.mgrid[tuple(slice(0, n) for n in grid.shape)], 0, -1))


def image_of(sdf, grid):
    """Return HU that cross the isolevel at the body's surface, air inside."""
    values = np.clip(ISOLEVEL_HU + SLOPE_HU_PER_MM * sdf(points_of(grid)), -1000.0, 40.0)
    return Volume(values.astype(np.float32), grid)


def sphere(radius, centre=(0.0, 0.0, 0.0)):
    return lambda p: np.linalg.norm(p - np.array(centre), axis=-1) - radius


def tube(a, b, radius):
    a, b = np.array(a, dtype=float), np.array(b, dtype=float)

    def distance(p):
        t = np.clip(((p - a) @ (b - a)) / ((b - a) @ (b - a)), 0.0, 1.0)
        return np.linalg.norm(p - a - t[..., None] * (b - a), axis=-1) - radius

    return distance


def y_tube(p):
    """Two nostrils that join and a pharynx, each 4 mm wide in radius, centre lines known."""
    arms = [tube((s * 9, 0, -20), (0, 0, 4), 3.0)(p) for s in (-1, 1)]
    return np.minimum.reduce([*arms, tube((0, 0, 4), (0, 0, 30), 4.0)(p)])


def y_planes():
    way = np.array([-9.0, 0.0, 24.0]) / np.hypot(9.0, 24.0)
    right = way * (-1, 1, 1)
    at = np.array([9.0, 0.0, -20.0]) + 6.0 * way
    return {
        "nostril-left": Plane("nostril-left", tuple(at), tuple(way), 6.0),
        "nostril-right": Plane("nostril-right", tuple(at * (-1, 1, 1)), tuple(right), 6.0),
        "pharynx": Plane("pharynx", (0.0, 0.0, 22.0), (0.0, 0.0, 1.0), 8.0),
    }


def everywhere(volume):
    return Volume(np.ones(volume.grid.shape, dtype=np.uint8), volume.grid)
