"""Settings of a comparison of networks."""

from __future__ import annotations

from typing import get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from stages.super_resolution.settings import NetworkName

NETWORK_NAMES: tuple[str, ...] = get_args(NetworkName)


class NetworkComparisonSettings(BaseModel):
    """Choose which networks are trained, how often, for how long, and where they are judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    networks: tuple[NetworkName, ...] = Field(
        (), description="Networks to train; none given: every one there is."
    )
    seeds: int = Field(
        2,
        ge=2,
        le=20,
        description="Trainings of each network, from the seed of the training settings on; two at "
        "least, as their spread says which differences are ties.",
    )
    seconds: float | None = Field(
        None,
        gt=0,
        le=1e7,
        description="Equal time: processor seconds of each training (seconds on a GPU), turned "
        "into steps once per network and recorded; validation is not counted. None given: equal "
        "samples, the same steps for every network.",
    )
    models: tuple[str, ...] = Field(
        ("shipped",),
        description="Trained models judged beside the networks: 'shipped' or MODEL_DIRs. One that "
        "knows a test patient is left out.",
    )
    margin_mm: float | None = Field(
        None,
        ge=0,
        le=200,
        description="Test volumes are cut to the airway and this much around it, mm, before thick "
        "slices are made of them; none given: whole volumes.",
    )
    phases: int = Field(
        1,
        ge=1,
        le=15,
        description="Positions of the thick slices at which every test case is judged, one thin "
        "slice apart, at most the factor: where slices happen to lie moves a surface more than "
        "some methods differ. May be raised later.",
    )
    reports: int = Field(
        20, ge=1, le=1000, description="Points of a learning curve, and states for resuming."
    )
    validations: int = Field(
        5, ge=1, le=1000, description="Validations of each training, evenly spaced."
    )
    keep_volumes: bool = Field(
        default=False, description="Keep the restored volumes, one per method and test case."
    )

    @field_validator("networks", "models")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names):
            raise ValueError(f"each name once, not {', '.join(names)}")
        return names

    @property
    def chosen(self) -> tuple[str, ...]:
        """Return the networks that are trained."""
        return self.networks or NETWORK_NAMES
