"""The head's pose: how scanner coordinates and the anatomical frame belong together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from stages.phantom.anatomy import Anatomy
from stages.phantom.shapes import Distance, Numbers


@dataclass(frozen=True)
class Frame:
    """Map between scanner (LPS, mm) and anatomical coordinates: p = scale R a + shift.

    Parameters
    ----------
    rotation
        R: columns are the anatomical axes seen in the scanner.
    shift_mm
        Anatomical origin in the scanner.
    scale
        Scanner millimetres per anatomical millimetre.
    """

    rotation: Float[np.ndarray, "3 3"]
    shift_mm: Float[np.ndarray, 3]
    scale: float

    def to_anatomy(self, x: Numbers, y: Numbers, z: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """Map scanner coordinates to anatomical ones."""
        inverse = (self.rotation.T / self.scale).astype(np.result_type(x, y, z))
        a, b, c = (v - v.dtype.type(s) for v, s in zip((x, y, z), self.shift_mm, strict=True))
        first, second, third = (r[0] * a + r[1] * b + r[2] * c for r in inverse)
        return first, second, third

    def point_to_scanner(self, point_mm: tuple[float, float, float]) -> Float[np.ndarray, 3]:
        """Map one anatomical point to the scanner."""
        mapped: Float[np.ndarray, 3] = self.scale * (self.rotation @ point_mm) + self.shift_mm
        return mapped

    def posed(self, distance: Distance) -> Distance:
        """Turn a distance in the anatomical frame into one in the scanner's."""

        def in_scanner(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
            scaled: Numbers = distance(*self.to_anatomy(x, y, z)) * x.dtype.type(self.scale)
            return scaled

        return in_scanner


def head_frame(anatomy: Anatomy) -> Frame:
    """Return the pose of a head."""
    pitch, yaw, roll = np.deg2rad(
        [anatomy.pitch_degrees, anatomy.yaw_degrees, anatomy.roll_degrees]
    )
    about_x = np.array(
        [[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]]
    )
    about_y = np.array(
        [[np.cos(roll), 0, np.sin(roll)], [0, 1, 0], [-np.sin(roll), 0, np.cos(roll)]]
    )
    about_z = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    return Frame(about_z @ about_y @ about_x, np.array(anatomy.shift_mm), anatomy.scale)
