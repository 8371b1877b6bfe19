"""Measure how far the surface of a face moved."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.spatial import cKDTree

from pipeline.core.volume import Volume
from stages.deidentify.face import Front, sample

FRONT_MM = 25.0
"""The face, for this measure: skin within this depth, along y, of the first tissue from the front."""


@dataclass(frozen=True)
class Change:
    """Hold how far each place of the face's skin is from the nearest skin that is left, mm.

    Parameters
    ----------
    mean_mm, quantile_05_mm, quantile_50_mm, quantile_95_mm
        Of the distances from the old skin outside the protected zone to the new surface.
    kept_share
        Share of the face's skin inside the protected zone, which did not move.
    removed_ml
        Tissue that became air.
    """

    mean_mm: float
    quantile_05_mm: float
    quantile_50_mm: float
    quantile_95_mm: float
    kept_share: float
    removed_ml: float

    def record(self) -> dict[str, float]:
        """Return the numbers for the sidecar."""
        return {f"skin_{name}": round(value, 4) for name, value in asdict(self).items()}


def measure_change(
    before: Volume,
    after: Volume,
    protected: Bool[np.ndarray, "z y x"],
    front: Front,
    isolevel_hu: float,
) -> Change:
    """Return the distances of the old skin of the face to the new surface of the head."""
    old, new = sample(before), sample(after)
    zone = sample(before.with_values(protected)).values
    skin = _outer_surface(old.values > isolevel_hu)
    points = old.grid.to_world_mm(np.argwhere(skin))
    first = front.skin.at(points)
    face = points[:, 1] < np.minimum(first + FRONT_MM, front.middle_mm)
    kept = zone[skin]
    surface = new.grid.to_world_mm(np.argwhere(_outer_surface(new.values > isolevel_hu)))
    moved = _distance(points[face & ~kept], surface)
    gone = (before.values > isolevel_hu) & (after.values <= isolevel_hu)
    low, middle, high = (float(q) for q in np.quantile(moved, (0.05, 0.5, 0.95)))
    return Change(
        mean_mm=float(moved.mean()),
        quantile_05_mm=low,
        quantile_50_mm=middle,
        quantile_95_mm=high,
        kept_share=float((face & kept).sum() / max(face.sum(), 1)),
        removed_ml=float(gone.sum()) * before.grid.voxel_volume_mm3 / 1000.0,
    )


def _outer_surface(tissue: Bool[np.ndarray, "z y x"]) -> Bool[np.ndarray, "z y x"]:
    """Return the tissue voxels that touch the air around the head (connected to the sides)."""
    air, _ = ndimage.label(np.pad(~tissue, ((0, 0), (1, 1), (1, 1)), constant_values=True))
    outside = air == air[0, 0, 0]
    touching: Bool[np.ndarray, "z y x"] = ndimage.binary_dilation(outside)[:, 1:-1, 1:-1]
    surface: Bool[np.ndarray, "z y x"] = touching & tissue
    return surface


def _distance(
    points: Float[np.ndarray, "point 3"], surface: Float[np.ndarray, "point 3"]
) -> Float[np.ndarray, "point"]:
    if not len(points) or not len(surface):
        return np.zeros(1)
    distance: Float[np.ndarray, "point"] = cKDTree(surface).query(points)[0]
    return distance
