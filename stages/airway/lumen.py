"""Separate the airway from sinuses and dead ends, and measure it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from pipeline.core.units import MM3_PER_ML
from stages.airway.head import distance_mm
from stages.airway.potential import PotentialFlow, solve_potential
from stages.airway.sections import Image, Section, column

PLUG_MM = 1.2
"""Thickness of the layer outside a plane that serves as its opening: two voxels."""

LEVELS = 80
"""Number of iso-surfaces of the potential among which the smallest is sought on each side."""

PATH_LEVELS = 1.5
"""Standard deviation, in sections, with which their centres are smoothed to a way."""

VALVE_MM = 25.0
"""The nasal valve lies 12 to 20 mm behind the nostril's rim (Cole 2003, doi:10.1177/194589240301700208)."""

TURBINATE_SHARES = {"anterior turbinate": 0.3, "posterior turbinate": 0.8}
"""Places of the inferior turbinate's head and tail on the way from the valve to the choana."""

BEYOND_MM = 4.0
"""The region goes on this far behind the planes, so that a surface can be cut exactly at them."""

REGION_MM = 4.0
"""The region ends this far from the lumen: more than any restoration moves a wall."""

COLLAR_MM = 1.2
"""The column outside a nostril is this much wider than the opening, so that a fatter lumen of another
variant of the image is not clipped at the plane."""

SMALL_MM3 = 150.0
"""Dead ends below this volume are recesses of a passage, not sinuses or cells."""


PASSES = 3
SETTLED = 0.01
"""At most so many cuts; fewer if the last one took less than this share of the volume."""

WIDE_MM = 3.5
"""Half width beyond which a place is wide: nasopharynx, vestibule, choana."""

WIDE_SPEED_MM2 = 2.0e-3
"""A wide place is a passage if its speed is that of a section below 500 mm2 that carries all the flow."""

BALL_RADII_MM = (1.5, 3.0, 5.0, 8.0)
"""Classes of half width by which passages are widened to their walls."""

THIN_MM = 2.0
"""Half width up to which a passage is known by its throughput alone; wider places must be fast."""


CORE = 2.0
"""Passages of this many times the least throughput are beyond doubt: a dead end is a recess of them."""

NECK = 0.5
"""Ostia are 1 to 3 mm wide, sinuses and cells 4 to 30 mm; a recess narrows gently if at all."""

SLOT_MM = 2.0
"""Half width below which a dead end is a meatus beside a turbinate: sinuses and cells are wider."""

EDGE_MM = 1.2
"""Corners of a sinus that its largest balls leave out by this much are still its own."""

NECK_REACH_MM = 8.0
"""How far around a dead end the way to a passage is followed."""


@dataclass(frozen=True)
class Openings:
    """Hold the layers that close the lumen: sources at the nostrils, the sink at the pharynx."""

    nostrils: dict[str, Bool[np.ndarray, "z y x"]]
    pharynx: Bool[np.ndarray, "z y x"]

    @property
    def all(self) -> Bool[np.ndarray, "z y x"]:
        """Return all layers together."""
        together: Bool[np.ndarray, "z y x"] = np.logical_or.reduce(
            [self.pharynx, *self.nostrils.values()]
        )
        return together


@dataclass(frozen=True)
class AreaProfile:
    """Hold the sections across the flow of one side, from its nostril to where the sides meet.

    Parameters
    ----------
    distance_mm
        Way from the nostril along the sections' centres.
    area_mm2
        Area of each section.
    place_mm
        Centre of each section, LPS.
    """

    distance_mm: Float[np.ndarray, "section"]
    area_mm2: Float[np.ndarray, "section"]
    place_mm: Float[np.ndarray, "section 3"]

    def at(self, index: int) -> NamedSection:
        """Return one section."""
        x, y, z = (float(v) for v in self.place_mm[index])
        return NamedSection(float(self.distance_mm[index]), float(self.area_mm2[index]), (x, y, z))


@dataclass(frozen=True)
class NamedSection:
    """Hold one section: its way from the nostril, mm, its area, mm2, and its centre, LPS mm."""

    distance_mm: float
    area_mm2: float
    place_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Side:
    """Hold one side's way: its flow, its narrowest place and its sections."""

    flow: PotentialFlow
    minimal_area_mm2: float
    minimal_place_mm: Float[np.ndarray, "3"]
    profile: AreaProfile


