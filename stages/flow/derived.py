"""What follows from a steady flow: its temperature, what it does to the wall, and its streamlines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from pipeline.core.errors import NumericalError
from pipeline.core.planes import Plane
from stages.flow.heat.temperature import Air, Temperature, steady_temperature
from stages.flow.mesh import PatchedSurface
from stages.flow.openings import Opening
from stages.flow.result import FlowResult
from stages.flow.sampling import NodeTable
from stages.flow.sections import section_inside
from stages.flow.settings import FlowSettings
from stages.flow.streamlines import Streamlines, streamlines
from stages.flow.voxels import SparseLattice
from stages.flow.wall_faces import wall_faces
from stages.flow.wall_shear import (
    WallFields,
    opening_force_n,
    shear_summary,
    total_heat_w,
    wall_fields,
    wall_force_n,
)

_SAMPLES_PER_CELL = 5
_LARGEST_IMBALANCE = 0.01
"""Share of the heat that may be lost before the temperature needs a caveat."""
_UNFINISHED_SHARE = 0.05
"""Share of the streamlines that may end inside before it is said."""


@dataclass(frozen=True)
class Derived:
    """Hold what follows from a flow.

    Parameters
    ----------
    temperature
        None if it was not asked for or could not be found.
    wall
        Pressure, shear stress and heat flux on the wall.
    lines
        Streamlines; None if none were asked for.
    record
        The fields ``wall``, ``temperature`` and ``streamlines`` of flow.json.
    warnings
        Caveats.
    """

    temperature: Temperature | None
    wall: WallFields
    lines: Streamlines | None
    record: dict[str, Any]
    warnings: list[str]

    @property
    def temperature_c(self) -> Float[np.ndarray, "cell"] | None:
        """Return the temperature of each cell, degrees C."""
        return None if self.temperature is None else self.temperature.values_c


def derive(
    surface: PatchedSurface,
    lattice: SparseLattice,
    openings: tuple[Opening, ...],
    nodes: NodeTable,
    result: FlowResult,
    settings: FlowSettings,
    sections: Mapping[str, Plane],
) -> Derived:
    """Return what follows from a flow: temperature, wall fields, streamlines and their record."""
    record: dict[str, Any] = {}
    heat, warnings = _temperature(lattice, openings, result, settings)
    values = None if heat is None else heat.values_c
    wall = _wall(surface, lattice, result, settings, heat)
    through = opening_force_n(
        *(openings, nodes, lattice.spacing_mm, result.velocity_m_s, result.pressure_pa),
        settings.density_kg_m3,
    )
    record["wall"] = shear_summary(wall) | _forces(wall, through)
    if heat is not None:
        planes = _plane_temperatures(surface, lattice, nodes, result, sections, heat.values_c)
        record["temperature"] = _temperature_record(heat, openings, planes)
        record["temperature"]["heat_flux_integral_w"] = total_heat_w(wall)
    lines = None
    if settings.streamlines > 0:
        fields = (result.velocity_m_s, result.pressure_pa)
        lines = streamlines(
            *(lattice, openings, nodes, *fields), count=settings.streamlines, temperature_c=values
        )
        record["streamlines"] = _line_record(lines)
    return Derived(heat, wall, lines, record, warnings + _line_caveats(lines))


def _temperature(
    lattice: SparseLattice,
    openings: tuple[Opening, ...],
    result: FlowResult,
    settings: FlowSettings,
) -> tuple[Temperature | None, list[str]]:
    if not settings.temperature:
        return None, []
    air = Air(
        settings.inlet_temperature_c,
        settings.wall_temperature_c,
        settings.kinematic_viscosity_m2_s / settings.prandtl,
        settings.density_kg_m3 * settings.heat_capacity_j_kg_k,
    )
    flows = {o.name: float(result.means.flux_m3_s[k]) for k, o in enumerate(openings) if o.inlet}
    try:
        heat = steady_temperature(lattice, result.velocity_m_s, flows, air)
    except NumericalError as error:  # the flow stands without its temperature
        return None, [f"no temperature was found: {error}"]
    if heat.settled and abs(heat.imbalance) <= _LARGEST_IMBALANCE:
        return heat, []
    return heat, [
        f"the temperature has not converged: it changed by {heat.change:.2g} of the difference between wall "
        f"and inlet in the last iterate, and {100 * abs(heat.imbalance):.2g} % of the heat is lost."
    ]


def _wall(
    surface: PatchedSurface,
    lattice: SparseLattice,
    result: FlowResult,
    settings: FlowSettings,
    heat: Temperature | None,
) -> WallFields:
    return wall_fields(
        lattice,
        wall_faces(surface, lattice),
        result.velocity_m_s,
        result.pressure_pa,
        dynamic_viscosity_pa_s=settings.density_kg_m3 * settings.kinematic_viscosity_m2_s,
        excess_c=None if heat is None else heat.values_c - heat.air.wall_c,
        conductivity_w_m_k=0.0 if heat is None else heat.air.conductivity_w_m_k,
    )


def _forces(wall: WallFields, through_n: Float[np.ndarray, "3"]) -> dict[str, Any]:
    """Return the force on the wall and how far it and the openings' differ, of all pressure on the wall."""
    force = wall_force_n(wall)
    known = wall.faces.cell >= 0
    pressed = np.abs(wall.pressure_pa[known]) @ wall.faces.area_mm2[known] * 1e-6
    left = float(np.linalg.norm(force + through_n))
    return {
        "force_n": [float(f) for f in force],
        "force_balance_percent": 100.0 * left / float(pressed) if pressed > 0.0 else 0.0,
    }


