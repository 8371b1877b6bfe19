"""Tell the head from the air around it and find the nose, on a coarse grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from pipeline.core.geometry import Triple, VoxelGrid
from pipeline.core.volume import Volume
from stages.airway.resampling import block_mean, bounding_box_mm, resample, triple, upright_grid

FINE_MM = 1.0
COARSE_FACTOR = 2
"""The coarse look: 1 mm samples averaged to 2 mm, which removes noise and thin table parts."""

TISSUE_HU = -400.0
"""Half-way between air and soft tissue, for the coarse look only."""

BALL_MM = 8.0
"""A ball of 16 mm does not enter a nostril (short axis 5 to 12 mm) but rolls over the skin."""

NOSE_BALL_MM = 20.0
"""Radius of a ball that fits into the head but not into the nose (half width 15 to 18 mm)."""

MINIMAL_NOSE_MM3 = 1000.0
"""A child's nose protrudes by about 3 ml, an adult's by 8 to 15 ml; a flattened one by less."""

MINIMAL_HEAD_MM3 = 3.0e5
"""A newborn's head has 0.6 litres; half of it may be outside the field of view."""


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
        Most anterior point of the nose (x, y, z), LPS; None without a nose.
    posterior
        Unit vector (x, y, z), level, from the nose tip to the middle of the head.
    """

    grid: VoxelGrid
    outside: Bool[np.ndarray, "z y x"]
    nose_tip_mm: Triple | None
    posterior: Triple

    @property
    def left(self) -> Triple:
        """Return the level unit vector to the patient's left."""
        x, y, _ = self.posterior
        return (y, -x, 0.0)


def look_at_head(volume: Volume) -> Head | None:
    """Find the head, the air around it and the nose; None if there is no head."""
    fine = upright_grid(bounding_box_mm(volume.grid), FINE_MM)
    hu = block_mean(resample(volume, fine), COARSE_FACTOR)
    spacing = FINE_MM * COARSE_FACTOR
    origin = np.array(fine.origin_mm) + (spacing - FINE_MM) / 2
    if min(hu.shape) < 3:
        return None
    grid = VoxelGrid(_shape(hu), (spacing, spacing, spacing), triple(origin))
    # No opening here: the wings of the nose are one or two voxels thick.
    tissue = largest_component(hu > TISSUE_HU)
    if float(tissue.sum()) * grid.voxel_volume_mm3 < MINIMAL_HEAD_MM3:
        return None
    outside = outside_air(tissue, spacing)
    head = largest_component(~outside)
    tip = find_nose_tip(head, grid)
    return Head(grid, outside, tip, _posterior(head, grid, tip))


def outside_air(tissue: Bool[np.ndarray, "z y x"], spacing_mm: float) -> Bool[np.ndarray, "z y x"]:
    """Return the air around the head that a ball of 16 mm rolling in from the sides reaches.

    Only the sides count: the first and last slice cut through the head, where pharynx, trachea or a sinus
    may be open to the border.
    """
    padded = np.pad(tissue, ((0, 0), (1, 1), (1, 1)))
    start = distance_mm(~padded, spacing_mm) > BALL_MM
    rim = np.zeros_like(start)
    rim[:, [0, -1]] = rim[:, :, [0, -1]] = True
    labels, _ = ndimage.label(start | rim)
    centres = np.isin(labels, np.unique(labels[rim]))
    swept = distance_mm(~centres, spacing_mm) <= BALL_MM
    outside: Bool[np.ndarray, "z y x"] = (swept & ~padded)[:, 1:-1, 1:-1]
    return outside


def distance_mm(mask: Bool[np.ndarray, "z y x"], spacing_mm: float) -> Float[np.ndarray, "z y x"]:
    """Return each voxel's distance to the nearest voxel outside the mask, mm; 0 outside it."""
    if mask.all():
        return np.full(mask.shape, np.inf)
    distance: Float[np.ndarray, "z y x"] = ndimage.distance_transform_edt(mask)
    return distance * spacing_mm


def largest_component(mask: Bool[np.ndarray, "z y x"]) -> Bool[np.ndarray, "z y x"]:
    """Return the largest 6-connected component; an empty mask stays empty."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest: Bool[np.ndarray, "z y x"] = labels == int(sizes.argmax())
    return largest


def find_nose_tip(head: Bool[np.ndarray, "z y x"], grid: VoxelGrid) -> Triple | None:
    """Return the tip of the largest protrusion of the face, or None if the face has none.

    Notes
    -----
    A protrusion is what an opening of the head's hull with a ball of `NOSE_BALL_MM` removes. Ears protrude
    as well, but to the sides: only protrusions within 45 degrees of the anterior direction count.
    """
    spacing = grid.spacing_mm[0]
    padded = np.pad(head, ((0, 0), (1, 1), (1, 1)))
    inner = distance_mm(padded, spacing) > NOSE_BALL_MM
    if not inner.any():
        return None
    opened = distance_mm(~inner, spacing) <= NOSE_BALL_MM
    rest = ndimage.binary_opening((padded & ~opened)[:, 1:-1, 1:-1])
    labels, _ = ndimage.label(rest)
    _, middle_y, middle_x = ndimage.center_of_mass(head)
    best = (MINIMAL_NOSE_MM3, 0)
    for label, where in enumerate(ndimage.find_objects(labels), start=1):
        part = labels[where] == label
        _, y, x = (s.start + c for s, c in zip(where, ndimage.center_of_mass(part), strict=True))
        volume = float(part.sum()) * grid.voxel_volume_mm3
        if middle_y - y > abs(x - middle_x):
            best = max(best, (volume, label))
    if best[1] == 0:
        return None
    points = np.argwhere(labels == best[1])
    front = points[points[:, 1] <= points[:, 1].min() + 1].mean(axis=0)
    return triple(grid.to_world_mm(front))


def _posterior(head: Bool[np.ndarray, "z y x"], grid: VoxelGrid, tip: Triple | None) -> Triple:
    """Return the level direction from the tip to the head's middle at the height of the nose."""
    if tip is None:
        return (0.0, 1.0, 0.0)
    level = round(float(grid.to_index(np.array(tip))[0]))
    reach = int(30.0 / grid.spacing_mm[0])
    slab = head[max(level - reach, 0) : level + reach + 1]
    middle = grid.to_world_mm(np.array(ndimage.center_of_mass(slab)))
    way = np.array([middle[0] - tip[0], middle[1] - tip[1], 0.0])
    return triple(way / np.linalg.norm(way))


def _shape(values: Float[np.ndarray, "z y x"]) -> tuple[int, int, int]:
    z, y, x = values.shape
    return (z, y, x)
