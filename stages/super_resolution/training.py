"""Train a network: one loop, resumable at every report."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from pipeline.core.errors import NumericalError
from pipeline.core.progress import Progress
from stages.super_resolution.checkpoint import CheckpointFolder
from stages.super_resolution.data import PatchSampler
from stages.super_resolution.losses import LOSSES
from stages.super_resolution.model import Model, restore_slices
from stages.super_resolution.settings import TrainingSettings
from stages.super_resolution.validation import ValidationCase, validate

_LOG = logging.getLogger("ct2flow.train")
_FINAL_RATE = 0.01
"""Share of the peak learning rate that the cosine ends at."""
_TILE = 768
_BATCHES_AHEAD = 2

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class TrainingResult:
    """Hold the trained model (averaged weights, best by validation) and how good it is."""

    model: Model
    step: int
    psnr_db: Mapping[str, float]


def train_model(
    model: Model,
    sampler: PatchSampler,
    cases: list[ValidationCase],
    settings: TrainingSettings,
    store: CheckpointFolder,
    *,
    precision: str,
    device: str,
) -> TrainingResult:
    """Train a model's network and return the best average of its weights.

    Parameters
    ----------
    model
        Model with initial weights.
    sampler
        Source of training patches.
    cases
        Validation cases; without any, the last weights are taken.
    settings
        Loss and schedule.
    store
        Where the state is kept; a state of the same training is resumed.
    precision
        ``bfloat16`` or ``float32``.
    device
        ``cpu`` or ``cuda``.

    Raises
    ------
    NumericalError
        If the loss is no longer finite.
    """
    fabric = Fabric(accelerator=device, devices=1, precision=_fabric_precision(precision))
    network = model.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(network).to(fabric.device)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    forward, stepper = fabric.setup(network, optimizer)
    modules = {"network": network, "average": average}
    facts = store.resume(modules, optimizer) or {"step": 0, "best_psnr_db": -math.inf}
    averaged = replace(model, network=average)
    start, losses = int(facts["step"]), []
    with Progress("train", settings.steps - start, "steps") as progress:
        for step, (inputs, true) in enumerate(batches(sampler, settings, start), start=start + 1):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, settings)
            network.train()
            restored = restore_slices(forward, model.layout, _place(inputs, fabric))
            loss = LOSSES[settings.loss](restored, true.to(fabric.device))
            optimizer.zero_grad()
            fabric.backward(loss)
            fabric.clip_gradients(
                forward, stepper, max_norm=settings.gradient_norm_max, error_if_nonfinite=False
            )
            stepper.step()
            update_average(average, network, min(settings.average_decay, step / (step + 10)))
            losses.append(loss.detach())
            if step % settings.report_interval == 0 or step == settings.steps:
                line = _report(step, losses, settings)
                facts["step"], losses = step, []
                if step % settings.validation_interval == 0 or step == settings.steps:
                    line |= _judge(
                        averaged, cases, facts, store, precision=precision, device=device
                    )
                store.save(modules, optimizer, facts, line)
            progress.advance(loss=float(loss.detach()))
    store.load_best(average)
    psnr = validate(averaged, cases, tile=_TILE, precision=precision, device=device)
    return TrainingResult(averaged, int(facts["best_step"]), psnr)


def batches(sampler: PatchSampler, settings: TrainingSettings, start: int) -> Iterator[Batch]:
    """Yield the batches after a step, made ahead in a thread.

    Each step has a generator of its own, seeded by (seed, step): a resumed training draws what
    the uninterrupted one would have drawn.
    """

    def make(step: int) -> Batch:
        return sampler.batch(np.random.default_rng([settings.seed, step]))

    with ThreadPoolExecutor(max_workers=1) as executor:
        waiting: list[Future[Batch]] = []
        for step in range(start, settings.steps):
            waiting.append(executor.submit(make, step))
            if len(waiting) > _BATCHES_AHEAD:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """Return the learning rate of a step (from 1): linear warm-up, then a half cosine.

    References
    ----------
    Loshchilov, Hutter, ICLR (2017), arXiv:1608.03983.
    """
    warmup = min(settings.warmup_steps, settings.steps // 10)
    if step <= warmup:
        return settings.learning_rate * step / warmup
    done = (step - warmup) / max(settings.steps - warmup, 1)
    share = _FINAL_RATE + (1.0 - _FINAL_RATE) * 0.5 * (1.0 + math.cos(math.pi * done))
    return settings.learning_rate * share


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move an average of weights and batch statistics towards the network's, in place."""
    pairs = zip(average.state_dict().values(), network.state_dict().values(), strict=True)
    for old, new in pairs:
        if old.is_floating_point():
            old.lerp_(new, 1.0 - decay)
        else:
            old.copy_(new)


def _place(inputs: Tensor, fabric: Fabric) -> Tensor:
    return inputs.to(fabric.device).contiguous(memory_format=torch.channels_last)


def _report(step: int, losses: list[Tensor], settings: TrainingSettings) -> dict[str, Any]:
    mean = float(torch.stack(losses).double().mean())
    if not math.isfinite(mean):
        raise NumericalError(
            f"The training loss is no longer finite at step {step}; lower --learning-rate "
            f"(found {settings.learning_rate:g}) or use --precision float32.",
            step=step,
        )
    return {"step": step, "loss": mean, "learning_rate": learning_rate(step, settings)}


def _judge(
    averaged: Model,
    cases: list[ValidationCase],
    facts: dict[str, Any],
    store: CheckpointFolder,
    *,
    precision: str,
    device: str,
) -> dict[str, Any]:
    """Validate, keep the weights if they are the best so far, and return what was found."""
    found = dict(validate(averaged, cases, tile=_TILE, precision=precision, device=device))
    mean = float(np.mean(list(found.values()))) if found else math.inf
    if mean >= facts["best_psnr_db"]:
        store.save_best(averaged.network)
        facts |= {"best_psnr_db": mean, "best_step": facts["step"]}
    if not found:
        return {}
    baseline = float(np.mean([case.histospline_psnr_db for case in cases]))
    _LOG.info("validation: %.2f dB, histospline %.2f dB", mean, baseline)
    return {"psnr_db": found, "mean_psnr_db": mean, "histospline_mean_psnr_db": baseline}


def _fabric_precision(precision: str) -> Any:
    return "bf16-mixed" if precision == "bfloat16" else "32-true"
