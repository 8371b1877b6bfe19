"""Find triangles of a surface that pass through one another."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from stages.surface.mesh import Mesh

CHUNK = 20000
"""Faces whose neighbours are looked up at a time: bounds the memory."""

RELATIVE_TOLERANCE = 1e-9
"""Parameters within this of a triangle's border count as touching, not as crossing (float64 rounding)."""


def self_intersections(mesh: Mesh) -> Int[np.ndarray, "pair 2"]:
    """Return the pairs of faces without a common vertex that cross.

    Notes
    -----
    Two triangles cross if an edge of one passes through the other (Moller & Trumbore 1997,
    doi:10.1080/10867651.1997.10487468). Coplanar overlap is not looked for.
    """
    corners = mesh.points[mesh.faces]
    centres = corners.mean(axis=1)
    radii = np.linalg.norm(corners - centres[:, None], axis=2).max(axis=1)
    order = np.argsort(radii)
    found: list[Int[np.ndarray, "pair 2"]] = []
    tree = cKDTree(centres)
    for start in range(0, len(order), CHUNK):
        chunk = order[start : start + CHUNK]
        pairs = _candidates(tree, centres, radii, chunk, corners)
        apart = ~(mesh.faces[pairs[:, 0]][:, :, None] == mesh.faces[pairs[:, 1]][:, None, :]).any(
            axis=(1, 2)
        )
        pairs = pairs[apart]
        found.append(pairs[_cross(corners[pairs[:, 0]], corners[pairs[:, 1]])])
    if not found:
        return np.zeros((0, 2), dtype=np.int64)
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _candidates(
    tree: cKDTree,
    centres: Float[np.ndarray, "face 3"],
    radii: Float[np.ndarray, "face"],
    chunk: Int[np.ndarray, "some"],
    corners: Float[np.ndarray, "face 3 3"],
) -> Int[np.ndarray, "pair 2"]:
    """Return pairs (larger, not larger) whose boxes overlap: each pair is met from its larger face."""
    near = tree.query_ball_point(centres[chunk], 2.0 * radii[chunk], return_sorted=False)
    lengths = np.array([len(n) for n in near])
    first = np.repeat(chunk, lengths)
    second = np.concatenate([np.asarray(n, dtype=np.int64) for n in near])
    mine = (radii[second] < radii[first]) | ((radii[second] == radii[first]) & (second > first))
    first, second = first[mine], second[mine]
    low, high = corners.min(axis=1), corners.max(axis=1)
    overlap = ((low[first] <= high[second]) & (low[second] <= high[first])).all(axis=1)
    return np.stack([first[overlap], second[overlap]], axis=1)


def _cross(
    one: Float[np.ndarray, "pair 3 3"], two: Float[np.ndarray, "pair 3 3"]
) -> Bool[np.ndarray, "pair"]:
    result = np.zeros(len(one), dtype=bool)
    for a, b in ((one, two), (two, one)):
        for i in range(3):
            result |= _edge_passes(a[:, i], a[:, (i + 1) % 3], b)
    return result


def _edge_passes(
    start: Float[np.ndarray, "pair 3"],
    end: Float[np.ndarray, "pair 3"],
    triangle: Float[np.ndarray, "pair 3 3"],
) -> Bool[np.ndarray, "pair"]:
    ray = end - start
    first, second = triangle[:, 1] - triangle[:, 0], triangle[:, 2] - triangle[:, 0]
    across = np.cross(ray, second)
    determinant = np.einsum("ij,ij->i", first, across)
    with np.errstate(divide="ignore", invalid="ignore"):
        offset = start - triangle[:, 0]
        u = np.einsum("ij,ij->i", offset, across) / determinant
        other = np.cross(offset, first)
        v = np.einsum("ij,ij->i", ray, other) / determinant
        t = np.einsum("ij,ij->i", second, other) / determinant
        e = RELATIVE_TOLERANCE
        inside = (u > e) & (v > e) & (u + v < 1 - e) & (t > e) & (t < 1 - e)
    hit: Bool[np.ndarray, "pair"] = inside & (determinant != 0)
    return hit
