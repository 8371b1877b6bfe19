"""Run the solver on a shape and measure what references speak of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from pipeline.core.units import AIR_DENSITY_37C_KG_M3, AIR_KINEMATIC_VISCOSITY_37C_M2_S
from stages.flow.mesh import PatchedSurface, assemble
from stages.flow.openings import Opening, make_openings
from stages.flow.result import FlowResult
from stages.flow.sampling import NodeTable
from stages.flow.settings import FlowSettings
from stages.flow.simulation import Simulation
from stages.flow.validation.shapes import Patches
from stages.flow.voxels import SparseLattice, build_lattice

NU_M2_S = AIR_KINEMATIC_VISCOSITY_37C_M2_S
RHO_KG_M3 = AIR_DENSITY_37C_KG_M3


@dataclass(frozen=True)
class Solved:
    """Hold one computed flow.

    Parameters
    ----------
    surface, lattice, openings
        What it was computed on.
    result
        Averaged fields, SI units.
    """

    surface: PatchedSurface
    lattice: SparseLattice
    openings: tuple[Opening, ...]
    result: FlowResult

    def flux_ml_s(self, name: str) -> float:
        """Return the flow rate of an opening, in the direction of the flow."""
        return float(self.result.means.flux_m3_s[self._number(name)] * 1e6)

    def static_pa(self, name: str) -> float:
        """Return the flux-weighted static pressure of an opening relative to the outlets."""
        return float(self.result.means.static_pa[self._number(name)]) - self.result.reference_pa

    def _number(self, name: str) -> int:
        return [o.name for o in self.openings].index(name)

    def imbalance(self) -> float:
        """Return the relative difference of inflow and outflow."""
        inlet = np.array([o.inlet for o in self.openings])
        flux = self.result.means.flux_m3_s
        return abs(float(flux[inlet].sum() / flux[~inlet].sum()) - 1.0)

    def gradient_pa_mm(self, axis: Float[np.ndarray, "3"], low: float, high: float) -> float:
        """Return the fall of pressure per length between two places along an axis, Pa/mm."""
        return fall(self.lattice.centres_mm @ axis, self.result.pressure_pa, low, high)

    def sampled(
        self, points_mm: Float[np.ndarray, "point 3"]
    ) -> tuple[Float[np.ndarray, "point"], Float[np.ndarray, "3 point"]]:
        """Return pressure, Pa, and velocity, m/s, at points."""
        sampler = NodeTable(self.lattice).sampler(points_mm)
        result = self.result
        return sampler.pressure(result.pressure_pa), sampler.velocity(result.velocity_m_s)

    def numbers(self) -> dict[str, float | int | bool]:
        """Return the facts of the run that stand beside each figure."""
        result = self.result
        return {
            "spacing_mm": self.lattice.spacing_mm,
            "cells": len(self.lattice.cells),
            "steps": result.steps,
            "relaxation_time": round(result.scales.relaxation_time, 5),
            "mach_max": round(float(result.mach_max), 4),
            "last_change": min(float(result.state.change), 1e9),
            "reached": result.reached,
        }


@dataclass(frozen=True)
class Bench:
    """Choose how every flow of a validation is computed.

    Parameters
    ----------
    precision
        Floating-point format of the populations.
    threads
        Processor threads.
    quick
        Only the coarse members of each case.
    """

    precision: str = "float32"
    threads: int = 2
    quick: bool = False

    def solve(
        self, patches: Patches, spacing_mm: float, flow_rate_ml_s: float, **settings: Any
    ) -> Solved:
        """Compute a flow until it is steady to a tenth of the solver's usual tolerance.

        The change between two windows understates what is left by the number of windows in the slowest
        mode's time constant, some ten in these pipes; the goals are 5e-3.
        """
        options = FlowSettings(
            **{  # type: ignore[arg-type]
                "flow_rate_ml_s": flow_rate_ml_s,
                "spacing_mm": spacing_mm,
                "precision": self.precision,
                "threads": self.threads,
                "inlet": "developed",
                "tolerance": 1e-5,
                "flow_throughs": 40.0,
                **settings,
            }
        )
        surface = assemble(patches)
        lattice = build_lattice(surface, spacing_mm)
        openings = make_openings(surface, lattice)
        return Solved(surface, lattice, openings, Simulation(lattice, openings, options).run())


def fall(
    place: Float[np.ndarray, "cell"], pressure: Float[np.ndarray, "cell"], low: float, high: float
) -> float:
    """Return minus the slope of the least-squares line of pressure over place between two places."""
    middle = (place > low) & (place < high)
    return -float(np.polyfit(place[middle], pressure[middle].astype(np.float64), 1)[0])
