"""Harmless facts of a scan for the sidecar, and sentences about what was corrected or doubted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume
from stages.ingest.assembly import Layout
from stages.ingest.checks import HuRange
from stages.ingest.series import AXIAL_COSINE, HEAD_EXTENT_MM, Group
from stages.ingest.stacking import Stack, list_places

COARSE_MM = 2.0
"""Spacing above which the slices are no high-resolution reference: a meatus is 2 to 4 mm wide."""
NOTED_DEVIATION = 0.01
"""Deviation from the regular grid, as a fraction of the spacing, that is worth a warning."""


@dataclass(frozen=True)
class Repeat:
    """Tell where an image was left out for a later one, and whether the two were the same."""

    position_mm: float
    identical: bool


def of_volume(volume: Volume, hu: HuRange) -> dict[str, Any]:
    """Return geometry and HU range."""
    return {
        "shape": list(volume.grid.shape),
        "spacing_mm": [round(s, 6) for s in volume.grid.spacing_mm],
        "minimum_hu": hu.minimum_hu,
        "maximum_hu": hu.maximum_hu,
        "air_fraction": hu.air_fraction,
    }


def of_series(group: Group, stack: Stack, layout: Layout) -> dict[str, Any]:
    """Return what the header says about the acquisition, from the keep-list alone."""
    example = group.example
    return {
        "source": "dicom",
        "modality": example.modality,
        "slice_thickness_mm": example.thickness_mm,
        "slice_spacing_mm": round(stack.spacing_mm, 6),
        "kernel": example.kernel or None,
        "kvp": example.kvp,
        "manufacturer_model": example.model or None,
        "body_part": example.body_part or None,
        "image_type": list(example.image_type[:3]),
        "files_found": len(group.headers),
        "slices_used": len(stack.members),
        "slices_off_grid": len(stack.off_grid),
        "slices_repeated": len(stack.repeated),
        "slices_cropped": len(stack.cropped),
        "tilt_corrected_degrees": round(layout.tilt_degrees, 3),
    }


def about_choice(groups: Sequence[Group], chosen: Group, series: str | None) -> list[str]:
    """Say which other series could have been taken, and which parts of this one were left out."""
    warnings = []
    others = [g for g in groups if not g.trouble and g.number != chosen.number]
    if others and series is None:
        listed = ", ".join(str(group.number) for group in others[:8])
        warnings.append(
            f"took series {chosen.number} of {len(groups)} ({len(chosen.headers)} slices, "
            f"{chosen.spacing_mm:.3f} mm apart); also suitable: {listed}; choose with --series"
        )
    same = [g for g in groups if g.example.series_uid == chosen.example.series_uid]
    left_out = sum(len(group.headers) for group in same if group.number != chosen.number)
    if left_out:
        warnings.append(
            f"left out {left_out} images of the same series that differ in thickness, "
            "orientation, matrix, kernel or kind and cannot lie on one grid with the others"
        )
    if any(header.burnt_in for header in chosen.headers):
        warnings.append("the header says that text is burnt into the pixels; look at the slices")
    return warnings


def about_stack(group: Group, stack: Stack, repeats: Sequence[Repeat]) -> list[str]:
    """Say which slices were left out and where, and how even the rest is."""
    warnings = []
    positions = group.positions_mm
    if stack.off_grid:
        places = list_places(sorted(positions[i] for i in stack.off_grid))
        warnings.append(
            f"left out {len(stack.off_grid)} of {len(positions)} slices that lie off the regular "
            f"grid of {stack.spacing_mm:.3f} mm (re-scanned?), at {places}"
        )
    same = [repeat.position_mm for repeat in repeats if repeat.identical]
    if same:
        warnings.append(f"left out {len(same)} identical copies of slices, at {list_places(same)}")
    different = [repeat.position_mm for repeat in repeats if not repeat.identical]
    if different:
        warnings.append(
            f"{len(different)} places were scanned more than once with different images, at "
            f"{list_places(different)}; the later acquisition was taken"
        )
    if stack.cropped:
        places = list_places(sorted(positions[i] for i in stack.cropped))
        warnings.append(f"left out {len(stack.cropped)} slices beyond a gap, at {places}")
    if stack.deviation_mm > NOTED_DEVIATION * stack.spacing_mm:
        warnings.append(
            f"slices lie up to {stack.deviation_mm:.3f} mm off an even spacing of "
            f"{stack.spacing_mm:.3f} mm; they were taken as evenly spaced"
        )
    return warnings


def about_layout(layout: Layout) -> list[str]:
    """Say that a tilt was corrected."""
    if not layout.shifts.any():
        return []
    largest = np.ptp(layout.shifts, axis=0) * layout.grid.spacing_mm[1:]
    sentence = (
        f"the slices are shifted sideways by up to {largest.max():.1f} mm (gantry tilt of "
        f"{layout.tilt_degrees:.1f} degrees); each was shifted back within its plane, so the "
        "volume is orthogonal and its axis 0 leans with the slices"
    )
    return [sentence]


def about_slices(group: Group, stack: Stack) -> list[str]:
    """Say that tissue between slices was not imaged, or that the stack is short."""
    warnings = []
    thickness = group.example.thickness_mm
    if thickness and thickness < 0.98 * stack.spacing_mm:
        warnings.append(
            f"slices of {thickness:g} mm lie {stack.spacing_mm:.3f} mm apart: the tissue between "
            "them was not imaged"
        )
    length = stack.spacing_mm * len(stack.members)
    if length < HEAD_EXTENT_MM:
        warnings.append(
            f"the stack is {length:.0f} mm long; a nose needs about {HEAD_EXTENT_MM:g} mm"
        )
    return warnings


def about_directory(lost: tuple[int, int]) -> list[str]:
    """Say that the disc's own list names files that are not there."""
    missing, named = lost
    if not missing:
        return []
    return [f"{missing} of {named} files that the DICOMDIR names are not there"]


def about_grid(grid: VoxelGrid) -> list[str]:
    """Say that the slices are not axial or far apart."""
    warnings = []
    cosine = abs(grid.axes[0][2])
    if cosine < AXIAL_COSINE:
        warnings.append("the slices are not axial; the volume keeps their orientation")
    if grid.spacing_mm[0] > COARSE_MM:
        warnings.append(
            f"slices lie {grid.spacing_mm[0]:.3f} mm apart: too coarse for a reference airway "
            f"(at most {COARSE_MM:g} mm)"
        )
    return warnings
