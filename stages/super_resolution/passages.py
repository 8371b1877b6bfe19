"""Thin passages of air and thin plates of tissue, drawn into training volumes.

A nose loses its pressure in gaps of a millimetre or two between plates of bone and mucosa; what
thick slices hide of them is what restoration is for. Few volumes show such gaps, and phantoms have
wide ones. So lenses are drawn: curved, as thin as slices and of any direction, blurred as a scanner
blurs them. Air and tissue come equally often, so that neither is learnt to be likelier.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from numpy.random import Generator
from scipy.special import ndtr

AIR_HU = -1000.0
TISSUE_HU = (-20.0, 80.0)
"""Mucosa, swollen or not."""
MOST = 8
"""Lenses in a patch, at most."""
THICKNESS_MM = (0.7, 4.0)
RADIUS_MM = (4.0, 18.0)
CURVATURE_PER_MM = 0.04
BLUR_MM = (0.35, 0.6)
"""Standard deviation of a scanner's blur in the plane: 0.8 to 1.4 mm at half maximum."""
_SLICE = 0.29
"""Standard deviation of a box, in its widths: 1 / sqrt(12)."""
_REACH = 3.0
"""Standard deviations of blur beyond which a lens is not felt."""
_LEVEL_SHARE = 0.5
"""Share of lenses that lie nearly within the slices, where thick slices hide them."""


@dataclass(frozen=True)
class Lens:
    """Hold a curved lens: thickest in its middle, with an edge that ends in nothing.

    Parameters
    ----------
    centre_mm
        Its middle, (z, y, x) from the first voxel.
    axes
        Unit vectors (z, y, x): across the lens, and two within it.
    thickness_mm
        Thickness in the middle.
    radii_mm
        Half-lengths along the two axes within it.
    curvatures_per_mm
        Curvatures along the two axes within it.
    fill_hu
        What it is filled with.
    """

    centre_mm: Float[np.ndarray, " 3"]
    axes: Float[np.ndarray, "3 3"]
    thickness_mm: float
    radii_mm: tuple[float, float]
    curvatures_per_mm: tuple[float, float]
    fill_hu: float

    def draw(
        self,
        values_hu: Float[np.ndarray, "z y x"],
        spacing_mm: tuple[float, ...],
        blur_mm: float,
    ) -> None:
        """Fill the lens in place: each voxel by the share of it that the blurred lens takes.

        Parameters
        ----------
        values_hu
            Thin slices, HU; changed.
        spacing_mm
            Spacing along z, y and x, mm.
        blur_mm
            Standard deviation of the blur within slices; along z it is that of a slice's thickness.
        """
        across = self.axes[0]
        variances = np.array([(_SLICE * spacing_mm[0]) ** 2, blur_mm**2, blur_mm**2])
        deviation_mm = float(np.sqrt(across**2 @ variances))
        box, place = self._near(values_hu.shape, spacing_mm, deviation_mm)
        if any(part.start >= part.stop for part in box):
            return
        s, u, v = (sum(a * p for a, p in zip(axis, place, strict=True)) for axis in self.axes)
        (u_mm, v_mm), (bend_u, bend_v) = self.radii_mm, self.curvatures_per_mm
        s = s - np.float32(0.5) * (np.float32(bend_u) * u * u + np.float32(bend_v) * v * v)
        inside = np.maximum(0, 1 - (u / np.float32(u_mm)) ** 2 - (v / np.float32(v_mm)) ** 2)
        half = np.float32(0.5 * self.thickness_mm) * np.sqrt(inside)
        scale = np.float32(1 / deviation_mm)
        share = ndtr((half - s) * scale) - ndtr((-half - s) * scale)
        part = values_hu[box]
        part += share * (np.float32(self.fill_hu) - part)

    def _near(
        self, shape: tuple[int, ...], spacing_mm: tuple[float, ...], deviation_mm: float
    ) -> tuple[tuple[slice, ...], list[Float[np.ndarray, "..."]]]:
        """Return the box of voxels that the lens can touch, and their places from its middle."""
        bend = 0.5 * max(
            abs(c) * r**2 for c, r in zip(self.curvatures_per_mm, self.radii_mm, strict=True)
        )
        out_mm = 0.5 * self.thickness_mm + 2 * bend + _REACH * deviation_mm
        reach_mm = np.abs(self.axes[0]) * out_mm + sum(
            np.abs(axis) * radius for axis, radius in zip(self.axes[1:], self.radii_mm, strict=True)
        )
        box, place = [], []
        for axis in range(3):
            first, last = (self.centre_mm[axis] + np.array([-1, 1]) * reach_mm[axis]) / spacing_mm[
                axis
            ]
            part = slice(max(0, int(np.ceil(first))), min(shape[axis], int(last) + 1))
            box.append(part)
            along = np.arange(part.start, part.stop) * spacing_mm[axis] - self.centre_mm[axis]
            place.append(along.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)]))
        return tuple(box), place


def draw_lenses(
    rng: Generator, around_mm: tuple[tuple[float, float], ...], most: int = MOST
) -> list[Lens]:
    """Draw lenses whose middles lie within a box.

    Parameters
    ----------
    rng
        Source of random numbers.
    around_mm
        Least and largest place of their middles along z, y and x, mm from the first voxel.
    most
        Largest number of them.
    """
    return [_draw_lens(rng, around_mm) for _ in range(int(rng.integers(1, most + 1)))]


def with_lenses(
    values_hu: Shaped[np.ndarray, "z y x"],
    spacing_mm: tuple[float, ...],
    lenses: list[Lens],
    blur_mm: float,
) -> Float[np.ndarray, "z y x"]:
    """Return thin slices with lenses drawn into them, HU, float32.

    Parameters
    ----------
    values_hu
        Thin slices, HU; not changed.
    spacing_mm
        Spacing along z, y and x, mm.
    lenses
        What is drawn, one after the other.
    blur_mm
        Standard deviation of the blur within slices, mm.
    """
    changed = values_hu.astype(np.float32)
    for lens in lenses:
        lens.draw(changed, spacing_mm, blur_mm)
    return changed


def _draw_lens(rng: Generator, around_mm: tuple[tuple[float, float], ...]) -> Lens:
    across = rng.normal(size=3)
    if rng.uniform() < _LEVEL_SHARE:
        across[1:] *= 0.25
    first = rng.normal(size=3)
    across /= np.linalg.norm(across)
    first -= (first @ across) * across
    first /= np.linalg.norm(first)
    return Lens(
        np.array([rng.uniform(low, high) for low, high in around_mm]),
        np.stack([across, first, np.cross(across, first)]).astype(np.float32),
        _between(rng, THICKNESS_MM),
        (_between(rng, RADIUS_MM), _between(rng, RADIUS_MM)),
        (
            float(rng.uniform(-1, 1)) * CURVATURE_PER_MM,
            float(rng.uniform(-1, 1)) * CURVATURE_PER_MM,
        ),
        AIR_HU if rng.uniform() < 0.5 else float(rng.uniform(*TISSUE_HU)),
    )


def _between(rng: Generator, ends: tuple[float, float]) -> float:
    """Draw from a range whose logarithm is even."""
    return float(np.exp(rng.uniform(*np.log(ends))))
