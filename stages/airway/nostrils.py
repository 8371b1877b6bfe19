"""Find where a nostril ends: the outermost plane whose section is enclosed by walls."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from stages.airway.sections import Image, Section, Vector, cut, plane_axes

REACH_MM = 16.0
"""A nostril's long axis is 10 to 20 mm; a section that reaches 16 mm from its centre is no nostril."""

AREA_MM2 = (12.0, 450.0)
"""Plausible areas of a nostril: adults 60 to 250 mm2, children and splayed noses beyond."""

SEARCH_MM = 35.0
"""How far from its start, some 9 mm outside the skin's hull, the nostril is sought along a way."""

SETBACK_MM = 0.8
"""The plane moves inwards by this much from the last enclosed position, so that it is enclosed in variants
of the image (thick slices, other isolevels) too."""

PERSISTENCE_MM = 2.0
"""An enclosed section counts only if it stays so for this length: a dent in the skin does not."""


def find_nostril(
    image: Image, line_mm: Float[np.ndarray, "point 3"], tangent: Float[np.ndarray, "point 3"]
) -> Section | None:
    """Return the section of a nostril, normal inwards, on a line that leads into the nose.

    Notes
    -----
    A flat opening admits one enclosed plane through its centre, the rim's own; a saddle-shaped rim is met
    by the outermost plane in three points. Both are what one would cut by hand. A little further inside, a
    cone of planes is enclosed: its mean direction is the normal, which no single voxel decides.
    """
    step = image.spacing_mm
    ahead = max(int(PERSISTENCE_MM / step), 1)
    back = min(round(SETBACK_MM / step), ahead)
    for i in range(min(int(SEARCH_MM / step), len(line_mm) - ahead)):
        base = np.mean(tangent[i : i + 2 * ahead], axis=0)
        normals = _tilted(base / np.linalg.norm(base))
        stretch = line_mm[i : i + ahead + 1]
        if not any(_stays_enclosed(image, stretch, normal) for normal in normals):
            continue
        at = line_mm[i + back]
        cone = [
            normal for normal in normals if _is_nostril(cut(image, at, normal, reach_mm=REACH_MM))
        ]
        return _at_its_centre(image, at, cone)
    return None


def _at_its_centre(image: Image, at: Vector, cone: list[Vector]) -> Section | None:
    """Return the section whose normal is the cone's mean, or the nearest member of the cone."""
    mean = np.mean(cone, axis=0)
    mean /= np.linalg.norm(mean)
    for normal in sorted([mean, *cone], key=lambda n: -float(n @ mean)):
        inner = cut(image, at, normal, reach_mm=REACH_MM)
        centred = cut(image, inner.centroid_mm, normal, reach_mm=REACH_MM)
        if _is_nostril(inner) and _is_nostril(centred):
            return centred
    return None


def _is_nostril(section: Section) -> bool:
    return section.is_enclosed and AREA_MM2[0] <= section.area_mm2 <= AREA_MM2[1]


def _stays_enclosed(image: Image, line_mm: Float[np.ndarray, "point 3"], normal: Vector) -> bool:
    return all(_is_nostril(cut(image, p, normal, reach_mm=REACH_MM)) for p in line_mm)


def _tilted(axis: Vector) -> Float[np.ndarray, "normal 3"]:
    """Return an axis and directions evenly spread around it, tilted by up to 45 degrees."""
    u, v = plane_axes(axis)
    normals = [axis]
    for tilt, count in ((11.25, 6), (22.5, 12), (33.75, 18), (45.0, 24)):
        for turn in 2.0 * np.pi * np.arange(count) / count:
            lateral = np.cos(turn) * u + np.sin(turn) * v
            normals.append(np.cos(np.deg2rad(tilt)) * axis + np.sin(np.deg2rad(tilt)) * lateral)
    return np.array(normals)
