"""Closed surfaces with exact dimensions: tubes, bends, nozzles, branches and unions of blocks.

Corners are world (x, y, z), mm; every shape is a dictionary from patch name (``wall``, ``inlet...``,
``outlet...``) to triangles with outward normals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

Patches = dict[str, Float[np.ndarray, "face 3 3"]]


def circle(diameter: float, sides: int = 128) -> Float[np.ndarray, "corner 2"]:
    """Return a regular polygon with the area of the circle."""
    angle = 2 * np.pi * (np.arange(sides) + 0.5) / sides
    radius = diameter / 2 * np.sqrt(2 * np.pi / sides / np.sin(2 * np.pi / sides))
    return np.asarray(radius * np.stack([np.cos(angle), np.sin(angle)], axis=1))


def rectangle(width: float, height: float) -> Float[np.ndarray, "corner 2"]:
    """Return the corners of a rectangle around the origin."""
    return np.array([(-width, -height), (width, -height), (width, height), (-width, height)]) / 2


def rotation(*degrees: float) -> Float[np.ndarray, "3 3"]:
    """Rotate about x, then y, then z."""
    turn = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        c, s = np.cos(angle), np.sin(angle)
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        step = np.eye(3)
        step[i, i], step[i, j], step[j, i], step[j, j] = c, -s, s, c
        turn = step @ turn
    return turn


def tube(
    section: Float[np.ndarray, "corner 2"],
    length: float,
    *,
    turn: Float[np.ndarray, "3 3"] | None = None,
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Patches:
    """Extrude a convex section along z; the inlet is at the lower end before turning."""
    rings = [np.column_stack([section, np.full(len(section), z)]) for z in (0.0, length)]
    return moved(loft(np.stack(rings)), turn=turn, shift=shift)


def revolve(
    profile: Float[np.ndarray, "ring 2"],
    sides: int = 96,
    turn: Float[np.ndarray, "3 3"] | None = None,
) -> Patches:
    """Turn (z, radius) pairs into a tube of revolution along z, capped at both ends."""
    rings = [np.column_stack([circle(2 * r, sides), np.full(sides, z)]) for z, r in profile]
    return moved(loft(np.stack(rings)), turn=turn)


def bend(
    section: Float[np.ndarray, "corner 2"],
    bend_radius: float,
    angle_deg: float,
    *,
    steps: int = 96,
    turn: Float[np.ndarray, "3 3"] | None = None,
) -> Patches:
    """Sweep a section about the y axis; its centre starts at (bend_radius, 0, 0) towards -z.

    Parameters
    ----------
    section
        Corners, first coordinate outward from the axis of the bend, mm.
    bend_radius
        Distance of the section's centre from the axis, mm.
    angle_deg
        Angle swept, degrees; the angle of a point is arctan2(-z, x).
    steps
        Straight pieces of the sweep.
    turn
        Rotation of the whole.
    """
    rings = []
    for angle in np.linspace(0.0, np.deg2rad(angle_deg), steps + 1):
        outward = np.array([np.cos(angle), 0.0, -np.sin(angle)])
        reach = (bend_radius + section[::-1, :1]) * outward
        rings.append(reach + section[::-1, 1:] * np.array([0.0, 1.0, 0.0]))
    return moved(loft(np.stack(rings)), turn=turn)


def branch(
    parent_radius: float,
    radii: tuple[float, float],
    lengths: tuple[float, float],
    *,
    parent_length: float,
    transition: float,
    sides: int = 96,
    turn: Float[np.ndarray, "3 3"] | None = None,
) -> Patches:
    """Split a round pipe along z into two round pipes side by side.

    The pipe splits along a diameter at z = 0; each half disc changes into the circle of its daughter over
    the length `transition`, then the daughters run straight. See `branch_section` for the sections.
    """
    arc = _arc(sides)
    whole = np.concatenate([arc, -arc[1:-1]]) * parent_radius
    low = np.column_stack([whole, np.full(len(whole), -parent_length)])
    high = np.column_stack([whole, np.zeros(len(whole))])
    parent = loft(np.stack([low, high]))
    wall = [parent["wall"]]
    patches: Patches = {"inlet": parent["inlet"]}
    names = ("outlet-a", "outlet-b")
    for side, (name, radius, length) in enumerate(zip(names, radii, lengths, strict=True)):
        stations = [*np.linspace(0.0, transition, 33), transition + length]
        rings = []
        for z in stations:
            flat = branch_section(side, min(z / transition, 1.0), parent_radius, radius, sides)
            rings.append(np.column_stack([flat, np.full(len(flat), z)]))
        daughter = loft(np.stack(rings))
        wall.append(daughter["wall"])
        patches[name] = daughter["outlet"]
    return moved({"wall": np.concatenate(wall), **patches}, turn=turn)


def branch_section(
    side: int, share: float, parent_radius: float, radius: float, sides: int = 96
) -> Float[np.ndarray, "corner 2"]:
    """Return a section of a branch's transition: a half disc at share 0, the daughter's circle at 1."""
    arc = _arc(sides)
    chord = np.linspace(arc[-1], arc[0], sides // 2 + 1)[1:-1]
    half = np.concatenate([arc, chord]) * parent_radius
    # The circle's corners stand at equal steps of the half disc's rim, so that sections stay convex.
    edges = np.linalg.norm(np.roll(half, -1, axis=0) - half, axis=1)
    angle = 2 * np.pi * np.concatenate([[0.0], np.cumsum(edges)[:-1]]) / edges.sum()
    rim = angle + 0.5 * (np.pi - angle[sides])
    centre = np.array([0.0, 1.25 * parent_radius])
    round_ = np.stack([np.cos(rim), np.sin(rim)], axis=1)
    round_ = round_ * radius * np.sqrt(np.pi / _area(round_)) + centre
    flat = (1.0 - share) * half + share * round_
    return np.asarray(flat if side == 0 else -flat)


def _arc(sides: int) -> Float[np.ndarray, "corner 2"]:
    angle = np.linspace(0.0, np.pi, sides + 1)
    arc = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.asarray(arc * np.sqrt(np.pi / (sides * np.sin(np.pi / sides))))


def _area(flat: Float[np.ndarray, "corner 2"]) -> float:
    x, y = flat.T
    return float(0.5 * np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))


def loft(rings: Float[np.ndarray, "ring corner 3"]) -> Patches:
    """Join rings of corners in order, inlet at the first and outlet at the last."""
    following = np.roll(rings, -1, axis=1)
    a, b, c, d = rings[:-1], following[:-1], following[1:], rings[1:]
    wall = np.concatenate([np.stack([a, b, c], axis=2), np.stack([a, c, d], axis=2)])
    caps = []
    for ring, after, order in ((rings[0], following[0], -1), (rings[-1], following[-1], 1)):
        centre = np.broadcast_to(ring.mean(axis=0), ring.shape)
        caps.append(np.stack([centre, ring, after], axis=1)[:, ::order])
    return {"wall": wall.reshape(-1, 3, 3), "inlet": caps[0], "outlet": caps[1]}


def moved(
    patches: Mapping[str, Float[np.ndarray, "face 3 3"]],
    *,
    turn: Float[np.ndarray, "3 3"] | None = None,
    shift: Sequence[float] = (0.0, 0.0, 0.0),
) -> Patches:
    """Return the shape turned, then shifted."""
    matrix = np.eye(3) if turn is None else turn
    return {name: faces @ matrix.T + np.array(shift) for name, faces in patches.items()}


def mirrored(patches: Mapping[str, Float[np.ndarray, "face 3 3"]], axis: int) -> Patches:
    """Return the mirror image across the plane through the origin normal to an axis."""
    sign = np.where(np.arange(3) == axis, -1.0, 1.0)
    return {name: faces[:, ::-1] * sign for name, faces in patches.items()}


def anchored(
    patches: Mapping[str, Float[np.ndarray, "face 3 3"]], corner: Sequence[float], edge: float
) -> Patches:
    """Add a tetrahedron of wall whose lowest corner is given: too small for a cell, it moves the lattice.

    The lattice starts at the lowest corner of the surface's bounding box, so that a mesh keeps its place
    between the cells wherever it is shifted to; the tetrahedron moves it.
    """
    points = np.array(corner, dtype=float) + edge * np.concatenate([np.zeros((1, 3)), np.eye(3)])
    faces = points[np.array([(0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)])]
    return {**patches, "wall": np.concatenate([patches["wall"], faces])}


def blocks(
    occupied: Bool[np.ndarray, "x y z"],
    edge: float,
    name_of: Callable[[Float[np.ndarray, "3"], tuple[int, int, int]], str],
    *,
    turn: Float[np.ndarray, "3 3"] | None = None,
) -> Patches:
    """Return the surface of a union of cubes; `name_of(centre, normal)` names each square."""
    padded = np.pad(occupied, 1)
    patches: dict[str, list[Float[np.ndarray, "3 3"]]] = {}
    for axis in range(3):
        for sign in (-1, 1):
            normal = (sign * (axis == 0), sign * (axis == 1), sign * (axis == 2))
            exposed = padded & ~np.roll(padded, -sign, axis=axis)
            for place in np.argwhere(exposed) - 1:
                square = _square(place, axis, sign) * edge
                name = name_of(square.mean(axis=0), normal)
                patches.setdefault(name, []).extend([square[[0, 1, 2]], square[[0, 2, 3]]])
    return moved({name: np.array(faces) for name, faces in patches.items()}, turn=turn)


def _square(place: Float[np.ndarray, "3"], axis: int, sign: int) -> Float[np.ndarray, "4 3"]:
    u, v = (axis + 1) % 3, (axis + 2) % 3
    corners = np.tile(place.astype(float), (4, 1))
    corners[:, axis] += 0.5 * (1 + sign)
    corners[[1, 2], u] += 1
    corners[[2, 3], v] += 1
    return np.asarray(corners[::sign])
