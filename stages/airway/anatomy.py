"""From a volume to the airway: what is open, where it ends, how large it is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, UInt8

from pipeline.core.errors import InputError
from pipeline.core.geometry import Triple, VoxelGrid
from pipeline.core.planes import Plane
from pipeline.core.volume import Volume
from stages.airway.head import BALL_MM, Head, distance_mm, look_at_head
from stages.airway.lumen import Openings, flood, inner_air, openings, region, volume_ml
from stages.airway.measures import NamedSection, Side, measure_sides, name_sections
from stages.airway.pharynx import BEHIND_TIP_MM
from stages.airway.pruning import prune
from stages.airway.resampling import (
    bounding_box_mm,
    intersect,
    resample,
    resample_mask,
    triple,
    upright_grid,
)
from stages.airway.sections import Image, Section, cut
from stages.airway.septum import Meeting, SeptumHole, find_meeting
from stages.airway.settings import AirwaySettings
from stages.airway.tracing import (
    NEAR_TIP_MM,
    NO_NOSE,
    SHELL_MM,
    SIDES,
    Obstacle,
    Tracing,
    closed,
    head_coordinates,
    near,
    trace,
)

AROUND_TIP_MM = ((-45.0, -20.0, -90.0), (45.0, 140.0, 65.0))
"""Box (x, y, z) around the nose tip that holds nose and pharynx: left, behind and above are positive."""

AROUND_PLANES_MM = 25.0
"""Margin around given planes, beyond the nose between them."""

ISOLEVEL_SHIFT_HU = 100.0
"""The uncertain place of the wall: volume and minimal areas are given at this much lower and higher, too."""

AROUND_LUMEN_MM = 8.0
"""Margin of the masks around the lumen: the region reaches 4 mm beyond it."""

COARSE_SLICES_MM = 1.6
"""Between slices farther apart than this straight lines flatten the rims of the nostrils: on phantom scans of
2 and 3 mm cubic splines bring the lumen nearer to the truth, on 5 mm they find nostrils at all."""

MASK_MARGIN_MM = 1.2
"""A mask's wall is a staircase of voxels; grey values place the wall within two voxels of it."""

MASK_END_MM, MASK_BEYOND_MM = 3.0, 16.0
"""Height of a mask's lower end, and how far the pharynx is followed below it."""

TISSUE_OF_MASK_HU = 50.0

PLANE_SLACK_MM = 3.0
"""The section's radius in planes.json exceeds its farthest point by this much, so that a fatter lumen of
another variant of the image is not cut off."""


@dataclass(frozen=True)
class SideRecord:
    """Hold what is known of one side; areas in mm2, places in LPS mm."""

    patent: bool
    reason: str | None = None
    place_mm: Triple | None = None
    minimal_area_mm2: float | None = None
    minimal_area_place_mm: Triple | None = None
    conductance_mm3: float | None = None
    sections: dict[str, NamedSection] = field(default_factory=dict)
    profile_distance_mm: tuple[float, ...] = ()
    profile_area_mm2: tuple[float, ...] = ()


@dataclass(frozen=True)
class Airway:
    """Hold the airway of one volume.

    Parameters
    ----------
    sides
        ``left`` and ``right``.
    grid
        Grid of the masks.
    lumen
        The airway between its planes, sinuses cut off.
    region
        1 where space belongs to the airway, 2 beyond its planes, 0 elsewhere.
    planes
        By name.
    sinus_volume_ml
        Air connected to the airway that was cut off.
    volume_at_ml
        Lumen volume by isolevel (HU).
    minimal_area_at_mm2
        Minimal area of each open side by isolevel (HU).
    septum_holes
        Where the sides meet before the choanae.
    """

    sides: dict[str, SideRecord]
    grid: VoxelGrid
    lumen: Bool[np.ndarray, "z y x"]
    region: UInt8[np.ndarray, "z y x"]
    planes: dict[str, Plane] = field(default_factory=dict)
    sinus_volume_ml: float = 0.0
    volume_at_ml: dict[str, float] = field(default_factory=dict)
    minimal_area_at_mm2: dict[str, dict[str, float]] = field(default_factory=dict)
    septum_holes: tuple[SeptumHole, ...] = ()

    @property
    def is_patent(self) -> bool:
        """Say whether air leads from at least one nostril to the pharynx."""
        return any(side.patent for side in self.sides.values())


