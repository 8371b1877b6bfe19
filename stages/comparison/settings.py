"""Settings of the image comparison."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ComparisonSettings(BaseModel):
    """Choose where the airway's wall is and how wide the band around it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    isolevel_hu: float = Field(
        -400.0, ge=-1000, le=0, description="Grey value of the airway's wall, HU."
    )
    wall_band_mm: float = Field(
        1.5, gt=0, le=20, description="Largest distance from the wall inside the band, mm."
    )
    ms_ssim: bool = Field(
        default=False,
        description="Also the multi-scale structural similarity; it takes 0.2 s per slice of "
        "512 x 512 pixels.",
    )
