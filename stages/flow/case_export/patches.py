"""Patches of a surface as another solver takes them: directions, sizes and ASCII STL."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from pipeline.core.errors import InputError
from stages.flow.crossings import points_inside
from stages.flow.mesh import PatchedSurface, area_vectors, is_inlet
from stages.flow.openings import Opening

_STEP = 1e-4
"""Distance from a patch, as a share of the surface's extent, at which the inside is looked for."""


def described_openings(surface: PatchedSurface) -> tuple[Opening, ...]:
    """Describe every opening by its patch alone, without a lattice.

    Raises
    ------
    InputError
        If the inside of the surface is on neither or on both sides of a patch.
    """
    return tuple(_opening(surface, name) for name in surface.openings)


def _opening(surface: PatchedSurface, name: str) -> Opening:
    triangles = surface.faces_of(name)
    vectors = area_vectors(triangles)
    areas = np.linalg.norm(vectors, axis=1)
    normal = vectors.sum(axis=0)
    normal = normal / np.linalg.norm(normal)
    start = triangles[int(np.argmax(areas))].mean(axis=0)
    step = _STEP * largest_extent_mm(surface) * normal
    ahead, behind = points_inside(surface, np.array([start + step, start - step]))
    if ahead == behind:
        raise InputError(
            f"{name}.stl: the inside of the surface is on {'both sides' if ahead else 'neither side'} of the "
            "patch; the opening must close the surface.",
            patch=name,
        )
    outward = -normal if ahead else normal
    return Opening(
        name,
        is_inlet(name),
        float(areas.sum()),
        (triangles.mean(axis=1) * areas[:, None]).sum(axis=0) / areas.sum(),
        -outward if is_inlet(name) else outward,
        triangles,
        np.zeros(0, dtype=np.int64),
    )


def largest_extent_mm(surface: PatchedSurface) -> float:
    """Return the longest edge of the surface's bounding box."""
    return float(np.ptp(surface.triangles_mm.reshape(-1, 3), axis=0).max())


def hydraulic_diameter_mm(triangles_mm: Float[np.ndarray, "face 3 3"]) -> float:
    """Return four times area over perimeter of a patch; edges of one triangle alone are its rim."""
    area = float(np.linalg.norm(area_vectors(triangles_mm), axis=1).sum())
    points, number = np.unique(
        np.round(triangles_mm.reshape(-1, 3), 6), axis=0, return_inverse=True
    )
    corners = number.reshape(-1, 3)
    edges = np.sort(
        np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]]), 1
    )
    unique, count = np.unique(edges, axis=0, return_counts=True)
    rim = unique[count == 1]
    perimeter = float(np.linalg.norm(points[rim[:, 0]] - points[rim[:, 1]], axis=1).sum())
    return 4.0 * area / perimeter


def ascii_stl(name: str, triangles_mm: Float[np.ndarray, "face 3 3"]) -> str:
    """Return a patch as ASCII STL with every digit of a 32-bit number."""
    areas = area_vectors(triangles_mm)
    length = np.linalg.norm(areas, axis=1, keepdims=True)
    normals = areas / np.where(length > 0, length, 1.0)
    rows = np.concatenate([normals, triangles_mm.reshape(-1, 9)], axis=1)
    facet = (
        "facet normal %.6g %.6g %.6g\nouter loop\nvertex %.9g %.9g %.9g\nvertex %.9g %.9g %.9g\n"
        "vertex %.9g %.9g %.9g\nendloop\nendfacet\n"
    )
    return f"solid {name}\n" + "".join(facet % tuple(row) for row in rows) + f"endsolid {name}\n"
