"""Closed surfaces made of patches: one triangle soup per wall, inlet or outlet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from pipeline.core.errors import InputError
from stages.flow.crossings import points_within
from stages.flow.shells import Edges, Shells, faces_to_turn, find_shells, joined, without_copies

WALL = "wall"
MERGE_TOLERANCE = 1e-5
"""Vertices closer than this share of the bounding box are one: STL stores 24-bit mantissas."""
_EDGE_SHARE = 0.1
"""... and than this share of a short edge, the shortest tenth left out: a speck far away widens the box."""
_FINEST = 5e-7
"""Share of the bounding box that is still merged: steps of it along three axes are numbered with 64 bits."""
_DEPTH_POINTS = 15
"""Points on each shell that tell whether it lies within others."""


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
    shells
        The parts that share no edge.
    copies
        Number of triangles left out because others lie at the same corners.
    """

    triangles_mm: Float[np.ndarray, "face 3 3"]
    patch: Int[np.ndarray, "face"]
    names: tuple[str, ...]
    shells: Shells
    copies: int = 0

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
    return float(_moments(triangles).sum() / 3.0)


def _moments(triangles: Float[np.ndarray, "face 3 3"]) -> Float[np.ndarray, "face"]:
    """Return what each triangle adds to three times the enclosed volume."""
    shifted = triangles - triangles.mean(axis=(0, 1))
    return np.asarray(np.einsum("fi,fi->f", shifted.mean(axis=1), area_vectors(triangles)))


def assemble(patches: Mapping[str, Float[np.ndarray, "face 3 3"]]) -> PatchedSurface:
    """Join patches into one closed surface with outward normals.

    Corners that differ by rounding become one, triangles without area and copies are left out (a
    copy on the wall of an opening's triangle is the opening's), and triangles are turned to be wound alike.

    Parameters
    ----------
    patches
        Triangles (face, corner, xyz), mm, by patch name.

    Raises
    ------
    InputError
        If the wall, an inlet or an outlet is missing, a patch is empty or not finite, openings share
        triangles, or the patches together are not closed.
    """
    _check_present(patches)
    names = (WALL, *sorted(name for name in patches if name != WALL))
    triangles = np.concatenate([patches[name] for name in names]).astype(np.float64)
    patch = np.repeat(np.arange(len(names)), [len(patches[name]) for name in names])
    triangles, corners = _welded(triangles)
    keep = ~_degenerate(corners)
    triangles, patch, corners = triangles[keep], patch[keep], corners[keep]
    _check_left(patch, names)
    keep = without_copies(corners, rank=np.where(patch == 0, len(names), patch))
    _check_shared(corners, patch, keep, names)
    triangles, patch, corners = triangles[keep], patch[keep], corners[keep]
    _check_closed(corners, triangles)
    _check_left(patch, names)
    turn = faces_to_turn(corners, np.linalg.norm(area_vectors(triangles), axis=1))
    corners, triangles = _turned(corners, turn), _turned(triangles, turn)
    shells = find_shells(corners)
    triangles = _turned(triangles, _inside_out(triangles, shells)[shells.of_face])
    return PatchedSurface(triangles, patch, names, shells, int((~keep).sum()))


def _welded(
    triangles: Float[np.ndarray, "face 3 3"],
) -> tuple[Float[np.ndarray, "face 3 3"], Int[np.ndarray, "face 3"]]:
    """Put corners of one number at one place, so that no ray slips between two triangles."""
    number = merged_vertices(triangles)
    _, first = np.unique(number, return_index=True)
    return triangles.reshape(-1, 3)[first][number], number


