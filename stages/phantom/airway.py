"""The airway from the nostrils to the lower pharynx as a list of blended solids.

Each passage is the space between the septum and a lateral wall inside an outline in the sagittal
plane, less the turbinates that are attached to the lateral wall. Coordinates are those of the
anatomical frame (see `Anatomy`); distances are first-order accurate near the walls.

References
----------
.. [1] Cole (2003), The four components of the nasal valve, doi:10.1177/194589240301700208: the
   valve is the narrowest place, 12 to 20 mm behind the nostril's rim.
.. [2] Keyhani, Scherer and Mozell (1995), Numerical simulation of airflow in the human nasal
   cavity, doi:10.1115/1.2794204: proportions of the passages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from stages.phantom.anatomy import Anatomy, Side
from stages.phantom.shapes import (
    Numbers,
    ellipsoid,
    polygon_distance,
    polyline_distance,
    smooth_intersection,
    smooth_step,
    smooth_union,
    sweep,
)
from stages.phantom.sheets import Sheets, build_sheets

INSPIRATION = (0.0, 0.258819, 0.965926)
"""Direction of inspired air at the nostrils: up and 15 degrees back."""

NOSTRIL_Y_MM, NOSTRIL_Z_MM = -72.0, 1.8
"""Middle of the nostrils' rim in the sagittal plane, before `nose_length_mm`."""

NOSTRIL_PLANE_MM = 2.0
"""How far inside the rim the nostril planes lie: the section is enclosed all round."""

PHARYNX_PLANE_MM = (0.0, 18.0, -22.0)
"""Centre of the pharynx plane, behind the soft palate."""

_PASSAGE_OUTLINE_MM = (
    *((-66.3, -7.0), (-64.5, -0.2), (-62.5, 3.0), (-59.0, 1.0), (-54.0, -2.2), (-45.0, -3.2)),
    *((-20.0, -2.4), (4.0, -1.0), (4.0, 23.0), (-4.0, 27.0), (-12.0, 36.0), (-24.0, 43.0)),
    *((-42.0, 45.0), (-50.0, 42.0), (-56.5, 35.0), (-64.5, 24.0), (-72.5, 15.0), (-78.5, 8.5)),
    *((-79.5, 3.8), (-81.3, -3.0)),
)
"""Outline (y, z) of a passage: through the rim, over the sill, along the floor, round the roof."""

_WIDTH_BY_HEIGHT = (
    (-6.0, 0.0, 6.0, 14.0, 22.0, 32.0, 42.0, 48.0),
    (0.60, 0.85, 1.00, 0.95, 0.77, 0.54, 0.22, 0.18),
)
"""Width of the cavity at heights z, as a share of its width at the inferior turbinate."""

_COMPENSATION = 0.8
"""Share of the septum's displacement that the turbinates follow (compensatory hypertrophy)."""


@dataclass(frozen=True)
class Location:
    """Hold points with what all parts of the airway need to know of them.

    Parameters
    ----------
    x, y, z
        Anatomical coordinates, mm.
    side
        +1 where the point lies left of the septum's middle, else -1.
    fields
        Values of the sheets: see `airway_sheets`.
    """

    x: Numbers
    y: Numbers
    z: Numbers
    side: Numbers
    fields: list[Numbers]

    def choose(self, left: float, right: float) -> Numbers:
        """Return a measure of the side that each point lies on."""
        chosen: Numbers = np.where(self.side > 0, left, right).astype(self.x.dtype)
        return chosen


@dataclass(frozen=True)
class Part:
    """Hold one solid of the airway and how it joins what the list has built so far.

    Parameters
    ----------
    name
        Such as ``inferior turbinate``.
    join
        ``add`` its inside to the airway or ``remove`` it.
    blend_mm
        Radius of the fillet.
    distance
        Signed distance of the solid.
    """

    name: str
    join: Literal["add", "remove"]
    blend_mm: float
    distance: Callable[[Location], Numbers]


@dataclass(frozen=True)
class Airway:
    """Hold the parts of one patient's airway, in the anatomical frame.

    Parameters
    ----------
    anatomy
        The patient.
    sheets
        Outlines and wall positions over the sagittal plane.
    parts
        Solids in the order in which they are joined; append to extend the airway.
    """

    anatomy: Anatomy
    sheets: Sheets
    parts: tuple[Part, ...] = field(default=())

    def locate(self, x: Numbers, y: Numbers, z: Numbers) -> Location:
        """Look up the sheets at points."""
        x, y, z = np.broadcast_arrays(x, y, z)
        fields = self.sheets(y, z)
        side = np.where(x >= fields[SEPTUM], 1.0, -1.0).astype(x.dtype)
        return Location(x, y, z, side, fields)

    def distance(self, x: Numbers, y: Numbers, z: Numbers) -> Numbers:
        """Return the blended distance, mm; its gradient is near 1 but not 1."""
        where = self.locate(x, y, z)
        total: Numbers = np.full(where.x.shape, 1e3, dtype=where.x.dtype)
        for part in self.parts:
            solid = part.distance(where)
            if part.join == "add":
                total = smooth_union(total, solid, part.blend_mm)
            else:
                total = smooth_intersection(total, -solid, part.blend_mm)
        return total


