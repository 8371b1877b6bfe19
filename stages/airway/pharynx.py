"""Find the pharynx: where the way from the nose ends."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from pipeline.core.geometry import Triple
from stages.airway.head import Head, distance_mm
from stages.airway.sections import Image, Section, cut

LATERAL_MM = 12.0
"""Half width of the strip around the midline in which the pharynx is sought (it is 20 to 35 mm wide)."""

BEHIND_TIP_MM = (50.0, 135.0)
"""Distance behind the nose tip: 60 to 75 mm in a child, 95 to 125 mm in an adult."""

ABOVE_TIP_MM = 15.0
"""The sphenoid sinus lies higher than this above the tip, the nasopharynx mostly below."""

MINIMAL_HEIGHT_MM = 12.0
MINIMAL_VOLUME_MM3 = 300.0
"""Smaller air spaces behind the nose are cells or bubbles."""

REACH_MM = 26.0
"""A section of the pharynx reaches at most this far from its centre line."""

AREA_MM2 = (15.0, 1500.0)
"""Plausible areas of a pharynx."""

STEEP = 0.7
"""Least cosine between the airway and the downward direction in the pharynx; the head may be tilted."""

TUBE_MM = 8.0
"""The airway must be one enclosed tube for this length, so that its walls are beyond doubt."""

ADVANCE_MM = 8.0
"""The plane lies this far beyond the start of that tube, if the tube is long enough."""

MARGIN_MM = 4.0
"""What must remain beyond the plane."""


def find_source(image: Image, head: Head, tip_mm: Triple) -> tuple[int, int, int] | None:
    """Return the widest voxel near the lower end of the pharynx, or None without any."""
    inner = image.air & ~image.outside
    labels, _ = ndimage.label(inner & _search_box(image, head, tip_mm))
    best: tuple[float, int] = (0.0, 0)
    for label, where in enumerate(ndimage.find_objects(labels), start=1):
        height = (where[0].stop - where[0].start) * image.spacing_mm
        volume = float((labels[where] == label).sum()) * image.grid.voxel_volume_mm3
        if height >= MINIMAL_HEIGHT_MM and volume >= MINIMAL_VOLUME_MM3:
            best = max(best, (volume, label))
    if best[1] == 0:
        return None
    points = np.argwhere(labels == best[1])
    lower = points[points[:, 0] <= points[:, 0].min() + MARGIN_MM / image.spacing_mm]
    room = distance_mm(inner, image.spacing_mm)
    z, y, x = (int(i) for i in lower[int(np.argmax(room[tuple(lower.T)]))])
    return (z, y, x)


def _search_box(image: Image, head: Head, tip_mm: Triple) -> Bool[np.ndarray, "z y x"]:
    grid = image.grid
    z, y, x = (
        grid.origin_mm[2 - axis]
        + np.arange(grid.shape[axis]) * image.spacing_mm
        - tip_mm[2 - axis]
        for axis in range(3)
    )
    behind = x[None, :] * head.posterior[0] + y[:, None] * head.posterior[1]
    lateral = x[None, :] * head.left[0] + y[:, None] * head.left[1]
    level = (np.abs(lateral) <= LATERAL_MM) & (behind >= BEHIND_TIP_MM[0])
    level &= behind <= BEHIND_TIP_MM[1]
    box: Bool[np.ndarray, "z y x"] = (z <= ABOVE_TIP_MM)[:, None, None] & level
    return box


def find_pharynx(
    image: Image,
    line_mm: Float[np.ndarray, "point 3"],
    tangent: Float[np.ndarray, "point 3"],
    *,
    skip_mm: float,
) -> Section | None:
    """Return the pharynx section on the line from a nostril down, or None without a tube.

    Parameters
    ----------
    image
        The image.
    line_mm, tangent
        Line from the nostril to the lower end of the pharynx at steps of one voxel.
    skip_mm
        Length of the line that is certainly nose.
    """
    step = image.spacing_mm
    tube = max(int(TUBE_MM / step), 1)
    last = len(line_mm) - int(MARGIN_MM / step) - 1
    usable = [
        tangent[i][2] <= -STEEP and _is_tube(cut(image, line_mm[i], tangent[i], reach_mm=REACH_MM))
        for i in range(len(line_mm))
    ]
    for i in range(int(skip_mm / step), last):
        run = usable[i : min(i + tube, last)]
        if len(run) >= tube // 2 and all(run):
            return _advance(image, line_mm, tangent, usable, i, last)
    return None


def _advance(
    image: Image,
    line_mm: Float[np.ndarray, "point 3"],
    tangent: Float[np.ndarray, "point 3"],
    usable: list[bool],
    start: int,
    last: int,
) -> Section:
    goal = min(start + int(ADVANCE_MM / image.spacing_mm), last)
    while not all(usable[start : goal + 1]):
        goal -= 1
    half = max(int(2.0 / image.spacing_mm), 1)
    normal = tangent[max(goal - half, 0) : goal + half + 1].mean(axis=0)
    normal /= np.linalg.norm(normal)
    rough = cut(image, line_mm[goal], normal, reach_mm=REACH_MM)
    return cut(image, rough.centroid_mm, normal, reach_mm=REACH_MM)


def _is_tube(section: Section) -> bool:
    return section.is_enclosed and AREA_MM2[0] <= section.area_mm2 <= AREA_MM2[1]