def _inside_out(
    triangles: Float[np.ndarray, "face 3 3"], shells: Shells
) -> Bool[np.ndarray, "shell"]:
    """Return the shells whose normals point into the fluid: outward is right at even depth only.

    Most of some points on a shell tell whether it lies within others, as it may touch them at the rest.
    """
    shell, number = shells.of_face.astype(np.int64), len(shells.oriented)
    inward = np.bincount(shell, _moments(triangles)) < 0.0
    if number == 1:
        return np.asarray(inward)
    order = np.argsort(shell, kind="stable")
    count = np.bincount(shell)
    picked = np.minimum(count, _DEPTH_POINTS)
    own = np.repeat(np.arange(number), picked)
    rank = np.arange(len(own)) - np.repeat(np.cumsum(picked) - picked, picked)
    face = order[(np.cumsum(count) - count)[own] + rank * count[own] // picked[own]]
    within = points_within(triangles, shell, triangles[face].mean(axis=1), own)
    return np.asarray(inward != (2 * np.bincount(own, within) > picked))


def _turned(faces: np.ndarray, turn: Bool[np.ndarray, "face"]) -> np.ndarray:
    if not turn.any():
        return faces
    faces = faces.copy()
    faces[turn] = faces[turn, ::-1]
    return faces


def merged_vertices(triangles: Float[np.ndarray, "face 3 3"]) -> Int[np.ndarray, "face 3"]:
    """Number the corners so that corners at one place have one number."""
    points = triangles.reshape(-1, 3)
    extent = float(np.ptp(points, axis=0).max())
    if extent == 0.0:
        return np.zeros((len(triangles), 3), dtype=np.int64)
    edges = np.linalg.norm(np.roll(triangles, -1, axis=1) - triangles, axis=2)
    short = float(np.quantile(edges[edges > 0.0], 0.1))
    tolerance = max(min(extent * MERGE_TOLERANCE, short * _EDGE_SHARE), extent * _FINEST)
    keys = np.round((points - points.min(axis=0)) / tolerance).astype(np.int64)
    width = int(keys.max()) + 1
    key = (keys[:, 0] * width + keys[:, 1]) * width + keys[:, 2]
    _, first, number = np.unique(key, return_index=True, return_inverse=True)
    # Corners on either side of a step of the rounding are still at one place.
    near = cKDTree(points[first]).query_pairs(tolerance, output_type="ndarray")
    if len(near):
        number = joined(near[:, 0], near[:, 1], len(first))[number]
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


def _check_left(patch: Int[np.ndarray, "face"], names: tuple[str, ...]) -> None:
    empty = [name for k, name in enumerate(names) if not (patch == k).any()]
    if empty:
        raise InputError(
            f"{empty[0]}.stl: its triangles have no area or are those of other patches too; each triangle "
            "belongs to one patch: export the patches again.",
            patch=empty[0],
        )


def _check_shared(
    corners: Int[np.ndarray, "face 3"],
    patch: Int[np.ndarray, "face"],
    keep: Bool[np.ndarray, "face"],
    names: tuple[str, ...],
) -> None:
    """Refuse copies in one opening of triangles of another one: whose they are cannot be known."""
    opening = np.flatnonzero(patch > 0)
    group = np.unique(np.sort(corners[opening], axis=1), axis=0, return_inverse=True)[1].ravel()
    own, kept = patch[opening], keep[opening]
    owner = np.zeros(len(opening), dtype=np.int64)
    owner[group[kept]] = own[kept]
    shared = np.flatnonzero(~kept & (owner[group] != own))
    if len(shared):
        name, other = names[own[shared[0]]], names[owner[group[shared[0]]]]
        raise InputError(
            f"{name}.stl: {len(shared)} of its triangles are in {other}.stl too; each triangle belongs to "
            "one patch: export the patches again.",
            patch=name,
        )


def _check_closed(
    corners: Int[np.ndarray, "face 3"], triangles: Float[np.ndarray, "face 3 3"]
) -> None:
    edges = Edges.of(corners)
    number = int(edges.is_odd.sum())
    if number:
        at = edges.first[edges.is_odd][0]
        face, side = edges.face[at], edges.side[at]
        place = 0.5 * (triangles[face, side] + triangles[face, (side + 1) % 3])
        raise InputError(
            f"the patches together are not closed: {number} edges bound an odd number of triangles, one "
            f"near ({place[0]:.1f}, {place[1]:.1f}, {place[2]:.1f}) mm; close the surface so that "
            "neighbouring patches share their edges, or let small holes be closed with "
            "`ct2flow surface check SURFACE_DIR --repair REPAIRED_DIR`.",
            open_edges=number,
            place_mm=tuple(place),
        )
