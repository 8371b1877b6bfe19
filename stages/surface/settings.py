"""Settings of the surface stage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

LEAST_LEVEL_HU, MOST_LEVEL_HU = -900.0, -100.0
"""Below is noise of air, above is fat."""


class SurfaceSettings(BaseModel):
    """Say where the wall lies and how finely and smoothly it is drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    isolevel_hu: Annotated[float, Field(ge=LEAST_LEVEL_HU, le=MOST_LEVEL_HU)] = Field(
        -400.0, description="Level of the wall, HU; that of the airway stage."
    )
    spacing_mm: Annotated[float, Field(ge=0.1, le=2.0)] = Field(
        0.5, description="Spacing of the isotropic grid on which the surface is drawn, mm."
    )
    interpolation: Literal["linear", "cubic"] = Field(
        "linear",
        description="How grey values between voxels are found. Linear adds nothing to a coarse scan and "
        "cannot overshoot beside metal or bone; cubic is smoother on isotropic scans.",
    )
    smoothing_iterations: Annotated[int, Field(ge=0, le=200)] = Field(
        20,
        description="Iterations of the windowed-sinc (Taubin) filter; 0 leaves the iso-surface.",
    )
    smoothing_pass_band: Annotated[float, Field(gt=0.0, le=2.0)] = Field(
        0.2,
        description="Pass band of the filter: features longer than about 2 pi / sqrt(pass band) edges stay.",
    )
    target_edge_mm: Annotated[float, Field(ge=0.2, le=2.0)] | None = Field(
        None,
        description="Edge length to which the surface is remeshed, mm; without it triangles are those of the "
        "grid.",
    )
    inlet_extension_mm: Annotated[float, Field(ge=0.0, le=50.0)] = Field(
        0.0, description="Length of a pipe put before each nostril, normal to its plane, mm."
    )
    inlet_taper: Annotated[float, Field(ge=0.25, le=4.0)] = Field(
        1.0, description="Area of such a pipe's far end over that of the nostril."
    )
    outside_air_mm: Annotated[float, Field(ge=0.0, le=80.0)] = Field(
        0.0,
        description="Radius of a ball of outside air before the nostrils, mm, whose surface is the one "
        "inlet; 0 puts the inlets on the nostrils (Taylor 2009, doi:10.1098/rsif.2009.0306).",
    )
    isolevel_uncertainty_hu: Annotated[float, Field(ge=0.0, le=300.0)] = Field(
        100.0,
        description="Volume and wall area are reported at this much below and above the isolevel too, HU; 0 "
        "leaves that out.",
    )