SEPTUM, HALF_SEPTUM, PASSAGE, LEFT_WIDTH, RIGHT_WIDTH, PHARYNX, PHARYNX_HALF = range(7)
"""Order of the fields in `airway_sheets`."""


def build_airway(anatomy: Anatomy) -> Airway:
    """Compose the airway of one patient."""
    parts = [
        Part("passages", "add", 1.0, passages),
        Part("inferior turbinates", "remove", 1.5, lambda p: inferior_turbinates(p, anatomy)),
        Part("middle turbinates", "remove", 1.2, lambda p: middle_turbinates(p, anatomy)),
    ]
    if anatomy.spur_mm:
        parts.append(Part("spur", "remove", 1.0, lambda p: spur(p, anatomy)))
    if anatomy.left.blocked or anatomy.right.blocked:
        parts.append(Part("plugs", "remove", 2.0, lambda p: plugs(p, anatomy)))
    parts.append(Part("pharynx", "add", 2.0, pharynx))
    return Airway(anatomy, airway_sheets(anatomy), tuple(parts))


def nostril_height(y: Numbers, z: Numbers, anatomy: Anatomy) -> Numbers:
    """Return the distance inwards from the plane of the nostrils' rim, mm."""
    height: Numbers = (y - (NOSTRIL_Y_MM - anatomy.nose_length_mm)) * INSPIRATION[1] + (
        z - NOSTRIL_Z_MM
    ) * INSPIRATION[2]
    return height


def airway_sheets(anatomy: Anatomy) -> Sheets:
    """Tabulate outlines, septum and widths over the sagittal plane."""
    passage = [(y - anatomy.nose_length_mm * _forward(y), z) for y, z in _PASSAGE_OUTLINE_MM]
    throat = _pharynx_outline(anatomy)
    return build_sheets(
        (
            lambda y, z: _septum(y, z, anatomy),
            lambda y, z: _half_septum(y, z, anatomy),
            lambda y, z: polygon_distance(y, z, passage),
            lambda y, z: _width(y, z, anatomy, anatomy.left),
            lambda y, z: _width(y, z, anatomy, anatomy.right),
            lambda y, z: polygon_distance(y, z, throat),
            lambda _, z: _pharynx_half(z, anatomy),
        )
    )


def passages(p: Location) -> Numbers:
    """Return the distance to both nasal passages without their turbinates."""
    f = p.fields
    medial = f[HALF_SEPTUM] - p.side * (p.x - f[SEPTUM])
    wall = f[HALF_SEPTUM] + np.where(p.side > 0, f[LEFT_WIDTH], f[RIGHT_WIDTH])
    lateral = p.side * p.x - wall
    slab = smooth_intersection(medial, lateral, 1.2)
    return smooth_intersection(slab, f[PASSAGE], 4.0)


def inferior_turbinates(p: Location, anatomy: Anatomy) -> Numbers:
    """Return the distance to the scrolls that hang from the lateral walls above the floor."""
    radius = p.choose(anatomy.left.inferior_radius_mm, anatomy.right.inferior_radius_mm)
    u = _from_septum(p, anatomy) - radius
    z = _tapered(p.z + 0.05 * (p.y + 28.0), p.y, root_mm=13.0, ends_mm=(-55.0, -5.0))
    scroll = ((18.0, 17.0), (1.8, 15.4), (0.0, 12.5), (0.0, 6.8), (2.6, 3.8))
    across = polyline_distance(u, z, scroll)
    solid: Numbers = sweep(across, p.y, start_mm=-51.0, end_mm=-8.0, radius_mm=0.0) - radius
    return solid


def middle_turbinates(p: Location, anatomy: Anatomy) -> Numbers:
    """Return the distance to the folds that hang from the roof beside the septum."""
    radius = p.choose(anatomy.left.middle_radius_mm, anatomy.right.middle_radius_mm)
    u = _from_septum(p, anatomy) - radius
    fold = ((7.0, 41.0), (0.6, 34.0), (0.0, 29.0), (0.5, 23.6))
    z = _tapered(p.z + 0.08 * (p.y + 25.0), p.y, root_mm=34.0, ends_mm=(-46.0, -8.0))
    across = polyline_distance(u, z, fold)
    solid: Numbers = sweep(across, p.y, start_mm=-43.0, end_mm=-11.0, radius_mm=0.0) - radius
    return solid


def spur(p: Location, anatomy: Anatomy) -> Numbers:
    """Return the distance to the ridge that stands off one face of the septum."""
    off = p.x - p.fields[SEPTUM] - np.sign(anatomy.spur_mm) * p.fields[HALF_SEPTUM]
    return ellipsoid(
        off,
        p.y - 0.25 * (p.z - anatomy.spur_z_mm),
        p.z,
        centre_mm=(0.0, anatomy.spur_y_mm, anatomy.spur_z_mm),
        radii_mm=(abs(anatomy.spur_mm), 11.0, 2.6),
    )