def _plane_temperatures(
    surface: PatchedSurface,
    lattice: SparseLattice,
    nodes: NodeTable,
    result: FlowResult,
    sections: Mapping[str, Plane],
    values_c: Float[np.ndarray, "cell"],
) -> dict[str, float | None]:
    """Return the flux-weighted temperature of sections, degrees C; None without a net flux."""
    found: dict[str, float | None] = {}
    for name, plane in sections.items():
        points, _ = section_inside(
            surface.triangles_mm,
            plane,
            lattice.spacing_mm / _SAMPLES_PER_CELL,
            margin_mm=0.5 * lattice.spacing_mm,
        )
        sampler = nodes.sampler(points)
        through = np.nan_to_num(np.array(plane.normal) @ sampler.velocity(result.velocity_m_s))
        here = np.nan_to_num(sampler.pressure(values_c))
        weak = abs(through.sum()) <= 1e-3 * np.abs(through).sum()
        found[name] = None if weak else float(through @ here / through.sum())
    return found


def _temperature_record(
    heat: Temperature, openings: tuple[Opening, ...], planes: Mapping[str, float | None]
) -> dict[str, Any]:
    outlets = [o.name for o in openings if not o.inlet and o.name in heat.openings_c]
    return {
        "inlet_c": heat.air.inlet_c,
        "wall_c": heat.air.wall_c,
        "outlets": {name: _finite(heat.openings_c[name]) for name in outlets},
        "planes": dict(planes),
        "heat_flow_w": heat.heat_flow_w,
        "heat_carried_w": heat.carried_w,
        "heat_conducted_w": heat.conducted_w,
        "heat_balance_percent": 100.0 * heat.imbalance,
        "iterations": heat.iterations,
        "settled": heat.settled,
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _line_record(lines: Streamlines) -> dict[str, Any]:
    count = len(lines.inlet)
    return {
        "number": count,
        "reached_outlet": float(lines.reached.mean()) if count else None,
        "inlets": {
            name: int((lines.inlet == number).sum()) for number, name in enumerate(lines.inlets)
        },
    }


def _line_caveats(lines: Streamlines | None) -> list[str]:
    if lines is None or len(lines.inlet) == 0 or lines.reached.mean() >= 1.0 - _UNFINISHED_SHARE:
        return []
    return [
        f"{100 * (1 - lines.reached.mean()):.0f} % of the streamlines end inside, most in slow eddies; they "
        "are marked in streamlines.vtp."
    ]
