"""Closed surfaces with exact dimensions: tubes of any section and unions of blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

Patches = dict[str, Float[np.ndarray, "face 3 3"]]


def circle(diameter: float, sides: int = 128) -> Float[np.ndarray, "corner 2"]:
    """Return a regular polygon with the area of the circle."""
    angle = 2 * np.pi * (np.arange(sides) + 0.5) / sides
    radius = diameter / 2 * np.sqrt(2 * np.pi / sides / np.sin(2 * np.pi / sides))
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def rectangle(width: float, height: float) -> Float[np.ndarray, "corner 2"]:
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


def revolve(
    profile: Float[np.ndarray, "ring 2"],
    sides: int = 96,
    turn: Float[np.ndarray, "3 3"] | None = None,
) -> Patches:
    """Turn (z, radius) pairs into a tube of revolution along z, capped at both ends."""
    rings = [np.column_stack([circle(2 * r, sides), np.full(sides, z)]) for z, r in profile]
    return _loft(np.stack(rings), np.eye(3) if turn is None else turn, np.zeros(3))


def tube(
    section: Float[np.ndarray, "corner 2"],
    length: float,
    *,
    turn: Float[np.ndarray, "3 3"] | None = None,
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Patches:
    """Extrude a convex section along z; the inlet is at the lower end before turning."""
    rings = [np.column_stack([section, np.full(len(section), z)]) for z in (0.0, length)]
    return _loft(np.stack(rings), np.eye(3) if turn is None else turn, np.array(shift))


def _loft(
    rings: Float[np.ndarray, "ring corner 3"],
    turn: Float[np.ndarray, "3 3"],
    shift: Float[np.ndarray, "3"],
) -> Patches:
    rings = rings @ turn.T + shift
    following = np.roll(rings, -1, axis=1)
    a, b, c, d = rings[:-1], following[:-1], following[1:], rings[1:]
    wall = np.concatenate([np.stack([a, b, c], axis=2), np.stack([a, c, d], axis=2)])
    caps = []
    for ring, after, order in ((rings[0], following[0], -1), (rings[-1], following[-1], 1)):
        centre = np.broadcast_to(ring.mean(axis=0), ring.shape)
        caps.append(np.stack([centre, ring, after], axis=1)[:, ::order])
    return {"wall": wall.reshape(-1, 3, 3), "inlet": caps[0], "outlet": caps[1]}


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
            normal = tuple(sign if d == axis else 0 for d in range(3))
            exposed = padded & ~np.roll(padded, -sign, axis=axis)
            for place in np.argwhere(exposed) - 1:
                square = _square(place, axis, sign) * edge
                name = name_of(square.mean(axis=0), normal)
                corners = square if turn is None else square @ turn.T
                patches.setdefault(name, []).extend([corners[[0, 1, 2]], corners[[0, 2, 3]]])
    return {name: np.array(faces) for name, faces in patches.items()}


def _square(place: Float[np.ndarray, "3"], axis: int, sign: int) -> Float[np.ndarray, "4 3"]:
    u, v = (axis + 1) % 3, (axis + 2) % 3
    corners = np.tile(place.astype(float), (4, 1))
    corners[:, axis] += 0.5 * (1 + sign)
    corners[[1, 2], u] += 1
    corners[[2, 3], v] += 1
    return corners[::sign]


def write_folder(folder: Path, patches: Mapping[str, Float[np.ndarray, "face 3 3"]]) -> Path:
    """Write binary STL files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, triangles in patches.items():
        records = np.zeros(len(triangles), dtype=[("f", "<f4", (4, 3)), ("attribute", "<u2")])
        records["f"][:, 1:] = triangles
        header = b"binary".ljust(80, b" ") + len(triangles).to_bytes(4, "little")
        (folder / f"{name}.stl").write_bytes(header + records.tobytes())
    return folder
