"""Begin a flow from a known field, such as the solution on a coarser lattice, instead of from rest.

Notes
-----
The field is brought to the flow rate asked for: velocities by its ratio to the field's own, pressures by
the ratio's square. Total-pressure inlets have their total pressure at zero, so that all pressures are
shifted by what the field has there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree

from pipeline.core.errors import InputError
from stages.flow.readings import OpeningGauge, Reading
from stages.flow.sampling import NodeTable
from stages.flow.voxels import SparseLattice

_RATES = (0.1, 10.0)
"""Flow rates asked for over the field's own within which scaling it is a better start than rest."""


@dataclass(frozen=True)
class FlowField:
    """Hold velocity and pressure of every cell of a lattice.

    Parameters
    ----------
    velocity_m_s
        Velocity, (3, cell).
    pressure_pa
        Static pressure relative to the outlets.
    """

    velocity_m_s: Float[np.ndarray, "3 cell"]
    pressure_pa: Float[np.ndarray, "cell"]


@dataclass(frozen=True)
class Start:
    """Hold the state from which a run begins, SI units.

    Parameters
    ----------
    field
        Velocity and pressure; the latter relative to the inlets' total pressure, where they share one.
    outlet_pa
        Static pressure of the outlets.
    flux_m3_s
        Flux through each opening.
    """

    field: FlowField
    outlet_pa: float
    flux_m3_s: Float[np.ndarray, "opening"]

    @property
    def peak_m_s(self) -> float:
        """Return the largest speed."""
        return float(np.sqrt(np.square(self.field.velocity_m_s).sum(axis=0).max()))


@dataclass(frozen=True)
class FieldImage:
    """Hold a flow on a regular grid of points, NaN outside the fluid.

    Parameters
    ----------
    origin_mm
        First point, world (x, y, z).
    spacing_mm
        Distance of the points along every axis.
    values
        Pressure, Pa relative to the outlets, and velocity, m/s, (4, z, y, x).
    """

    origin_mm: Float[np.ndarray, "3"]
    spacing_mm: float
    values: Float[np.ndarray, "4 z y x"]


def on_lattice(image: FieldImage, lattice: SparseLattice) -> FlowField:
    """Read an image at the cells of a lattice: at the nearest of its points that hold a flow."""
    known = np.isfinite(image.values).all(axis=0)
    points = np.argwhere(known)[:, ::-1]
    place = (lattice.centres_mm - image.origin_mm) / image.spacing_mm
    nearest = cKDTree(points).query(place)[1]
    x, y, z = points[nearest].T
    values = image.values[:, z, y, x].astype(np.float64)
    return FlowField(values[1:], values[0])


def between_lattices(field: FlowField, source: SparseLattice, target: SparseLattice) -> FlowField:
    """Interpolate a field of one lattice to the cells of another in the same surface.

    Velocities vanish at the walls of `source`. Cells beyond its reach, as in gaps that it closes, are at
    rest at the pressure of the nearest cell.
    """
    points = target.centres_mm
    sampler = NodeTable(source).sampler(points, curved=False)
    velocity = np.nan_to_num(sampler.velocity(field.velocity_m_s), nan=0.0)
    pressure = sampler.pressure(field.pressure_pa)
    far = ~np.isfinite(pressure)
    if far.any():
        nearest = cKDTree(source.centres_mm).query(points[far])[1]
        pressure[far] = field.pressure_pa[nearest]
    return FlowField(velocity, pressure)


def fitted_start(
    field: FlowField,
    gauges: Sequence[OpeningGauge],
    inlet: Bool[np.ndarray, "opening"],
    *,
    flow_m3_s: float,
    density_kg_m3: float,
    shared_pressure: bool,
) -> Start:
    """Bring a field to a flow rate and its pressures to the openings' reference.

    Raises
    ------
    InputError
        If the field has no flow from the inlets to the outlets of nearly that rate.
    """
    outlet = ~inlet
    found = [g.read(field.pressure_pa, field.velocity_m_s, density_kg_m3) for g in gauges]
    flux = 1e-6 * np.array([r.flux for r in found])
    ratio = flow_m3_s / flux[outlet].sum() if flux[outlet].sum() > 0 else np.inf
    if not _RATES[0] <= ratio <= _RATES[1] or flux[inlet].sum() <= 0:
        raise InputError(
            f"initial field: it carries {1e6 * flux[outlet].sum():.3g} ml/s out of the outlets of this "
            f"surface (needed: about {1e6 * flow_m3_s:.3g}); give the field.vti of the same airway.",
            flow_rate_ml_s=1e6 * float(flux[outlet].sum()),
        )
    total, static = _mean(found, flux, inlet, "total"), _mean(found, flux, outlet, "static")
    shift = -(total if shared_pressure else static)
    pressure = ratio**2 * (field.pressure_pa + shift)
    scaled = FlowField(ratio * field.velocity_m_s, pressure)
    return Start(scaled, ratio**2 * (static + shift), ratio * flux)


def _mean(
    readings: Sequence[Reading],
    flux: Float[np.ndarray, "opening"],
    chosen: Bool[np.ndarray, "opening"],
    name: str,
) -> float:
    values = np.nan_to_num([getattr(r, name) for r in readings])[chosen]
    return float(np.average(values, weights=np.maximum(flux[chosen], 1e-30)))
