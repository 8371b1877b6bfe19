"""Settings of the DICOM export."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class DicomExportSettings(BaseModel):
    """Say how the derived series is labelled."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    series_number: int = Field(
        default=900, ge=1, le=99999, description="Series number; above those of the scanner."
    )
    label: str = Field(
        default="ct2flow restored",
        min_length=1,
        max_length=40,
        pattern=r"^[A-Za-z0-9 ,.+-]+$",
        description="First words of the series description; 'RESEARCH USE ONLY' follows.",
    )
    slice_thickness_mm: float | None = Field(
        default=None,
        gt=0,
        le=50,
        description="Slice thickness, mm; without it the distance of the slices.",
    )
