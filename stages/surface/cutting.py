"""Cut a closed surface exactly at a plane, but only along the loop around the plane's centre."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from pipeline.core.errors import InputError
from pipeline.core.planes import Plane
from stages.surface.mesh import Mesh, components

CLEARANCE_MM = 0.02
"""Vertices nearer to the plane are moved to this distance on their side: no triangle of the cut is
degenerate, and the wall moves by less than a twentieth of a voxel."""


@dataclass(frozen=True)
class Opening:
    """Hold the loops along which a surface was cut.

    Parameters
    ----------
    plane
        The plane.
    loops_mm
        Points of the outer loop and of those within it (tissue inside the lumen), in order.
    """

    plane: Plane
    loops_mm: list[Float[np.ndarray, "point 3"]]


def plane_frame(plane: Plane) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "2 3"]]:
    """Return the plane's normal and two unit vectors that span it, right-handed."""
    normal = np.array(plane.normal)
    helper = np.eye(3)[int(np.argmin(np.abs(normal)))]
    first = np.cross(normal, helper)
    first /= np.linalg.norm(first)
    return normal, np.stack([first, np.cross(normal, first)])


def cut_open(mesh: Mesh, plane: Plane, *, keep_ahead: bool) -> tuple[Mesh, Opening]:
    """Cut the surface along the section around the plane's centre and drop what lies beyond.

    Parameters
    ----------
    mesh
        Closed surface, or one already opened elsewhere.
    plane
        Where to cut; only loops within its radius are cut.
    keep_ahead
        Keep the side to which the normal points (nostrils) or the other one (pharynx).

    Raises
    ------
    InputError
        If the plane meets no section at its centre or does not separate the surface.
    """
    normal, frame = plane_frame(plane)
    height = (mesh.points - np.array(plane.centre_mm)) @ normal
    ahead = height >= 0
    count = ahead[mesh.faces].sum(axis=1)
    crossing = np.flatnonzero((count == 1) | (count == 2))
    edges, ends = crossed_edges(mesh.faces[crossing], ahead)
    chosen, loops = _choose_loops(mesh.points, height, edges, ends, plane, frame)
    points, height = _clear(mesh, height, crossing[chosen], normal)
    cut = Cut(Mesh(points, mesh.faces), height, crossing[chosen], edges, ends[chosen], loops)
    return _split(cut, plane, keep_ahead=keep_ahead)


@dataclass(frozen=True)
class Cut:
    """Hold what is known of a cut before it is made.

    Parameters
    ----------
    mesh
        The surface; no vertex of a cut face lies on the plane.
    height
        Signed distance of each vertex to the plane.
    faces
        Faces to cut.
    edges
        All crossed edges.
    ends
        Per cut face, the edge passed towards ahead and the one passed back.
    loops
        Crossed edges in order around the section and around what is inside it.
    """

    mesh: Mesh
    height: Float[np.ndarray, "vertex"]
    faces: Int[np.ndarray, "cut"]
    edges: Int[np.ndarray, "edge 2"]
    ends: Int[np.ndarray, "cut 2"]
    loops: list[Int[np.ndarray, "point"]]


def _clear(
    mesh: Mesh,
    height: Float[np.ndarray, "vertex"],
    faces: Int[np.ndarray, "cut"],
    normal: Float[np.ndarray, "3"],
) -> tuple[Float[np.ndarray, "vertex 3"], Float[np.ndarray, "vertex"]]:
    """Move vertices of the cut faces that all but touch the plane away from it, on their side."""
    mine = np.zeros(len(height), dtype=bool)
    mine[mesh.faces[faces]] = True
    close = mine & (np.abs(height) < CLEARANCE_MM)
    shift = np.where(close, np.where(height >= 0, CLEARANCE_MM, -CLEARANCE_MM) - height, 0.0)
    return mesh.points + shift[:, None] * normal, height + shift


def crossed_edges(
    faces: Int[np.ndarray, "face 3"], ahead: Bool[np.ndarray, "vertex"]
) -> tuple[Int[np.ndarray, "edge 2"], Int[np.ndarray, "face 2"]]:
    """Return the crossed edges and, per face, its two: first the one passed towards ahead.

    A face passed counter-clockwise crosses the plane once forwards and once backwards.
    """
    following = np.roll(faces, -1, axis=1)
    forward = ~ahead[faces] & ahead[following]
    backward = ahead[faces] & ~ahead[following]
    pairs = [np.stack([faces[m], following[m]], axis=1) for m in (forward, backward)]
    both = np.sort(np.concatenate(pairs), axis=1)
    edges, index = np.unique(both, axis=0, return_inverse=True)
    return edges, index.reshape(2, -1).T


def _choose_loops(
    points: Float[np.ndarray, "vertex 3"],
    height: Float[np.ndarray, "vertex"],
    edges: Int[np.ndarray, "edge 2"],
    ends: Int[np.ndarray, "face 2"],
    plane: Plane,
    frame: Float[np.ndarray, "2 3"],
) -> tuple[Bool[np.ndarray, "face"], list[Int[np.ndarray, "point"]]]:
    """Return which crossing faces to cut and the loops of crossed edges around the centre."""
    at = crossing_points(points, height, edges)
    flat = (at - np.array(plane.centre_mm)) @ frame.T
    loops = [loop for loop in _loops(ends) if _fits(flat[loop], plane.radius_mm)]
    outer = _around_centre(loops, flat)
    if outer is None:
        raise InputError(
            f"Plane '{plane.name}' meets no closed section of the airway within {plane.radius_mm:g} mm of "
            "its centre; move the plane or enlarge its radius.",
            plane=plane.name,
        )
    inner = [loop for loop in loops if loop is not outer and contains(flat[outer], flat[loop[0]])]
    members = np.zeros(len(edges), dtype=bool)
    for loop in [outer, *inner]:
        members[loop] = True
    return members[ends[:, 0]], [outer, *inner]


