"""Validation on whole slices: PSNR of the network beside the histospline's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.core.volume import Volume
from stages.super_resolution.degradation import degrade, profile_taps
from stages.super_resolution.model import Model
from stages.super_resolution.restoration import restore_images, slice_inputs

_WINDOW_HU = (-1024.0, 3071.0)
PSNR_RANGE_HU = 4095.0
"""PSNR is over HU clipped to [-1024, 3071]: the range of a 12-bit scanner."""


@dataclass(frozen=True)
class ValidationCase:
    """Hold the chosen slices of a case, HU: what the network sees, and the truth."""

    case: str
    inputs: Float[Tensor, "slice channel y x"]
    true: Float[Tensor, "slice z y x"]
    histospline_psnr_db: float


def prepare_validation(case: str, volume: Volume, model: Model, *, slices: int) -> ValidationCase:
    """Degrade a thin-slice volume and choose evenly spaced thick slices of it."""
    layout = model.layout
    taps = profile_taps(layout.profile, layout.factor)
    thick = degrade(volume.values, taps, layout.factor)
    chosen = np.unique(np.linspace(0, len(thick) - 1, slices + 2).round().astype(int)[1:-1])
    inputs = np.stack(list(slice_inputs(thick, chosen.tolist(), model)))
    thin = volume.values[: len(thick) * layout.factor]
    true = thin.reshape(len(thick), layout.factor, *thin.shape[1:])[chosen].astype(np.float32)
    error = _squared_error(torch.from_numpy(inputs[:, layout.context :]), torch.from_numpy(true))
    return ValidationCase(
        case, torch.from_numpy(inputs), torch.from_numpy(true), psnr_db(error / true.size)
    )


def validate(
    model: Model, cases: list[ValidationCase], *, tile: int, precision: str, device: str
) -> Mapping[str, float]:
    """Return the PSNR of each case, dB, error pooled over its slices.

    Parameters
    ----------
    model
        Model to judge; it is put into evaluation mode.
    cases
        Slices to restore.
    tile
        In-plane edge above which slices are cut into tiles.
    precision
        ``bfloat16`` or ``float32``.
    device
        Where the network is.
    """
    model.network.eval()
    found = {}
    for case in cases:
        error = 0.0
        for inputs, true in zip(case.inputs, case.true, strict=True):
            batch = inputs[None].to(device)
            restored = restore_images(model, batch, tile=tile, precision=precision)
            error += _squared_error(restored[0].cpu(), true)
        found[case.case] = psnr_db(error / case.true.numel())
    return found


def psnr_db(mean_squared_error_hu2: float) -> float:
    """Return the peak signal-to-noise ratio over a range of 4095 HU, dB; at most 200."""
    floor = (PSNR_RANGE_HU * 1e-10) ** 2
    return float(10.0 * np.log10(PSNR_RANGE_HU**2 / max(mean_squared_error_hu2, floor)))


def _squared_error(restored: Tensor, true: Tensor) -> float:
    difference = restored.clamp(*_WINDOW_HU).double() - true.clamp(*_WINDOW_HU).double()
    return float(difference.square().sum())
