"""A head made of signed distances: two nasal passages, a pharynx and a sinus, all known exactly."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume

AIR, TISSUE = -1000.0, 40.0
SPACING_MM = 1.2
NOSTRIL_Z_MM = -26.0
"""The base of the nose is cut flat at this height."""


def capsule(p, a, b, radius):
    a, b = np.array(a), np.array(b)
    along = np.clip(((p - a) @ (b - a)) / ((b - a) @ (b - a)), 0.0, 1.0)
    return np.linalg.norm(p - a - along[..., None] * (b - a), axis=-1) - radius


def sphere(p, centre, radius):
    return np.linalg.norm(p - np.array(centre), axis=-1) - radius


def head_sdf(p):
    axes = np.array([70.0, 88.0, 105.0])
    skull = (np.linalg.norm(p / axes, axis=-1) - 1.0) * axes.min()
    nose = np.minimum(
        capsule(p, (0, -76, 20), (0, -96, -10), 14.0),
        capsule(p, (-5, -94, -16), (5, -94, -16), 13.0),
    )
    base = p[..., 2] - NOSTRIL_Z_MM
    return np.minimum(skull, np.maximum(nose, -base))


def passage_sdf(p, sign, radius):
    x = 6.0 * sign
    points = [(x, -97, -40), (x, -96, -16), (x, -84, -5), (x, -60, -4), (x, -36, -8)]
    parts = [capsule(p, a, b, radius) for a, b in pairwise(points)]
    parts.append(capsule(p, points[-1], (0.0, -26.0, -10.0), 6.0))
    return np.minimum.reduce(parts)


def pharynx_sdf(p):
    return np.minimum(sphere(p, (0, -26, -10), 8.0), capsule(p, (0, -24, -12), (0, -12, -90), 7.0))


def sinus_sdf(p, sign):
    return np.minimum(
        sphere(p, (28.0 * sign, -60, 0), 11.0),
        capsule(p, (6.0 * sign, -60, -4), (28.0 * sign, -60, 0), 1.6),
    )


def plug_sdf(p, sign):
    return sphere(p, (6.0 * sign, -75.0, -4.0), 9.0)


def make_head(
    *, spacing_mm=SPACING_MM, radii=(4.2, 4.2), blocked=(), sinuses=True, shift_mm=(0.0, 0.0, 0.0)
):
    """Return a CT of the head; `radii` and `blocked` name (right, left) and sides."""
    low, high = np.array([-84.0, -130.0, -78.0]), np.array([84.0, 98.0, 60.0])
    shape = tuple(int(n) for n in np.ceil((high - low) / spacing_mm)[::-1])
    grid = VoxelGrid(shape, (spacing_mm,) * 3, tuple(low + np.array(shift_mm)))
    index = np.moveaxis(np.mgrid[: shape[0], : shape[1], : shape[2]], 0, -1)
    p = grid.to_world_mm(index) - np.array(shift_mm)
    airway = pharynx_sdf(p)
    for sign, radius, side in ((-1, radii[0], "right"), (1, radii[1], "left")):
        passage = passage_sdf(p, sign, radius)
        if side in blocked:
            passage = np.maximum(passage, -plug_sdf(p, sign))
        airway = np.minimum(airway, passage)
        if sinuses:
            airway = np.minimum(airway, sinus_sdf(p, sign))
    tissue = np.maximum(head_sdf(p), -airway)
    # Partial volume: the share of a voxel cut by a plane face.
    share = np.clip(0.5 - tissue / spacing_mm, 0.0, 1.0)
    return Volume((AIR + (TISSUE - AIR) * share).astype(np.float32), grid)


def mirrored(volume):
    """Return the volume mirrored at x = 0."""
    grid = volume.grid
    last = grid.origin_mm[0] + (grid.shape[2] - 1) * grid.spacing_mm[2]
    flipped = VoxelGrid(grid.shape, grid.spacing_mm, (-last, *grid.origin_mm[1:]))
    return Volume(volume.values[:, :, ::-1].copy(), flipped)
