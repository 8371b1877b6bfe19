"""The grid on which an image lives: where each voxel lies in the patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float

Triple = tuple[float, float, float]
Axes = tuple[Triple, Triple, Triple]

IDENTITY_AXES: Axes = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
"""Array axes z, y, x along the patient's superior, posterior and left directions."""

ORTHONORMAL_TOLERANCE = 1e-4
"""Largest deviation of the axes from orthonormality; DICOM cosines have six digits or more."""

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class VoxelGrid:
    """Place a (z, y, x) array of voxels in patient space (DICOM LPS, mm).

    Parameters
    ----------
    shape
        Number of voxels along z, y, x.
    spacing_mm
        Distance between voxel centres along z, y, x; above 0.
    origin_mm
        Centre of voxel (0, 0, 0) as a world point (x, y, z).
    axes
        Row i is the LPS unit vector (x, y, z) of array axis i (z, y, x).

    Raises
    ------
    ValueError
        If a count or spacing is not positive or the axes are not orthonormal.
    """

    shape: tuple[int, int, int]
    spacing_mm: Triple
    origin_mm: Triple = (0.0, 0.0, 0.0)
    axes: Axes = IDENTITY_AXES

    def __post_init__(self) -> None:
        """Refuse a grid that no scanner can have."""
        if min(self.shape) < 1:
            raise ValueError(f"A grid needs at least one voxel per axis, not {self.shape}.")
        if not all(np.isfinite(s) and s > 0 for s in self.spacing_mm):
            raise ValueError(f"Voxel spacing must be above 0 mm, not {self.spacing_mm}.")
        axes = np.array(self.axes)
        if not np.allclose(axes @ axes.T, np.eye(3), atol=ORTHONORMAL_TOLERANCE):
            raise ValueError("The grid's axes are not orthonormal: resample the image first.")

    @property
    def voxel_volume_mm3(self) -> float:
        """Return the volume of one voxel, mm3."""
        return float(np.prod(self.spacing_mm))

    @property
    def extent_mm(self) -> Triple:
        """Return the length of the grid along z, y, x, outer faces included, mm."""
        z, y, x = (n * s for n, s in zip(self.shape, self.spacing_mm, strict=True))
        return (z, y, x)

    def to_world_mm(self, index: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "... 3"]:
        """Map (z, y, x) indices, fractions allowed, to world points (x, y, z), mm."""
        scaled = np.asarray(index, dtype=np.float64) * self.spacing_mm
        offset: Float[np.ndarray, "... 3"] = scaled @ np.array(self.axes)
        return offset + self.origin_mm

    def to_index(self, points_mm: Float[np.ndarray, "... 3"]) -> Float[np.ndarray, "... 3"]:
        """Map world points (x, y, z), mm, to fractional (z, y, x) indices."""
        offset = np.asarray(points_mm, dtype=np.float64) - self.origin_mm
        index: Float[np.ndarray, "... 3"] = offset @ np.linalg.inv(np.array(self.axes))
        return index / self.spacing_mm

    def affine_ras(self) -> Float[np.ndarray, "4 4"]:
        """Return the NIfTI affine: index (x, y, z) to RAS mm."""
        affine = np.eye(4)
        steps = np.array(self.axes) * np.array(self.spacing_mm)[:, None]
        affine[:3, :3] = steps[::-1].T
        affine[:3, 3] = self.origin_mm
        return _RAS_TO_LPS @ affine

    @classmethod
    def from_affine_ras(
        cls, shape: tuple[int, int, int], affine: Float[np.ndarray, "4 4"]
    ) -> Self:
        """Build a grid of (z, y, x) shape from a NIfTI affine (index (x, y, z) to RAS mm).

        Raises
        ------
        ValueError
            If the affine is singular or sheared.
        """
        lps = _RAS_TO_LPS @ np.asarray(affine, dtype=np.float64)
        steps = lps[:3, :3].T[::-1]
        spacing = np.linalg.norm(steps, axis=1)
        if not np.all(spacing > 0):
            raise ValueError("The affine maps an axis to zero length.")
        axes = steps / spacing[:, None]
        return cls(shape, _triple(spacing), _triple(lps[:3, 3]), _axes(axes))

    def matches(self, other: VoxelGrid, *, tolerance_mm: float = 1e-3) -> bool:
        """Say whether both grids have the same shape and the same corners within a tolerance."""
        if self.shape != other.shape:
            return False
        corners = np.array([[0, 0, 0], np.array(self.shape) - 1], dtype=np.float64)
        difference = self.to_world_mm(corners) - other.to_world_mm(corners)
        axes_agree = np.allclose(self.axes, other.axes, atol=ORTHONORMAL_TOLERANCE)
        return axes_agree and bool(np.abs(difference).max() <= tolerance_mm)


def _triple(values: Float[np.ndarray, 3]) -> Triple:
    a, b, c = (float(v) for v in values)
    return (a, b, c)


def _axes(rows: Float[np.ndarray, "3 3"]) -> Axes:
    return (_triple(rows[0]), _triple(rows[1]), _triple(rows[2]))
