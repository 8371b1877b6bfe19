"""The head as a list of tissues, painted one over the other, each with its signed distance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from stages.phantom.airway import (
    PASSAGE,
    SEPTUM,
    Airway,
    Location,
    build_airway,
    inferior_turbinates,
    middle_turbinates,
    nostril_height,
    passages,
)
from stages.phantom.anatomy import Anatomy
from stages.phantom.bones import (
    bone_parts,
    brain,
    cranium,
    fillings,
    spinal_canal,
)
from stages.phantom.cavities import build_cavities
from stages.phantom.frame import Frame, head_frame
from stages.phantom.head import Head, build_head
from stages.phantom.shapes import (
    Distance,
    Numbers,
    box,
    ellipsoid,
    smooth_intersection,
    smooth_step,
)

Point = tuple[float, float, float]
Bounds = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]

EVERYWHERE: Bounds = ((-150.0, 150.0), (-150.0, 200.0), (-200.0, 200.0))

MUCOSA_MM = 1.6
"""Lining of the airway where bone would otherwise meet air."""


Shape = Callable[[Location, Anatomy], Numbers]


@dataclass(frozen=True)
class Material:
    """Hold what a tissue looks like.

    Parameters
    ----------
    hu
        Mean value.
    slow_hu
        Standard deviation of its variation over centimetres.
    fine_hu
        Standard deviation of its variation over 1.5 mm (trabeculae).
    fascia_hu
        Depth of the thin sheets of fat between muscles.
    """

    hu: float
    slow_hu: float = 0.0
    fine_hu: float = 0.0
    fascia_hu: float = 0.0


@dataclass(frozen=True)
class Tissue:
    """Hold one tissue, in the scanner's coordinates.

    Parameters
    ----------
    name
        Such as ``skull``.
    material
        Its values.
    distance
        Signed distance, mm.
    bounds_mm
        Box (x, y, z ranges) that holds it.
    """

    name: str
    material: Material
    distance: Distance
    bounds_mm: Bounds


AIR = Material(-1000.0)
SOFT = Material(50.0, 7.0, 5.0, 75.0)
SKIN = Material(28.0, 12.0)
FAT = Material(-98.0, 10.0, 8.0)
MUCOSA = Material(42.0, 6.0)
BRAIN = Material(34.0, 4.0, 3.0)
CORTICAL = Material(1250.0, 100.0, 60.0)
DIPLOE = Material(650.0, 60.0, 110.0)
THIN_BONE = Material(520.0, 60.0, 80.0)
CONCHA = Material(260.0, 60.0, 60.0)
FLUID = Material(12.0, 2.0)
METAL = Material(8000.0)


@dataclass(frozen=True)
class Patient:
    """Hold one phantom patient: measures, pose, airway and tissues in painting order."""

    anatomy: Anatomy
    frame: Frame
    airway: Airway
    tissues: tuple[Tissue, ...]


def build_patient(anatomy: Anatomy) -> Patient:
    """Compose a head from its measures; append to `tissues` to extend it."""
    frame = head_frame(anatomy)
    airway = build_airway(anatomy)
    head = build_head(anatomy, airway)
    inner = [
        *_soft_tissues(head),
        *_skull(head),
        *_bones(anatomy),
        *_pairs(_ORBIT),
        *_sinuses(airway),
    ]
    inner += _nose(airway)
    posed = [
        Tissue(t.name, t.material, frame.posed(t.distance), _posed_bounds(t.bounds_mm, frame))
        for t in inner
    ]
    return Patient(anatomy, frame, airway, (_table(), *posed))


def _posed_bounds(bounds: Bounds, frame: Frame) -> Bounds:
    corners = np.array(
        [
            frame.point_to_scanner((x, y, z))
            for x in bounds[0]
            for y in bounds[1]
            for z in bounds[2]
        ]
    )
    (x0, y0, z0), (x1, y1, z1) = corners.min(axis=0), corners.max(axis=0)
    return ((float(x0), float(x1)), (float(y0), float(y1)), (float(z0), float(z1)))


def _table() -> Tissue:
    """Return the head holder, a thin shell fixed in the scanner."""

    def shell(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
        wall = np.abs(np.sqrt(x * x + (y - 12.0) ** 2) - 111.0) - 1.2
        part: Numbers = np.maximum(wall, 40.0 - y) + 0.0 * z
        return part

    return Tissue("table", Material(-250.0), shell, EVERYWHERE)


def _soft_tissues(head: Head) -> list[Tissue]:
    fat_mm = head.anatomy.fat_mm

    def deep(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
        waves = 0.35 * np.sin(0.11 * np.abs(x) + 0.05 * y) * np.cos(0.07 * z + 0.04 * y)
        thin = (1.0 + waves) * (1.0 - 0.45 * smooth_step(z, 40.0, 70.0))
        muscle: Numbers = head.face(x, y, z) + (2.0 + fat_mm) * thin
        return muscle

    return [
        Tissue("skin", SKIN, head.distance, EVERYWHERE),
        Tissue("fat", FAT, lambda x, y, z: head.face(x, y, z) + 1.9, EVERYWHERE),
        Tissue("muscle", SOFT, deep, EVERYWHERE),
        *_pairs(_DEEP_PARTS),
    ]


_DEEP_PARTS = (
    ("buccal fat", FAT, (38.0, -20.0, -6.0), (8.0, 13.0, 16.0)),
    ("temporal fat", FAT, (54.0, -8.0, 16.0), (4.0, 12.0, 16.0)),
    ("parapharyngeal fat", FAT, (24.0, 18.0, -12.0), (5.0, 9.0, 20.0)),
    ("parotid gland", Material(-5.0, 15.0, 15.0), (58.0, 26.0, -10.0), (9.0, 15.0, 22.0)),
)
"""Name, material, centre at |x| and radii of what lies between the muscles."""


def _skull(head: Head) -> list[Tissue]:
    limits: Bounds = ((-85.0, 85.0), (-85.0, 125.0), (-12.0, 165.0))
    canal: Bounds = ((-14.0, 14.0), (40.0, 76.0), (-200.0, 40.0))

    def diploe(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
        return np.maximum(cranium(head, x, y, z) + 1.9, 1.9 - brain(head, x, y, z))

    return [
        Tissue("cranium", CORTICAL, partial(cranium, head), limits),
        Tissue("diploe", DIPLOE, diploe, limits),
        Tissue("cerebrospinal fluid", FLUID, partial(brain, head), limits),
        Tissue("brain", BRAIN, partial(_inset, partial(brain, head), 2.0), limits),
        Tissue(
            "mastoid cells",
            Material(-250.0, 120.0, 280.0),
            _mirrored_ellipsoid((58.0, 44.0, 16.0), (6.5, 9.0, 11.0)),
            limits,
        ),
        Tissue("spinal canal", FLUID, spinal_canal, canal),
    ]


def _bones(anatomy: Anatomy) -> list[Tissue]:
    found = []
    for name, distance, bounds, marrow_mm in bone_parts(anatomy):
        hu = 2000.0 if "teeth" in name else 1150.0
        found.append(Tissue(name, Material(hu, 100.0, 90.0), distance, bounds))
        if marrow_mm > 0:
            inner = partial(_inset, distance, marrow_mm)
            found.append(Tissue(f"{name} marrow", Material(400.0, 60.0, 110.0), inner, bounds))
    found += [Tissue(name, METAL, piece, box_mm) for name, piece, box_mm in fillings(anatomy)]
    found.append(
        Tissue("canal", FLUID, spinal_canal, ((-14.0, 14.0), (40.0, 76.0), (-200.0, 30.0)))
    )
    return found


def _inset(distance: Distance, depth_mm: float, x: Numbers, y: Numbers, z: Numbers) -> Numbers:
    return distance(x, y, z) + depth_mm


def _mirrored_ellipsoid(
    centre_mm: tuple[float, float, float], radii_mm: tuple[float, float, float]
) -> Distance:
    def both(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
        return ellipsoid(np.abs(x), y, z, centre_mm=centre_mm, radii_mm=radii_mm)

    return both


def _box(
    centre: tuple[float, float, float], radii: tuple[float, float, float], *, paired: bool = True
) -> Bounds:
    x = (centre[0] + radii[0] + 2) if paired else radii[0] + 2
    (_, cy, cz), (_, ry, rz) = centre, radii
    return ((-x, x), (cy - ry - 2, cy + ry + 2), (cz - rz - 2, cz + rz + 2))


def _pairs(
    parts: tuple[tuple[str, Material, Point, Point], ...],
) -> list[Tissue]:
    return [
        Tissue(name, material, _mirrored_ellipsoid(centre, radii), _box(centre, radii))
        for name, material, centre, radii in parts
    ]


_ORBIT = (
    ("orbital wall", THIN_BONE, (30.0, -34.0, 40.0), (18.0, 25.0, 17.0)),
    ("orbital fat", FAT, (30.0, -37.0, 40.0), (16.2, 26.0, 15.2)),
    ("optic nerve", SOFT, (24.0, -22.0, 41.0), (3.0, 14.0, 3.0)),
    ("sclera", Material(60.0), (31.0, -46.0, 40.0), (12.4, 12.2, 12.2)),
    ("vitreous", FLUID, (31.0, -46.0, 40.0), (11.4, 11.2, 11.2)),
    ("lens", Material(75.0), (31.0, -54.0, 40.0), (4.6, 2.2, 4.6)),
)


_SINUSES = (
    ("frontal sinus", (9.0, -62.0, 58.0), (9.5, 4.5, 9.5)),
    ("sphenoid sinus", (7.5, 13.0, 38.0), (6.6, 11.0, 8.5)),
    ("anterior ethmoid", (9.0, -46.0, 38.0), (4.2, 6.5, 7.5)),
    ("middle ethmoid", (9.5, -32.0, 40.0), (4.8, 6.5, 7.5)),
    ("posterior ethmoid", (10.0, -17.0, 39.0), (5.2, 7.0, 7.5)),
)
"""Paired air cells at |x|; `cavities.OSTIA` opens them into the nose."""


def _sinuses(airway: Airway) -> list[Tissue]:
    scale = airway.anatomy.sinus_scale
    found: list[Tissue] = []
    if scale == 0:
        return found
    for name, grow in (("maxillary sinus wall", 1.3), ("maxillary sinus", 0.0)):
        found.append(_maxillary_sinus(name, airway, grow))
    for name, centre, radii in _SINUSES:
        a, b, c = (r * scale for r in radii)
        cell = _mirrored_ellipsoid(centre, (a, b, c))
        bone = _mirrored_ellipsoid(centre, (a + 1.3, b + 1.3, c + 1.3))
        limits = _box(centre, (a + 1.3, b + 1.3, c + 1.3))
        found.append(Tissue(f"{name} wall", THIN_BONE, bone, limits))
        found.append(Tissue(name, AIR, partial(_apart, cell, airway), limits))
    return found


def _maxillary_sinus(name: str, airway: Airway, grow_mm: float) -> Tissue:
    """Return the pyramid beside the nose and below the orbit, or the plate of bone around it."""
    scale = airway.anatomy.sinus_scale

    def pyramid(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
        side = np.abs(x)
        round_mm, flat_mm = (19.0 * scale, 23.0 * scale, 20.0 * scale), (14.5 * scale, 20.5, 15.0)
        egg = ellipsoid(side, y, z, centre_mm=(27.0, -24.0, 13.0), radii_mm=round_mm)
        walls = box(side, y, z, centre_mm=(28.0, -23.0, 12.0), half_mm=flat_mm, rounding_mm=5.0)
        solid = smooth_intersection(egg, walls, 5.0)
        rear = 0.786 * side + 0.618 * y - 16.0 * scale
        flank = 0.822 * side - 0.570 * z - 23.5 * scale
        solid = smooth_intersection(solid, rear, 7.0)
        return smooth_intersection(solid, flank, 7.0) - grow_mm

    limits: Bounds = ((-48.0, 48.0), (-48.0, 3.0), (-8.0, 32.0))
    if grow_mm > 0:
        return Tissue(name, THIN_BONE, pyramid, limits)
    return Tissue(name, AIR, partial(_apart, pyramid, airway), limits)


def _apart(cell: Distance, airway: Airway, x: Numbers, y: Numbers, z: Numbers) -> Numbers:
    """Keep a cell 2.8 mm away from the airway: two linings and a plate of bone."""
    return smooth_intersection(cell(x, y, z), 2.8 - airway.distance(x, y, z), 2.0)


def _nose(airway: Airway) -> list[Tissue]:
    """Return the lining of the airway, the plates in it and its air, which comes last."""
    anatomy = airway.anatomy
    front = -90.0 - anatomy.nose_length_mm
    limits: Bounds = ((-24.0, 24.0), (front, 34.0), (-200.0, 50.0))
    nasal: Bounds = ((-22.0, 22.0), (front, 12.0), (-12.0, 50.0))

    def lining(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
        outside = smooth_step(y, -60.0, -52.0) * -30.0 + 1.5 - nostril_height(y, z, anatomy)
        # Turbinates are soft tissue throughout, not only as deep as the lining.
        inside = np.minimum(airway.distance(x, y, z), passages(airway.locate(x, y, z)))
        lined: Numbers = np.maximum(inside - MUCOSA_MM, outside)
        return lined

    def nasal_bones(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
        limits = np.maximum(24.0 - z, y + 48.0)
        return smooth_intersection(airway.distance(x, y, z) - 2.7, limits, 2.0)

    def septum_plate(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
        p = airway.locate(x, y, z)
        plate = np.abs(p.x - p.fields[SEPTUM]) - 0.5
        within = np.maximum(p.fields[PASSAGE] + 2.0, np.maximum(-52.0 - p.y, p.y + 4.0))
        bone: Numbers = np.maximum(plate, within)
        return bone

    def concha(shape: Shape, core_mm: float, x: Numbers, y: Numbers, z: Numbers) -> Numbers:
        p = airway.locate(x, y, z)
        return smooth_intersection(shape(p, anatomy) + core_mm, passages(p) - 0.5, 1.0)

    return [
        Tissue("nasal bones", CORTICAL, nasal_bones, nasal),
        Tissue("mucosa", MUCOSA, lining, limits),
        *(Tissue(c.name, AIR, c.distance, c.bounds_mm) for c in build_cavities(airway)),
        Tissue("septum plate", THIN_BONE, septum_plate, nasal),
        Tissue("inferior conchae", CONCHA, partial(concha, inferior_turbinates, 2.8), nasal),
        Tissue("middle conchae", CONCHA, partial(concha, middle_turbinates, 1.6), nasal),
        Tissue("airway", AIR, airway.distance, limits),
    ]