def find_airway(volume: Volume, settings: AirwaySettings, mask: Volume | None = None) -> Airway:
    """Find the airway of a head, alone or within a mask of it that the user gives.

    Parameters
    ----------
    volume
        CT, HU.
    settings
        What counts as air and what is cut.
    mask
        Where it is not zero is airway; grey values still place the wall, at most `MASK_MARGIN_MM`
        beyond it, and nothing is pruned.

    Raises
    ------
    InputError
        If the mask does not meet the air behind the face.
    """
    head = look_at_head(volume)
    if head is None:
        return _nothing(volume, closed("No head was found in the volume.", None))
    if head.nose_tip_mm is None:
        return _nothing(volume, closed(NO_NOSE, None))
    low, high = (triple(np.add(head.nose_tip_mm, corner)) for corner in AROUND_TIP_MM)
    image = _image(volume, head, (low, high), settings)
    if mask is not None:
        image = _within(image, mask, head, head.nose_tip_mm)
        settings = settings.model_copy(update={"cut_sinuses": False})
    tracing = trace(image, head)
    if not tracing.is_patent:
        return _nothing(volume, tracing)
    return reconstruct(image, tracing, settings)


def _within(image: Image, mask: Volume, head: Head, tip_mm: Triple) -> Image:
    """Return the image with tissue for all inner air that a mask leaves out.

    Air in front of the nostrils stays, and the pharynx goes on below the mask's lower end: a plane is
    found only where the tube is known on both of its sides.
    """
    inside = resample_mask(mask.values > 0, mask.grid, image.grid)
    if not (inside & image.air).any():
        raise InputError(
            "The mask meets no air behind the face (needed: a mask of the airway on the volume's "
            "place); check its geometry, or leave --mask out."
        )
    spacing = image.spacing_mm
    allowed = distance_mm(~inside, spacing) <= MASK_MARGIN_MM
    before = distance_mm(~image.outside, spacing) <= BALL_MM + SHELL_MM
    allowed |= image.outside | (before & near(image.grid, tip_mm, NEAR_TIP_MM))
    _, behind = head_coordinates(image.grid, head, tip_mm)
    pharynx = inside & (behind >= BEHIND_TIP_MM[0])
    if pharynx.any():
        end = int(np.flatnonzero(pharynx.any(axis=(1, 2)))[0]) + int(MASK_END_MM / spacing) + 1
        pharynx[end:] = False
        below = distance_mm(~pharynx, spacing) <= MASK_BEYOND_MM
        below[end:] = False
        allowed |= below
    hu = np.where(image.air & ~allowed, np.float32(TISSUE_OF_MASK_HU), image.hu)
    return replace(image, hu=hu)


def airway_between_planes(
    volume: Volume, planes: dict[str, Plane], settings: AirwaySettings
) -> Airway:
    """Find the airway between planes that the user gives.

    Raises
    ------
    InputError
        If a plane is missing or its centre does not lie in air.
    """
    check_planes(planes)
    centres = np.array([plane.centre_mm for plane in planes.values()])
    low = triple(centres.min(axis=0) - AROUND_PLANES_MM)
    high = triple(centres.max(axis=0) + AROUND_PLANES_MM * np.array([1.0, 1.0, 3.0]))
    image = _image(volume, look_at_head(volume), (low, high), settings)
    sections = {name: _given_section(image, plane) for name, plane in planes.items()}
    return reconstruct(image, Tracing(sections), settings)


def airway_of_variant(
    volume: Volume,
    planes: dict[str, Plane],
    reference_region: Volume,
    settings: AirwaySettings,
) -> Airway:
    """Find the airway of another image of the same patient within a known region."""
    grid = reference_region.grid
    nowhere = np.zeros(grid.shape, dtype=bool)
    image = Image(resample(volume, grid), nowhere, grid, settings.isolevel_hu)
    space = reference_region.values
    sections = {
        name: cut(image, np.array(p.centre_mm), np.array(p.normal), reach_mm=p.radius_mm)
        for name, p in planes.items()
    }
    ends = openings(image, sections, image.air & (space > 0))
    within = image.air & (space == 1)
    return _measured(image, ends, flood(within, ends), np.asarray(space), planes, {}, 0.0)


def check_planes(planes: dict[str, Plane]) -> None:
    """Refuse planes without a pharynx or without any nostril.

    Raises
    ------
    InputError
        If one is missing.
    """
    if "pharynx" not in planes or not any(f"nostril-{side}" in planes for side in SIDES):
        raise InputError(
            f"The planes are {sorted(planes)}; needed are 'pharynx' and 'nostril-left' or "
            "'nostril-right': add what is missing.",
            planes=sorted(planes),
        )


def reconstruct(image: Image, tracing: Tracing, settings: AirwaySettings) -> Airway:
    """Build lumen, region and measures between known sections."""
    ends = openings(image, tracing.sections, image.air)
    inner = inner_air(image, ends)
    found = flood(inner, ends)
    if found.any():
        image = image.around(found | ends.all, AROUND_LUMEN_MM)
        ends = openings(image, tracing.sections, image.air)
    whole = flood(inner_air(image, ends), ends)
    kept = whole
    if settings.cut_sinuses and whole.any():
        kept = prune(
            whole,
            ends,
            image.spacing_mm,
            least_share=settings.least_passage_share,
            recess_mm=settings.recess_mm,
        )
    space = region(image, kept, tracing.sections)
    planes = {name: _plane(name, section) for name, section in tracing.sections.items()}
    sinus = volume_ml(whole & ~kept, image.spacing_mm)
    return _measured(image, ends, kept, space, planes, tracing.obstacles, sinus)


