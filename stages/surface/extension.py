"""Put a straight, tapered pipe before an opening."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from stages.surface.cutting import Opening, plane_frame, signed_area
from stages.surface.mesh import Mesh


def extend(
    opening: Opening, *, length_mm: float, area_ratio: float, spacing_mm: float
) -> tuple[Mesh, Opening]:
    """Return the wall of a pipe before an inlet and the opening at its far end.

    Parameters
    ----------
    opening
        An inlet; the pipe leads against its plane's normal.
    length_mm
        Length of the pipe.
    area_ratio
        Area of the far end over that of the opening; the area changes linearly on the way.
    spacing_mm
        Distance of the rings of vertices.
    """
    normal, frame = plane_frame(opening.plane)
    outer = opening.loops_mm[0]
    centre = outer.mean(axis=0)
    rings = max(1, round(length_mm / spacing_mm))
    share = np.linspace(0.0, 1.0, rings + 1)
    scale = np.sqrt(1.0 + (area_ratio - 1.0) * share)
    ccw = signed_area((outer - centre) @ frame.T) > 0
    pieces, ends = [], []
    for loop in opening.loops_mm:
        spread = centre + scale[:, None, None] * (loop - centre)
        layers = spread - (length_mm * share)[:, None, None] * normal
        # The first ring is the opening itself, bit for bit: the patches share it.
        layers[0] = loop
        pieces.append(_tube(layers, reverse=ccw))
        ends.append(layers[-1])
    x, y, z = (float(v) for v in np.array(opening.plane.centre_mm) - length_mm * normal)
    radius = opening.plane.radius_mm * max(1.0, float(scale[-1]))
    far = replace(opening.plane, centre_mm=(x, y, z), radius_mm=radius)
    starts = np.cumsum([0] + [len(piece.points) for piece in pieces[:-1]])
    faces = [piece.faces + start for piece, start in zip(pieces, starts, strict=True)]
    wall = Mesh(np.concatenate([piece.points for piece in pieces]), np.concatenate(faces))
    return wall, Opening(far, ends)


def _tube(layers: Float[np.ndarray, "ring point 3"], *, reverse: bool) -> Mesh:
    rings, count, _ = layers.shape
    number = np.arange(rings * count).reshape(rings, count)
    a, b = number[:-1], np.roll(number, -1, axis=1)[:-1]
    c, d = np.roll(number, -1, axis=1)[1:], number[1:]
    first, second = np.stack([a, b, c], axis=-1), np.stack([a, c, d], axis=-1)
    faces = np.concatenate([first.reshape(-1, 3), second.reshape(-1, 3)])
    return Mesh(layers.reshape(-1, 3), faces[:, ::-1] if reverse else faces)