def plugs(p: Location, anatomy: Anatomy) -> Numbers:
    """Return the distance to the soft tissue that fills the middle of blocked passages."""
    far = np.abs(p.y + 30.0) - 5.0
    blocked: Numbers = np.where(
        p.choose(float(anatomy.left.blocked), float(anatomy.right.blocked)) > 0, far, 1e3
    ).astype(p.x.dtype)
    return blocked


def pharynx(p: Location) -> Numbers:
    """Return the distance to nasopharynx and pharynx, down to below any scan."""
    return smooth_intersection(np.abs(p.x) - p.fields[PHARYNX_HALF], p.fields[PHARYNX], 10.0)


def _tapered(z: Numbers, y: Numbers, *, root_mm: float, ends_mm: tuple[float, float]) -> Numbers:
    """Stretch heights about a turbinate's root, so that the turbinate is lower at its ends."""
    front, rear = ends_mm
    full = smooth_step(y, front, front + 14.0) * (1.0 - smooth_step(y, rear - 12.0, rear))
    stretched: Numbers = root_mm + (z - root_mm) / (0.55 + 0.45 * full)
    return stretched


def _from_septum(p: Location, anatomy: Anatomy) -> Numbers:
    """Return how far a point lies beyond the medial faces of the turbinates."""
    gap = p.choose(anatomy.left.meatus_gap_mm, anatomy.right.meatus_gap_mm)
    u = p.side * (p.x - _COMPENSATION * p.fields[SEPTUM])
    beyond: Numbers = u - gap - 0.5 * anatomy.septum_mm
    return beyond


def _forward(y: float) -> float:
    """Return the share of the nose's extra length at a place of its outline."""
    return float(smooth_step(np.array(-y), 54.0, 66.0))


def _septum(y: Numbers, z: Numbers, anatomy: Anatomy) -> Numbers:
    dy, dz = y - anatomy.deviation_y_mm, z - anatomy.deviation_z_mm
    bend = np.exp(-((dy / 14.0) ** 2) - (dz / 13.0) ** 2)
    second = np.exp(-(((dy - 22.0) / 14.0) ** 2) - ((dz - 14.0) / 10.0) ** 2)
    displaced = anatomy.deviation_mm * (bend + anatomy.counter_deviation * second)
    straight: Numbers = displaced * (1.0 - smooth_step(y, -12.0, 2.0))
    return straight


def _half_septum(y: Numbers, z: Numbers, anatomy: Anatomy) -> Numbers:
    columella = 1.2 * (1.0 - smooth_step(nostril_height(y, z, anatomy), 0.0, 9.0))
    half: Numbers = 0.5 * anatomy.septum_mm + columella * (1.0 - smooth_step(y, -66.0, -58.0))
    return half


def _width(y: Numbers, z: Numbers, anatomy: Anatomy, side: Side) -> Numbers:
    """Return the distance from the straight septum's face to the lateral wall."""
    narrowing = smooth_step(nostril_height(y, z, anatomy), 2.0, 12.5)
    vestibule = side.nostril_width_mm + (side.valve_width_mm - side.nostril_width_mm) * narrowing
    front = smooth_step(-y - anatomy.nose_length_mm, 70.0, 82.0)
    top = smooth_step(nostril_height(y, z, anatomy), 11.0, 26.0)
    vestibule = vestibule * (1.0 - 0.45 * front) * (1.0 - 0.35 * top)
    cavity = side.cavity_width_mm * np.interp(z, *_WIDTH_BY_HEIGHT)
    cavity = cavity * (0.42 + 0.58 * smooth_step(y, -62.0, -36.0))
    inside = smooth_step(y, -65.0, -51.0)
    width: Numbers = vestibule + (cavity - vestibule) * inside
    return width


def _pharynx_outline(anatomy: Anatomy) -> list[tuple[float, float]]:
    depth = anatomy.pharynx_depth_mm
    back = [(26.5, 8.0), (26.0, -5.0), (24.5, -20.0), (24.5, -45.0), (26.0, -170.0)]
    front = [(y - depth, z) for y, z in reversed(back[2:])]
    roof = [(-2.0, 1.0), (-2.0, 22.0), (4.0, 26.0), (13.0, 25.0), (21.0, 19.0)]
    return [*roof, *back, *front, (9.5, -11.0), (5.0, -4.0)]


def _pharynx_half(z: Numbers, anatomy: Anatomy) -> Numbers:
    below = 0.5 * anatomy.pharynx_width_mm
    upper = 13.5 - 2.5 * smooth_step(z, 14.0, 26.0)
    half: Numbers = below + (upper - below) * smooth_step(z, -16.0, 2.0)
    return half
