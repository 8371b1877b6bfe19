"""Importance of training patches, measured once: how badly the airway wall in them is restored.

After a warm-up the network restores candidate patches; those whose walls it restores worst are
drawn more often in the rest of the training.

P(i) = (1 - e) s(i) / sum(s) + e / N, with s(i) the mean absolute error of patch i within two pixels
of its air-tissue edges (0 where there are none) and e the share of uniform draws. To measure once,
after a warm-up and without a restart, is Quercia et al.'s proposal; they classify and take the
predicted probabilities. The measure of a restored patch and the uniform share are this project's.

References
----------
Quercia et al., SGD Biased towards Early Important Samples for Efficient Training, IEEE ICDM (2023)
1289-1294.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.core.progress import track
from stages.super_resolution.losses import wall_weights
from stages.super_resolution.model import Model, normalise, predict_slices
from stages.super_resolution.patches import BiasedCentres, PatchCentre, PatchSampler
from stages.super_resolution.settings import TrainingSettings
from stages.super_resolution.training_volumes import EDGE_HU

_CENTRES, _PATCHES = 1, 2
"""Third words of the seeds: a step's generator has two, so that none is used twice."""


def candidate_centres(sampler: PatchSampler) -> list[PatchCentre]:
    """Draw the candidates as an unbiased training draws its patches; the seed decides."""
    settings = sampler.settings
    rng = np.random.default_rng([settings.seed, 0, _CENTRES])
    return [sampler.draw_centre(rng) for _ in range(settings.importance_candidates)]


def measure_importance(
    model: Model, sampler: PatchSampler, *, precision: str, device: str
) -> list[float]:
    """Return the mean absolute error at the walls of each candidate, HU; 0 without any wall.

    Parameters
    ----------
    model
        Model with the weights after the warm-up, on the device; it is put into evaluation mode.
    sampler
        Unbiased source of patches; noise and other augmentations of grey values are left out.
    precision
        ``bfloat16`` or ``float32``.
    device
        Where the network is.
    """
    model.network.eval()
    found: list[float] = []
    batches = _candidate_batches(sampler.without_noise())
    total = -(-sampler.settings.importance_candidates // sampler.settings.batch_size)
    for inputs, true in track(batches, "measure importance", total=total):
        with (
            torch.inference_mode(),
            torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"),
        ):
            placed = inputs.to(device).contiguous(memory_format=torch.channels_last)
            restored = predict_slices(model.network, model.layout, placed).mean
        found += _wall_errors(restored.float().cpu(), true, model).tolist()
    return found


def draw_probabilities(
    importance: Sequence[float], uniform_share: float
) -> Float[np.ndarray, " centre"]:
    """Return the probability of each candidate to be drawn; all alike if none has any error.

    Parameters
    ----------
    importance
        Importance of each candidate, 0 or more.
    uniform_share
        Share of draws in which all are alike, 0 to 1.
    """
    scores = np.asarray(importance, dtype=np.float64)
    total = scores.sum()
    if total == 0:
        return np.full(len(scores), 1.0 / len(scores))
    chances: Float[np.ndarray, " centre"] = (
        1.0 - uniform_share
    ) * scores / total + uniform_share / len(scores)
    return chances


def biased_sampler(sampler: PatchSampler, importance: Sequence[float]) -> PatchSampler:
    """Return a sampler that draws the candidates by their importance."""
    share = sampler.settings.importance_uniform_share
    cumulative = np.cumsum(draw_probabilities(importance, share))
    return replace(sampler, bias=BiasedCentres(candidate_centres(sampler), cumulative))


def summarise_importance(
    importance: Sequence[float], settings: TrainingSettings
) -> dict[str, float]:
    """Return how far the draws are from uniform.

    The effective share is 1 / (N sum P^2), the share of candidates that as many uniform draws
    would spread over (Kish 1965): 1 is uniform.
    """
    chances = draw_probabilities(importance, settings.importance_uniform_share)
    scores = np.asarray(importance)
    return {
        "measured_after_step": settings.importance_warmup_steps,
        "candidates": len(chances),
        "share_with_walls": round(float((scores > 0).mean()), 4),
        "mean_wall_error_hu": round(float(scores[scores > 0].mean()) if scores.any() else 0.0, 3),
        "effective_share": round(float(1.0 / (len(chances) * (chances**2).sum())), 4),
    }


def _candidate_batches(sampler: PatchSampler) -> Iterator[tuple[Tensor, Tensor]]:
    centres, seed = candidate_centres(sampler), sampler.settings.seed
    size = sampler.settings.batch_size
    for start in range(0, len(centres), size):
        chosen = range(start, min(start + size, len(centres)))
        rngs = [np.random.default_rng([seed, index, _PATCHES]) for index in chosen]
        yield sampler.patches_at([centres[index] for index in chosen], rngs)


def _wall_errors(
    restored: Float[Tensor, "batch z y x"], true: Float[Tensor, "batch z y x"], model: Model
) -> Float[Tensor, " batch"]:
    edge = float(normalise(torch.tensor(EDGE_HU), model.normalisation))
    band = wall_weights(true, edge, 2.0) - 1.0
    error = ((restored - true).abs() * band).double().sum(dim=(1, 2, 3))
    pixels = band.double().sum(dim=(1, 2, 3))
    return error / pixels.clamp(min=1.0) * model.normalisation.scale_hu
