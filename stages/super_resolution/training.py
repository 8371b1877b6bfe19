"""Train a network: one loop, resumable at every report."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from pipeline.core.errors import NumericalError
from pipeline.core.progress import Progress
from stages.super_resolution.checkpoint import CheckpointFolder
from stages.super_resolution.importance import biased_sampler, measure_importance
from stages.super_resolution.losses import ADVERSARIAL
from stages.super_resolution.model import Model, Normalisation
from stages.super_resolution.optimisation import (
    Learner,
    Losses,
    Objective,
    Step,
    adversarial_step,
    make_learner,
    plain_step,
)
from stages.super_resolution.patches import PatchSampler
from stages.super_resolution.processes import leave_if_abandoned, mean_over, own_part
from stages.super_resolution.schedule import rate_share, update_average
from stages.super_resolution.settings import TrainingSettings, parse_loss
from stages.super_resolution.training_volumes import EDGE_HU
from stages.super_resolution.validation import Score, ValidationCase, validate

_LOG = logging.getLogger("ct2flow.train")
_TILE = 768
_BATCHES_AHEAD = 2

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class TrainingResult:
    """Hold the trained model (averaged weights, best by validation) and how good it is."""

    model: Model
    step: int
    scores: Mapping[str, Score]
    importance: Sequence[float] | None = None
    """Importance of the candidate patches, HU, where sampling was biased by it."""


@dataclass(frozen=True)
class Judgement:
    """Say how the averaged model is judged: on which cases, in which arithmetic, and where."""

    model: Model
    cases: list[ValidationCase]
    precision: str
    device: str

    def scores(self) -> Mapping[str, Score]:
        """Return the scores of each case on whole slices."""
        return validate(
            self.model, self.cases, tile=_TILE, precision=self.precision, device=self.device
        )


def train_model(
    model: Model,
    sampler: PatchSampler,
    cases: list[ValidationCase],
    settings: TrainingSettings,
    store: CheckpointFolder,
    *,
    precision: str,
    fabric: Fabric,
    discriminator: nn.Module | None = None,
) -> TrainingResult:
    """Train a model's network and return the best average of its weights.

    Of several processes each takes its part of every batch; the leader judges and keeps the state,
    and what it returns is complete.

    Parameters
    ----------
    model
        Model with initial weights.
    sampler
        Source of training patches.
    cases
        Validation cases; without any, the last weights are taken.
    settings
        Loss and schedule, complete.
    store
        Where the state is kept; a state of the same training is resumed.
    precision
        ``bfloat16`` or ``float32``.
    fabric
        Device, arithmetic and processes, connected.
    discriminator
        Opponent of an adversarial loss, with initial weights; needed for that loss alone.

    Raises
    ------
    NumericalError
        If the loss is no longer finite.
    """
    learners = _make_learners(fabric, model, discriminator, settings)
    average = copy.deepcopy(model.network)
    modules = {name: learner.module for name, learner in learners.items()} | {"average": average}
    optimizers = {name: learner.optimizer for name, learner in learners.items()}
    device = fabric.device.type
    judgement = Judgement(replace(model, network=average), cases, precision, device)
    facts = _resume(fabric, store, modules, optimizers)
    make_step = _step_of(learners, model, settings)
    stream = scheduled_batches(
        sampler,
        settings,
        facts,
        lambda: _by_leader(
            fabric,
            lambda: measure_importance(
                judgement.model, sampler, precision=precision, device=device
            ),
        ),
        own_part(fabric, settings.batch_size),
    )
    start, seen = int(facts["step"]), []
    with Progress("train", settings.steps - start, "steps") as progress:
        for step, batch in enumerate(stream, start=start + 1):
            leave_if_abandoned()
            _set_rates(learners, rate_at(step, settings))
            losses = make_step(*_place(batch, fabric))
            seen.append(losses)
            decay = min(settings.average_decay, step / (step + 10))
            update_average(average, learners["network"].module, decay)
            if step % settings.report_interval == 0 or step == settings.steps:
                facts["step"], line = step, _report(step, seen, settings, fabric)
                if fabric.is_global_zero:
                    if step % settings.validation_interval == 0 or step == settings.steps:
                        line |= _judge(judgement, facts, store)
                    store.save(modules, optimizers, facts, line)
                seen = []
            progress.advance(loss=float(losses["loss"]))
    facts |= fabric.broadcast(facts)
    if fabric.is_global_zero:
        store.load_best(average)
    return TrainingResult(
        judgement.model,
        int(facts["best_step"]),
        judgement.scores(),
        facts.get("importance"),
    )


def scheduled_batches(
    sampler: PatchSampler,
    settings: TrainingSettings,
    facts: dict[str, Any],
    measure: Callable[[], list[float]],
    part: range | None = None,
) -> Iterator[Batch]:
    """Yield the batches after the step in `facts`: uniform ones, then biased ones if asked for.

    Parameters
    ----------
    sampler
        Unbiased source of patches.
    settings
        Settings of the training.
    facts
        What the state says; the importances are put into it, so that they are measured once.
    measure
        Returns the importances; called after the warm-up's last step.
    part
        Which patches of each batch are wanted; None: all.
    """
    start, steps = int(facts["step"]), settings.steps
    biased = settings.sampling == "importance"
    turn = min(settings.importance_warmup_steps, steps) if biased else steps
    yield from batches(sampler, settings, start, turn, part)
    if turn < steps:
        if "importance" not in facts:
            facts["importance"] = measure()
        chosen = biased_sampler(sampler, facts["importance"])
        yield from batches(chosen, settings, max(start, turn), steps, part)


def batches(
    sampler: PatchSampler,
    settings: TrainingSettings,
    start: int,
    stop: int,
    part: range | None = None,
) -> Iterator[Batch]:
    """Yield the batches, or a part of each, from after a step to another, made ahead in a thread.

    Each step has a generator of its own, seeded by (seed, step): a resumed training draws what
    the uninterrupted one would have drawn.
    """

    def make(step: int) -> Batch:
        return sampler.batch(np.random.default_rng([settings.seed, step]), part)

    with ThreadPoolExecutor(max_workers=1) as executor:
        waiting: list[Future[Batch]] = []
        for step in range(start, stop):
            waiting.append(executor.submit(make, step))
            if len(waiting) > _BATCHES_AHEAD:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def rate_at(step: int, settings: TrainingSettings) -> float:
    """Return the learning rate of a step (from 1)."""
    assert settings.learning_rate is not None  # the stage completes the settings
    share = rate_share(step, steps=settings.steps, warmup_steps=settings.warmup_steps)
    return settings.learning_rate * share


def _make_learners(
    fabric: Fabric, model: Model, discriminator: nn.Module | None, settings: TrainingSettings
) -> dict[str, Learner]:
    modules: dict[str, nn.Module] = {"network": model.network}
    if ADVERSARIAL in parse_loss(settings.loss):
        assert discriminator is not None
        modules["discriminator"] = discriminator
    rate, decay = rate_at(1, settings), settings.weight_decay
    return {
        name: make_learner(fabric, module, rate=rate, weight_decay=decay)
        for name, module in modules.items()
    }


def _step_of(learners: Mapping[str, Learner], model: Model, settings: TrainingSettings) -> Step:
    objective = Objective(
        parse_loss(settings.loss),
        settings.wall_weight,
        _normalised(EDGE_HU, model.normalisation),
        settings.gradient_norm_max,
    )
    network, judge = learners["network"], learners.get("discriminator")
    if judge is None:
        return plain_step(network, model.layout, objective)
    return adversarial_step(network, judge, model.layout, objective)


def _normalised(value_hu: float, normalisation: Normalisation) -> float:
    return (value_hu - normalisation.centre_hu) / normalisation.scale_hu


def _set_rates(learners: Mapping[str, Learner], rate: float) -> None:
    for learner in learners.values():
        for group in learner.optimizer.param_groups:
            group["lr"] = rate


def _place(batch: Batch, fabric: Fabric) -> Batch:
    inputs, true = (tensor.to(fabric.device) for tensor in batch)
    return inputs.contiguous(memory_format=torch.channels_last), true


def _resume(
    fabric: Fabric,
    store: CheckpointFolder,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
) -> dict[str, Any]:
    """Load the state in every process, once the leader has put the folder in order."""
    facts = store.resume(modules, optimizers) if fabric.is_global_zero else None
    fabric.barrier()
    if not fabric.is_global_zero:
        facts = store.load(modules, optimizers)
    return facts or {"step": 0, "best_psnr_db": -math.inf}


def _by_leader(fabric: Fabric, measure: Callable[[], list[float]]) -> list[float]:
    return fabric.broadcast(measure() if fabric.is_global_zero else [])


def _report(
    step: int, seen: list[Losses], settings: TrainingSettings, fabric: Fabric
) -> dict[str, Any]:
    """Return the means of the losses since the last report, over all processes."""
    own = {n: torch.stack([one[n] for one in seen]).double().mean() for n in seen[0]}
    means = {name: float(mean_over(fabric, value)) for name, value in own.items()}
    if not all(map(math.isfinite, means.values())):
        raise NumericalError(
            f"The training loss is no longer finite at step {step}; lower --learning-rate "
            f"(found {settings.learning_rate:g}) or use --precision float32.",
            step=step,
        )
    return {"step": step, **means, "learning_rate": rate_at(step, settings)}


def _judge(judgement: Judgement, facts: dict[str, Any], store: CheckpointFolder) -> dict[str, Any]:
    """Validate, keep the weights if they are the best so far, and return what was found."""
    scores = judgement.scores()
    found = {case: score.psnr_db for case, score in scores.items()}
    mean = float(np.mean(list(found.values()))) if found else math.inf
    if mean >= facts["best_psnr_db"]:
        store.save_best(judgement.model.network)
        facts |= {"best_psnr_db": mean, "best_step": facts["step"]}
    if not found:
        return {}
    baseline = float(np.mean([case.histospline.psnr_db for case in judgement.cases]))
    _LOG.info("validation: %.2f dB, histospline %.2f dB", mean, baseline)
    return {
        "psnr_db": found,
        "wall_psnr_db": {case: score.wall_psnr_db for case, score in scores.items()},
        "mean_psnr_db": mean,
        "histospline_mean_psnr_db": baseline,
    }
