"""Air beside the airway, which must not be taken for it: ostia, mouth, ear canals.

Everything is in the anatomical frame, mm, mirrored in the midline, and lies outside the nasal
passages and the pharynx, so that the airway's own distance stays the whole truth about the lumen:
a sinus is cut where its ostium enters the passage.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from stages.phantom.airway import Airway, passages, pharynx
from stages.phantom.anatomy import Anatomy
from stages.phantom.shapes import (
    Distance,
    Numbers,
    box,
    smooth_intersection,
    smooth_union,
)

Chain = tuple[tuple[float, float, float], ...]
Bounds = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]

OSTIA: tuple[tuple[str, Chain], ...] = (
    ("maxillary", ((24.0, -26.0, 21.0), (14.0, -27.0, 23.0), (8.5, -27.0, 20.6))),
    ("frontal", ((8.0, -60.0, 51.0), (7.0, -53.0, 43.0), (4.5, -48.0, 37.0))),
    ("anterior ethmoid", ((9.0, -46.0, 36.0), (6.5, -44.5, 31.5), (4.5, -44.0, 30.0))),
    ("ethmoid cells", ((9.0, -44.0, 39.0), (9.5, -32.0, 40.0), (10.0, -19.0, 39.0))),
    ("posterior ethmoid", ((9.5, -15.0, 36.0), (6.0, -10.0, 31.0), (3.5, -8.0, 29.0))),
    ("sphenoid", ((6.5, 6.0, 37.0), (4.5, -2.0, 35.0), (3.0, -11.0, 32.0))),
)
"""Chains (|x|, y, z) from the middle of each sinus into the passage, a meatus or a recess."""

_EAR_CANAL: Chain = ((82.0, 33.0, 24.0), (62.0, 35.0, 22.0), (50.0, 38.0, 21.0))
_PALATE_MM = -12.3
"""Height of the palate's mucosa over the tongue."""
_TEETH_MM = -24.7
"""Middle of the gap between the upper and the lower teeth."""


@dataclass(frozen=True)
class Cavity:
    """Hold one solid of air.

    Parameters
    ----------
    name
        Such as ``ear canal``.
    distance
        Signed distance, mm.
    bounds_mm
        Box (x, y, z ranges) that holds it.
    """

    name: str
    distance: Distance
    bounds_mm: Bounds


def build_cavities(airway: Airway) -> list[Cavity]:
    """Return the cavities of one patient in painting order."""
    anatomy = airway.anatomy
    found = [
        _ostium(airway, name, chain, 0.5 * anatomy.ostium_mm)
        for name, chain in OSTIA
        if anatomy.ostium_mm > 0 and anatomy.sinus_scale > 0
    ]
    if anatomy.ear_canal_mm > 0:
        found.append(_tube("ear canal", _EAR_CANAL, 0.5 * anatomy.ear_canal_mm))
    if anatomy.mouth_mm > 0:
        found.append(_mouth(airway))
    return found


def chain_distance(x: Numbers, y: Numbers, z: Numbers, chain: Chain) -> Numbers:
    """Return the distance to a chain of straight segments in space."""
    nearest: Numbers = np.full(x.shape, np.inf, dtype=x.dtype)
    for start, end in pairwise(chain):
        direction = [b - a for a, b in zip(start, end, strict=True)]
        length2 = sum(d * d for d in direction)
        offsets = [v - a for v, a in zip((x, y, z), start, strict=True)]
        along = sum(o * d for o, d in zip(offsets, direction, strict=True)) / length2
        t = np.clip(along, 0.0, 1.0)
        a, b, c = (o - t * d for o, d in zip(offsets, direction, strict=True))
        nearest = np.minimum(nearest, a * a + b * b + c * c)
    distance: Numbers = np.sqrt(nearest)
    return distance


def _ostium(airway: Airway, name: str, chain: Chain, radius_mm: float) -> Cavity:
    def tube(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
        return chain_distance(np.abs(x), y, z, chain) - radius_mm

    def air(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
        # Outside the passage only: never a hole in a turbinate.
        outside: Numbers = np.maximum(tube(x, y, z), -passages(airway.locate(x, y, z)))
        return outside

    return Cavity(f"{name} ostium", air, _bounds(chain, radius_mm))


def _tube(name: str, chain: Chain, radius_mm: float) -> Cavity:
    def air(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
        return chain_distance(np.abs(x), y, z, chain) - radius_mm

    return Cavity(name, air, _bounds(chain, radius_mm))


def _mouth(airway: Airway) -> Cavity:
    """Return the air between palate, tongue and teeth; lips and isthmus may be open."""
    anatomy = airway.anatomy

    def air(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
        solid = mouth_air(x, y, z, anatomy)
        # Soft palate: 4 mm of tissue to the pharynx above the isthmus.
        p = airway.locate(x, y, z)
        velum = np.where(z > _isthmus_top(anatomy), 4.0 - pharynx(p), -1e3).astype(x.dtype)
        walled: Numbers = np.maximum(solid, velum)
        return walled

    return Cavity("mouth", air, ((-28.0, 28.0), (-80.0, 30.0), (-48.0, -9.0)))


def mouth_air(x: Numbers, y: Numbers, z: Numbers, anatomy: Anatomy) -> Numbers:
    """Return the distance to the mouth's air before the soft palate is put back."""
    half = 0.5 * anatomy.mouth_mm
    solid = box(
        x,
        y,
        z,
        centre_mm=(0.0, -20.0, _PALATE_MM - half),
        half_mm=(15.0, 21.0, half),
        rounding_mm=min(half, 3.0) * 0.95,
    )
    if anatomy.lips_mm > 0:
        front = chain_distance(
            0.45 * x, y, z, ((0.0, -38.0, _PALATE_MM - half), (0.0, -40.0, _TEETH_MM))
        )
        out = chain_distance(0.3 * x, y, z, ((0.0, -40.0, _TEETH_MM), (0.0, -78.0, _TEETH_MM)))
        gape = smooth_union(front - 2.0, out - 0.5 * anatomy.lips_mm, 2.0)
        solid = smooth_union(solid, gape, 2.0)
    if anatomy.isthmus_mm > 0:
        rear = chain_distance(
            0.5 * x,
            y,
            z,
            ((0.0, -4.0, _PALATE_MM - half), (0.0, 4.0, -24.0), (0.0, 20.0, -34.0)),
        )
        solid = smooth_union(solid, rear - 0.5 * anatomy.isthmus_mm, 2.0)
    return smooth_intersection(solid, z + 9.5, 1.0)


def _isthmus_top(anatomy: Anatomy) -> float:
    """Return the height below which mouth and pharynx join: the tip of the soft palate."""
    return -26.0 if anatomy.isthmus_mm > 0 else -1e3


def _bounds(chain: Chain, margin_mm: float) -> Bounds:
    reach = max(p[0] for p in chain) + margin_mm
    ys, zs = [p[1] for p in chain], [p[2] for p in chain]
    return (
        (-reach, reach),
        (min(ys) - margin_mm, max(ys) + margin_mm),
        (min(zs) - margin_mm, max(zs) + margin_mm),
    )
