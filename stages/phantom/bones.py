"""Skull, jaws, teeth and spine; anatomical frame, mm."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.interpolate import PchipInterpolator

from stages.phantom.anatomy import Anatomy
from stages.phantom.head import Head
from stages.phantom.shapes import (
    Distance,
    Numbers,
    box,
    ellipsoid,
    polyline_distance,
    smooth_intersection,
    smooth_step,
    smooth_union,
    sweep,
)

_SCALP_MM = 6.0

Bounds = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]

_FLOOR = PchipInterpolator(
    (-90.0, -60.0, 2.0, 12.0, 24.0, 40.0, 66.0, 90.0, 106.0, 130.0),
    (57.0, 55.0, 53.0, 49.0, 36.0, 20.0, 17.0, 20.0, 31.0, 55.0),
)
"""Height of the cranial floor in the midline by y: anterior fossa, clivus, posterior fossa."""

_FLOOR_Y_MM = np.arange(-110.0, 140.0, 1.0)
_FLOOR_Z_MM = _FLOOR(np.clip(_FLOOR_Y_MM, -90.0, 130.0))


def brain(head: Head, x: Numbers, y: Numbers, z: Numbers) -> Numbers:
    """Return the distance to the cranial cavity."""
    cap = head.stack(x, y, z) + (_SCALP_MM + head.anatomy.skull_mm)
    return smooth_intersection(cap, _below_floor(x, y, z), 10.0)


def cranium(head: Head, x: Numbers, y: Numbers, z: Numbers) -> Numbers:
    """Return the distance to the skull cap and base with everything inside."""
    base = _below_floor(x, y, z) - 3.5
    side = np.abs(x)
    petrous = ellipsoid(side, y, z, centre_mm=(44.0, 36.0, 22.0), radii_mm=(25.0, 13.0, 13.0))
    mastoid = ellipsoid(side, y, z, centre_mm=(58.0, 46.0, 12.0), radii_mm=(9.0, 13.0, 18.0))
    solid = smooth_intersection(head.stack(x, y, z) + _SCALP_MM, base, 8.0)
    clivus = ellipsoid(x, y, z, centre_mm=(0.0, 30.0, 24.0), radii_mm=(13.0, 9.0, 14.0))
    return smooth_union(smooth_union(solid, clivus, 5.0), smooth_union(petrous, mastoid, 6.0), 5.0)


def _below_floor(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
    """Return how far a point lies below the cranial floor; middle fossae reach lower."""
    # np.interp computes in float64; the type of the points is restored.
    floor = np.interp(y, _FLOOR_Y_MM, _FLOOR_Z_MM).astype(y.dtype)
    fossa = 19.0 * np.exp(-(((np.abs(x) - 42.0) / 15.0) ** 2) - ((y - 2.0) / 17.0) ** 2)
    rise = 0.005 * x * x * smooth_step(y, 25.0, 60.0)
    below: Numbers = (floor - fossa + rise - z) * 0.8
    return below


def spinal_canal(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
    """Return the distance to the canal from the foramen magnum downwards."""
    centre = 56.0 - 6.0 * smooth_step(z, 0.0, 40.0)
    canal: Numbers = np.maximum(np.sqrt(x * x + ((y - centre) * 1.1) ** 2) - 8.5, z - 34.0)
    return canal


_UPPER_ARCH = ((0.0, -50.0), (13.0, -46.0), (21.0, -34.0), (25.0, -14.0))
_LOWER_ARCH = ((0.0, -47.0), (13.0, -43.0), (22.0, -30.0), (28.0, -12.0))
_JAW = ((0.0, -46.0), (16.0, -41.0), (33.0, -14.0), (45.0, 8.0))


def bone_parts(
    anatomy: Anatomy,
) -> list[
    tuple[
        str,
        Distance,
        Bounds,
        float,
    ]
]:
    """Return name, distance, bounding box and depth of the marrow of each bone; 0: no marrow."""
    w = anatomy.face_width
    return [
        ("maxilla", _paired(_maxilla, w), ((-48.0, 48.0), (-62.0, 2.0), (-16.0, 42.0)), 1.6),
        ("palate", _palate, ((-26.0, 26.0), (-60.0, 6.0), (-14.0, -2.0)), 1.2),
        (
            "upper jaw",
            _arch(_UPPER_ARCH, -11.0, -6.0, 5.2),
            ((-34.0, 34.0), (-58.0, -4.0), (-20.0, 4.0)),
            1.4,
        ),
        (
            "upper teeth",
            _teeth(_UPPER_ARCH, -22.0, -14.0),
            ((-32.0, 32.0), (-58.0, -8.0), (-28.0, -8.0)),
            0.0,
        ),
        (
            "lower teeth",
            _teeth(_LOWER_ARCH, -34.0, -27.5),
            ((-34.0, 34.0), (-54.0, -6.0), (-40.0, -22.0)),
            0.0,
        ),
        ("mandible", _paired(_mandible, w), ((-62.0, 62.0), (-56.0, 32.0), (-68.0, 26.0)), 2.0),
        ("zygoma", _paired(_zygoma, w), ((-74.0, 74.0), (-46.0, 28.0), (8.0, 36.0)), 1.8),
        (
            "pterygoids",
            _paired(_pterygoid, 1.0),
            ((-22.0, 22.0), (-6.0, 16.0), (-10.0, 40.0)),
            0.0,
        ),
        ("spine", _spine, ((-32.0, 32.0), (26.0, 92.0), (-200.0, 22.0)), 1.5),
    ]


def _paired(part: Callable[[Numbers, Numbers, Numbers], Numbers], width: float) -> Distance:
    """Mirror a part in the midline and widen it with the face."""

    def both(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
        return part(np.abs(x) / width, y, z)

    return both


def _maxilla(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
    body = ellipsoid(x, y, z, centre_mm=(24.0, -26.0, 14.0), radii_mm=(18.5, 21.5, 21.0))
    frontal = ellipsoid(x, y, z, centre_mm=(12.0, -50.0, 22.0), radii_mm=(4.5, 7.0, 20.0))
    spine = ellipsoid(x, y, z, centre_mm=(0.0, -55.0, -5.0), radii_mm=(9.0, 5.0, 5.0))
    return smooth_union(smooth_union(body, frontal, 5.0), spine, 4.0)


def _palate(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
    return box(x, y, z, centre_mm=(0.0, -26.0, -7.2), half_mm=(22.0, 26.0, 2.4), rounding_mm=2.0)


def _arch(
    curve: tuple[tuple[float, float], ...], low_mm: float, high_mm: float, radius_mm: float
) -> Distance:
    def solid(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
        across = polyline_distance(np.abs(x), y, curve)
        return sweep(across, z, start_mm=low_mm, end_mm=high_mm, radius_mm=radius_mm)

    return solid


def _teeth(curve: tuple[tuple[float, float], ...], low_mm: float, high_mm: float) -> Distance:
    def crowns(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
        side = np.abs(x)
        row = sweep(
            polyline_distance(side, y, curve), z, start_mm=low_mm, end_mm=high_mm, radius_mm=3.4
        )
        angle = np.arctan2(side, -(y + 18.0))
        gaps = 3.2 - 3.6 * np.abs(np.cos(angle * 11.0))
        return smooth_union(np.maximum(row, row + 0.45 * gaps - 0.8), row + 1.4, 1.0)

    return crowns


def fillings(anatomy: Anatomy) -> list[tuple[str, Distance, Bounds]]:
    """Return name, distance and bounding box of each piece of dental metal."""
    rng = np.random.default_rng([anatomy.texture_seed, 3])
    found: list[tuple[str, Distance, Bounds]] = []
    for index in range(anatomy.fillings):
        upper, side, place = rng.random() < 0.5, rng.choice((-1.0, 1.0)), rng.uniform(0.5, 0.95)
        arch, z = (_UPPER_ARCH, -19.0) if upper else (_LOWER_ARCH, -30.5)
        x = side * float(np.interp(place, np.linspace(0, 1, 4), [p[0] for p in arch]))
        y = float(np.interp(place, np.linspace(0, 1, 4), [p[1] for p in arch]))
        a, b, c = (float(r) for r in rng.uniform((1.6, 1.6, 1.2), (3.2, 3.2, 3.0)))
        piece = partial(ellipsoid, centre_mm=(x, y, z), radii_mm=(a, b, c))
        bounds = ((x - 4.0, x + 4.0), (y - 4.0, y + 4.0), (z - 4.0, z + 4.0))
        found.append((f"filling {index + 1}", piece, bounds))
    return found


def _mandible(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
    across = polyline_distance(x, y, _JAW)
    body = sweep(across, z, start_mm=-52.0, end_mm=-38.0, radius_mm=5.6)
    lean = x - 0.06 * (z + 30.0)
    ramus = box(
        lean,
        y - 0.12 * (z + 40.0),
        z,
        centre_mm=(46.0, 8.0, -14.0),
        half_mm=(4.2, 14.0, 30.0),
        rounding_mm=4.0,
    )
    condyle = ellipsoid(x, y, z, centre_mm=(50.0, 20.0, 18.0), radii_mm=(8.0, 5.0, 6.0))
    return smooth_union(smooth_union(body, ramus, 6.0), condyle, 4.0)


def _zygoma(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
    body = ellipsoid(x, y, z, centre_mm=(42.0, -28.0, 22.0), radii_mm=(9.0, 11.0, 10.0))
    across = polyline_distance(x, y, ((44.0, -30.0), (58.0, -14.0), (63.0, 4.0), (64.0, 20.0)))
    return smooth_union(body, sweep(across, z, start_mm=21.0, end_mm=25.0, radius_mm=2.8), 4.0)


def _pterygoid(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
    lean = x - 0.1 * (y - 4.0)
    return box(lean, y, z, centre_mm=(17.0, 3.0, 14.0), half_mm=(1.6, 8.0, 22.0), rounding_mm=1.4)


def _spine(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
    """Return the distance to the vertebrae: a body, an arch and processes every 17 mm."""
    local = np.mod(z + 12.0, 17.0) - 8.5
    low = smooth_step(z, -14.0, -10.0)
    body = box(x, y, local, centre_mm=(0.0, 39.0, 0.0), half_mm=(10.5, 8.5, 7.2), rounding_mm=3.0)
    ring = np.abs(np.sqrt(x * x + (y - 56.0) ** 2) - 12.5) - 3.0
    arch = smooth_intersection(ring, np.abs(local + 2.0) - 5.0, 3.0)
    lateral = ellipsoid(np.abs(x), y, local, centre_mm=(18.0, 47.0, 0.0), radii_mm=(8.0, 7.0, 5.5))
    process = ellipsoid(x, y, local, centre_mm=(0.0, 76.0, -3.0), radii_mm=(3.0, 13.0, 4.0))
    vertebra = smooth_union(
        smooth_union(body, arch, 3.0), smooth_union(lateral, process, 2.0), 3.0
    )
    axis = sweep(np.sqrt(x * x + (y - 40.0) ** 2), z, start_mm=-20.0, end_mm=2.0, radius_mm=5.0)
    atlas_ring = np.abs(np.sqrt((x * 0.8) ** 2 + (y - 53.0) ** 2) - 18.0) - 4.0
    atlas = smooth_intersection(atlas_ring, np.abs(z + 1.0) - 6.0, 4.0)
    top = smooth_union(axis, atlas, 1.0)
    return smooth_union(vertebra + 30.0 * low, top, 2.0)
