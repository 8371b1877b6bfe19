"""Tell the head from the air around it and find the nose, on a coarse grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from pipeline.core.geometry import VoxelGrid

TISSUE_HU = -400.0
"""Half-way between air and soft tissue, for the coarse look only."""

BALL_MM = 8.0
"""A ball of 16 mm does not enter a nostril (short axis 5 to 12 mm) but rolls over the skin."""

NOSE_WIDTH_MM = 20.0
"""Radius of the ball that fits into the head but not into the nose (half width 15 to 18 mm)."""


@dataclass(frozen=True)
class Head:
    """Hold what the coarse look found.

    Parameters
    ----------
    grid
        The coarse grid.
    outside
        Air that a ball of `BALL_MM` rolling in from the sides reaches.
    nose_tip_mm
        Most anterior point of the nose (x, y, z), LPS.
    tissue_fraction
        Share of the head's hull that is no air.
    """

    grid: VoxelGrid
    outside: Bool[np.ndarray, "z y x"]
    nose_tip_mm: tuple[float, float, float]
    tissue_fraction: float


def outside_air(hu: Float[np.ndarray, "z y x"], spacing_mm: float) -> Bool[np.ndarray, "z y x"]:
    """Return the air around the head that a ball of 16 mm rolling in from the sides reaches."""
    tissue = largest_component(ndimage.binary_opening(hu > TISSUE_HU, iterations=1))
    # The head ends at the first and last slice: walls there keep the pharynx and the brain inside.
    padded = np.pad(tissue, ((0, 0), (1, 1), (1, 1)))
    room = ndimage.distance_transform_edt(~padded) * spacing_mm
    reach = room > BALL_MM
    rim = np.zeros_like(reach)
    rim[:, [0, -1]] = rim[:, :, [0, -1]] = True
    start = reach | rim
    labels, _ = ndimage.label(start)
    seeds = np.unique(labels[rim & start])
    centres = np.isin(labels, seeds[seeds > 0])
    swept = ndimage.distance_transform_edt(~centres) * spacing_mm <= BALL_MM
    return (swept & ~padded)[:, 1:-1, 1:-1]


def largest_component(mask: Bool[np.ndarray, "z y x"]) -> Bool[np.ndarray, "z y x"]:
    """Return the largest 6-connected component; an empty mask stays empty."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == int(sizes.argmax())


def find_nose_tip(
    head: Bool[np.ndarray, "z y x"], grid: VoxelGrid
) -> tuple[float, float, float] | None:
    """Return the tip of the largest protrusion of the face, or None if the face has none.

    Notes
    -----
    A protrusion is what an opening of the head's hull with a ball of `NOSE_WIDTH_MM` removes. Ears protrude as
    well, but to the sides: only protrusions within 45 degrees of the anterior direction count.
    """
    spacing = grid.spacing_mm[0]
    padded = np.pad(head, ((0, 0), (1, 1), (1, 1)))
    inner = ndimage.distance_transform_edt(padded) * spacing > NOSE_WIDTH_MM
    opened = ndimage.distance_transform_edt(~inner) * spacing <= NOSE_WIDTH_MM
    rest = (padded & ~opened)[:, 1:-1, 1:-1]
    rest = ndimage.binary_opening(rest, iterations=1)
    labels, count = ndimage.label(rest)
    best: tuple[float, int] = (0.0, 0)
    centre = ndimage.center_of_mass(head)
    for label, where in enumerate(ndimage.find_objects(labels), start=1):
        part = labels[where] == label
        z, y, x = (s.start + c for s, c in zip(where, ndimage.center_of_mass(part), strict=True))
        anterior, lateral = centre[1] - y, abs(x - centre[2])
        volume = float(part.sum()) * grid.voxel_volume_mm3
        if anterior > lateral and volume > best[0]:
            best = (volume, label)
    if best[0] < MINIMAL_NOSE_MM3:
        return None
    points = np.argwhere(labels == best[1])
    front = points[points[:, 1] <= points[:, 1].min() + 1].mean(axis=0)
    x, y, z = (float(v) for v in grid.to_world_mm(front))
    return (x, y, z)


MINIMAL_NOSE_MM3 = 1500.0
"""A child's nose protrudes by about 3 ml, an adult's by 8 to 15 ml."""
