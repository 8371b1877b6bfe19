"""What the fluid does to the wall: pressure, shear stress, heat and the force of all of it.

Notes
-----
At a wall without slip the stress along it is mu du/dn, n into the fluid and u along the wall, in the
direction in which the fluid drags the wall. Pressure and shear stress over the whole wall are the force that
the openings exert on the fluid less the momentum that it carries away:

    integral over the wall of (p n + tau) dA = - integral over the openings of (p n + rho u u.n) dA,

n out of the fluid. How far the two sides differ is a check of the whole that needs no reference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from stages.flow.openings import Opening
from stages.flow.readings import patch_points
from stages.flow.sampling import NodeTable
from stages.flow.voxels import SparseLattice
from stages.flow.wall_faces import WallFaces
from stages.flow.wall_fit import wall_slopes, wall_values

_DEPTHS = (1.0, 2.0)
"""Cells inside an opening at which pressure and velocity are read, to be extrapolated to it."""


@dataclass(frozen=True)
class WallFields:
    """Hold the fields on the wall; NaN on triangles without fluid in front of them.

    Parameters
    ----------
    faces
        The triangles.
    pressure_pa
        Static pressure relative to the outlets.
    shear_pa
        Shear stress, the force of the fluid on the wall per area, (face, xyz).
    heat_flux_w_m2
        Heat that the wall gives to the fluid, or None.
    """

    faces: WallFaces
    pressure_pa: Float[np.ndarray, "face"]
    shear_pa: Float[np.ndarray, "face 3"]
    heat_flux_w_m2: Float[np.ndarray, "face"] | None

    @property
    def shear_magnitude_pa(self) -> Float[np.ndarray, "face"]:
        """Return the magnitude of the shear stress."""
        return np.asarray(np.linalg.norm(self.shear_pa, axis=1))


def wall_fields(
    lattice: SparseLattice,
    faces: WallFaces,
    velocity_m_s: Float[np.ndarray, "3 cell"],
    pressure_pa: Float[np.ndarray, "cell"],
    *,
    dynamic_viscosity_pa_s: float,
    excess_c: Float[np.ndarray, "cell"] | None = None,
    conductivity_w_m_k: float = 0.0,
) -> WallFields:
    """Return pressure, shear stress and heat flux on the wall.

    Parameters
    ----------
    lattice, faces
        Fluid cells, and triangles of the wall.
    velocity_m_s, pressure_pa
        Fields of the cells.
    dynamic_viscosity_pa_s
        Viscosity.
    excess_c
        Temperature of the cells less that of the wall, K; None if there is none.
    conductivity_w_m_k
        Thermal conductivity.
    """
    fields = [*velocity_m_s] if excess_c is None else [*velocity_m_s, excess_c]
    slopes = wall_slopes(lattice, faces, np.stack(fields)) * 1e3  # per mm to per m
    rate = slopes[:3].T
    along = rate - np.einsum("fx,fx->f", rate, faces.normal)[:, None] * faces.normal
    heat = None if excess_c is None else -conductivity_w_m_k * slopes[3]
    pressure = wall_values(lattice, faces, pressure_pa)
    return WallFields(faces, pressure, dynamic_viscosity_pa_s * along, heat)


def wall_force_n(fields: WallFields) -> Float[np.ndarray, "3"]:
    """Return the force of the fluid on the wall, N."""
    known = fields.faces.cell >= 0
    area_m2 = fields.faces.area_mm2[known, None] * 1e-6
    pressure = fields.pressure_pa[known, None] * fields.faces.normal[known]
    return np.asarray(((pressure + fields.shear_pa[known]) * area_m2).sum(axis=0))


def total_heat_w(fields: WallFields) -> float:
    """Return the integral of the heat flux over the wall, W."""
    assert fields.heat_flux_w_m2 is not None
    known = fields.faces.cell >= 0
    return float(fields.heat_flux_w_m2[known] @ fields.faces.area_mm2[known]) * 1e-6


def opening_force_n(
    openings: tuple[Opening, ...],
    nodes: NodeTable,
    spacing_mm: float,
    velocity_m_s: Float[np.ndarray, "3 cell"],
    pressure_pa: Float[np.ndarray, "cell"],
    density_kg_m3: float,
) -> Float[np.ndarray, "3"]:
    """Return pressure and momentum that go out through the openings, N."""
    total = np.zeros(3)
    for opening in openings:
        points, area = patch_points(opening.triangles_mm, 0.5 * spacing_mm)
        outward = -opening.direction if opening.inlet else opening.direction
        near, far = (nodes.sampler(points - outward * depth * spacing_mm) for depth in _DEPTHS)
        p = 2.0 * near.pressure(pressure_pa) - far.pressure(pressure_pa)
        u = 2.0 * near.velocity(velocity_m_s) - far.velocity(velocity_m_s)
        traction = p * outward[:, None] + density_kg_m3 * u * (outward @ u)
        total += np.nansum(traction * area * 1e-6, axis=1)
    return total


def shear_summary(fields: WallFields) -> dict[str, float]:
    """Return area and the shear stress's mean, 99th percentile and maximum over the area."""
    known = fields.faces.cell >= 0
    area = fields.faces.area_mm2[known]
    shear = fields.shear_magnitude_pa[known]
    order = np.argsort(shear)
    share = np.cumsum(area[order]) / area.sum()
    place = min(int(np.searchsorted(share, 0.99)), len(order) - 1)
    return {
        "area_mm2": float(area.sum()),
        "shear_stress_mean_pa": float(shear @ area / area.sum()),
        "shear_stress_99_percent_pa": float(shear[order][place]),
        "shear_stress_max_pa": float(shear.max()),
    }
