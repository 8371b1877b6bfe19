"""The restoring model: a network, what it sees, and the constraint that its slices obey."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.core.errors import UsageError


@dataclass(frozen=True)
class Normalisation:
    """Map HU to the network's units: (HU - centre) / scale. A property of the training data."""

    centre_hu: float
    scale_hu: float


@dataclass(frozen=True)
class Layout:
    """State what a model sees and makes.

    Parameters
    ----------
    factor
        Thin slices per thick slice.
    context
        Neighbouring thick slices seen, odd; beyond the stack its outermost slice is repeated.
    profile
        Slice profile of the thick slices it was trained on.
    """

    factor: int
    context: int
    profile: str

    @property
    def in_channels(self) -> int:
        """Return the number of input channels: thick slices, then the histospline's thin ones."""
        return self.context + self.factor

    @property
    def is_consistent(self) -> bool:
        """Say whether restored slices are made to average to the thick slice."""
        return self.profile == "box"


@dataclass(frozen=True)
class Model:
    """Hold a network with everything needed to use it."""

    name: str
    network: nn.Module
    layout: Layout
    normalisation: Normalisation


def restore_slices(
    network: nn.Module,
    layout: Layout,
    inputs: Float[Tensor, "batch channel y x"],
) -> Float[Tensor, "batch z y x"]:
    """Restore the thin slices of one thick slice, in normalised units.

    Parameters
    ----------
    network
        Network that predicts the residual.
    layout
        What the channels are.
    inputs
        `context` thick slices, then the `factor` thin slices of the histospline.

    Notes
    -----
    restored = histospline + r - mean over z of r. The histospline averages to the thick slice
    exactly, hence so does the result: the mean residual is the part of r that would contradict
    the measurement (orthogonal projection on the slices that agree with a box profile).
    """
    residual = network(inputs).to(inputs.dtype)
    if layout.is_consistent:
        residual = residual - residual.mean(dim=1, keepdim=True)
    restored: Tensor = inputs[:, layout.context :] + residual
    return restored


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
