"""Random fields over space: slow variation of soft tissue, trabeculae, fascia.

A field is a lattice of independent normal numbers, interpolated linearly; it has no seam and can
be evaluated on any part of an axis-aligned grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_CELLS = 64
"""Lattice nodes per axis before the field repeats."""


@dataclass(frozen=True)
class RandomField:
    """Hold a periodic random field of zero mean and about unit variance.

    Parameters
    ----------
    lattice
        Normal numbers at the nodes (z, y, x).
    cell_mm
        Distance of the nodes along z, y, x.
    """

    lattice: Float[np.ndarray, "z y x"]
    cell_mm: tuple[float, float, float]

    def on_grid(
        self,
        z: Float[np.ndarray, " z"],
        y: Float[np.ndarray, " y"],
        x: Float[np.ndarray, " x"],
    ) -> Float[np.ndarray, "z y x"]:
        """Return the field on the product of three axes, mm."""
        values = self.lattice
        for axis, (place, cell) in enumerate(zip((z, y, x), self.cell_mm, strict=True)):
            values = _interpolated(values, place, cell, axis)
        return values


def draw_field(rng: np.random.Generator, cell_mm: float) -> RandomField:
    """Draw a field with a given grain."""
    lattice = rng.standard_normal((_CELLS, _CELLS, _CELLS), dtype=np.float32)
    # Linear interpolation averages nodes: 2/3 of the variance is left along each axis.
    return RandomField(lattice * np.float32(1.5**1.5), (cell_mm, cell_mm, cell_mm))


def _interpolated(
    lattice: Float[np.ndarray, "z y x"],
    axis_mm: Float[np.ndarray, " point"],
    cell_mm: float,
    axis: int,
) -> Float[np.ndarray, "z y x"]:
    place = np.asarray(axis_mm, dtype=np.float64) / cell_mm
    node = np.floor(place).astype(int)
    shape = [1, 1, 1]
    shape[axis] = place.size
    share = (place - node).astype(np.float32).reshape(shape)
    low = np.take(lattice, node % _CELLS, axis=axis)
    high = np.take(lattice, (node + 1) % _CELLS, axis=axis)
    between: Float[np.ndarray, "z y x"] = low + share * (high - low)
    return between
