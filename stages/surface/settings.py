"""Settings of the surface stage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class SurfaceSettings(BaseModel):
    """Say where the wall lies and how finely and smoothly it is drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    isolevel_hu: Annotated[float, Field(ge=-900.0, le=-100.0)] = Field(
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