def _measured(
    image: Image,
    ends: Openings,
    lumen: Bool[np.ndarray, "z y x"],
    space: UInt8[np.ndarray, "z y x"],
    planes: dict[str, Plane],
    obstacles: dict[str, Obstacle],
    sinus_volume_ml: float,
) -> Airway:
    meeting = _meeting(image, lumen, ends)
    measured = measure_sides(image, lumen, ends, meeting)
    sides = {side: _side(measured.get(side), side, planes, obstacles) for side in SIDES}
    volumes, areas = {}, {}
    for shift in (-ISOLEVEL_SHIFT_HU, 0.0, ISOLEVEL_SHIFT_HU):
        name = f"{image.isolevel_hu + shift:g}"
        shifted = replace(image, isolevel_hu=image.isolevel_hu + shift)
        within = shifted.air & (space == 1)
        volumes[name] = volume_ml(within, image.spacing_mm)
        known = measured if shift == 0.0 else _shifted(shifted, within, ends)
        areas[name] = {side: known[side].minimal_area_mm2 for side in sorted(known)}
    holes = meeting.holes if meeting else ()
    return Airway(
        *(sides, image.grid, lumen, space, planes, sinus_volume_ml, volumes, areas, holes)
    )


def _shifted(image: Image, within: Bool[np.ndarray, "z y x"], ends: Openings) -> dict[str, Side]:
    """Return the sides at another isolevel."""
    lumen = flood(within, ends)
    return measure_sides(image, lumen, ends, _meeting(image, lumen, ends))


def _meeting(image: Image, lumen: Bool[np.ndarray, "z y x"], ends: Openings) -> Meeting | None:
    if set(ends.nostrils) != set(SIDES):
        return None
    left, right = (ends.nostrils[side] for side in SIDES)
    return find_meeting(lumen, left, right, ends.pharynx, image.grid)


def _side(
    measured: Side | None,
    side: str,
    planes: dict[str, Plane],
    obstacles: dict[str, Obstacle],
) -> SideRecord:
    if side in obstacles:
        return SideRecord(
            patent=False, reason=obstacles[side].reason, place_mm=obstacles[side].place_mm
        )
    plane = planes.get(f"nostril-{side}")
    if plane is None:
        return SideRecord(patent=False, reason=f"No plane is known for the {side} nostril.")
    if measured is None:
        reason = f"The {side} side is blocked: no air leads from its nostril to the pharynx."
        return SideRecord(patent=False, reason=reason, place_mm=plane.centre_mm)
    return SideRecord(
        patent=True,
        minimal_area_mm2=measured.minimal_area_mm2,
        minimal_area_place_mm=triple(measured.minimal_place_mm),
        conductance_mm3=measured.conductance_mm3,
        sections=name_sections(measured.profile),
        profile_distance_mm=tuple(float(v) for v in measured.profile.distance_mm),
        profile_area_mm2=tuple(float(v) for v in measured.profile.area_mm2),
    )


def _image(
    volume: Volume, head: Head | None, box: tuple[Triple, Triple], settings: AirwaySettings
) -> Image:
    grid = upright_grid(intersect(bounding_box_mm(volume.grid), box), settings.grid_spacing_mm)
    hu = resample(volume, grid, smoothly=max(volume.grid.spacing_mm) > COARSE_SLICES_MM)
    if head is None:
        return Image(hu, np.zeros(grid.shape, dtype=bool), grid, settings.isolevel_hu)
    return Image(hu, resample_mask(head.outside, head.grid, grid), grid, settings.isolevel_hu)


def _given_section(image: Image, plane: Plane) -> Section:
    section = cut(
        image, np.array(plane.centre_mm), np.array(plane.normal), reach_mm=plane.radius_mm
    )
    if not section.mask.any():
        raise InputError(
            f"Plane '{plane.name}': its centre lies in tissue at {image.isolevel_hu:g} HU; move it into "
            "the airway.",
            plane=plane.name,
        )
    return section


def _plane(name: str, section: Section) -> Plane:
    radius = round(section.radius_mm + PLANE_SLACK_MM, 3)
    return Plane(name, triple(section.centre_mm), triple(section.normal), radius)


def _nothing(volume: Volume, tracing: Tracing) -> Airway:
    grid = VoxelGrid((1, 1, 1), (1.0, 1.0, 1.0), volume.grid.origin_mm)
    sides = {
        side: SideRecord(patent=False, reason=o.reason, place_mm=o.place_mm)
        for side, o in tracing.obstacles.items()
    }
    empty = np.zeros((1, 1, 1), dtype=np.uint8)
    planes = {name: _plane(name, section) for name, section in tracing.sections.items()}
    return Airway(sides, grid, empty.astype(bool), empty, planes)
