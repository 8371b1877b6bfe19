"""Settings of the ingest stage."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class IngestSettings(BaseModel):
    """Choose a series and the tolerances of its geometry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    series: str | None = Field(
        default=None,
        description="Number (from 'ct2flow ingest list') or UID of the series to read; without "
        "it the thinnest axial CT series with the most slices is taken.",
    )
    missing_slices: Literal["refuse", "crop"] = Field(
        default="refuse",
        description="What to do when slices are missing inside the stack: refuse it, or keep its "
        "longest part without a gap. Slices are never invented.",
    )
    spacing_tolerance_percent: float = Field(
        default=5.0,
        gt=0,
        le=25,
        description="Largest deviation of a slice from the regular grid, percent of the spacing. "
        "Scanners round positions to 0.01 mm or better; above 1 % there is a warning.",
    )
    minimum_slices: int = Field(
        default=3,
        ge=3,
        description="Fewest slices of a usable series; fewer have no even spacing.",
    )
    max_unpacked_gib: float = Field(
        default=8.0, gt=0, le=1024, description="Largest unpacked size of a zip file, GiB."
    )
