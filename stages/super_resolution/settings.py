"""Settings of training and of restoration."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

NetworkName = Literal["unet"]
"""Networks by name; a test holds it equal to the table in `networks`."""


class TrainingSettings(BaseModel):
    """Choose network, data sampling, loss and schedule of a training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: NetworkName = Field("unet", description="Network to train.")
    width: int = Field(16, ge=1, le=512, description="Channels of the network's finest level.")
    depth: int = Field(4, ge=1, le=6, description="Levels of the network.")
    factor: int = Field(
        3, ge=3, le=15, description="Thin slices per thick slice, odd (Liu 2024 used 3)."
    )
    context: int = Field(
        3, ge=1, le=15, description="Neighbouring thick slices that the network sees, odd."
    )
    profile: Literal["box", "triangle", "gaussian"] = Field(
        "box",
        description="Slice-sensitivity profile that makes thick slices; box is the mean of the "
        "thin ones. Restored slices are made to average to the thick one for box alone.",
    )
    steps: int = Field(800, ge=1, le=10_000_000, description="Optimiser steps.")
    batch_size: int = Field(8, ge=1, le=4096, description="Patches per step.")
    patch: int = Field(128, ge=8, le=1024, description="Edge of a training patch, pixels.")
    learning_rate: float = Field(2e-3, gt=0, le=1.0, description="Peak learning rate of AdamW.")
    warmup_steps: int = Field(
        100, ge=0, description="Steps of linear warm-up, at most a tenth of all steps."
    )
    weight_decay: float = Field(
        1e-4, ge=0, le=1.0, description="Decoupled weight decay (arXiv:1711.05101)."
    )
    gradient_norm_max: float = Field(
        1.0, gt=0, description="Gradients are scaled down to this norm."
    )
    average_decay: float = Field(
        0.995, ge=0, lt=1, description="Decay per step of the running average of the weights."
    )
    loss: Literal["l1", "mse", "charbonnier"] = Field(
        "charbonnier", description="Loss between restored and true slices."
    )
    pixel_spacing_min_mm: float = Field(
        0.4,
        gt=0,
        le=10,
        description="Smallest in-plane spacing that patches are resampled to, mm.",
    )
    pixel_spacing_max_mm: float = Field(
        1.0, gt=0, le=10, description="Largest in-plane spacing that patches are resampled to, mm."
    )
    edge_fraction: float = Field(
        0.5, ge=0, le=1, description="Share of patches centred on an air-tissue edge in the head."
    )
    noise_hu: float = Field(
        15.0, ge=0, le=200, description="Largest standard deviation of noise added to patches, HU."
    )
    shift_hu: float = Field(
        20.0, ge=0, le=200, description="Largest shift of the grey values of a patch, HU."
    )
    all_axes: bool = Field(
        default=True,
        description="Also take an in-plane axis as the through-plane one where its spacing is "
        "within a quarter of the slice spacing.",
    )
    report_interval: int = Field(
        50, ge=1, description="Steps between lines of metrics.jsonl and states for resuming."
    )
    validation_interval: int = Field(
        200, ge=1, description="Steps between validations; a multiple of report_interval."
    )
    validation_slices: int = Field(
        12, ge=1, le=10_000, description="Whole thick slices per validation case, evenly spaced."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of weights, patches and augmentation.")
    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="Arithmetic of the network; auto is bfloat16 where it is fast."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where to compute.")
    threads: int | None = Field(
        None, ge=1, le=1024, description="Processor threads; none given: the library's choice."
    )

    @model_validator(mode="after")
    def _check_together(self) -> TrainingSettings:
        if self.factor % 2 == 0 or self.context % 2 == 0:
            raise ValueError("factor and context must be odd")
        if self.validation_interval % self.report_interval:
            raise ValueError("validation_interval must be a multiple of report_interval")
        if self.pixel_spacing_min_mm > self.pixel_spacing_max_mm:
            raise ValueError("pixel_spacing_min_mm must not exceed pixel_spacing_max_mm")
        return self


class RestorationSettings(BaseModel):
    """Choose how a volume is restored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    factor: int = Field(
        3, ge=3, le=15, description="Thin slices per thick slice, odd; a network's own must agree."
    )
    whole_hu: bool = Field(
        default=True,
        description="Round to whole HU: files are a third of the size, and the restored slices "
        "average to the measured one within 0.5 HU instead of exactly.",
    )
    tile: int = Field(
        768, ge=64, le=16384, description="In-plane edge above which slices are cut into tiles."
    )
    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="Arithmetic of the network; auto is bfloat16 where it is fast."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where to compute.")
    threads: int | None = Field(
        None, ge=1, le=1024, description="Processor threads; none given: the library's choice."
    )
