"""Read a flow where the user asks: at points and on cross-sections.

Notes
-----
Values between cell centres are the weighted mean of the up to eight fluid cells around a point
(trilinear weights, renormalised over the fluid); points whose nearest cell is no fluid are outside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from pipeline.core.planes import Plane
from stages.flow.voxels import SparseLattice

_SAMPLES_PER_CELL = 3
"""Sample points of a section per cell edge: its area is then good to a few percent of a cell row."""


@dataclass(frozen=True)
class CellField:
    """Hold velocity and pressure of the fluid cells with the means to look a place up.

    Parameters
    ----------
    lattice
        Geometry of the cells.
    index
        Number of the fluid cell at each place of the box, -1 elsewhere.
    velocity_m_s
        Velocity of each cell, (3, cell).
    pressure_pa
        Static pressure of each cell.
    """

    lattice: SparseLattice
    index: Int[np.ndarray, "x y z"]
    velocity_m_s: Float[np.ndarray, "3 cell"]
    pressure_pa: Float[np.ndarray, "cell"]


def sample(
    flow: CellField, points_mm: Float[np.ndarray, "point 3"]
) -> Float[np.ndarray, "4 point"]:
    """Return pressure, Pa, and velocity, m/s, at world points; NaN outside the fluid."""
    place = (points_mm - flow.lattice.origin_mm) / flow.lattice.spacing_mm
    inside = _is_fluid(flow, place)
    base = np.floor(np.where(inside[:, None], place, 0)).astype(np.int64)
    fraction = place - base
    weight_sum = np.zeros(len(points_mm))
    values = np.zeros((4, len(points_mm)))
    for corner in np.ndindex(2, 2, 2):
        offset = np.array(corner)
        weight = np.prod(np.where(offset, fraction, 1.0 - fraction), axis=1)
        number = _number(flow, base + offset)
        weight = np.where(number >= 0, weight, 0.0)
        weight_sum += weight
        values[0] += weight * flow.pressure_pa[number]
        values[1:] += weight * flow.velocity_m_s[:, number]
    known = inside & (weight_sum > 0)
    return np.where(known, values / np.where(known, weight_sum, 1.0), np.nan)


def measure_plane(flow: CellField, plane: Plane, density_kg_m3: float) -> dict[str, float | None]:
    """Return area, flow rate and flux-weighted pressures of a section.

    Parameters
    ----------
    flow
        The flow.
    plane
        The section is the part of the cut within the radius that holds the centre; if the
        centre lies in the wall, the part nearest to it.
    density_kg_m3
        Density, for the dynamic pressure.

    Returns
    -------
    dict
        area_mm2, flow_rate_ml_s, static_pressure_pa, total_pressure_pa; None where no fluid is
        cut.
    """
    step = flow.lattice.spacing_mm / _SAMPLES_PER_CELL
    points, shape = _disc(plane, step)
    values = sample(flow, points)
    section = _connected_part(np.isfinite(values[0]).reshape(shape)).ravel()
    if not section.any():
        return dict.fromkeys(
            ("area_mm2", "flow_rate_ml_s", "static_pressure_pa", "total_pressure_pa")
        )
    pressure, velocity = values[0, section], values[1:, section]
    normal = np.array(plane.normal) @ velocity
    total = pressure + 0.5 * density_kg_m3 * np.square(velocity).sum(axis=0)
    flux = float(normal.sum())
    weight = normal / flux if flux != 0 else np.full(len(normal), 1 / len(normal))
    return {
        "area_mm2": float(section.sum() * step**2),
        "flow_rate_ml_s": flux * step**2,
        "static_pressure_pa": float(weight @ pressure),
        "total_pressure_pa": float(weight @ total),
    }


def box_field(flow: CellField) -> tuple[Float[np.ndarray, "z y x 3"], Float[np.ndarray, "z y x"]]:
    """Return velocity and pressure on the whole box, NaN outside the fluid, x fastest."""
    outside = flow.index < 0
    velocity = flow.velocity_m_s.T[flow.index]
    pressure = flow.pressure_pa[flow.index]
    velocity[outside] = np.nan
    pressure[outside] = np.nan
    return velocity.transpose(2, 1, 0, 3), pressure.transpose(2, 1, 0)


def _number(flow: CellField, place: Int[np.ndarray, "point 3"]) -> Int[np.ndarray, "point"]:
    limit = np.array(flow.index.shape) - 1
    valid = ((place >= 0) & (place <= limit)).all(axis=1)
    i, j, k = np.clip(place, 0, limit).T
    return np.where(valid, flow.index[i, j, k], -1)


def _is_fluid(flow: CellField, place: Float[np.ndarray, "point 3"]) -> Bool[np.ndarray, "point"]:
    finite = np.isfinite(place).all(axis=1)
    nearest = np.rint(np.where(finite[:, None], np.clip(place, -2, 2**30), -2)).astype(np.int64)
    return _number(flow, nearest) >= 0


def _disc(plane: Plane, step: float) -> tuple[Float[np.ndarray, "point 3"], tuple[int, int]]:
    normal = np.array(plane.normal)
    helper = np.eye(3)[np.argmin(np.abs(normal))]
    first = np.cross(normal, helper)
    first /= np.linalg.norm(first)
    second = np.cross(normal, first)
    count = int(np.ceil(plane.radius_mm / step))
    ticks = np.arange(-count, count + 1) * step
    u, v = np.meshgrid(ticks, ticks, indexing="ij")
    points = np.array(plane.centre_mm) + u[..., None] * first + v[..., None] * second
    points[np.hypot(u, v) > plane.radius_mm] = np.nan
    return points.reshape(-1, 3), u.shape


def _connected_part(fluid: Bool[np.ndarray, "u v"]) -> Bool[np.ndarray, "u v"]:
    label, count = ndimage.label(fluid)
    if count == 0:
        return fluid
    centre = np.array(fluid.shape) // 2
    places = np.argwhere(fluid)
    nearest = places[np.argmin(np.square(places - centre).sum(axis=1))]
    part: Bool[np.ndarray, "u v"] = label == label[tuple(nearest)]
    return part