def crossing_points(
    points: Float[np.ndarray, "vertex 3"],
    height: Float[np.ndarray, "vertex"],
    edges: Int[np.ndarray, "edge 2"],
) -> Float[np.ndarray, "edge 3"]:
    """Return where edges cross the plane, given the signed distances of their ends."""
    a, b = height[edges[:, 0]], height[edges[:, 1]]
    t = (a / (a - b))[:, None]
    crossing: Float[np.ndarray, "edge 3"] = (1 - t) * points[edges[:, 0]] + t * points[edges[:, 1]]
    return crossing


def _loops(ends: Int[np.ndarray, "face 2"]) -> list[Int[np.ndarray, "point"]]:
    """Chain the faces' pairs of crossed edges into closed loops."""
    following = {int(a): int(b) for a, b in ends}
    loops = []
    while following:
        start, here = following.popitem()
        loop = [start]
        while here != start:
            if here not in following:
                loop = []
                break
            loop.append(here)
            here = following.pop(here)
        if loop:
            loops.append(np.array(loop))
    return loops


def _fits(flat: Float[np.ndarray, "point 2"], radius_mm: float) -> bool:
    return bool((np.linalg.norm(flat, axis=1) <= radius_mm).all())


def _around_centre(
    loops: list[Int[np.ndarray, "point"]], flat: Float[np.ndarray, "point 2"]
) -> Int[np.ndarray, "point"] | None:
    """Return the largest loop that holds the centre, or else the nearest large one."""
    middle = np.zeros(2)
    holding = [loop for loop in loops if contains(flat[loop], middle)]
    if holding:
        return max(holding, key=lambda loop: abs(signed_area(flat[loop])))
    near = [loop for loop in loops if np.linalg.norm(flat[loop], axis=1).min() < NEAREST_MM]
    return max(near, key=lambda loop: abs(signed_area(flat[loop]))) if near else None


NEAREST_MM = 2.0
"""A variant's wall may have moved over the centre by this much."""


def signed_area(flat: Float[np.ndarray, "point 2"]) -> float:
    """Return the area of a polygon, positive if it runs counter-clockwise."""
    x, y = flat.T
    return 0.5 * float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


def contains(flat: Float[np.ndarray, "point 2"], at: Float[np.ndarray, "2"]) -> bool:
    """Say whether a polygon holds a point (even-odd rule)."""
    x, y = (flat - at).T
    following_x, following_y = np.roll(x, -1), np.roll(y, -1)
    crosses = (y > 0) != (following_y > 0)
    step = np.where(crosses, following_y - y, 1.0)
    at_x = x - y * (following_x - x) / step
    return bool((crosses & (at_x > 0)).sum() % 2)


def _split(cut: Cut, plane: Plane, *, keep_ahead: bool) -> tuple[Mesh, Opening]:
    """Replace the cut faces by their parts on the kept side and drop the other piece."""
    mesh, height = cut.mesh, cut.height
    normal = np.array(plane.normal)
    used = np.unique(np.concatenate(cut.loops))
    at = crossing_points(mesh.points, height, cut.edges[used])
    # Rounding leaves 1e-14 mm: put the points on the plane.
    at -= ((at - np.array(plane.centre_mm)) @ normal)[:, None] * normal
    number = np.full(len(cut.edges), -1)
    number[used] = len(mesh.points) + np.arange(len(used))
    corners = mesh.faces[cut.faces]
    parts = kept_parts(corners, height > 0, number[cut.ends], keep_ahead=keep_ahead)
    points = np.concatenate([mesh.points, at])
    faces = np.concatenate([np.delete(mesh.faces, cut.faces, axis=0), parts])
    labels = components(faces, len(points))
    dropped = np.unique(labels[corners[(height[corners] > 0) != keep_ahead]])
    if np.isin(np.unique(labels[number[used]]), dropped).any():
        raise InputError(
            f"Plane '{plane.name}' does not separate the airway from what lies beyond it; move the plane.",
            plane=plane.name,
        )
    beyond = np.isin(labels, dropped)
    opening = Opening(plane, [points[number[loop]] for loop in cut.loops])
    return Mesh(points, faces).part(~beyond[faces[:, 0]]), opening


def kept_parts(
    faces: Int[np.ndarray, "cut 3"],
    ahead: Bool[np.ndarray, "vertex"],
    ends: Int[np.ndarray, "cut 2"],
    *,
    keep_ahead: bool,
) -> Int[np.ndarray, "part 3"]:
    """Return the triangles of the cut faces on the kept side."""
    mine = ahead[faces] == keep_ahead
    single = mine.sum(axis=1) == 1
    # Turn each face so that the vertex alone on its side comes first.
    alone = np.where(single[:, None], mine, ~mine).argmax(axis=1)
    turned = np.take_along_axis(faces, (alone[:, None] + np.arange(3)) % 3, axis=1)
    a, b, c = turned.T
    # Leaving vertex a crosses forwards if a is behind the plane.
    leaves_forward = ~ahead[a]
    leaving = np.where(leaves_forward, ends[:, 0], ends[:, 1])
    returning = np.where(leaves_forward, ends[:, 1], ends[:, 0])
    tips = np.stack([a, leaving, returning], axis=1)[single]
    two = ~single
    first = np.stack([leaving, b, c], axis=1)[two]
    second = np.stack([leaving, c, returning], axis=1)[two]
    return np.concatenate([tips, first, second])