def openings(
    image: Image, sections: dict[str, Section], air: Bool[np.ndarray, "z y x"]
) -> Openings:
    """Return the layers of air just outside the planes."""
    nostrils = {}
    for name, section in sections.items():
        if name.startswith("nostril-"):
            layer = column(image.grid, section, low_mm=-PLUG_MM, high_mm=0.0, margin_mm=COLLAR_MM)
            nostrils[name.removeprefix("nostril-")] = layer & air
    section = sections["pharynx"]
    layer = column(image.grid, section, low_mm=0.0, high_mm=PLUG_MM, margin_mm=COLLAR_MM)
    return Openings(nostrils, layer & air)


def flood(air: Bool[np.ndarray, "z y x"], ends: Openings) -> Bool[np.ndarray, "z y x"]:
    """Return the air between the openings that is connected to the pharynx."""
    labels, _ = ndimage.label(air & ~ends.all)
    rim = ndimage.binary_dilation(ends.pharynx)
    touching = {
        side: np.unique(labels[ndimage.binary_dilation(layer)])
        for side, layer in ends.nostrils.items()
    }
    inlets = np.concatenate([*touching.values(), np.zeros(0, dtype=labels.dtype)])
    common = np.intersect1d(np.unique(labels[rim]), inlets)
    joined: Bool[np.ndarray, "z y x"] = np.isin(labels, common[common > 0])
    return joined


def prune(
    lumen: Bool[np.ndarray, "z y x"],
    ends: Openings,
    spacing_mm: float,
    *,
    least_share: float,
    recess_mm: float,
) -> Bool[np.ndarray, "z y x"]:
    """Cut chambers and cells that carry next to no air, and keep the recesses of passages.

    Parameters
    ----------
    lumen
        Connected air between the openings.
    ends
        Its openings.
    spacing_mm
        Edge of a voxel.
    least_share
        Least throughput of a passage, as a share of that side's flux-weighted mean (see
        `PotentialFlow.throughput`).
    recess_mm
        Depth to which dead ends beside a passage are kept.

    Notes
    -----
    Each cut closes loops through the cells that were cut, so that others become dead ends: the cut is
    repeated until the volume stays.
    """
    kept = lumen
    for _ in range(PASSES):
        passages = _passages(kept, ends, spacing_mm, least_share)
        wider = _with_recesses(passages, kept, spacing_mm, recess_mm)
        change = 1.0 - wider.sum() / max(kept.sum(), 1)
        kept = wider
        if change < SETTLED:
            break
    return kept


@dataclass(frozen=True)
class Passages:
    """Hold where air passes: everywhere, in its core, and where it is wide and fast."""

    all: Bool[np.ndarray, "z y x"]
    core: Bool[np.ndarray, "z y x"]
    wide: Bool[np.ndarray, "z y x"]


def _passages(
    lumen: Bool[np.ndarray, "z y x"], ends: Openings, spacing_mm: float, least_share: float
) -> Passages:
    """Find thin passages by their throughput and wide ones by their speed."""
    share, speed_mm2 = np.zeros(lumen.shape), np.zeros(lumen.shape)
    wide = np.zeros(lumen.shape, dtype=bool)
    for layer in ends.nostrils.values():
        flow = solve_potential(lumen, layer, ends.pharynx, spacing_mm)
        if flow is not None:
            speed = flow.wall_mm * flow.throughput
            mean = float((speed * flow.throughput).sum() / speed.sum())
            np.maximum(share, flow.throughput / mean, out=share)
            # Both sides meet in the nasopharynx and only there: the sum favours it over sinuses.
            speed_mm2 += speed / len(ends.nostrils)
            wide |= flow.wall_mm > WIDE_MM
    fast = wide & (speed_mm2 > WIDE_SPEED_MM2) & lumen
    every = _connected_to(((share > least_share) & lumen) | fast, ends)
    return Passages(every, every & (share > CORE * least_share), fast & every)


