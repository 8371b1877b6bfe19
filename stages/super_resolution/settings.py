"""Settings of training and of restoration."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

NetworkName = Literal["unet", "srcnn", "espcn", "lapsrn", "srresnet", "srgan", "swinir", "msd"]
"""Networks by name; a test holds it equal to the table in `networks`."""

LOSS_TERMS = ("l1", "mse", "charbonnier", "gradient", "ssim", "nll", "adversarial")
"""Terms of a loss; a test holds them equal to the table in `losses` and the adversarial one."""

PROFILES = ("box", "triangle", "gaussian")


def parse_loss(text: str) -> dict[str, float]:
    """Return the weight of each term of a loss such as ``charbonnier+0.1*ssim``.

    Raises
    ------
    ValueError
        If a term is unknown or given twice, or a weight is no number above zero.
    """
    terms: dict[str, float] = {}
    for part in text.replace(" ", "").split("+"):
        found = re.fullmatch(r"(?:(\d+(?:\.\d*)?(?:e-?\d+)?|\.\d+)\*)?([a-z0-9]+)", part)
        name = found[2] if found else None
        weight = float(found[1] or 1.0) if found else 0.0
        if name not in LOSS_TERMS or name in terms or weight <= 0:
            raise ValueError(
                f"loss term {part!r}: needed are terms of {', '.join(LOSS_TERMS)}, each once, "
                "joined by + and with a weight if wanted, such as charbonnier+0.1*ssim"
            )
        terms[name] = weight
    if set(terms) == {"adversarial"}:
        raise ValueError("loss 'adversarial' needs a second term that compares with the truth")
    return terms


class TrainingSettings(BaseModel):
    """Choose network, data sampling, loss and schedule of a training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: NetworkName = Field("unet", description="Network to train.")
    width: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Channels of the network's (finest) level; none given: its paper's, and 16 "
        "for the U-Net.",
    )
    depth: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Levels, blocks or layers of the network; none given: its paper's, and 4 for "
        "the U-Net.",
    )
    network_settings: tuple[str, ...] = Field(
        (),
        description="Further settings of the network, each NAME=VALUE, such as kernel=5 for "
        "srresnet or window=8 for swinir.",
    )
    factor: int = Field(
        3, ge=3, le=15, description="Thin slices per thick slice, odd (Liu 2024 used 3)."
    )
    context: int = Field(
        3, ge=1, le=15, description="Neighbouring thick slices that the network sees, odd."
    )
    view: Literal["axial", "upright"] = Field(
        "axial",
        description="What the network sees: axial (thick slices, of which it makes the thin ones) "
        "or upright (sagittal and coronal planes of the baseline, restored both ways and averaged; "
        "`context` counts neighbouring planes).",
    )
    stride: int | None = Field(
        None,
        ge=1,
        le=15,
        description="Thin slices between neighbouring thick ones, odd, at most the factor; none "
        "given: the factor (a clinical stack). 1: overlapping slices (de-blurring).",
    )
    profile: str = Field(
        "box",
        description="Slice-sensitivity profile that makes thick slices: box (the mean of the thin "
        "ones), triangle, gaussian, or a JSON file made by 'ct2flow triplets fit-profile', whose "
        "taps are taken as weights of neighbouring thin slices.",
    )
    consistent: bool | None = Field(
        None,
        description="Make restored slices agree with the measured ones: their mean under the "
        "profile is the thick slice. None given: for box at a stride of the factor alone.",
    )
    steps: int = Field(800, ge=1, le=10_000_000, description="Optimiser steps.")
    batch_size: int = Field(8, ge=1, le=4096, description="Patches per step.")
    patch: int = Field(128, ge=8, le=1024, description="Edge of a training patch, pixels.")
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=1.0,
        description="Peak learning rate of AdamW; none given: 4e-3 for msd, 2e-3 for the U-Net, "
        "1e-3 for srcnn and espcn, 5e-4 for lapsrn, srresnet and swinir, 1e-4 for srgan.",
    )
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
    loss: str = Field(
        "charbonnier",
        description="Loss between restored and true slices: l1, mse, charbonnier, gradient, ssim, "
        "nll (Gaussian: the network also predicts its variance) or adversarial, or a sum with "
        "weights such as charbonnier+0.1*ssim. srgan adds 0.001*adversarial (Ledig 2017).",
    )
    wall_weight: float = Field(
        1.0,
        ge=0,
        le=1000,
        description="Weight of pixels within two of an air-tissue edge, relative to the others.",
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
        0.5,
        ge=0,
        le=1,
        description="Share of patches centred on an air-tissue edge in the head, of the 95 % that "
        "are not centred just anywhere; the rest is centred in the body.",
    )
    sampling: Literal["uniform", "importance"] = Field(
        "uniform",
        description="How patches are drawn: uniform, or after a warm-up more often where the "
        "airway wall was restored worst (Quercia 2023; docs/data_efficient_training.md).",
    )
    importance_warmup_steps: int = Field(
        100,
        ge=1,
        description="Uniform steps after which the importance is measured, once (sampling "
        "importance).",
    )
    importance_candidates: int = Field(
        1000,
        ge=2,
        le=100_000,
        description="Patches whose importance is measured and that are drawn from afterwards.",
    )
    importance_uniform_share: float = Field(
        0.15, ge=0, le=1, description="Share of biased draws in which all candidates are alike."
    )
    noise_hu: float = Field(
        15.0, ge=0, le=200, description="Largest standard deviation of noise added to patches, HU."
    )
    shift_hu: float = Field(
        20.0, ge=0, le=200, description="Largest shift of the grey values of a patch, HU."
    )
    kernel_change: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Largest share of in-plane detail (what a Gaussian of one pixel removes) that "
        "is added to or taken from a patch: sharper and softer reconstruction kernels.",
    )
    shrink: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of patches in which the patient is shown up to 2.2 times smaller, "
        "slices and pixels averaged: passages are then as few slices wide as in a narrow nose.",
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
    keep_last: bool = Field(
        default=False,
        description="Also write last.safetensors, the averaged weights after the last step; "
        "weights.safetensors are those that were best in validation.",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of weights, patches and augmentation.")
    deterministic: bool = Field(
        default=False,
        description="Use only algorithms that give the same bits in every run, on a GPU too; "
        "slower there (docs/training.md).",
    )
    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="Arithmetic of the network; auto is bfloat16 where it is fast."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where to compute.")
    threads: int | None = Field(
        None, ge=1, le=1024, description="Processor threads; none given: the library's choice."
    )

    @field_validator("loss")
    @classmethod
    def _check_loss(cls, loss: str) -> str:
        parse_loss(loss)
        return loss

    @field_validator("profile")
    @classmethod
    def _check_profile(cls, profile: str) -> str:
        if profile not in PROFILES and not profile.endswith(".json"):
            raise ValueError(
                f"profile must be one of {', '.join(PROFILES)} or a .json file, not {profile!r}"
            )
        return profile

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.factor % 2 == 0 or self.context % 2 == 0:
            raise ValueError("factor and context must be odd")
        if self.stride is not None and (self.stride % 2 == 0 or self.stride > self.factor):
            raise ValueError(f"stride must be odd and at most the factor {self.factor}")
        if self.consistent and self.stride not in (None, self.factor):
            raise ValueError(
                "consistent needs a stride of the factor: overlapping slices leave nothing free"
            )
        if self.sampling == "importance" and self.importance_warmup_steps >= self.steps:
            raise ValueError(
                f"importance_warmup_steps must be fewer than the {self.steps} steps: nothing "
                "would be left to sample by importance"
            )
        if self.validation_interval % self.report_interval:
            raise ValueError("validation_interval must be a multiple of report_interval")
        if self.shrink and self.view == "upright":
            raise ValueError("shrink needs the axial view: leave it out with view upright")
        if self.pixel_spacing_min_mm > self.pixel_spacing_max_mm:
            raise ValueError("pixel_spacing_min_mm must not exceed pixel_spacing_max_mm")
        return self


class RestorationSettings(BaseModel):
    """Choose how a volume is restored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    factor: int = Field(
        3, ge=3, le=15, description="Thin slices per thick slice, odd; a network's own must agree."
    )
    spacing_mm: float | None = Field(
        None,
        ge=0.1,
        le=50,
        description="Wanted spacing of the restored slices, mm, any below that of the thick ones; "
        "thick slices then count at their true positions and with their thickness. None given: "
        "the factor divides the spacing, and slices are taken to touch.",
    )
    thickness_mm: float | None = Field(
        None,
        gt=0,
        le=100,
        description="Thickness of the thick slices, mm, with spacing_mm; none given: as the "
        "volume's record says (written by 'ct2flow ingest'), else their spacing.",
    )
    whole_hu: bool = Field(
        default=True,
        description="Round to whole HU: files are a third of the size, and the restored slices "
        "average to the measured one within 0.5 HU instead of exactly.",
    )
    consistent: bool | None = Field(
        None,
        description="Make restored slices agree with the measured ones under the model's slice "
        "profile; none given: as the model was trained.",
    )
    symmetries: int = Field(
        4,
        ge=1,
        le=8,
        description="Average over this many mirror images of each slice: 4 flips, 8 with the "
        "axes exchanged; the work is as many times. 1: the slice alone, in a quarter of the time.",
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

    @field_validator("symmetries")
    @classmethod
    def _check_symmetries(cls, symmetries: int) -> int:
        if symmetries not in (1, 4, 8):
            raise ValueError(f"symmetries must be 1, 4 or 8, not {symmetries}")
        return symmetries

    @model_validator(mode="after")
    def _check_thickness(self) -> Self:
        if self.thickness_mm is not None and self.spacing_mm is None:
            raise ValueError("thickness_mm needs spacing_mm, the wanted spacing")
        return self


class OnTheFlySettings(BaseModel):
    """Choose how a network is fitted to the thin slices of one patient's region."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pairs: Literal["auto", "measured", "simulated"] = Field(
        "auto",
        description="What the network learns from: the region's thin slices with the thick slices "
        "measured above them (they show the scanner's true profile), or with thick slices "
        "simulated from them. auto: measured where both agree, so that the patient lay still.",
    )
    steps: int = Field(200, ge=1, le=10_000_000, description="Optimiser steps.")
    learning_rate: float = Field(
        5e-5,
        gt=0,
        le=1.0,
        description="Peak learning rate of AdamW; ten times as much learns a small region by heart.",
    )
    batch_size: int = Field(8, ge=1, le=4096, description="Patches per step.")
    patch: int = Field(64, ge=8, le=1024, description="Edge of a training patch, pixels.")
    held_out: float = Field(
        0.2,
        gt=0,
        le=0.5,
        description="Share of the region's thick slices, at its end, that choose the weights and "
        "are never learnt from.",
    )
    validation_interval: int = Field(
        20, ge=1, description="Steps between looks at the held-out slices."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of patches and augmentation.")
    precision: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="Arithmetic of the network; auto is bfloat16 where it is fast."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where to compute.")
    threads: int | None = Field(
        None, ge=1, le=1024, description="Processor threads; none given: the library's choice."
    )
