"""Thick slices at their true positions, onto thin slices of any spacing.

Lengths along z count in mm from the first face of the stack, half a slice spacing before the centre of
the first thick slice. Thick slice j is the mean of the object under a slice profile centred on
(j + 1/2) D; D is the spacing, T the thickness: T = D is a clinical stack, T > D overlaps, T < D leaves
gaps. Thin slice m is the mean over [m h, (m + 1) h], h the wanted spacing, which need not divide D.

Between slices the object is the derivative of a cubic spline S of its cumulative sum (histospline), so
that the mean over any interval [a, b] is (S(b) - S(a)) / (b - a): exact for quadratics, and equal to
plain averages where the faces meet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Shaped

from pipeline.core.errors import UsageError
from pipeline.core.geometry import VoxelGrid
from stages.super_resolution.baselines import (
    apply_operator,
    cell_means,
    linear_weights,
    spline_weights,
)

_SAME = 1e-6
"""Relative difference of lengths that is rounding."""
_TOUCH = 0.01
"""Relative difference of thickness and spacing below which slices count as contiguous."""
_DAMPING = 0.05
"""Weight of the least norm where slices overlap, relative to the mean squared response of a slice: their
agreement is a deconvolution by a profile that is a scanner's only about, and has no answer at all where the
thickness is twice the spacing."""


@dataclass(frozen=True)
class ThickSlices:
    """Place thick slices along z.

    Parameters
    ----------
    count
        Number of slices.
    spacing_mm
        Distance between the centres of neighbours.
    thickness_mm
        Full width at half maximum of the slice profile.
    """

    count: int
    spacing_mm: float
    thickness_mm: float

    @property
    def ratio(self) -> float:
        """Return thickness over spacing: 1 for a clinical stack, more where slices overlap."""
        found = self.thickness_mm / self.spacing_mm
        return 1.0 if abs(found - 1.0) < _TOUCH else found

    @property
    def centres_mm(self) -> Float[np.ndarray, " thick"]:
        """Return the centres, mm from the first face."""
        return (np.arange(self.count) + 0.5) * self.spacing_mm


def target_grid(grid: VoxelGrid, spacing_mm: float) -> VoxelGrid:
    """Return the grid of thin slices of a wanted spacing that fills the stack from its first face.

    The first thin slice lies half a thin slice behind the first face, which is half a slice spacing
    before the first thick slice; a rest at the end that holds no whole thin slice is left out.

    Raises
    ------
    UsageError
        If the wanted spacing exceeds that of the thick slices.
    """
    slices, rows, columns = grid.shape
    found = grid.spacing_mm[0]
    if spacing_mm > found * (1 + _SAME):
        raise UsageError(
            f"--spacing-mm {spacing_mm:g}: the slices lie {found:g} mm apart; give less than that.",
            spacing_mm=spacing_mm,
        )
    count = int(slices * found / spacing_mm * (1 + _SAME))
    shift = 0.5 * (spacing_mm / found - 1.0)
    x, y, z = (float(v) for v in grid.to_world_mm(np.array([shift, 0.0, 0.0])))
    spacing = (spacing_mm, grid.spacing_mm[1], grid.spacing_mm[2])
    return replace(grid, shape=(count, rows, columns), spacing_mm=spacing, origin_mm=(x, y, z))


def baseline_at(
    thick: ThickSlices, method: str, spacing_mm: float, count: int
) -> Float[np.ndarray, "thin thick"]:
    """Return the matrix of a baseline: thin slices of a wanted spacing from thick ones.

    Parameters
    ----------
    thick
        Where the thick slices lie.
    method
        ``linear`` or ``spline``, which read a slice as the value at its centre, or ``histospline``,
        which reads it as the mean over its spacing.
    spacing_mm
        Spacing of the thin slices.
    count
        Their number.
    """
    scale = spacing_mm / thick.spacing_mm
    if method == "histospline":
        faces = np.arange(count + 1) * scale
        return cell_means(thick.count, faces[:-1], faces[1:])
    weights = linear_weights if method == "linear" else spline_weights
    return weights(thick.count, (np.arange(count) + 0.5) * scale)


def resampling_operator(
    count: int, spacing_mm: float, target_mm: float, target_count: int
) -> Float[np.ndarray, "target thin"]:
    """Return the matrix that turns means over cells into means over cells of another width.

    Parameters
    ----------
    count
        Number of cells given.
    spacing_mm
        Their width.
    target_mm
        Width of the cells wanted; both rows start at 0.
    target_count
        Their number.
    """
    faces = np.arange(target_count + 1) * target_mm / spacing_mm
    return cell_means(count, faces[:-1], faces[1:])


def measurement_operator(
    thick: ThickSlices,
    taps: Float[np.ndarray, " tap"],
    spacing_mm: float,
    count: int,
    *,
    factor: int,
) -> tuple[Float[np.ndarray, "binding thin"], Bool[np.ndarray, " thick"]]:
    """Return the matrix that measures thin slices as the scanner did, and which slices it makes.

    Slices whose profile leaves the space of the thin ones are left out: what lies beyond is unknown.

    Parameters
    ----------
    thick
        Where the thick slices lie, and how thick they are.
    taps
        Slice profile as weights of neighbouring intervals of T / factor.
    spacing_mm
        Spacing of the thin slices.
    count
        Their number.
    factor
        Taps per thickness.
    """
    width = thick.ratio * thick.spacing_mm / factor
    reach = 0.5 * len(taps) * width
    slack = _SAME * thick.spacing_mm
    inside = (thick.centres_mm - reach >= -slack) & (
        thick.centres_mm + reach <= count * spacing_mm + slack
    )
    centres = thick.centres_mm[inside]
    matrix = np.zeros((len(centres), count))
    for tap, weight in enumerate(taps):
        start = (centres - reach + tap * width) / spacing_mm
        matrix += weight * cell_means(count, start, start + width / spacing_mm)
    return matrix, inside


def agree(
    thin: Float[np.ndarray, "thin y x"],
    measured: Shaped[np.ndarray, "thick y x"],
    forward: Float[np.ndarray, "binding thin"],
    inside: Bool[np.ndarray, " thick"],
    *,
    damped: bool,
) -> Float[np.ndarray, "thin y x"]:
    """Return the nearest thin slices that measure as the thick ones did; float32, HU.

    Parameters
    ----------
    thin
        Restored slices, HU.
    measured
        Thick slices, HU.
    forward
        Matrix of the measurement.
    inside
        Which thick slices it makes.
    damped
        Whether agreement is damped instead of exact, for slices that overlap.

    Notes
    -----
    x + A' (A A' + c I)^-1 (y - A x), c = 0 where it is exact.
    """
    if not inside.any():
        return thin
    gram = forward @ forward.T
    if damped:
        gram += _DAMPING * np.trace(gram) / len(gram) * np.eye(len(gram))
    correction = np.linalg.solve(gram, forward).T
    missed = measured[inside] - apply_operator(forward, thin)
    found = apply_operator(correction, missed)
    found += thin
    return found