def _with_recesses(
    passages: Passages,
    lumen: Bool[np.ndarray, "z y x"],
    spacing_mm: float,
    recess_mm: float,
) -> Bool[np.ndarray, "z y x"]:
    """Widen passages to the walls by their largest inscribed balls and then into recesses."""
    room = distance_mm(lumen, spacing_mm)
    kept = passages.all.copy()
    for radius in BALL_RADII_MM:
        centres = (passages.all if radius < THIN_MM else passages.wide) & (room >= radius)
        if centres.any():
            kept |= (distance_mm(~centres, spacing_mm) <= radius) & lumen
    for step in range(max(round(recess_mm / spacing_mm), 1)):
        shape = ndimage.generate_binary_structure(3, 1 + step % 2)
        kept = ndimage.binary_dilation(kept, shape, mask=lumen)
    kept |= _without_neck(lumen & ~kept, passages.core, room, spacing_mm)
    return kept


def _without_neck(
    ends: Bool[np.ndarray, "z y x"],
    passages: Bool[np.ndarray, "z y x"],
    room_mm: Float[np.ndarray, "z y x"],
    spacing_mm: float,
) -> Bool[np.ndarray, "z y x"]:
    """Return the dead ends that are recesses: small, thin, or as wide at their mouth as inside.

    A sinus or cell is a chamber behind a neck (its ostium): from its widest place no way leads to a passage
    that keeps `NECK` of its width.
    """
    labels, _ = ndimage.label(ends)
    recesses = np.zeros(ends.shape, dtype=bool)
    margin = int(np.ceil(NECK_REACH_MM / spacing_mm))
    for label, where in enumerate(ndimage.find_objects(labels), start=1):
        part = labels[where] == label
        box = tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in where)
        small = float(part.sum()) * spacing_mm**3 < SMALL_MM3
        widest = float(room_mm[where][part].max())
        whole = labels[box] == label
        if small or _is_reached(whole, passages[box], room_mm[box], NECK * widest):
            recesses[where] |= part
        else:
            recesses[box] |= _slots(whole, room_mm[box], spacing_mm)
    return recesses


def _slots(
    chamber: Bool[np.ndarray, "z y x"], room_mm: Float[np.ndarray, "z y x"], spacing_mm: float
) -> Bool[np.ndarray, "z y x"]:
    """Return the thin parts of a chamber that are too large for an ostium: meatus beside turbinates.

    A sinus whose ostium opens into a meatus takes nothing of the meatus with it when it is cut.
    """
    wide = chamber & (room_mm >= SLOT_MM)
    if not wide.any():
        return chamber
    labels, count = ndimage.label(chamber & (distance_mm(~wide, spacing_mm) > SLOT_MM + EDGE_MM))
    volumes = np.bincount(labels.ravel(), minlength=count + 1) * spacing_mm**3
    volumes[0] = 0.0
    slots: Bool[np.ndarray, "z y x"] = np.isin(labels, np.flatnonzero(volumes >= SMALL_MM3))
    return slots


def _is_reached(
    chamber: Bool[np.ndarray, "z y x"],
    passages: Bool[np.ndarray, "z y x"],
    room_mm: Float[np.ndarray, "z y x"],
    width_mm: float,
) -> bool:
    """Say whether a ball of this radius passes from the chamber's widest place to a passage."""
    open_to, _ = ndimage.label(room_mm >= width_mm)
    widest = np.argmax(np.where(chamber, room_mm, -1.0))
    label = open_to.ravel()[widest]
    return bool((passages & (open_to == label)).any())


def _connected_to(mask: Bool[np.ndarray, "z y x"], ends: Openings) -> Bool[np.ndarray, "z y x"]:
    labels, _ = ndimage.label(mask | ends.all)
    found = np.unique(labels[ends.all])
    joined: Bool[np.ndarray, "z y x"] = np.isin(labels, found[found > 0]) & mask
    return joined


