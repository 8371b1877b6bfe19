"""Settings of the flow stage."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class FlowSettings(BaseModel):
    """Choose fluid, flow rate, lattice and the end of a lattice-Boltzmann run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flow_rate_ml_s: float = Field(
        250.0,
        gt=0,
        le=1e7,
        description="Flux into all inlets together, ml/s; 250 is quiet inspiration "
        "(arXiv:2107.13680).",
    )
    spacing_mm: float = Field(
        0.25,
        gt=0,
        le=100,
        description="Edge of a lattice cell, mm. Half of a nose's gaps may be below 1.25 mm: at 0.35 mm a "
        "real nose's pressure loss was 5 % too high.",
    )
    density_kg_m3: float = Field(
        1.14, gt=0, le=1e5, description="Density of the fluid, kg/m3; air at 37 degrees C."
    )
    kinematic_viscosity_m2_s: float = Field(
        1.65e-5,
        gt=0,
        le=1.0,
        description="Kinematic viscosity of the fluid, m2/s; air at 37 degrees C.",
    )
    inlet: Literal["total-pressure", "flat", "developed"] = Field(
        "total-pressure",
        description="Inlets share the flow at one total pressure, or take a flat velocity profile in "
        "proportion to their areas, or a fully developed one in proportion to what one pressure gradient "
        "drives through them.",
    )
    precision: Literal["float32", "float64"] = Field(
        "float32", description="Floating-point format of the populations, stored as deviations."
    )
    collision: Literal["recursive-regularised", "projected-regularised"] = Field(
        "recursive-regularised",
        description="Collision model: with (Malaspinas 2015, arXiv:1505.06900) or without (Latt & "
        "Chopard 2006) third-order terms.",
    )
    walls: Literal["quadratic", "linear"] = Field(
        "quadratic",
        description="Order of the interpolated walls: in pipes of 8 and 12 cells quadratic was within 3 and "
        "1 % of Poiseuille's gradient, linear 10 and 3 %; in an oblique gap of 4 cells 5 and 47 %.",
    )
    convection: Literal["corrected", "plain"] = Field(
        "corrected",
        description="Whether a stress takes out what the lattice gets wrong oblique to its axes at high "
        "Reynolds numbers of a cell: see docs/flow_validation.md; quadratic walls only.",
    )
    engine: Literal["auto", "native", "numba"] = Field(
        "auto",
        description="What computes the lattice update: native (compiled C++), numba (several times "
        "slower, the same steady flow), or auto: native where it is installed.",
    )
    threads: int = Field(2, ge=1, le=1024, description="Processor threads.")
    lattice_velocity: float = Field(
        0.1,
        gt=0,
        le=0.3,
        description="Peak velocity in cells per time step that sets the time step; "
        "0.1 is Mach 0.17, compressibility errors grow with its square.",
    )
    flow_throughs: float = Field(
        0.4,
        gt=0,
        le=1000,
        description="Longest run, in times that the flow needs to fill the fluid volume once; "
        "at least six averaging windows, some 100 ms in a nose at 250 ml/s. Small cases may run longer "
        "until they are steady.",
    )
    max_steps: int | None = Field(
        None, ge=1, description="Longest run in time steps; overrides flow_throughs."
    )
    tolerance: float = Field(
        1e-4,
        gt=0,
        lt=1,
        description="Relative change of the pressure loss within the last averaging windows below which the "
        "run has converged.",
    )
    checkpoint_minutes: float = Field(
        5.0,
        ge=0,
        description="Wall-clock minutes between checkpoints, from which a killed run goes on when the same "
        "command is given again; 0 writes none.",
    )
    temperature: bool = Field(
        True,  # noqa: FBT003 - the field's default
        description="Solve for the temperature of the mean flow; it takes about a tenth of the flow's time.",
    )
    inlet_temperature_c: float = Field(
        20.0, ge=-80, le=200, description="Temperature of what enters, degrees C; room air."
    )
    wall_temperature_c: float = Field(
        34.0,
        ge=-80,
        le=200,
        description="Temperature of the walls, degrees C; mucosa measured 30.2 (end of inspiration) to 34.4 "
        "in the nose (Lindemann 2002, doi:10.1046/j.1365-2273.2002.00544.x).",
    )
    prandtl: float = Field(
        0.71, gt=0, le=1e4, description="Kinematic viscosity over thermal diffusivity; air 0.71."
    )
    heat_capacity_j_kg_k: float = Field(
        1007.0,
        gt=0,
        le=1e5,
        description="Specific heat of the fluid, J/(kg K); air 1007, water 4180.",
    )
    streamlines: int = Field(
        100,
        ge=0,
        le=100_000,
        description="Lines along the mean flow, shared by the inlets in proportion to what they carry; 0 for "
        "none.",
    )

    @property
    def corrects_convection(self) -> bool:
        """Whether convection is corrected: linear walls keep no velocities to do it with."""
        return self.convection == "corrected" and self.walls == "quadratic"
