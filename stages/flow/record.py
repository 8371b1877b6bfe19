"""What is reported of a flow: flow.json, planes, probes and caveats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from pipeline.core.planes import Plane
from pipeline.core.units import m3_s_to_ml_s
from stages.flow.crossings import points_inside
from stages.flow.gaps import thin_cells
from stages.flow.mesh import WALL, PatchedSurface
from stages.flow.openings import Opening
from stages.flow.readings import flux_weighted
from stages.flow.result import FlowResult
from stages.flow.sampling import NodeTable
from stages.flow.sections import section_inside
from stages.flow.settings import FlowSettings
from stages.flow.voxels import SparseLattice

FLOW_FORMAT = 1
_SAMPLES_PER_CELL = 5
_LENGTHS_MM = (1.0, 2000.0)
"""Sizes of a body part's airway; others suggest that lengths are not in mm."""
_LARGEST = 1e9
"""Stands for infinity in JSON."""


def flow_record(
    lattice: SparseLattice,
    openings: tuple[Opening, ...],
    result: FlowResult,
    settings: FlowSettings,
    seconds: float,
) -> dict[str, Any]:
    """Return flow.json as far as the run alone decides it."""
    cells = len(lattice.cells)
    scales = result.scales
    return {
        "format": FLOW_FORMAT,
        "openings": _openings(openings, result),
        "planes": {},
        "pressure_loss": {
            "static_pa": result.means.loss_pa[0],
            "total_pa": result.means.loss_pa[1],
            "standard_deviation_in_time_pa": result.means.scatter_pa,
        },
        "lattice": {
            "spacing_mm": settings.spacing_mm,
            "time_step_s": scales.time_step_s,
            "fluid_cells": cells,
            "thin_gap_cells": int(thin_cells(lattice).sum()),
            "overlap_cells": 0 if lattice.overlap is None else lattice.overlap.cells,
            "steps": result.steps,
            "seconds": round(seconds, 3),
            "mlups": round(cells * result.steps / max(seconds, 1e-9) / 1e6, 3),
            "walls": result.walls,
            "convection": result.convection,
            "linear_wall_cells": _linear_wall_cells(lattice, result),
            "rescues": result.rescues,
            "flux_quadrature": result.quadrature,
            "engine": result.engine,
            "precision": settings.precision,
            "threads": settings.threads,
            "bytes_per_cell": result.bytes_per_cell,
        },
        "numbers": {
            "reynolds": _reynolds(openings, settings),
            "mach_max": result.mach_max,
            "relaxation_time": scales.relaxation_time,
            "peak_velocity_m_s": float(np.linalg.norm(result.velocity_m_s, axis=0).max()),
        },
        "convergence": {
            "reached": result.reached,
            "statistically_steady": result.state.stationary,
            "pressure_loss_change": min(result.state.change, _LARGEST),
            "time_mean_error": result.state.mean_error,
            "mass_imbalance": min(result.state.imbalance, _LARGEST),
            "simulated_time_s": result.time_s,
            "averaging_window_s": result.window_s,
        },
    }


def _openings(openings: tuple[Opening, ...], result: FlowResult) -> dict[str, dict[str, Any]]:
    means = result.means
    return {
        opening.name: {
            "area_mm2": opening.area_mm2,
            "flow_rate_ml_s": m3_s_to_ml_s(float(means.flux_m3_s[k])),
            "static_pressure_pa": _finite(means.static_pa[k] - result.reference_pa),
            "total_pressure_pa": _finite(means.total_pa[k] - result.reference_pa),
        }
        for k, opening in enumerate(openings)
    }


def _reynolds(openings: tuple[Opening, ...], settings: FlowSettings) -> float:
    """Return U D / nu of a round opening with the area of all inlets together."""
    area_m2 = sum(o.area_mm2 for o in openings if o.inlet) * 1e-6
    diameter = np.sqrt(4 * area_m2 / np.pi)
    velocity = settings.flow_rate_ml_s * 1e-6 / area_m2
    return float(velocity * diameter / settings.kinematic_viscosity_m2_s)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def measure_planes(
    surface: PatchedSurface,
    lattice: SparseLattice,
    nodes: NodeTable,
    result: FlowResult,
    planes: Mapping[str, Plane],
    settings: FlowSettings,
) -> dict[str, dict[str, float | None]]:
    """Return area, flow rate and flux-weighted pressures of sections; None where none is cut."""
    found: dict[str, dict[str, float | None]] = {}
    for name, plane in planes.items():
        points, area = section_inside(
            surface.triangles_mm,
            plane,
            lattice.spacing_mm / _SAMPLES_PER_CELL,
            margin_mm=0.5 * lattice.spacing_mm,
        )
        sampler = nodes.sampler(points)
        reading = flux_weighted(
            sampler.pressure(result.pressure_pa),
            sampler.velocity(result.velocity_m_s),
            np.full(len(points), area),
            np.array(plane.normal),
            settings.density_kg_m3,
        )
        found[name] = {
            "area_mm2": len(points) * area,
            "flow_rate_ml_s": reading.flux,  # m/s times mm2 is ml/s
            "static_pressure_pa": _finite(reading.static),
            "total_pressure_pa": _finite(reading.total),
        }
    return found