def measure_side(
    image: Image, lumen: Bool[np.ndarray, "z y x"], ends: Openings, side: str
) -> Side | None:
    """Return one side's flow and narrowest section, or None if it does not reach the pharynx.

    Notes
    -----
    With this side's nostril as the only source, the other side is a dead end at the potential of the place
    where the sides meet: levels above it lie in this side. The area of an iso-surface follows from the
    coarea formula, integral of |grad p| dV = integral of area(p) dp.
    """
    flow = solve_potential(lumen, ends.nostrils[side], ends.pharynx, image.spacing_mm)
    if flow is None:
        return None
    others = [layer for name, layer in ends.nostrils.items() if name != side]
    meeting = 0.0
    if others:
        rim = ndimage.binary_dilation(others[0]) & lumen
        values = flow.potential[rim]
        values = values[np.isfinite(values)]
        meeting = float(values.mean()) if len(values) else 0.0
    least = meeting + 0.02 * (1.0 - meeting)
    inside = lumen & np.isfinite(flow.potential)
    inside[inside] = (flow.potential[inside] > least) & (flow.potential[inside] < 1.0)
    level, slope = flow.potential[inside], flow.gradient[inside]
    edges = np.quantile(level, np.linspace(0.0, 1.0, LEVELS + 1))
    bins = np.clip(np.searchsorted(edges, level) - 1, 0, LEVELS - 1)
    total = np.bincount(bins, weights=slope, minlength=LEVELS) * image.grid.voxel_volume_mm3
    area = total / np.maximum(np.diff(edges), 1e-12)
    narrow = int(np.argmin(area[1:-1])) + 1
    index = np.argwhere(inside)
    counts = np.maximum(np.bincount(bins, minlength=LEVELS), 1)
    centres = np.stack(
        [np.bincount(bins, index[:, i], minlength=LEVELS) / counts for i in range(3)], axis=1
    )
    places = image.grid.to_world_mm(centres)
    return Side(flow, float(area[narrow]), places[narrow], _profile(area, places))


def _profile(
    area_mm2: Float[np.ndarray, "level"], places_mm: Float[np.ndarray, "level 3"]
) -> AreaProfile:
    """Order sections from the nostril inwards; the first and the last one are cut by the ends."""
    area, places = area_mm2[-2:0:-1], places_mm[-2:0:-1]
    smooth = ndimage.gaussian_filter1d(places, PATH_LEVELS, axis=0, mode="nearest")
    steps = np.linalg.norm(np.diff(smooth, axis=0, prepend=smooth[:1]), axis=1)
    return AreaProfile(np.cumsum(steps), area, places)


def name_sections(profile: AreaProfile) -> dict[str, NamedSection]:
    """Name the sections that rhinologists speak of.

    The valve is the narrowest section within `VALVE_MM` of the nostril's plane, the choana the last one
    before the sides meet; the turbinates' front and rear lie at fixed shares of the way from
    valve to choana.
    """
    near = profile.distance_mm <= VALVE_MM
    valve = int(np.argmin(np.where(near, profile.area_mm2, np.inf)))
    last = len(profile.area_mm2) - 1
    way = profile.distance_mm[last] - profile.distance_mm[valve]
    found = {"valve": valve, "choana": last}
    for name, share in TURBINATE_SHARES.items():
        wanted = profile.distance_mm[valve] + share * way
        found[name] = int(np.argmin(np.abs(profile.distance_mm - wanted)))
    return {name: profile.at(index) for name, index in found.items()}


def region(
    image: Image, lumen: Bool[np.ndarray, "z y x"], sections: dict[str, Section]
) -> np.ndarray:
    """Return the part of space that belongs to the airway: 1, and 2 beyond its planes.

    A voxel belongs to it if it is nearer to the lumen (continued beyond the planes by columns) than to any
    other air, and within `REGION_MM` of it: thinner or fatter lumina of other variants of the image are
    then cut in the same places.
    """
    beyond = np.zeros(lumen.shape, dtype=bool)
    for name, section in sections.items():
        out = name != "pharynx"
        low, high = (-BEYOND_MM, 0.0) if out else (0.0, BEYOND_MM)
        beyond |= column(image.grid, section, low_mm=low, high_mm=high, margin_mm=COLLAR_MM)
    beyond &= ~lumen
    kept = lumen | (beyond & image.air)
    other = image.air & ~kept
    to_kept, nearest = ndimage.distance_transform_edt(~kept, return_indices=True)
    mine = (to_kept * image.spacing_mm <= REGION_MM) & (
        to_kept * image.spacing_mm < distance_mm(~other, image.spacing_mm)
    )
    is_beyond = beyond[tuple(nearest)]
    return np.where(mine, np.where(is_beyond, 2, 1), 0).astype(np.uint8)


def volume_ml(mask: Bool[np.ndarray, "z y x"], spacing_mm: float) -> float:
    """Return the volume of a mask, ml."""
    return float(mask.sum()) * spacing_mm**3 / MM3_PER_ML
