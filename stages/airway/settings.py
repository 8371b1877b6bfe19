"""Settings of the airway stage."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class AirwaySettings(BaseModel):
    """Say what counts as air and how the airway is separated from its surroundings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    isolevel_hu: Annotated[float, Field(ge=-900.0, le=-100.0)] = Field(
        -400.0,
        description="What is below is air, HU; -300 to -600 are in use. Half-way between air (-1000) and "
        "mucosa (about 50) a blurred wall keeps its place (-475); millimetre-wide passages, which blur "
        "fills, stay open only above it. See docs/results.md.",
    )
    grid_spacing_mm: Annotated[float, Field(ge=0.3, le=1.0)] = Field(
        0.6, description="Spacing of the upright grid on which the airway is found, mm."
    )
    cut_sinuses: bool = Field(
        True,  # noqa: FBT003 -- the field's default
        description="Cut off sinuses and cells, which carry next to no flow.",
    )
    least_passage_share: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.35,
        description="Least throughput d|grad p| of a passage in the potential flow with mobility d^2, as "
        "a share of its side's flux-weighted mean; smaller keeps more cells.",
    )
    recess_mm: Annotated[float, Field(ge=0.0, le=10.0)] = Field(
        2.4, description="Depth to which dead ends beside a passage are kept, mm."
    )
