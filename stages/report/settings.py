"""Settings of the report."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ReportSettings(BaseModel):
    """Choose the display of grey values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_low_hu: float = Field(-1000.0, description="Grey value shown black, HU.")
    window_high_hu: float = Field(400.0, description="Grey value shown white, HU.")
    difference_hu: float = Field(
        300.0, gt=0, description="Ends of the colour scale of differences to HR, HU."
    )
    margin_mm: float = Field(15.0, ge=0, description="Margin around the airway in slices, mm.")
