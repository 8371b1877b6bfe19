"""Signed distances of simple solids and their smooth combinations; negative is inside, mm.

References
----------
.. [1] Osher and Fedkiw (2003), Level Set Methods and Dynamic Implicit Surfaces, chapter 2,
   doi:10.1007/b98879.
.. [2] Ricci (1973), A constructive geometry for computer graphics, doi:10.1093/comjnl/16.2.157:
   unions and intersections as minima and maxima, and their smooth forms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float

Numbers = Float[np.ndarray, "..."]
"""Coordinates or distances of any number of points, mm; float32 and float64 keep their type."""

Distance = Callable[[Numbers, Numbers, Numbers], Numbers]
"""Signed distance as a function of x, y, z, mm."""


def smooth_union(a: Numbers, b: Numbers, radius_mm: float) -> Numbers:
    """Return the smaller distance, with a fillet where both differ by less than the radius."""
    overlap = np.maximum(radius_mm - np.abs(a - b), 0.0)
    fillet: Numbers = np.minimum(a, b) - overlap * overlap * (0.25 / radius_mm)
    return fillet


def smooth_intersection(a: Numbers, b: Numbers, radius_mm: float) -> Numbers:
    """Return the larger distance, with a rounded edge where both differ by less than the radius."""
    return -smooth_union(-a, -b, radius_mm)


def smooth_step(value: Numbers, low: float, high: float) -> Numbers:
    """Rise from 0 at `low` to 1 at `high` with zero slope at both ends (a cubic)."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    rise: Numbers = t * t * (3.0 - 2.0 * t)
    return rise


def ellipsoid(
    x: Numbers,
    y: Numbers,
    z: Numbers,
    *,
    centre_mm: tuple[float, float, float],
    radii_mm: tuple[float, float, float],
) -> Numbers:
    """Return the distance to an ellipsoid, exact to first order at its surface.

    Notes
    -----
    With p scaled to the unit sphere, k0 = |p/r| and k1 = |p/r^2|: d = k0 (k0 - 1) / k1, the
    implicit function divided by its gradient [1]_.
    """
    (a, b, c), (cx, cy, cz) = radii_mm, centre_mm
    p, q, r = (x - cx) / a, (y - cy) / b, (z - cz) / c
    k0 = np.sqrt(p * p + q * q + r * r)
    k1 = np.sqrt((p / a) ** 2 + (q / b) ** 2 + (r / c) ** 2)
    # The quotient lies between the smallest and the largest radius; at the centre it is 0/0.
    radius = np.maximum(k0 / np.maximum(k1, 1e-6), min(radii_mm))
    distance: Numbers = (k0 - 1.0) * radius
    return distance


def box(
    x: Numbers,
    y: Numbers,
    z: Numbers,
    *,
    centre_mm: tuple[float, float, float],
    half_mm: tuple[float, float, float],
    rounding_mm: float,
) -> Numbers:
    """Return the exact distance to a box with rounded edges; `half_mm` includes the rounding."""
    offsets = [
        np.abs(v - c) - (h - rounding_mm)
        for v, c, h in zip((x, y, z), centre_mm, half_mm, strict=True)
    ]
    outside = np.sqrt(sum(np.maximum(o, 0.0) ** 2 for o in offsets))
    inside = np.minimum(np.maximum(np.maximum(offsets[0], offsets[1]), offsets[2]), 0.0)
    distance: Numbers = outside + inside - rounding_mm
    return distance


def polyline_distance(u: Numbers, v: Numbers, points_mm: Sequence[tuple[float, float]]) -> Numbers:
    """Return the distance to a chain of straight segments in a plane."""
    nearest = None
    for (u0, v0), (u1, v1) in pairwise(points_mm):
        du, dv = u1 - u0, v1 - v0
        t = np.clip(((u - u0) * du + (v - v0) * dv) / (du * du + dv * dv), 0.0, 1.0)
        squared = (u - u0 - t * du) ** 2 + (v - v0 - t * dv) ** 2
        nearest = squared if nearest is None else np.minimum(nearest, squared)
    assert nearest is not None
    distance: Numbers = np.sqrt(nearest)
    return distance


def sweep(
    across: Numbers, along: Numbers, *, start_mm: float, end_mm: float, radius_mm: float
) -> Numbers:
    """Thicken a curve, swept along a straight line, by a radius; the ends are round.

    Parameters
    ----------
    across
        Distance to the curve in the plane across the line.
    along
        Position along the line.
    start_mm, end_mm
        Ends of the sweep; the solid reaches one radius further.
    radius_mm
        Half the thickness of the solid.
    """
    beyond = np.maximum(np.maximum(start_mm - along, along - end_mm), 0.0)
    distance: Numbers = np.sqrt(across * across + beyond * beyond) - radius_mm
    return distance


def polygon_distance(u: Numbers, v: Numbers, points_mm: Sequence[tuple[float, float]]) -> Numbers:
    """Return the exact signed distance to a simple polygon in a plane, negative inside."""
    distance = polyline_distance(u, v, [*points_mm, points_mm[0]])
    inside = np.zeros(np.broadcast(u, v).shape, dtype=bool)
    previous = points_mm[-1]
    for point in points_mm:
        (u0, v0), (u1, v1) = previous, point
        crosses = (v0 > v) != (v1 > v)
        rise = v1 - v0 if v1 != v0 else 1.0
        inside ^= crosses & (u < (u1 - u0) * (v - v0) / rise + u0)
        previous = point
    signed: Numbers = np.where(inside, -distance, distance)
    return signed
