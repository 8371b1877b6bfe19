"""Settings of the phantom stage."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

VariantName = Literal["open", "left-blocked", "right-blocked", "both-blocked"]
"""Which nasal passages a plug of soft tissue closes."""


class _PatientSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(7, ge=0, le=2**31 - 1, description="Seed: every seed is another patient.")
    variant: VariantName = Field(
        "open", description="Which nasal passages a plug of soft tissue closes."
    )


class ScanSettings(_PatientSettings):
    """Choose a patient and the scanner that sees it; defaults are a thin head CT."""

    matrix: int = Field(512, ge=16, le=2048, description="Rows and columns of a slice.")
    pixel_mm: float = Field(
        0.45, gt=0.05, le=10, description="Edge of a pixel, mm; 230 mm field of view by default."
    )
    slice_spacing_mm: float = Field(
        1.0, gt=0.05, le=20, description="Distance of slices, mm; 1 mm in Liu 2024."
    )
    slice_thickness_mm: float | None = Field(
        None, gt=0.05, le=20, description="Width of the slice profile (box), mm; default: spacing."
    )
    below_mm: float = Field(
        70.0, ge=0, le=130, description="Extent below the posterior nasal spine, mm."
    )
    above_mm: float = Field(
        52.0, ge=0, le=170, description="Extent above the posterior nasal spine, mm."
    )
    centre_y_mm: float = Field(
        12.0,
        ge=-120,
        le=120,
        description="Middle of the field of view along y, mm; the posterior nasal spine is near 0.",
    )
    blur_mm: float = Field(
        0.9,
        ge=0,
        le=5,
        description="In-plane point spread, full width at half maximum, mm; 0.8 to 1.0 is a soft "
        "to standard kernel.",
    )
    slice_profile: Literal["box", "triangle", "gaussian"] = Field(
        "box",
        description="Slice-sensitivity profile; its full width at half maximum is the thickness.",
    )
    sharpness: float = Field(
        0.0,
        ge=0,
        le=3,
        description="Gain of the kernel at edges: 0 soft, 0.5 standard, 1 to 2 bone kernels.",
    )
    noise_hu: float = Field(
        14.0,
        ge=0,
        le=200,
        description="Standard deviation of the noise, HU; 12 to 25 for 1 mm slices.",
    )


class TruthSettings(_PatientSettings):
    """Choose a patient and the resolution at which its airway is written."""

    spacing_mm: float = Field(
        0.5, ge=0.1, le=3, description="Edge of a voxel of the truth's lumen and surface, mm."
    )
