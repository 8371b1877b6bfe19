"""Flux-weighted pressures and flow rates of openings and sections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipeline.core.errors import InputError
from stages.flow.convergence import Sample
from stages.flow.lattice import SOUND_SPEED_SQUARED_LU
from stages.flow.mesh import area_vectors
from stages.flow.openings import Opening
from stages.flow.sampling import NodeTable, Sampler
from stages.flow.scales import Scales

_DEPTHS = (1.0, 2.0)
"""Cells inside an opening at which its pressure is read, to be extrapolated to the opening: the first
half cell carries the error of the boundary condition."""
_SAMPLES_PER_CELL = 2


@dataclass(frozen=True)
class Reading:
    """Hold what was read from one opening or section, in the units of the fields.

    Parameters
    ----------
    flux
        Volume flux in the direction of the flow.
    static, total
        Flux-weighted static and total pressure.
    """

    flux: float
    static: float
    total: float


@dataclass(frozen=True)
class OpeningGauge:
    """Read one opening again and again.

    Parameters
    ----------
    direction
        Unit normal in the direction of the flow.
    area
        Area of each sample point, mm2.
    near, far
        Interpolation one and two cells inside.
    """

    direction: Float[np.ndarray, "3"]
    area: Float[np.ndarray, "point"]
    near: Sampler
    far: Sampler

    def read(
        self,
        pressure: Float[np.ndarray, "cell"],
        velocity: Float[np.ndarray, "3 cell"],
        density: float,
    ) -> Reading:
        """Return flux and flux-weighted pressures at the opening."""
        near, far = self.near.pressure(pressure), self.far.pressure(pressure)
        at_opening = np.where(np.isfinite(far), 2.0 * near - far, near)
        return flux_weighted(
            at_opening, self.near.velocity(velocity), self.area, self.direction, density
        )


def make_gauge(opening: Opening, nodes: NodeTable, spacing_mm: float) -> OpeningGauge:
    """Place sample points on an opening's patch and prepare to read them.

    Raises
    ------
    InputError
        If no fluid cell lies inside the opening: its pressure would be unknown all through the run, and the
        loss wrong without a word.
    """
    points, area = patch_points(opening.triangles_mm, spacing_mm / _SAMPLES_PER_CELL)
    inward = opening.direction if opening.inlet else -opening.direction
    near, far = (nodes.sampler(points + inward * depth * spacing_mm) for depth in _DEPTHS)
    if not near.known.any():
        raise InputError(
            f"{opening.name}: no fluid cell lies one cell ({spacing_mm:g} mm) inside this opening, so that "
            "its pressure cannot be read; choose a smaller --spacing-mm, or cut the passage square.",
            opening=opening.name,
        )
    return OpeningGauge(opening.direction, area, near, far)


def sample_openings(
    gauges: Sequence[OpeningGauge],
    fields: Float[np.ndarray, "4 cell"],
    flux_m3_s: Float[np.ndarray, "opening"],
    scales: Scales,
    time_s: float,
) -> Sample:
    """Read all openings, in SI units.

    Parameters
    ----------
    gauges
        One for each opening.
    fields
        Density deviation and velocity, lattice units.
    flux_m3_s
        Volume flow through each opening.
    scales
        Size of the lattice units.
    time_s
        Time of the sample.
    """
    found = [g.read(fields[0] * SOUND_SPEED_SQUARED_LU, fields[1:], 1.0) for g in gauges]
    unit = scales.pressure_pa / SOUND_SPEED_SQUARED_LU
    return Sample(
        time_s,
        flux_m3_s,
        np.array([r.static for r in found]) * unit,
        np.array([r.total for r in found]) * unit,
    )


def patch_points(
    triangles_mm: Float[np.ndarray, "face 3 3"], step_mm: float
) -> tuple[Float[np.ndarray, "point 3"], Float[np.ndarray, "point"]]:
    """Cover triangles with points no further apart than a step; return each point's area.

    A triangle is cut into slices parallel to its shortest edge, and those into equal columns: a sliver
    gets no more points than its length needs.
    """
    edges = np.linalg.norm(np.roll(triangles_mm, -1, axis=1) - triangles_mm, axis=2)
    row, shortest = np.arange(len(triangles_mm)), edges.argmin(axis=1)
    p, q, apex = (triangles_mm[row, (shortest + k) % 3] for k in range(3))
    sizes = np.stack([edges.max(axis=1), edges.min(axis=1)], axis=1)
    count = np.clip(np.ceil(sizes / step_mm), 1, 400).astype(int)
    areas = np.linalg.norm(area_vectors(triangles_mm), axis=1)
    points, shares = [], []
    for slices, columns in np.unique(count, axis=0):
        chosen = (count == (slices, columns)).all(axis=1)
        reach, weight = _slices(slices)
        across = (np.arange(columns) + 0.5) / columns
        far = p[chosen, None] + across[None, :, None] * (q - p)[chosen, None]
        tip = apex[chosen, None, None]
        place = tip + reach[None, :, None, None] * (far[:, None] - tip)
        points.append(place.reshape(-1, 3))
        share = np.broadcast_to(weight[:, None] / columns, place.shape[1:3])
        shares.append((areas[chosen, None, None] * share).ravel())
    return np.concatenate(points), np.concatenate(shares)


def _slices(count: int) -> tuple[Float[np.ndarray, "slice"], Float[np.ndarray, "slice"]]:
    """Return how far the centroids of a triangle's slices lie from its tip, and their shares of its area."""
    ends = np.arange(count + 1) / count
    weight = np.diff(ends**2)
    return 2.0 / 3.0 * np.diff(ends**3) / weight, weight


def flux_weighted(
    pressure: Float[np.ndarray, "point"],
    velocity: Float[np.ndarray, "3 point"],
    area: Float[np.ndarray, "point"],
    direction: Float[np.ndarray, "3"],
    density: float,
) -> Reading:
    """Return flux and flux-weighted pressures over sample points; unknown points carry nothing.

    Notes
    -----
    p_t = integral((p + rho |v|^2 / 2) v.n dA) / integral(v.n dA). Without a net flux the mean over the
    area is returned.
    """
    known = np.isfinite(pressure) & np.isfinite(velocity).all(axis=0)
    if not known.any():
        return Reading(0.0, np.nan, np.nan)
    p, v, a = pressure[known], velocity[:, known], area[known]
    through = (direction @ v) * a
    flux = float(through.sum())
    weak = abs(flux) <= 1e-3 * float(np.abs(through).sum())
    weight = a / a.sum() if weak else through / flux
    dynamic = 0.5 * density * np.square(v).sum(axis=0)
    return Reading(flux, float(weight @ p), float(weight @ (p + dynamic)))
