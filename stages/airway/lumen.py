"""The lumen: the air between the openings, and the space that belongs to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8
from scipy import ndimage

from pipeline.core.units import MM3_PER_ML
from stages.airway.head import BALL_MM, distance_mm
from stages.airway.routes import find_route, travel_cost
from stages.airway.sections import Image, Section, column
from stages.airway.septum import nearer_of

PLUG_MM = 1.2
"""Thickness of the layer outside a plane that serves as its opening: two voxels."""

BEYOND_MM = 4.0
"""The region goes on this far behind the planes, so that a surface can be cut exactly at them."""

REGION_MM = 4.0
"""The region ends this far from the lumen: more than any restoration moves a wall."""

COLLAR_MM = 1.2
"""The column outside a nostril is this much wider than the opening, so that a fatter lumen of another
variant of the image is not clipped at the plane."""


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


def inner_air(image: Image, ends: Openings) -> Bool[np.ndarray, "z y x"]:
    """Return the air in which the lumen is sought.

    The outside's coarse outline may reach into a wide vestibule, so that it is taken out only if the plugs
    at the planes do not hold the outer air back: where thick slices lose a wing of the nose. Then air
    belongs inside if the middle of a way from nostril to pharynx is nearer than the outside.
    """
    free = distance_mm(image.outside, image.spacing_mm) > BALL_MM
    if not (flood(image.air, ends) & free).any():
        return image.air
    within = image.air & ~image.outside
    middle = _middle_ways(within | ends.all, ends, image.spacing_mm)
    _, nearer = nearer_of(image.air & ~ends.all, middle & ~ends.all, image.outside & ~ends.all)
    inner: Bool[np.ndarray, "z y x"] = within & ((nearer == 1) | ends.all)
    return inner


def _middle_ways(
    air: Bool[np.ndarray, "z y x"], ends: Openings, spacing_mm: float
) -> Bool[np.ndarray, "z y x"]:
    """Return the voxels of the ways of least resistance from each nostril to the pharynx."""
    ways = np.zeros(air.shape, dtype=bool)
    cost = travel_cost(air, ~air, spacing_mm)
    places = np.argwhere(ends.pharynx)
    middle = np.argmin(np.linalg.norm(places - places.mean(axis=0), axis=1))
    z, y, x = (int(i) for i in places[middle])
    for layer in ends.nostrils.values():
        route = find_route(cost, air, (z, y, x), layer)
        if route is not None:
            ways[tuple(route.index.T)] = True
    return ways


def region(
    image: Image, lumen: Bool[np.ndarray, "z y x"], sections: dict[str, Section]
) -> UInt8[np.ndarray, "z y x"]:
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
