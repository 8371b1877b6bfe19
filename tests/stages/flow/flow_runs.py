"""Small flows for tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from flow_meshes import Patches

from stages.flow.mesh import assemble
from stages.flow.openings import Opening, make_openings
from stages.flow.settings import FlowSettings
from stages.flow.simulation import FlowResult, Simulation
from stages.flow.voxels import SparseLattice, build_lattice

NU = 1.65e-5
RHO = 1.14


@dataclass(frozen=True)
class Case:
    result: FlowResult
    lattice: SparseLattice
    openings: tuple[Opening, ...]

    def flux_ml_s(self, name: str) -> float:
        number = [o.name for o in self.openings].index(name)
        return float(self.result.means.flux_m3_s[number] * 1e6)


def simulate(patches: Patches, spacing_mm: float, flow_rate_ml_s: float, **settings) -> Case:
    surface = assemble(patches)
    lattice = build_lattice(surface, spacing_mm)
    chosen = {"threads": 1, "inlet": "developed", **settings}
    options = FlowSettings(flow_rate_ml_s=flow_rate_ml_s, spacing_mm=spacing_mm, **chosen)
    openings = make_openings(surface, lattice)
    return Case(Simulation(lattice, openings, options).run(), lattice, openings)


def pressure_gradient_pa_mm(case: Case, axis: np.ndarray, low: float, high: float) -> float:
    """Return the fall of pressure per length between two places along an axis."""
    along = case.lattice.centres_mm @ axis
    middle = (along > low) & (along < high)
    return -float(np.polyfit(along[middle], case.result.pressure_pa[middle], 1)[0])
