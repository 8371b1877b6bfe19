"""Trace the ways from the skin of the nose to the pharynx and cut them at their ends."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from pipeline.core.geometry import Triple, VoxelGrid
from stages.airway.head import BALL_MM, Head, distance_mm
from stages.airway.nostrils import find_nostril
from stages.airway.pharynx import find_pharynx, find_source
from stages.airway.resampling import block_mean, triple
from stages.airway.routes import Route, find_route, smooth_line, tangents, travel_cost
from stages.airway.sections import Image, Section, column

SIDES = ("left", "right")
NO_RIMS = (
    "The nostrils are not enclosed by walls: the nose is cut or damaged, or the slices are too thick to "
    "show its rims."
)
NO_NOSE = "No nose was found on the face: the field of view does not reach it or cuts it off."

NOSE_HALF_WIDTH_MM = 20.0
"""A nasal cavity reaches less far from the midline; sinuses lie beyond."""

SEPTUM_MM = 3.0
SEPTUM_LENGTH_MM = 65.0
"""Up to this far behind the tip the sides are apart, and the other side begins 3 mm from the midline."""

NOSTRIL_REACH_MM = 12.0
"""A vestibule lies within this distance of the mirror image of the other nostril."""

NEAR_TIP_MM = 26.0
"""Nostrils lie within this distance of the nose tip (about 20 mm); the mouth is farther (30 mm or more)."""

FREE_MM = BALL_MM
"""Ways start where the air outside is this wide: no such place is in a nostril."""

SHELL_MM = 3.0
"""Ways may run this much deeper through the air outside, and no farther."""

APART_MM = 7.0
"""The centres of two nostrils lie 9 mm (a child) to 20 mm apart; nearer openings are one nostril's."""

TRIES = 4
"""Number of ways that are looked at: two nostrils, the mouth and one to spare."""

SMOOTHING_MM = 2.0
"""Standard deviation of the Gaussian along a centre line."""

BLOCK_MM = 1.2
"""Half thickness of the slab that closes a nostril for the second search: two voxels, since routes may
step diagonally."""

BLOCK_MARGIN_MM = 1.5
NOSE_LENGTH_MM = 35.0
"""From a nostril to the choana at least; the pharynx lies beyond."""


@dataclass(frozen=True)
class Obstacle:
    """Say why a way is closed and where (LPS, mm)."""

    reason: str
    place_mm: Triple | None


@dataclass(frozen=True)
class Tracing:
    """Hold the sections that end the airway and what is closed.

    Parameters
    ----------
    sections
        By plane name: ``nostril-left``, ``nostril-right``, ``pharynx``; open ones only.
    obstacles
        By side; both sides if the nose is closed as a whole.
    """

    sections: dict[str, Section] = field(default_factory=dict)
    obstacles: dict[str, Obstacle] = field(default_factory=dict)

    @property
    def is_patent(self) -> bool:
        """Say whether at least one side leads to the pharynx."""
        return "pharynx" in self.sections and len(self.sections) > 1


def closed(reason: str, place_mm: Triple | None) -> Tracing:
    """Return a tracing without any way."""
    return Tracing({}, {side: Obstacle(reason, place_mm) for side in SIDES})


def trace(image: Image, head: Head) -> Tracing:
    """Find the nostrils and the pharynx section of a head."""
    tip = head.nose_tip_mm
    if tip is None:
        return closed(NO_NOSE, None)
    source = find_source(image, head, tip)
    if source is None:
        return closed("No air was found in the pharynx behind the nose.", tip)
    ways = _open_ways(image, head, tip, source)
    if not ways:
        return _blocked(image, head, tip, source)
    line, tangent = ways[0][1:]
    pharynx = find_pharynx(image, line, tangent, skip_mm=NOSE_LENGTH_MM)
    if pharynx is None:
        place = triple(line[-1])
        return closed("The pharynx is no enclosed tube within the field of view.", place)
    named = _name_sides([way[0] for way in ways], head, tip)
    sections = {f"nostril-{side}": section for side, section in named.items()}
    return Tracing({**sections, "pharynx": pharynx}, _closed_side(image, head, tip, source, named))


