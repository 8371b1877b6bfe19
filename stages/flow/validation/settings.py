"""Settings of the flow solver's validation."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Precision = Literal["float32", "float64"]


class ValidationSettings(BaseModel):
    """Choose which cases are computed, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: Literal["float32", "float64", "both"] = Field(
        "both", description="Floating-point format of the populations, or both in turn."
    )
    cases: str = Field(
        "all",
        description="Names of cases between commas, such as pipe-oblique,fda-nozzle; all is every case.",
    )
    quick: bool = Field(
        default=False,
        description="Only the coarse members of each case, and no FDA nozzle: a minute instead of half "
        "an hour.",
    )
    threads: int = Field(2, ge=1, le=1024, description="Processor threads.")

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Return the precisions in the order in which they are computed."""
        return ("float32", "float64") if self.precision == "both" else (self.precision,)
