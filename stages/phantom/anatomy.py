"""The measures of one head: an immutable set of lengths, drawn from a seed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

Variant = Literal["open", "left-blocked", "right-blocked", "both-blocked"]


@dataclass(frozen=True)
class Side:
    """Hold the measures of one nasal passage.

    Parameters
    ----------
    nostril_width_mm
        Width of the nostril from the columella to the ala.
    valve_width_mm
        Width of the passage at the nasal valve; about 19 mm of height make 50 to 90 mm2.
    cavity_width_mm
        Distance of septum and lateral wall at the height of the inferior turbinate.
    meatus_gap_mm
        Gap between the septum and the turbinates.
    inferior_radius_mm, middle_radius_mm
        Half the thickness of the turbinates with their mucosa.
    blocked
        A plug of soft tissue closes the middle of the passage.
    """

    nostril_width_mm: float = 9.5
    valve_width_mm: float = 2.2
    cavity_width_mm: float = 11.5
    meatus_gap_mm: float = 2.0
    inferior_radius_mm: float = 3.4
    middle_radius_mm: float = 2.2
    blocked: bool = False


@dataclass(frozen=True)
class Anatomy:
    """Hold the measures of one head, mm in the anatomical frame.

    The frame's origin is the posterior nasal spine, the rear end of the hard palate in the
    midline; x points left, y back, z up. The defaults are an average adult, after the proportions
    of CT scans; `draw_anatomy` varies them.

    Parameters
    ----------
    scale
        Size of the whole head relative to the average.
    pitch_degrees, yaw_degrees, roll_degrees
        Pose of the head in the scanner: rotation about x, z, y.
    shift_mm
        Position of the origin in the scanner (x, y, z), LPS.
    left, right
        The nasal passages.
    septum_mm
        Thickness of the septum with its mucosa.
    deviation_mm
        Largest sideways displacement of the septum; positive to the left.
    deviation_y_mm, deviation_z_mm
        Place of the largest displacement.
    counter_deviation
        Displacement of a second bend behind and above, relative to the first: an S shape.
    nose_length_mm
        How far the nose protrudes beyond the average.
    nose_wall_mm
        Thickness of skin and cartilage beside the vestibule.
    pharynx_width_mm, pharynx_depth_mm
        Full width and depth of the pharynx behind the soft palate.
    fat_mm
        Thickness of the fat below the skin.
    skull_mm
        Thickness of the skull cap.
    sinus_scale
        Size of the paranasal sinuses; 0: none.
    face_width
        Width of the face and skull relative to the average.
    texture_seed
        Seed of the random fields inside soft tissue and bone.
    spur_mm
        How far a ridge stands off the septum; positive to the left, 0: none.
    spur_y_mm, spur_z_mm
        Place of the ridge.
    ostium_mm
        Width of the openings between the sinuses and the nose; 0: closed.
    ear_canal_mm
        Width of the outer ear canals.
    mouth_mm
        Height of the air between tongue and palate; 0: none.
    lips_mm
        Gap between the lips, through which the mouth's air meets the outside; 0: closed.
    isthmus_mm
        Width of the way from the mouth's air to the pharynx below the soft palate; 0: closed.
    fillings
        Metal fillings and crowns in the teeth.
    """

    scale: float = 1.0
    pitch_degrees: float = 0.0
    yaw_degrees: float = 0.0
    roll_degrees: float = 0.0
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    left: Side = Side()
    right: Side = Side()
    septum_mm: float = 3.6
    deviation_mm: float = 0.0
    deviation_y_mm: float = -38.0
    deviation_z_mm: float = 14.0
    counter_deviation: float = 0.0
    nose_length_mm: float = 0.0
    nose_wall_mm: float = 4.3
    pharynx_width_mm: float = 23.0
    pharynx_depth_mm: float = 13.0
    fat_mm: float = 4.5
    skull_mm: float = 7.0
    sinus_scale: float = 1.0
    face_width: float = 1.0
    texture_seed: int = 0
    spur_mm: float = 0.0
    spur_y_mm: float = -30.0
    spur_z_mm: float = 6.0
    ostium_mm: float = 2.4
    ear_canal_mm: float = 6.5
    mouth_mm: float = 0.0
    lips_mm: float = 0.0
    isthmus_mm: float = 0.0
    fillings: int = 0


def draw_anatomy(rng: np.random.Generator, variant: Variant = "open") -> Anatomy:
    """Draw another patient.

    Parameters
    ----------
    rng
        Generator; the same state gives the same patient.
    variant
        Which sides a plug blocks. It does not change the rest of the patient.

    Notes
    -----
    Ranges: unilateral minimal areas of 24 to 121 mm2 were found in 47 healthy adults at rest
    (PMC6939154); the common meatus is 1.5 to 4 mm wide.
    """
    side = 1.0 if rng.integers(2) else -1.0
    anatomy = Anatomy(
        scale=rng.uniform(0.95, 1.05),
        pitch_degrees=rng.uniform(-6.0, 6.0),
        yaw_degrees=rng.uniform(-4.0, 4.0),
        roll_degrees=rng.uniform(-3.0, 3.0),
        shift_mm=(rng.uniform(-6.0, 6.0), rng.uniform(-6.0, 0.0), rng.uniform(-30.0, 10.0)),
        septum_mm=rng.uniform(3.0, 4.2),
        deviation_mm=side * rng.uniform(0.5, 4.0),
        deviation_y_mm=rng.uniform(-46.0, -26.0),
        deviation_z_mm=rng.uniform(6.0, 20.0),
        counter_deviation=rng.uniform(-0.8, 0.2),
        nose_length_mm=rng.uniform(-3.0, 4.0),
        nose_wall_mm=rng.uniform(3.8, 5.0),
        pharynx_width_mm=rng.uniform(19.0, 27.0),
        pharynx_depth_mm=rng.uniform(11.0, 15.0),
        fat_mm=rng.uniform(3.0, 7.0),
        skull_mm=rng.uniform(5.5, 8.0),
        sinus_scale=rng.uniform(0.85, 1.1),
        face_width=rng.uniform(0.95, 1.04),
        texture_seed=int(rng.integers(2**31)),
        left=_draw_side(rng),
        right=_draw_side(rng),
    )
    return with_variant(_draw_cavities(rng, anatomy), variant)


def _draw_cavities(rng: np.random.Generator, anatomy: Anatomy) -> Anatomy:
    """Add what not every patient has: a spur, a tilted head, a mouth with air or open."""
    spur = (1.0 if rng.integers(2) else -1.0) * rng.uniform(1.5, 3.5)
    has_spur, has_tilt, has_mouth, is_open = rng.random(4) < (0.35, 0.3, 0.5, 0.25)
    tilt = rng.uniform(-14.0, 14.0)
    mouth, lips, isthmus = rng.uniform(2.0, 6.0), rng.uniform(3.0, 8.0), rng.uniform(3.0, 6.0)
    has_mouth = has_mouth or is_open
    return replace(
        anatomy,
        pitch_degrees=anatomy.pitch_degrees + (tilt if has_tilt else 0.0),
        spur_mm=spur if has_spur else 0.0,
        spur_y_mm=rng.uniform(-42.0, -20.0),
        spur_z_mm=rng.uniform(3.0, 11.0),
        ostium_mm=rng.uniform(1.6, 3.4),
        ear_canal_mm=rng.uniform(5.5, 8.0),
        mouth_mm=mouth if has_mouth else 0.0,
        lips_mm=lips if is_open else 0.0,
        isthmus_mm=isthmus if is_open else 0.0,
        fillings=int(rng.integers(1, 6)) if rng.random() < 0.35 else 0,
    )


def with_variant(anatomy: Anatomy, variant: Variant) -> Anatomy:
    """Return the same patient with other sides blocked."""
    blocked = {"left": variant in {"left-blocked", "both-blocked"}}
    blocked["right"] = variant in {"right-blocked", "both-blocked"}
    return replace(
        anatomy,
        left=replace(anatomy.left, blocked=blocked["left"]),
        right=replace(anatomy.right, blocked=blocked["right"]),
    )


def mirrored(anatomy: Anatomy) -> Anatomy:
    """Return the patient seen in a mirror: left and right exchanged."""
    x, y, z = anatomy.shift_mm
    return replace(
        anatomy,
        left=anatomy.right,
        right=anatomy.left,
        deviation_mm=-anatomy.deviation_mm,
        spur_mm=-anatomy.spur_mm,
        yaw_degrees=-anatomy.yaw_degrees,
        roll_degrees=-anatomy.roll_degrees,
        shift_mm=(-x, y, z),
    )


def _draw_side(rng: np.random.Generator) -> Side:
    return Side(
        nostril_width_mm=rng.uniform(8.5, 10.8),
        valve_width_mm=rng.uniform(1.7, 2.6),
        cavity_width_mm=rng.uniform(10.5, 12.5),
        meatus_gap_mm=rng.uniform(1.7, 2.8),
        inferior_radius_mm=rng.uniform(3.0, 3.9),
        middle_radius_mm=rng.uniform(1.9, 2.5),
    )


def as_numbers(anatomy: Anatomy) -> dict[str, object]:
    """Return the measures by name, for records."""
    return asdict(anatomy)
