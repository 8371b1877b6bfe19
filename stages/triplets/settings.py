"""Settings of the triplets stage."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

PROFILES = ("box", "triangle", "gaussian")


class TripletsSettings(BaseModel):
    """Choose how thick slices are made of thin ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    factor: int = Field(
        default=3,
        ge=3,
        le=31,
        description="Width of the slice profile in thin slices (full width at half maximum), odd; "
        "3 is the reference study's (Liu 2024).",
    )
    profile: str = Field(
        default="box",
        description="Slice-sensitivity profile: box (mean), triangle, gaussian, or a JSON file "
        'with fitted taps, {"format": 1, "taps": [...], "spacing_mm": ...}.',
    )
    stride: int = Field(
        default=3,
        ge=1,
        le=31,
        description="Thin slices between neighbouring thick ones, odd, at most the factor: the "
        "factor for a clinical stack, 1 for overlapping slices (de-blurring).",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.factor % 2 == 0:
            raise ValueError(f"factor must be odd (3, 5, 7, ...), not {self.factor}")
        if self.stride % 2 == 0 or self.stride > self.factor:
            raise ValueError(
                f"stride must be odd and at most the factor {self.factor}, not {self.stride}"
            )
        if self.profile not in PROFILES and not self.profile.endswith(".json"):
            raise ValueError(
                f"profile must be one of {', '.join(PROFILES)} or a .json file, "
                f"not {self.profile!r}"
            )
        return self


class ProfileFitSettings(BaseModel):
    """Choose how a slice profile is estimated from two series of one scan."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    thickness_mm: float | None = Field(
        default=None,
        gt=0,
        le=50,
        description="Nominal width of the thick slices, mm; without it the slice thickness of "
        "the thick series' record, else its spacing.",
    )
