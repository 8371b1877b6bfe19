"""The restoring model: a network, what it sees, and the constraint that its slices obey."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.core.errors import UsageError
from stages.super_resolution.consistency import own_block
from stages.super_resolution.layout import Layout
from stages.super_resolution.networks.interface import ResidualNetwork

_LOG_VARIANCE = -4.6
"""Logarithm of the variance before training: a tenth of the normalised unit, about 40 HU."""
_LOG_VARIANCE_GAIN = 10.0
"""The logarithm ranges over ten where residuals range over one: without a gain it learns late."""
_LOG_VARIANCES = (-14.0, 6.0)
"""Bounds that keep the likelihood finite: 0.001 to 20 normalised units."""


@dataclass(frozen=True)
class Normalisation:
    """Map HU to the network's units: (HU - centre) / scale. A property of the training data."""

    centre_hu: float
    scale_hu: float


@dataclass(frozen=True)
class Model:
    """Hold a network with everything needed to use it."""

    name: str
    network: ResidualNetwork
    layout: Layout
    normalisation: Normalisation


@dataclass(frozen=True)
class Prediction:
    """Hold restored thin slices and, where predicted, the logarithm of their variance."""

    mean: Float[Tensor, "batch z y x"]
    log_variance: Float[Tensor, "batch z y x"] | None


def predict_slices(
    network: nn.Module,
    layout: Layout,
    inputs: Float[Tensor, "batch channel y x"],
    *,
    consistent: bool | None = None,
) -> Prediction:
    """Restore the thin slices of one thick slice, in normalised units.

    Parameters
    ----------
    network
        Network that predicts the residual.
    layout
        What the channels are.
    inputs
        `context` thick slices, then the baseline's thin slices.
    consistent
        Whether the part of the residual that contradicts the thick slice is removed; None: as the
        layout says.

    Notes
    -----
    restored = baseline + r - M r, with M the block of A+ A that belongs to the slice (see
    `consistency`). The baseline agrees with the thick slice, hence so does the result wherever the
    profile is no wider than the slice; for the box M r is the mean of r over z. For wider profiles
    this is what one slice can do for itself, used in training; a restored volume is projected as a
    whole instead.
    """
    found = network(inputs).to(inputs.dtype)
    residual = found[:, : layout.images]
    # An upright plane has its slices in the rows: a restored volume is projected as a whole.
    wanted = layout.is_consistent if consistent is None else consistent
    if wanted and not layout.is_upright:
        residual = residual - _contradiction(residual, layout)
    log_variance = None
    if layout.predicts_variance:
        head = _LOG_VARIANCE + _LOG_VARIANCE_GAIN * found[:, layout.images :]
        log_variance = head.clamp(*_LOG_VARIANCES)
    return Prediction(inputs[:, layout.base] + residual, log_variance)


def restore_slices(
    network: nn.Module, layout: Layout, inputs: Float[Tensor, "batch channel y x"]
) -> Float[Tensor, "batch z y x"]:
    """Return the mean of `predict_slices`."""
    return predict_slices(network, layout, inputs).mean


def _contradiction(
    residual: Float[Tensor, "batch z y x"], layout: Layout
) -> Float[Tensor, "batch #z y x"]:
    if layout.is_compact_box:
        return residual.mean(dim=1, keepdim=True)
    block = torch.as_tensor(own_block(layout), dtype=residual.dtype, device=residual.device)
    return torch.einsum("ij,bjyx->biyx", block, residual)


def normalise(values_hu: Tensor, normalisation: Normalisation) -> Tensor:
    """Map HU to the network's units."""
    return (values_hu - normalisation.centre_hu) / normalisation.scale_hu


def denormalise(values: Tensor, normalisation: Normalisation) -> Tensor:
    """Map the network's units to HU."""
    return values * normalisation.scale_hu + normalisation.centre_hu


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def has_fast_bfloat16(device: str) -> bool:
    """Say whether the device multiplies bfloat16 in hardware; elsewhere float32 is faster."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))


def chosen_device(device: str) -> str:
    """Turn ``auto`` into the device that is there.

    Raises
    ------
    UsageError
        If CUDA is asked for and not there.
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UsageError("--device cuda: no CUDA device is usable here; give --device cpu.")
    if device != "auto":
        return device
    return "cuda" if available else "cpu"


def chosen_precision(precision: str, device: str) -> str:
    """Turn ``auto`` into bfloat16 where it is fast, else float32."""
    if precision != "auto":
        return precision
    return "bfloat16" if has_fast_bfloat16(device) else "float32"
