"""Flux-weighted pressures and flow rates of openings and sections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from stages.flow.mesh import area_vectors
from stages.flow.openings import Opening
from stages.flow.sampling import NodeTable, Sampler

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
    """Place sample points on an opening's patch and prepare to read them."""
    points, area = patch_points(opening.triangles_mm, spacing_mm / _SAMPLES_PER_CELL)
    inward = opening.direction if opening.inlet else -opening.direction
    near, far = (nodes.sampler(points + inward * depth * spacing_mm) for depth in _DEPTHS)
    return OpeningGauge(opening.direction, area, near, far)


def patch_points(
    triangles_mm: Float[np.ndarray, "face 3 3"], step_mm: float
) -> tuple[Float[np.ndarray, "point 3"], Float[np.ndarray, "point"]]:
    """Cover triangles with points no further apart than a step; return each point's area."""
    edges = triangles_mm - np.roll(triangles_mm, 1, axis=1)
    longest = np.linalg.norm(edges, axis=2).max(axis=1)
    count = np.clip(np.ceil(longest / step_mm), 1, 400).astype(int)
    areas = np.linalg.norm(area_vectors(triangles_mm), axis=1)
    points, shares = [], []
    for n in np.unique(count):
        chosen = count == n
        weights = _centroids(int(n))
        points.append(np.einsum("pc,fcx->fpx", weights, triangles_mm[chosen]).reshape(-1, 3))
        shares.append(np.repeat(areas[chosen] / len(weights), len(weights)))
    return np.concatenate(points), np.concatenate(shares)


def _centroids(count: int) -> Float[np.ndarray, "point 3"]:
    """Return barycentric centroids of the count^2 equal parts of a triangle."""
    i, j = np.meshgrid(np.arange(count), np.arange(count), indexing="ij")
    up = i + j <= count - 1
    down = i + j <= count - 2
    a = np.concatenate([(i[up] + 1 / 3), (i[down] + 2 / 3)]) / count
    b = np.concatenate([(j[up] + 1 / 3), (j[down] + 2 / 3)]) / count
    return np.stack([1.0 - a - b, a, b], axis=1)


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