Way = tuple[Section, Float[np.ndarray, "point 3"], Float[np.ndarray, "point 3"]]


def _open_ways(
    image: Image, head: Head, tip_mm: Triple, source: tuple[int, int, int]
) -> list[Way]:
    """Find up to two ways through air, each leaving by a nostril of its own."""
    air = image.air
    depth = distance_mm(image.outside, image.spacing_mm)
    cost = travel_cost(air, ~air | (depth > FREE_MM + SHELL_MM), image.spacing_mm)
    ends = air & (depth > FREE_MM) & near(image.grid, tip_mm, NEAR_TIP_MM + FREE_MM + SHELL_MM)
    ways: list[Way] = []
    for _ in range(TRIES):
        route = find_route(cost, air, source, ends)
        if route is None:
            break
        points = image.grid.to_world_mm(route.index)
        line = smooth_line(points, spacing_mm=image.spacing_mm, sigma_mm=SMOOTHING_MM)
        if len(line) < 2 * NOSE_LENGTH_MM / image.spacing_mm:
            break
        tangent = tangents(line)
        nostril = find_nostril(image, line, tangent)
        if nostril is None:
            break
        if np.linalg.norm(nostril.centroid_mm - np.array(tip_mm)) < NEAR_TIP_MM and all(
            abs(float((nostril.centroid_mm - way[0].centroid_mm) @ np.array(head.left))) > APART_MM
            for way in ways
        ):
            ways.append((nostril, line, tangent))
        if len(ways) == len(SIDES):
            break
        cost[_plug(image.grid, nostril)] = -1.0
    return ways


def _plug(grid: VoxelGrid, section: Section) -> Bool[np.ndarray, "z y x"]:
    return column(grid, section, low_mm=-BLOCK_MM, high_mm=BLOCK_MM, margin_mm=BLOCK_MARGIN_MM)


def near(grid: VoxelGrid, point_mm: Triple, reach_mm: float) -> Bool[np.ndarray, "z y x"]:
    """Return the voxels of an upright grid within a distance of a point."""
    z, y, x = (
        np.square(
            grid.origin_mm[2 - i] + np.arange(grid.shape[i]) * grid.spacing_mm[i] - point_mm[2 - i]
        )
        for i in range(3)
    )
    ball: Bool[np.ndarray, "z y x"] = (
        z[:, None, None] + y[None, :, None] + x[None, None, :] <= reach_mm**2
    )
    return ball


def _name_sides(nostrils: list[Section], head: Head, tip_mm: Triple) -> dict[str, Section]:
    at = [float((s.centroid_mm - np.array(tip_mm)) @ np.array(head.left)) for s in nostrils]
    if len(nostrils) == 2:
        first = "left" if at[0] > at[1] else "right"
        second = "right" if first == "left" else "left"
        return {first: nostrils[0], second: nostrils[1]}
    return {"left" if at[0] > 0 else "right": nostrils[0]}


def _blocked(image: Image, head: Head, tip_mm: Triple, source: tuple[int, int, int]) -> Tracing:
    """Say where the way of least resistance from a vestibule to the pharynx meets tissue."""
    lateral, _ = head_coordinates(image.grid, head, tip_mm)
    ends = image.air & ~image.outside & near(image.grid, tip_mm, NEAR_TIP_MM)
    route = _route_through_tissue(image, source, ends, np.abs(lateral) > NOSE_HALF_WIDTH_MM)
    if route is None:
        return closed("The nose holds no air in front of the pharynx.", tip_mm)
    if not route[1].any():
        return closed(NO_RIMS, tip_mm)
    reason = "The nose is blocked: no air leads from a nostril to the pharynx."
    return closed(reason, _middle(*route))


