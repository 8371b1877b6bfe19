"""Input files of m-AIA's lattice-Boltzmann solver for a flow through an airway.

Notes
-----
m-AIA numbers the patches ("segments") and takes lengths in the unit of the STL files. The flow is given
by Reynolds and Mach number of one velocity U and by a reference length L,

    nu_lu = Ma c_s L / (dx Re),     Re = U L / nu,     Ma = U_lu / c_s,

so that any length serves as L as long as Re goes with it; the hydraulic diameter of the opening that
sets the flow rate is taken.

Boundary conditions: walls are interpolated bounce-back (2000, Bouzidi et al. 2001). Total-pressure inlets
are 4070, which sets the density from the equation of Saint-Venant and Wantzel as here; the outlet
is 4072, which lowers its density until its mean normal velocity makes Re what was asked for: U is
the outlet's mean velocity. Flat inlets are 1000 (velocity along the given vector, U is theirs) and outlets
then 4000 (density 1).

The grid is a cube of the geometry's largest extent times a reduction factor, halved `level` times.

References
----------
.. [1] m-AIA user guide, pages on mesh generation, the lattice-Boltzmann solver and its methods.
.. [2] Lintermann & Schroeder (2020), CEAS Aeronaut. J., doi:10.1007/s13272-020-00450-1: the same solver on
   airways.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pipeline.core.errors import InputError, UsageError
from pipeline.core.units import ml_s_to_m3_s
from stages.flow.case_export.patches import hydraulic_diameter_mm, largest_extent_mm
from stages.flow.lattice import SOUND_SPEED_SQUARED_LU
from stages.flow.mesh import WALL, PatchedSurface, enclosed_volume, is_inlet
from stages.flow.openings import Opening
from stages.flow.scales import Scales
from stages.flow.settings import FlowSettings
from stages.flow.time_step import guessed_peak_m_s

_WALL, _TOTAL_PRESSURE, _FLUX_BY_PRESSURE, _VELOCITY, _PRESSURE = 2000, 4070, 4072, 1000, 4000
_SOUND_LU = math.sqrt(SOUND_SPEED_SQUARED_LU)
_MAX_LEVEL = 20
_LOSS_IN_DYNAMIC_PRESSURES = 1.0
_STEPS_TO_PRESSURE = 1000
"""The outlet's density may change per step by about the loss expected over this many steps: slow against the
sound that crosses the airway in some hundred. A starting value that no run has confirmed."""
_CELLS_PER_RANK = 2_000_000
_SCRATCH = 20.0


@dataclass(frozen=True)
class ClusterCase:
    """Hold what the solver is told, apart from the patches.

    Parameters
    ----------
    scales
        Conversion between the solver's lattice units and SI.
    segments
        Patch names in the order of the segment numbers.
    conditions
        m-AIA's boundary condition of each segment.
    normals
        Outward unit normal of each opening, by segment.
    reference_mm, reference_m_s
        Length and velocity of the Reynolds and Mach numbers.
    reynolds, mach
        Those numbers.
    level, reduction_factor
        Refinement of the grid.
    cells
        Estimate of the fluid cells.
    steps
        Length of the run.
    """

    scales: Scales
    segments: tuple[str, ...]
    conditions: tuple[int, ...]
    normals: Mapping[str, Float[np.ndarray, "3"]]
    reference_mm: float
    reference_m_s: float
    reynolds: float
    mach: float
    level: int
    reduction_factor: float
    cells: int
    steps: int


def cluster_case(
    surface: PatchedSurface, openings: Sequence[Opening], settings: FlowSettings
) -> ClusterCase:
    """Choose what m-AIA is told for a flow.

    Raises
    ------
    UsageError
        If the inlets or the outlets are of a kind that m-AIA has no condition for.
    """
    leading = _leading_openings(openings, settings)
    flow_m3_s = ml_s_to_m3_s(settings.flow_rate_ml_s)
    velocity_m_s = flow_m3_s / (1e-6 * sum(o.area_mm2 for o in leading))
    length_mm = hydraulic_diameter_mm(leading[0].triangles_mm)
    velocity_lu = settings.lattice_velocity * min(
        velocity_m_s / guessed_peak_m_s(tuple(openings), settings), 1.0
    )
    spacing_m = 1e-3 * settings.spacing_mm
    scales = Scales(
        spacing_m,
        velocity_lu * spacing_m / velocity_m_s,
        settings.density_kg_m3,
        settings.kinematic_viscosity_m2_s,
    )
    level, factor = grid_level(largest_extent_mm(surface), settings.spacing_mm)
    volume_mm3 = abs(enclosed_volume(surface.triangles_mm))
    fill_s = 1e-9 * volume_mm3 / flow_m3_s
    return ClusterCase(
        scales=scales,
        segments=surface.names,
        conditions=tuple(_condition(name, settings) for name in surface.names),
        normals={o.name: -o.direction if o.inlet else o.direction for o in openings},
        reference_mm=length_mm,
        reference_m_s=velocity_m_s,
        reynolds=velocity_m_s * 1e-3 * length_mm / settings.kinematic_viscosity_m2_s,
        mach=velocity_lu / _SOUND_LU,
        level=level,
        reduction_factor=factor,
        cells=round(volume_mm3 / settings.spacing_mm**3),
        steps=settings.max_steps
        or math.ceil(settings.flow_throughs * fill_s / scales.time_step_s),
    )


def _leading_openings(openings: Sequence[Opening], settings: FlowSettings) -> list[Opening]:
    """Return the openings whose mean velocity is given."""
    inlets, outlets = ([o for o in openings if o.inlet == side] for side in (True, False))
    if settings.inlet == "developed":
        raise UsageError(
            "--inlet developed: m-AIA's parabolic inlets do not share the flow as ours do; choose "
            "--inlet total-pressure or flat for an export.",
            inlet=settings.inlet,
        )
    if settings.inlet == "flat":
        return inlets
    if len(outlets) > 1:
        raise UsageError(
            f"m-AIA controls the flux of one outlet (found: {', '.join(o.name for o in outlets)}); join the "
            "outlets into one patch or choose --inlet flat.",
            outlets=[o.name for o in outlets],
        )
    return outlets


def _condition(name: str, settings: FlowSettings) -> int:
    if name == WALL:
        return _WALL
    if settings.inlet == "total-pressure":
        return _TOTAL_PRESSURE if is_inlet(name) else _FLUX_BY_PRESSURE
    return _VELOCITY if is_inlet(name) else _PRESSURE


def grid_level(extent_mm: float, spacing_mm: float) -> tuple[int, float]:
    """Return how often a cube is halved, and its edge over the extent, for cells of a spacing.

    Raises
    ------
    InputError
        If the grid would need more levels than m-AIA numbers cells for.
    """
    level = max(math.ceil(math.log2(extent_mm / spacing_mm) - 1e-9), 1)
    if level > _MAX_LEVEL:
        raise InputError(
            f"cells of {spacing_mm} mm in {extent_mm:.0f} mm need {level} levels (at most {_MAX_LEVEL}); "
            "choose a larger --spacing-mm, and check that lengths are in mm.",
            level=level,
        )
    return level, max(spacing_mm * 2**level / extent_mm, 1.0)


def geometry_file(case: ClusterCase) -> str:
    """Return geometry.toml: patches, their boundary conditions and which of them are openings."""
    numbers = range(len(case.segments))
    openings = [k for k in numbers if case.segments[k] != WALL]
    lines = [f"noSegments = {len(case.segments)}", f"inOutSegmentsIds = {openings}", ""]
    lines += [f'filename.{k} = "stl/{case.segments[k]}.stl"' for k in numbers]
    lines += ["", *(f'"body_segments.{case.segments[k]}" = {k}' for k in numbers)]
    lines += ["", *(f"BC.{k} = {case.conditions[k]}" for k in numbers)]
    return "\n".join(lines) + "\n"


def grid_file(case: ClusterCase, ranks: int) -> str:
    """Return properties_grid.toml, with which m-AIA makes a uniform grid."""
    return _toml(
        {
            "gridGenerator": True,
            "flowSolver": False,
            "nDim": 3,
            "noSolvers": 1,
            **_grid(case, ranks),
            "maxUniformRefinementLevel": case.level,
            "gridOutputFileName": "grid.Netcdf",
        }
    )


def run_file(case: ClusterCase, settings: FlowSettings, ranks: int) -> str:
    """Return properties_run.toml, with which m-AIA computes the flow."""
    openings = [name for name in case.segments if name != WALL]
    outward = [float(v) for name in openings for v in case.normals[name]]
    into = [-v if is_inlet(name) else v for name in openings for v in case.normals[name]]
    interval = max(case.steps // 20, 1)
    drop = _LOSS_IN_DYNAMIC_PRESSURES * 1.5 * settings.lattice_velocity**2 / _STEPS_TO_PRESSURE
    by_pressure = settings.inlet == "total-pressure"
    return _toml(
        {
            "flowSolver": True,
            "gridGenerator": False,
            "restartFile": False,
            "nDim": 3,
            "noSolvers": 1,
            "noDomains": ranks,
            "executionRecipe": "RECIPE_BASE",
            "solvertype": "MAIA_LATTICE_BOLTZMANN",
            "solverMethod": "MAIA_LATTICE_CUMULANT",
            "noDistributions": 27,
            **_grid(case, ranks),
            "gridInputFileName": "grid.Netcdf",
            "initMethod": "LB_FROM_ZERO_INIT",
            "Re": case.reynolds,
            "Ma": case.mach,
            "referenceLength": case.reference_mm,
            "rho1": 1.0 - drop if by_pressure else 1.0,
            "lbControlInflow": 0,
            "inflowSegmentIds": [k for k, n in enumerate(case.segments) if is_inlet(n)],
            "bndNormalMethod": "read",
            "bndNormalVectors": outward,
            "initVelocityMethod": "read",
            "initialVelocityVectors": [float(v) for v in into],
            "interpolationDistMethod": "STD",
            "multiBCTreatment": "I-W-P",
            "calcBcResidual": by_pressure,
            "timeSteps": case.steps,
            "solutionInterval": interval,
            "restartInterval": interval,
            "residualInterval": max(interval // 10, 1),
        }
    )


def _grid(case: ClusterCase, ranks: int) -> dict[str, object]:
    share = 2 * case.cells // ranks + _CELLS_PER_RANK // 10
    return {
        "outputDir": "out/",
        "geometryInputFileName": "geometry.toml",
        "scratchSize": _SCRATCH,
        "maxNoCells": max(share, 8 ** min(case.level, 6)),
        "minLevel": min(case.level, 6),
        "maxRfnmntLvl": case.level,
        "reductionFactor": case.reduction_factor,
    }


def _toml(values: Mapping[str, object]) -> str:
    return "".join(f"{name} = {_literal(value)}\n" for name, value in values.items())


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, float):
        return repr(value) if "e" not in repr(value) else f"{value:.12f}"
    if isinstance(value, list):
        return "[" + ", ".join(_literal(v) for v in value) + "]"
    return str(value)


def facts(case: ClusterCase) -> dict[str, object]:
    """Return case.json: what the numbers mean and how they turn into SI units."""
    scales = case.scales
    return {
        "format": 1,
        "solver": "m-AIA",
        "lengths": "mm, DICOM LPS, as in the surface folder",
        "segments": {
            name: {"number": k, "condition": case.conditions[k]}
            for k, name in enumerate(case.segments)
        },
        "reference": {
            "length_mm": case.reference_mm,
            "velocity_m_s": case.reference_m_s,
            "reynolds": case.reynolds,
            "mach": case.mach,
        },
        "grid": {
            "spacing_mm": 1e3 * scales.spacing_m,
            "level": case.level,
            "reduction_factor": case.reduction_factor,
            "fluid_cells_about": case.cells,
        },
        "to_si": {
            "time_step_s": scales.time_step_s,
            "velocity_m_s": scales.velocity_m_s,
            "pressure_pa_per_density": scales.pressure_pa,
            "relaxation_time": scales.relaxation_time,
        },
        "commands": ["maia properties_grid.toml", "maia properties_run.toml"],
    }