def probe_values(
    surface: PatchedSurface,
    nodes: NodeTable,
    result: FlowResult,
    points: Float[np.ndarray, "point 3"],
) -> Float[np.ndarray, "4 point"]:
    """Return pressure, Pa, and velocity, m/s, at points; NaN outside the fluid."""
    sampler = nodes.sampler(points)
    values = np.concatenate(
        [sampler.pressure(result.pressure_pa)[None], sampler.velocity(result.velocity_m_s)]
    )
    values[:, ~points_inside(surface, points)] = np.nan
    return values


def caveats(
    surface: PatchedSurface,
    lattice: SparseLattice,
    openings: tuple[Opening, ...],
    result: FlowResult,
    settings: FlowSettings,
) -> list[str]:
    """Return the warnings of a result that stands."""
    found = []
    size = float(np.ptp(surface.triangles_mm.reshape(-1, 3), axis=0).max())
    if not _LENGTHS_MM[0] <= size <= _LENGTHS_MM[1]:
        found.append(f"the surface is {size:.3g} mm long; check that its lengths are in mm.")
    reached = {opening.name for opening in openings}
    found += [
        f"{name}: no fluid cell reaches this opening at {lattice.spacing_mm} mm; it carries no flow."
        for name in surface.openings
        if name not in reached
    ]
    if lattice.overlap is not None:
        x, y, z = lattice.overlap.place_mm
        found.append(
            f"parts of the surface overlap in {lattice.overlap.cells} cells, such as near ({x:.1f}, {y:.1f}, "
            f"{z:.1f}) mm, which are solid where two parts overlap; see `ct2flow surface check SURFACE_DIR`."
        )
    return found + _rescue_caveats(lattice, result, settings) + _convergence_caveats(result)


def _rescue_caveats(
    lattice: SparseLattice, result: FlowResult, settings: FlowSettings
) -> list[str]:
    if result.rescues == 0:
        return []
    found = [
        f"the flow diverged {result.rescues} times and went on from its last whole state; choose a smaller "
        "--spacing-mm for a lattice that carries this flow."
    ]
    cells = _linear_wall_cells(lattice, result)
    if cells:
        place = lattice.centres_mm[int(np.argmax(result.calm))]
        found.append(
            f"walls are linear instead of quadratic in {cells} cells where the flow diverged, such as near "
            f"({place[0]:.1f}, {place[1]:.1f}, {place[2]:.1f}) mm: narrow passages are too tight there."
        )
    if settings.corrects_convection and result.convection == "plain":
        found.append(
            "the flow diverged with corrected convection; it was computed with plain convection."
        )
    if result.lattice_velocity < settings.lattice_velocity:
        found.append(
            f"the flow diverged at a lattice velocity of {settings.lattice_velocity:g}; it was computed at "
            f"{result.lattice_velocity:g}."
        )
    return found


def _linear_wall_cells(lattice: SparseLattice, result: FlowResult) -> int:
    """Return the number of cells beside walls that are linear in a run with quadratic ones."""
    beside = np.unique(lattice.link_cell[lattice.links_of(WALL)])
    return int(result.calm[beside].sum())


def _convergence_caveats(result: FlowResult) -> list[str]:
    if result.reached:
        return []
    change = 100 * min(result.state.change, 1e4)
    scatter = result.means.scatter_pa
    if result.state.stationary:
        return [
            "the flow is unsteady: the total pressure loss varies with a standard deviation of "
            f"{scatter:.2g} Pa in time; its mean over the last {1e3 * result.window_s:.3g} ms is reported, "
            f"with a standard error of {100 * (result.state.mean_error or 0.0):.2g} %."
        ]
    if not np.isfinite(result.state.change):
        return [
            "the run ended before two averaging windows were complete, so that nothing can be said "
            "about its convergence; allow more --max-steps."
        ]
    return [
        f"the run has not converged: the total pressure loss changed by {change:.2g} % within "
        f"the last windows, the flow rates are wrong by {100 * min(result.state.imbalance, 1e4):.2g} "
        "% at most; allow more --max-steps."
    ]
