"""The outer surface of the head: face, skull cap, neck, nose, ears; anatomical frame, mm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator

from stages.phantom.airway import Airway, nostril_height
from stages.phantom.anatomy import Anatomy
from stages.phantom.shapes import (
    Numbers,
    ellipsoid,
    smooth_intersection,
    smooth_step,
    smooth_union,
    sweep,
)

_LEVELS_MM = (
    (-140, -36, 130, 64),
    (-95, -44, 128, 62),
    (-78, -50, 126, 62),
    (-66, -56, 124, 64),
    (-50, -57, 122, 67),
    (-33, -57, 120, 70),
    (-18, -58, 119, 72),
    (-8, -58, 118, 73),
    (5, -57, 117, 74),
    (20, -57, 117, 75),
    (34, -60, 118, 76),
    (42, -65, 118, 76),
    (50, -71, 118, 77),
    (60, -76, 118, 77),
    (75, -78, 117, 77),
    (100, -73, 112, 74),
    (120, -62, 102, 67),
    (135, -46, 86, 56),
    (147, -25, 62, 40),
    (154, 0, 38, 19),
    (160, 14, 24, 5),
)
"""Axial sections: height z, foremost and rearmost y, half width; an adult's head without nose."""

_STEP_MM = 0.5
_WIDEST_Y_MM = 30.0
"""Sections are widest here: the front half of each egg is longer and narrower."""


@dataclass(frozen=True)
class Head:
    """Hold the head's surface.

    Parameters
    ----------
    anatomy
        The patient.
    airway
        The airway, whose vestibule shapes the nose.
    table
        Centre, front and rear length, half width of the sections every half millimetre.
    """

    anatomy: Anatomy
    airway: Airway
    table: Float[np.ndarray, "5 level"]

    def distance(self, x: Numbers, y: Numbers, z: Numbers) -> Numbers:
        """Return the distance to the skin, nose and ears included."""
        x, y, z = np.broadcast_arrays(x, y, z)
        face = np.array(self.face(x, y, z))
        near = (y < -38.0) & (np.abs(x) < 34.0) & (z > -20.0) & (z < 62.0)
        at = (x[near], y[near], z[near])
        face[near] = smooth_union(face[near], self.nose(*at), 9.0)
        outline: Numbers = np.minimum(face, ears(x, y, z, self.anatomy))
        return outline

    def face(self, x: Numbers, y: Numbers, z: Numbers) -> Numbers:
        """Return the distance to the head without nose and ears."""
        head = self.stack(x, y, z)
        side = np.abs(x)
        for centre, radii, blend in _SOFT_PARTS:
            centre_x = centre[0] * self.anatomy.face_width
            part = ellipsoid(side, y, z, centre_mm=(centre_x, *centre[1:]), radii_mm=radii)
            head = smooth_union(head, part, blend)
        return head

    def stack(self, x: Numbers, y: Numbers, z: Numbers) -> Numbers:
        """Return the distance to the smooth stack of egg-shaped axial sections."""
        levels = self.table[0]
        at = np.clip((z - levels[0]) / _STEP_MM, 0, levels.size - 1.001)
        i = at.astype(np.int32)
        t = (at - i).astype(x.dtype)
        table = self.table[1:].astype(x.dtype)
        front, rear, half, slope = (row[i] * (1 - t) + row[i + 1] * t for row in table)
        v = y - _WIDEST_Y_MM
        b = np.where(v < 0, front, rear)
        p, q = x / half, v / b
        k0 = np.sqrt(p * p + q * q)
        k1 = np.sqrt((p / half) ** 2 + (q / b) ** 2)
        # Near the axis the quotient of both tends to a radius; -1 keeps it finite there.
        radius = k0 / np.maximum(k1, 1e-6)
        distance: Numbers = np.maximum(k0 - 1.0, -1.0) * np.maximum(radius, half * 0.5) * slope
        return distance

    def nose(self, x: Numbers, y: Numbers, z: Numbers) -> Numbers:
        """Return the distance to the external nose: walls around the vestibule, tip, dorsum."""
        a = self.anatomy
        walls = self.airway.distance(x, y, z) - a.nose_wall_mm
        tip_y = -77.5 - a.nose_length_mm
        tip = ellipsoid(x, y, z, centre_mm=(0.0, tip_y, 8.5), radii_mm=(9.0, 9.0, 8.5))
        solid = smooth_union(walls, tip, 6.0)
        # A capsule along the dorsum, from below the nasion to the tip, tilted by 32 degrees.
        along = (y - tip_y) * 0.53 + (z - 11.0) * 0.848
        across = np.hypot(x, (y - tip_y - 1.5) * 0.848 - (z - 11.0) * 0.53)
        dorsum = sweep(across, along, start_mm=0.0, end_mm=30.0, radius_mm=6.5)
        solid = smooth_union(solid, dorsum, 6.0)
        columella = ellipsoid(
            x, y, z, centre_mm=(0.0, tip_y + 6.5, 3.0), radii_mm=(5.5, 11.0, 6.0)
        )
        solid = smooth_union(solid, columella, 4.0)
        base = smooth_step(y, -60.0, -52.0) * -30.0 - nostril_height(y, z, a)
        return smooth_intersection(solid, base, 3.0)


_SOFT_PARTS = (
    ((0.0, -56.0, -13.0), (19.0, 9.0, 7.0), 8.0),
    ((0.0, -55.0, -24.0), (16.0, 8.5, 7.0), 6.0),
    ((0.0, -52.0, -52.0), (22.0, 12.0, 14.0), 12.0),
    ((31.0, -40.0, 14.0), (20.0, 14.0, 17.0), 14.0),
    ((31.0, -48.0, 38.0), (15.0, 13.0, 12.0), 5.0),
    ((24.0, -55.0, 53.0), (19.0, 14.0, 7.0), 14.0),
)
"""Centre at |x|, radii and fillet of lips, chin, cheeks, eyelids, brows."""


def build_head(anatomy: Anatomy, airway: Airway) -> Head:
    """Tabulate the axial sections of one patient."""
    z, front, rear, half = (
        np.array(column, dtype=np.float64) for column in zip(*_LEVELS_MM, strict=True)
    )
    fine = np.arange(z[0], z[-1] + _STEP_MM / 2, _STEP_MM)
    f = PchipInterpolator(z, _WIDEST_Y_MM - front)(fine)
    r = PchipInterpolator(z, rear - _WIDEST_Y_MM)(fine)
    h = PchipInterpolator(z, half * anatomy.face_width)(fine)
    # Sections that shrink with height: the distance to the slanted surface is shorter.
    slope = 1.0 / np.hypot(1.0, np.gradient((f + r + 2 * h) / 4, fine))
    return Head(anatomy, airway, np.stack([fine, f, r, h, slope]))


def ears(x: Numbers, y: Numbers, z: Numbers, anatomy: Anatomy) -> Numbers:
    """Return the distance to the auricles: shells that stand off the head."""
    side = np.abs(x) - 73.0 * anatomy.face_width
    out = side - 0.45 * (y - 32.0)
    shell = ellipsoid(out, y, z, centre_mm=(2.0, 38.0, 22.0), radii_mm=(7.0, 16.0, 30.0))
    hollow = ellipsoid(out, y, z, centre_mm=(7.0, 36.0, 24.0), radii_mm=(6.0, 10.0, 20.0))
    return 0.85 * smooth_intersection(shell, -hollow, 3.0)
