"""Measure each side: its flow, its sections, its narrowest place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from stages.airway.lumen import Openings
from stages.airway.potential import PotentialFlow, flux_from, solve_potential
from stages.airway.sections import Image
from stages.airway.septum import Meeting

LEVELS = 80
"""Number of iso-surfaces of the potential among which the smallest is sought on each side."""

PATH_LEVELS = 5.0
"""Standard deviation, in sections, with which their centres are smoothed to a way."""

MEETING_MARGIN = 0.02
"""Share of the potential by which a side ends before the place where the sides meet."""

VALVE_MM = 25.0
"""The nasal valve lies 12 to 20 mm behind the nostril's rim (Cole 2003, doi:10.1177/194589240301700208)."""

TURBINATE_SHARES = {"anterior turbinate": 0.3, "posterior turbinate": 0.8}
"""Places of the inferior turbinate's head and tail on the way from the valve to the choana."""


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
    """Hold one side's way: its conductance (mm3), its narrowest place and its sections."""

    conductance_mm3: float
    minimal_area_mm2: float
    minimal_place_mm: Float[np.ndarray, "3"]
    profile: AreaProfile


def measure_sides(
    image: Image, lumen: Bool[np.ndarray, "z y x"], ends: Openings, meeting: Meeting | None
) -> dict[str, Side]:
    """Return what is known of the sides that reach the pharynx.

    Parameters
    ----------
    image
        The image.
    lumen, ends
        The airway and its openings.
    meeting
        Where the sides meet; None if only one nostril is known or reaches the other.

    Notes
    -----
    Both nostrils are sources of one potential, as in a breathing nose, so that a hole of the septum, real or
    false, changes little. Levels above that of the place where the sides meet lie in one side. The
    area of an iso-surface is that of the vector sum of its voxel faces: exact for a flat section however it
    lies on the grid.
    """
    source = np.logical_or.reduce(list(ends.nostrils.values()))
    flow = solve_potential(lumen, source, ends.pharynx, image.spacing_mm)
    if flow is None:
        return {}
    sides = {}
    for name, layer in ends.nostrils.items():
        if not np.isfinite(flow.potential[layer]).any():
            continue
        own = lumen & np.isfinite(flow.potential)
        least = 0.0
        if meeting is not None:
            own &= meeting.side == (1 if name == "left" else -1)
            met = flow.potential[meeting.choanal]
            # Where the place of meeting is cut off from the pharynx, a side goes on to the end.
            least = float(np.nanmean(met)) if np.isfinite(met).any() else 0.0
        sides[name] = _side(image, flow, own, layer, least)
    return sides


def _side(
    image: Image,
    flow: PotentialFlow,
    own: Bool[np.ndarray, "z y x"],
    nostril: Bool[np.ndarray, "z y x"],
    meeting: float,
) -> Side:
    least = meeting + MEETING_MARGIN * (1.0 - meeting)
    inside = own.copy()
    inside[own] = (flow.potential[own] > least) & (flow.potential[own] < 1.0)
    levels = np.quantile(flow.potential[inside], np.linspace(0.0, 1.0, LEVELS + 1))[1:-1]
    area, places = _sections(image, np.where(own, flow.potential, np.nan), levels)
    narrow = int(np.argmin(area))
    conductance = flux_from(flow, nostril, image.spacing_mm)
    return Side(conductance, float(area[narrow]), places[narrow], _profile(area, places))


def _sections(
    image: Image,
    potential: Float[np.ndarray, "z y x"],
    levels: Float[np.ndarray, "level"],
) -> tuple[Float[np.ndarray, "level"], Float[np.ndarray, "level 3"]]:
    """Return area (mm2) and centre (LPS, mm) of the surfaces on which the potential has given values.

    A face between two voxels belongs to every level between their potentials.
    """
    vector, number = np.zeros((3, len(levels) + 1)), np.zeros(len(levels) + 1)
    centre = np.zeros((3, len(levels) + 1))
    for axis in range(3):
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
        first = np.searchsorted(levels, potential[low])
        second = np.searchsorted(levels, potential[high])
        crossed = (first != second) & np.isfinite(potential[low]) & np.isfinite(potential[high])
        sign = np.sign(second - first)[crossed]
        begin = np.minimum(first, second)[crossed]
        end = np.maximum(first, second)[crossed]
        np.add.at(vector[axis], begin, sign)
        np.add.at(vector[axis], end, -sign)
        np.add.at(number, begin, 1)
        np.add.at(number, end, -1)
        for other, index in enumerate(np.nonzero(crossed)):
            at = index + (0.5 if other == axis else 0.0)
            np.add.at(centre[other], begin, at)
            np.add.at(centre[other], end, -at)
    vector, number, centre = (np.cumsum(v, axis=-1)[..., :-1] for v in (vector, number, centre))
    area = np.linalg.norm(vector, axis=0) * image.spacing_mm**2
    return area, image.grid.to_world_mm((centre / np.maximum(number, 1)).T)


def _profile(
    area_mm2: Float[np.ndarray, "level"], places_mm: Float[np.ndarray, "level 3"]
) -> AreaProfile:
    """Order sections from the nostril inwards."""
    area, places = area_mm2[::-1], places_mm[::-1]
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
