"""Closed surfaces made of patches: one triangle soup per wall, inlet or outlet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from pipeline.core.errors import InputError

WALL = "wall"
MERGE_TOLERANCE = 1e-5
"""Vertices closer than this share of the bounding box are one: STL stores 24-bit mantissas."""


@dataclass(frozen=True)
class PatchedSurface:
    """Hold the triangles of all patches together.

    Parameters
    ----------
    triangles_mm
        Corners (face, corner, xyz), world LPS, mm.
    patch
        Index into `names` for each face.
    names
        Patch names: ``wall``, ``inlet...``, ``outlet...``; the wall comes first.
    """

    triangles_mm: Float[np.ndarray, "face 3 3"]
    patch: Int[np.ndarray, "face"]
    names: tuple[str, ...]

    def faces_of(self, name: str) -> Float[np.ndarray, "face 3 3"]:
        """Return the triangles of one patch."""
        return np.asarray(self.triangles_mm[self.patch == self.names.index(name)])

    @property
    def openings(self) -> tuple[str, ...]:
        """Return the names of inlets and outlets."""
        return tuple(name for name in self.names if name != WALL)


def is_inlet(name: str) -> bool:
    """Say whether a patch lets the flow in."""
    return name.startswith("inlet")


def is_outlet(name: str) -> bool:
    """Say whether a patch lets the flow out."""
    return name.startswith("outlet")


def area_vectors(triangles: Float[np.ndarray, "face 3 3"]) -> Float[np.ndarray, "face 3"]:
    """Return normal times area of each triangle, squared length units."""
    edges = triangles[:, 1:] - triangles[:, :1]
    return 0.5 * np.cross(edges[:, 0], edges[:, 1])


def enclosed_volume(triangles: Float[np.ndarray, "face 3 3"]) -> float:
    """Return the volume inside a closed surface with outward normals (divergence theorem)."""
    centre = triangles.mean(axis=(0, 1))
    shifted = triangles - centre
    return float(np.einsum("fi,fi->", shifted.mean(axis=1), area_vectors(triangles)) / 3.0)


def assemble(patches: Mapping[str, Float[np.ndarray, "face 3 3"]]) -> PatchedSurface:
    """Join patches into one closed surface with outward normals.

    Parameters
    ----------
    patches
        Triangles (face, corner, xyz), mm, by patch name.

    Raises
    ------
    InputError
        If the wall, an inlet or an outlet is missing, a patch is empty or not finite, or the
        patches together are not closed.
    """
    _check_present(patches)
    names = (WALL, *sorted(name for name in patches if name != WALL))
    triangles = np.concatenate([patches[name] for name in names])
    patch = np.repeat(np.arange(len(names)), [len(patches[name]) for name in names])
    corners = merged_vertices(triangles)
    keep = ~_degenerate(corners)
    surface = PatchedSurface(triangles[keep].astype(np.float64), patch[keep], names)
    _check_closed(corners[keep], surface)
    if enclosed_volume(surface.triangles_mm) < 0:
        flipped = np.ascontiguousarray(surface.triangles_mm[:, ::-1])
        surface = PatchedSurface(flipped, surface.patch, names)
    return surface


def merged_vertices(triangles: Float[np.ndarray, "face 3 3"]) -> Int[np.ndarray, "face 3"]:
    """Number the corners so that corners at one place have one number."""
    points = triangles.reshape(-1, 3)
    size = float(np.ptp(points, axis=0).max())
    keys = np.round((points - points.min(axis=0)) / (size * MERGE_TOLERANCE)).astype(np.int64)
    _, number = np.unique(keys, axis=0, return_inverse=True)
    return number.reshape(-1, 3)


def _check_present(patches: Mapping[str, Float[np.ndarray, "face 3 3"]]) -> None:
    needed = {
        "wall.stl": any(name == WALL for name in patches),
        "inlet*.stl": any(is_inlet(name) for name in patches),
        "outlet*.stl": any(is_outlet(name) for name in patches),
    }
    missing = [name for name, found in needed.items() if not found]
    if missing:
        raise InputError(
            f"the surface folder lacks {' and '.join(missing)}; needed are wall.stl and at least "
            "one inlet*.stl and one outlet*.stl.",
            missing=missing,
        )
    for name, triangles in patches.items():
        if len(triangles) == 0:
            raise InputError(f"{name}.stl: holds no triangle; export the patch again.", patch=name)
        if not np.isfinite(triangles).all():
            raise InputError(
                f"{name}.stl: holds coordinates that are not finite; export it again.", patch=name
            )


def _degenerate(corners: Int[np.ndarray, "face 3"]) -> Int[np.ndarray, "face"]:
    a, b, c = corners.T
    return np.asarray((a == b) | (b == c) | (c == a))


def _check_closed(corners: Int[np.ndarray, "face 3"], surface: PatchedSurface) -> None:
    edges = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
    face = np.tile(np.arange(len(corners)), 3)
    _, index, count = np.unique(
        np.sort(edges, axis=1), axis=0, return_inverse=True, return_counts=True
    )
    odd = count[index.ravel()] % 2 == 1
    if odd.any():
        place = surface.triangles_mm[face[odd][0]].mean(axis=0)
        raise InputError(
            f"the patches together are not closed: {int(odd.sum())} edges bound an odd number of "
            f"triangles, one near ({place[0]:.1f}, {place[1]:.1f}, {place[2]:.1f}) mm; "
            "close the surface so that neighbouring patches share their edges.",
            open_edges=int(odd.sum()),
            place_mm=tuple(place),
        )