def _closed_side(
    image: Image,
    head: Head,
    tip_mm: Triple,
    source: tuple[int, int, int],
    named: dict[str, Section],
) -> dict[str, Obstacle]:
    """Describe the side without a way: where, seen from its nostril, the air ends."""
    if len(named) == 2:
        return {}
    side, section = next(iter(named.items()))
    other, sign = ("right", -1.0) if side == "left" else ("left", 1.0)
    left = np.array(head.left)
    offset = section.centroid_mm - np.array(tip_mm)
    mirrored = triple(section.centroid_mm - 2 * float(offset @ left) * left)
    lateral, behind = head_coordinates(image.grid, head, tip_mm)
    open_side = (sign * lateral < -SEPTUM_MM) & (behind < SEPTUM_LENGTH_MM)
    forbidden = open_side | (np.abs(lateral) > NOSE_HALF_WIDTH_MM)
    ends = image.air & ~image.outside & near(image.grid, mirrored, NOSTRIL_REACH_MM)
    inner = image.air & ~image.outside & (behind < SEPTUM_LENGTH_MM)
    passage = _joined_to(inner, _plug(image.grid, section))
    if (ends & ~passage).any():
        # The open passage reaches over the midline in places: no way may begin in it or use it.
        forbidden = forbidden | passage
    route = _route_through_tissue(image, source, ends & ~forbidden, forbidden)
    place = mirrored if route is None else _middle(*route)
    reason = f"The {other} side is blocked: no air leads from its nostril to the pharynx."
    return {other: Obstacle(reason, place)}


def _joined_to(
    air: Bool[np.ndarray, "z y x"], seed: Bool[np.ndarray, "z y x"]
) -> Bool[np.ndarray, "z y x"]:
    labels, _ = ndimage.label(air)
    found = np.unique(labels[seed])
    joined: Bool[np.ndarray, "z y x"] = np.isin(labels, found[found > 0])
    return joined


def head_coordinates(
    grid: VoxelGrid, head: Head, tip_mm: Triple
) -> tuple[Float[np.ndarray, "1 y x"], Float[np.ndarray, "1 y x"]]:
    """Return how far each voxel column lies to the left of and behind the nose tip, mm."""
    y, x = (
        grid.origin_mm[2 - i] + np.arange(grid.shape[i]) * grid.spacing_mm[i] - tip_mm[2 - i]
        for i in (1, 2)
    )
    lateral = x[None, :] * head.left[0] + y[:, None] * head.left[1]
    behind = x[None, :] * head.posterior[0] + y[:, None] * head.posterior[1]
    return lateral[None], behind[None]


Crossing = tuple[Float[np.ndarray, "point 3"], Bool[np.ndarray, "point"]]


def _route_through_tissue(
    image: Image,
    source: tuple[int, int, int],
    ends: Bool[np.ndarray, "z y x"],
    forbidden: Bool[np.ndarray, "#z y x"],
) -> Crossing | None:
    """Return the points of the cheapest way, at half resolution, and which of them are tissue.

    It stays inside the head: along the skin every place could be reached.
    """
    air = _half(image.air)
    closed_off = _half((image.outside & ~ends) | forbidden)
    cost = travel_cost(air, closed_off, 2 * image.spacing_mm)
    start = tuple(min(i // 2, n - 1) for i, n in zip(source, air.shape, strict=True))
    route: Route | None = find_route(cost, air, (start[0], start[1], start[2]), _half(ends))
    if route is None:
        return None
    return image.grid.to_world_mm(route.index * 2 + 0.5), route.in_tissue


def _half(mask: Bool[np.ndarray, "z y x"]) -> Bool[np.ndarray, "z y x"]:
    return block_mean(mask.astype(np.float32), 2) >= 0.5


def _middle(points_mm: Float[np.ndarray, "point 3"], tissue: Bool[np.ndarray, "point"]) -> Triple:
    """Return the middle of the longest run of tissue on a way."""
    labels, count = ndimage.label(tissue)
    if count == 0:
        return triple(points_mm[0])
    run = np.flatnonzero(labels == int(np.argmax(np.bincount(labels)[1:])) + 1)
    return triple(points_mm[run[len(run) // 2]])
