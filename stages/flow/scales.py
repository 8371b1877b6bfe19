"""Conversion between lattice units and SI."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stages.flow.lattice import SOUND_SPEED_SQUARED_LU


@dataclass(frozen=True)
class Scales:
    """Convert between lattice units and SI.

    Parameters
    ----------
    spacing_m
        Cell edge, m.
    time_step_s
        Time step, s.
    density_kg_m3
        Density of the fluid.
    kinematic_viscosity_m2_s
        Kinematic viscosity of the fluid.
    """

    spacing_m: float
    time_step_s: float
    density_kg_m3: float
    kinematic_viscosity_m2_s: float

    @property
    def velocity_m_s(self) -> float:
        """Return one lattice velocity in m/s."""
        return self.spacing_m / self.time_step_s

    @property
    def pressure_pa(self) -> float:
        """Return the pressure of a density deviation of one, Pa."""
        return SOUND_SPEED_SQUARED_LU * self.density_kg_m3 * self.velocity_m_s**2

    @property
    def flow_rate_m3_s(self) -> float:
        """Return the volume flow of a mass flow of one per step, m3/s."""
        return self.spacing_m**3 / self.time_step_s

    @property
    def relaxation_time(self) -> float:
        """Return tau = nu dt / (c_s^2 dx^2) + 1/2."""
        nu_lu = self.kinematic_viscosity_m2_s * self.time_step_s / self.spacing_m**2
        return nu_lu / SOUND_SPEED_SQUARED_LU + 0.5

    def with_time_step(self, time_step_s: float) -> Scales:
        """Return the scales of another time step."""
        return replace(self, time_step_s=time_step_s)

    def time_step_of(self, relaxation_time: float) -> float:
        """Return the time step that has a relaxation time, s."""
        nu_lu = SOUND_SPEED_SQUARED_LU * (relaxation_time - 0.5)
        return nu_lu * self.spacing_m**2 / self.kinematic_viscosity_m2_s
