"""Settings of the de-identification."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class DeidentifySettings(BaseModel):
    """Say which options of the confidentiality profile apply (PS3.15, annex E.3)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep_dates: bool = Field(
        default=False,
        description="Keep dates as they are, instead of shifting each patient's by a secret whole "
        "number of days.",
    )
    largest_shift_days: int = Field(
        default=3650,
        ge=1,
        le=36500,
        description="Dates move back by 1 to this many days, the same number for all of a patient.",
    )
    keep_characteristics: bool = Field(
        default=False,
        description="Keep sex and age; ages above 89 years become 90 years.",
    )
    burnt_in: Literal["keep", "leave-out"] = Field(
        default="keep",
        description="What to do with images whose header says that text is burnt into the pixels; "
        "kept ones are counted in a warning.",
    )
    max_unpacked_gib: float = Field(
        default=8.0, gt=0, le=1024, description="Largest unpacked size of a zip file, GiB."
    )


class FaceSettings(BaseModel):
    """Say how deep the face is cut away and what is left untouched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protect_airway_mm: float = Field(
        default=6.0,
        ge=2.0,
        le=20.0,
        description="Every voxel nearer to the airway's lumen keeps its value, mm. Mucosa, "
        "septum and the wings of the nose are 1 to 5 mm thick.",
    )
    protect_cavity_mm: float = Field(
        default=3.0,
        ge=1.0,
        le=20.0,
        description="The same for sinuses, mouth and other air inside the head, mm, so that the cut "
        "opens none of them.",
    )
    depth_mm: float = Field(
        default=10.0,
        ge=2.0,
        le=30.0,
        description="Depth of the cut below a smooth surface that lies behind the skin, mm.",
    )
    roughness_mm: float = Field(
        default=4.0,
        ge=0.0,
        le=15.0,
        description="Largest random addition to the depth, mm, smooth over the face, so that the "
        "cut surface is no offset of the face.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the random addition.")
    isolevel_hu: float = Field(
        default=-400.0, ge=-900.0, le=-100.0, description="What is below is air, HU."
    )
