"""Cut sinuses and cells off the lumen: chambers that carry no air."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from stages.airway.head import distance_mm
from stages.airway.lumen import Openings
from stages.airway.potential import solve_potential
from stages.airway.septum import nearer_of

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

SLOT_REACH_MM, SLOT_SHARE = 7.0, 0.8
"""A meatus lies within the thickness of a turbinate from the passage, with at least this share of it."""

EDGE_MM = 1.2
"""Corners of a sinus that its largest balls leave out by this much are still its own."""

NECK_REACH_MM = 8.0
"""How far around a dead end the way to a passage is followed."""


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
    return _connected_to(kept, ends)


@dataclass(frozen=True)
class Passages:
    """Hold where air passes: everywhere, in its core, and where it is wide and fast."""

    all: Bool[np.ndarray, "z y x"]
    core: Bool[np.ndarray, "z y x"]
    wide: Bool[np.ndarray, "z y x"]


def _passages(
    lumen: Bool[np.ndarray, "z y x"], ends: Openings, spacing_mm: float, least_share: float
) -> Passages:
    """Find thin passages by their throughput and wide ones by their speed.

    Both nostrils are sources of one potential, as in a breathing nose: a loop from one side to the other
    through the sphenoid sinuses or a hole of the septum carries nothing and is no passage.
    """
    source = np.logical_or.reduce(list(ends.nostrils.values()))
    flow = solve_potential(lumen, source, ends.pharynx, spacing_mm)
    if flow is None:
        nothing = np.zeros(lumen.shape, dtype=bool)
        return Passages(nothing, nothing, nothing)
    share = np.zeros(lumen.shape)
    speed_mm2 = flow.wall_mm * flow.throughput
    for part in _parts(lumen | ends.all, ends):
        weight = speed_mm2[part].sum()
        mean = float((speed_mm2 * flow.throughput)[part].sum() / weight) if weight > 0 else np.inf
        share[part] = flow.throughput[part] / mean
    # Both sides meet in the nasopharynx and only there: the sum favours it over sinuses.
    fast = (flow.wall_mm > WIDE_MM) & (speed_mm2 > WIDE_SPEED_MM2) & lumen
    every = _connected_to(((share > least_share) & lumen) | fast, ends)
    return Passages(every, every & (share > CORE * least_share), fast & every)


def _parts(air: Bool[np.ndarray, "z y x"], ends: Openings) -> list[Bool[np.ndarray, "z y x"]]:
    """Return the air that is nearer to each nostril: the flow of a narrow side is judged by its own mean."""
    if len(ends.nostrils) == 1:
        return [air]
    left, right = (ends.nostrils[side] for side in ("left", "right"))
    _, side = nearer_of(air, left, right)
    return [side == 1, side == -1]


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
    beside = distance_mm(~kept, spacing_mm) <= SLOT_REACH_MM
    recesses, bodies = _without_neck(lumen & ~kept, passages, beside, room, spacing_mm)
    cut_off: Bool[np.ndarray, "z y x"] = (kept & (passages.all | ~bodies)) | recesses
    return cut_off


def _without_neck(
    ends: Bool[np.ndarray, "z y x"],
    passages: Passages,
    beside: Bool[np.ndarray, "z y x"],
    room_mm: Float[np.ndarray, "z y x"],
    spacing_mm: float,
) -> tuple[Bool[np.ndarray, "z y x"], Bool[np.ndarray, "z y x"]]:
    """Return the dead ends that are recesses, small, thin or as wide at their mouth as inside, and the rest.

    A sinus or cell is a chamber behind a neck (its ostium): from its widest place no way leads to a passage
    that keeps `NECK` of its width. Its body is what balls of that width sweep from there: it ends at
    the neck, although passages were widened into it. A body that holds a passage stays as it is.
    """
    labels, _ = ndimage.label(ends)
    recesses, bodies = np.zeros(ends.shape, dtype=bool), np.zeros(ends.shape, dtype=bool)
    margin = int(np.ceil(NECK_REACH_MM / spacing_mm))
    for label, where in enumerate(ndimage.find_objects(labels), start=1):
        part = labels[where] == label
        box = tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in where)
        small = float(part.sum()) * spacing_mm**3 < SMALL_MM3
        widest = float(room_mm[where][part].max())
        whole = labels[box] == label
        body = _reach(whole, room_mm[box], NECK * widest)
        if small or (passages.core[box] & body).any():
            recesses[where] |= part
            continue
        recesses[box] |= _slots(whole, beside[box], room_mm[box], spacing_mm)
        if not (passages.all[box] & body).any():
            bodies[box] |= distance_mm(~body, spacing_mm) < NECK * widest
    return recesses, bodies


def _slots(
    chamber: Bool[np.ndarray, "z y x"],
    beside: Bool[np.ndarray, "z y x"],
    room_mm: Float[np.ndarray, "z y x"],
    spacing_mm: float,
) -> Bool[np.ndarray, "z y x"]:
    """Return the thin parts of a chamber that lie beside a passage: meatus round a turbinate.

    A sinus whose ostium opens into a meatus takes nothing of the meatus with it when it is cut. Parts too
    small for a meatus are ostia; thin air that leads away from the passages, such as the mouth's, is none.
    """
    wide = chamber & (room_mm >= SLOT_MM)
    thin = chamber
    if wide.any():
        thin = chamber & (distance_mm(~wide, spacing_mm) > SLOT_MM + EDGE_MM)
    labels, count = ndimage.label(thin)
    total = np.bincount(labels.ravel(), minlength=count + 1)
    close = np.bincount(labels[beside], minlength=count + 1)
    is_slot = (total * spacing_mm**3 >= SMALL_MM3) & (close >= SLOT_SHARE * total)
    is_slot[0] = False
    slots: Bool[np.ndarray, "z y x"] = is_slot[labels]
    return slots


def _reach(
    chamber: Bool[np.ndarray, "z y x"], room_mm: Float[np.ndarray, "z y x"], width_mm: float
) -> Bool[np.ndarray, "z y x"]:
    """Return the centres that a ball of this radius takes from the chamber's widest place."""
    open_to, _ = ndimage.label(room_mm >= width_mm)
    widest = np.argmax(np.where(chamber, room_mm, -1.0))
    reach: Bool[np.ndarray, "z y x"] = open_to == open_to.ravel()[widest]
    return reach


def _connected_to(mask: Bool[np.ndarray, "z y x"], ends: Openings) -> Bool[np.ndarray, "z y x"]:
    labels, _ = ndimage.label(mask | ends.all)
    found = np.unique(labels[ends.all])
    joined: Bool[np.ndarray, "z y x"] = np.isin(labels, found[found > 0]) & mask
    return joined
