"""Laminar pipe and duct flow against closed forms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from flow_meshes import Patches, circle, rotation, tube

from stages.flow.mesh import assemble
from stages.flow.openings import make_openings
from stages.flow.settings import FlowSettings
from stages.flow.simulation import FlowResult, Simulation
from stages.flow.voxels import SparseLattice, build_lattice

NU = 1.65e-5
RHO = 1.14


@dataclass(frozen=True)
class Case:
    result: FlowResult
    lattice: SparseLattice


def simulate(patches: Patches, spacing_mm: float, flow_rate_ml_s: float, **settings) -> Case:
    surface = assemble(patches)
    lattice = build_lattice(surface, spacing_mm)
    chosen = {"threads": 1, "inlet": "developed", "flow_throughs": 8.0, **settings}
    options = FlowSettings(flow_rate_ml_s=flow_rate_ml_s, spacing_mm=spacing_mm, **chosen)
    result = Simulation(lattice, make_openings(surface, lattice), options).run()
    return Case(result, lattice)


def pressure_gradient_pa_mm(case: Case, axis: np.ndarray, low: float, high: float) -> float:
    """Return the fall of pressure per length between two places along an axis."""
    along = case.lattice.centres_mm @ axis
    middle = (along > low) & (along < high)
    return -float(np.polyfit(along[middle], case.result.pressure_pa[middle], 1)[0])


def pipe_error(cells: int, reynolds: float, *angles: float, **settings) -> float:
    """Return the relative error of the pressure gradient of a pipe of diameter 8 mm."""
    diameter, length, turn = 8.0, 32.0, rotation(*angles)
    velocity = reynolds * NU / (diameter * 1e-3)
    flow = velocity * np.pi * (diameter * 1e-3) ** 2 / 4
    case = simulate(
        tube(circle(diameter), length, turn=turn), diameter / cells, flow * 1e6, **settings
    )
    exact = 8 * RHO * NU * flow / (np.pi * (diameter / 2e3) ** 4) * 1e-3
    return pressure_gradient_pa_mm(case, turn[:, 2], 8.0, 26.0) / exact - 1.0
