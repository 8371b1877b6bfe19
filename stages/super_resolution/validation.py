"""Validation on whole slices: PSNR of the network beside the histospline's.

Over all pixels, and within two pixels of the air-tissue edges inside the body, where the airway wall
is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from pipeline.core.volume import Volume
from stages.super_resolution.baselines import apply_operator
from stages.super_resolution.channels import plane_inputs
from stages.super_resolution.consistency import baseline_operator
from stages.super_resolution.degradation import degrade
from stages.super_resolution.layout import Layout
from stages.super_resolution.model import Model
from stages.super_resolution.restoration import Arithmetic, restore_images, slice_inputs
from stages.super_resolution.training_volumes import EDGE_HU

_WINDOW_HU = (-1024.0, 3071.0)
PSNR_RANGE_HU = 4095.0
"""PSNR is over HU clipped to [-1024, 3071]: the range of a 12-bit scanner."""
_BAND = 2
"""Half-width of the band at the walls, pixels."""


@dataclass(frozen=True)
class Score:
    """Say how well slices are restored; a case without any airway wall has no number for it."""

    psnr_db: float
    wall_psnr_db: float | None


@dataclass(frozen=True)
class ValidationCase:
    """Hold the chosen slices of a case, HU: what the network sees, the truth, and the walls."""

    case: str
    inputs: Float[Tensor, "slice channel y x"]
    true: Float[Tensor, "slice z y x"]
    walls: Bool[Tensor, "slice z y x"]
    histospline: Score


def prepare_validation(case: str, volume: Volume, model: Model, *, slices: int) -> ValidationCase:
    """Degrade a thin-slice volume and choose evenly spaced thick slices, or coronal planes."""
    layout = model.layout
    thick = degrade(volume.values, layout.profile_taps, layout.slices)
    thin = volume.values[: len(thick) * layout.slices]
    if layout.is_upright:
        chosen = _evenly(thin.shape[1], slices)
        base = apply_operator(baseline_operator(len(thick), layout), thick)
        inputs = np.stack(list(plane_inputs(base, 1, chosen, layout)))
        true = thin[:, None, chosen].transpose(2, 1, 0, 3).astype(np.float32)
    else:
        chosen = _evenly(len(thick), slices)
        inputs = np.stack(list(slice_inputs(thick, chosen, model)))
        true = thin.reshape(len(thick), layout.slices, *thin.shape[1:])[chosen].astype(np.float32)
    return validation_case(case, inputs, true, layout)


def validation_case(
    case: str,
    inputs: Float[np.ndarray, "slice channel y x"],
    true: Float[np.ndarray, "slice z y x"],
    layout: Layout,
) -> ValidationCase:
    """Mark the walls of true slices and score the baseline among the inputs.

    Parameters
    ----------
    case
        Name of the case.
    inputs
        What the network sees, HU.
    true
        True thin slices, HU.
    layout
        What the channels are.
    """
    truth, walls = torch.from_numpy(true), torch.from_numpy(wall_band(true))
    baseline = torch.from_numpy(inputs[:, layout.base])
    score = _score([_squared_errors(baseline, truth, walls)], walls)
    return ValidationCase(case, torch.from_numpy(inputs), truth, walls, score)


def wall_band(
    true: Float[np.ndarray, "slice z y x"],
) -> Bool[np.ndarray, "slice z y x"]:
    """Mark pixels within two of an air-tissue edge in their image, inside the body.

    The skin is left out: the mask of the body is eroded by as much.
    """
    band = np.zeros(true.shape, dtype=bool)
    square = np.ones((2 * _BAND + 1, 2 * _BAND + 1), dtype=bool)
    for image, marked in zip(
        true.reshape(-1, *true.shape[2:]), band.reshape(-1, *true.shape[2:]), strict=True
    ):
        tissue = image > EDGE_HU
        inside = ndimage.binary_erosion(ndimage.binary_fill_holes(tissue), square)
        near = ndimage.binary_dilation(tissue, square) & ndimage.binary_dilation(~tissue, square)
        marked[...] = near & inside
    return band


def _evenly(count: int, wanted: int) -> list[int]:
    chosen: list[int] = (
        np.unique(np.linspace(0, count - 1, wanted + 2).round()[1:-1]).astype(int).tolist()
    )
    return chosen


def validate(
    model: Model, cases: list[ValidationCase], *, tile: int, precision: str, device: str
) -> Mapping[str, Score]:
    """Return the scores of each case, errors pooled over its slices.

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
        errors = []
        for inputs, true, walls in zip(case.inputs, case.true, case.walls, strict=True):
            batch = inputs[None].to(device)
            restored, _ = restore_images(model, batch, Arithmetic(tile, precision))
            errors.append(_squared_errors(restored[0].cpu(), true, walls))
        found[case.case] = _score(errors, case.walls)
    return found


def psnr_db(mean_squared_error_hu2: float) -> float:
    """Return the peak signal-to-noise ratio over a range of 4095 HU, dB; at most 200."""
    floor = (PSNR_RANGE_HU * 1e-10) ** 2
    return float(10.0 * np.log10(PSNR_RANGE_HU**2 / max(mean_squared_error_hu2, floor)))


def _squared_errors(restored: Tensor, true: Tensor, walls: Tensor) -> tuple[float, float]:
    """Return the sums of squared errors over all pixels and over the walls, HU^2."""
    difference = restored.clamp(*_WINDOW_HU).double() - true.clamp(*_WINDOW_HU).double()
    squared = difference.square()
    return float(squared.sum()), float(squared[walls].sum())


def _score(errors: Sequence[tuple[float, float]], walls: Bool[Tensor, "slice z y x"]) -> Score:
    everywhere, at_walls = map(sum, zip(*errors, strict=True))
    pixels = int(walls.sum())
    return Score(
        psnr_db(everywhere / walls.numel()), psnr_db(at_walls / pixels) if pixels else None
    )
