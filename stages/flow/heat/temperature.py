"""The temperature of a flow between walls of one temperature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from stages.flow.heat.faces import cell_sides
from stages.flow.heat.fluxes import conservative_fluxes
from stages.flow.heat.transport import budget, steady_scalar
from stages.flow.voxels import SparseLattice

_BLOCK_CELLS = 6
"""Edge of the blocks of the fluxes' coarse solution: some 100 cells each in a nose."""
_TOLERANCE = 1.5e-4
"""Root mean square change of the last iterate, relative to the difference between wall and inlet
(2 mK): then the balance of heat of a nose is closed within 0.1 %."""


@dataclass(frozen=True)
class Air:
    """Hold what carries the heat.

    Parameters
    ----------
    inlet_c, wall_c
        Temperature of what enters and of the walls, degrees C.
    diffusivity_m2_s
        Thermal diffusivity.
    heat_capacity_j_m3_k
        Heat capacity of a volume.
    """

    inlet_c: float
    wall_c: float
    diffusivity_m2_s: float
    heat_capacity_j_m3_k: float

    @property
    def conductivity_w_m_k(self) -> float:
        """Return the thermal conductivity."""
        return self.diffusivity_m2_s * self.heat_capacity_j_m3_k


@dataclass(frozen=True)
class Temperature:
    """Hold the temperature of a flow.

    Parameters
    ----------
    air
        Temperatures given and properties.
    values_c
        Temperature of each cell, degrees C.
    openings_c
        Flux-weighted temperature of each opening by name.
    heat_flow_w
        Heat that the walls give to the fluid.
    carried_w, conducted_w
        Heat that the flow carries out, above the inlets' temperature, and that is conducted out through the
        inlets. Where a wall meets an inlet the temperature jumps, so that the last depends on the spacing.
    imbalance
        Heat from the walls less what leaves, relative to the larger of the two.
    iterations, change, overshoot
        Iterates, the root mean square change in the last one, and how far it lay beyond walls and inlets,
        both relative to the difference between wall and inlet.
    """

    air: Air
    values_c: Float[np.ndarray, "cell"]
    openings_c: dict[str, float]
    heat_flow_w: float
    carried_w: float
    conducted_w: float
    imbalance: float
    iterations: int
    change: float
    overshoot: float

    @property
    def settled(self) -> bool:
        """Say whether the last iterate changed no more than the tolerance."""
        return self.change <= _TOLERANCE


def steady_temperature(
    lattice: SparseLattice,
    velocity_m_s: Float[np.ndarray, "3 cell"],
    inlet_flow_m3_s: dict[str, float],
    air: Air,
) -> Temperature:
    """Return the steady temperature of a flow.

    Parameters
    ----------
    lattice
        Fluid cells and links.
    velocity_m_s
        Mean velocity of each cell.
    inlet_flow_m3_s
        Flow into the domain of each inlet that the fluid reaches.
    air
        Temperatures and properties.

    Raises
    ------
    NumericalError
        If the flow through the cells' sides cannot be balanced.

    Notes
    -----
    Heat from friction and buoyancy are left out: in a nose they are 1e-5 and 1e-3 of what walls and
    pressure do. The properties of the fluid do not depend on its temperature.
    """
    sides = cell_sides(lattice)
    given = {lattice.names.index(name): flow for name, flow in inlet_flow_m3_s.items()}
    flux = conservative_fluxes(sides, velocity_m_s, lattice.blocks(_BLOCK_CELLS), given)
    values = {"wall": air.wall_c, "inlet": air.inlet_c}
    scalar = steady_scalar(sides, flux, air.diffusivity_m2_s, tolerance=_TOLERANCE, **values)
    found = budget(sides, flux, scalar.values, air.diffusivity_m2_s, **values)
    left = found.carried + found.conducted
    larger = max(abs(found.wall), abs(left))
    capacity = air.heat_capacity_j_m3_k
    return Temperature(
        air,
        scalar.values,
        {lattice.names[patch]: value for patch, value in found.openings.items()},
        found.wall * capacity,
        found.carried * capacity,
        found.conducted * capacity,
        (found.wall - left) / larger if larger > 0.0 else 0.0,
        scalar.iterations,
        scalar.change,
        scalar.overshoot,
    )
