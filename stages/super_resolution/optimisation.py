"""One step of training: plain, or against a discriminator with an optimiser of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from stages.super_resolution.layout import Layout
from stages.super_resolution.losses import (
    ADVERSARIAL,
    discriminator_loss,
    losses,
    truth_logits_loss,
    wall_weights,
)
from stages.super_resolution.model import Prediction, predict_slices
from stages.super_resolution.processes import average_gradients, mean_over
from stages.super_resolution.shared_statistics import share_statistics

Losses = dict[str, Tensor]
Step = Callable[[Tensor, Tensor], Losses]


@dataclass(frozen=True)
class Objective:
    """State what training lowers.

    Parameters
    ----------
    terms
        Weight of each term of the loss.
    wall_weight
        Weight of the band around air-tissue edges.
    edge
        Value half-way between air and tissue, normalised.
    gradient_norm_max
        Norm that gradients are scaled down to.
    """

    terms: Mapping[str, float]
    wall_weight: float
    edge: float
    gradient_norm_max: float


@dataclass(frozen=True)
class Learner:
    """Hold a module with its optimiser, as they are and as Fabric wraps them."""

    module: nn.Module
    optimizer: Optimizer
    forward: nn.Module
    stepper: Optimizer
    fabric: Fabric

    def learn(self, loss: Tensor, norm_max: float) -> None:
        """Take one step down the loss, its gradient averaged over the processes and clipped."""
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        average_gradients(self.fabric, self.module)
        self.fabric.clip_gradients(
            self.forward, self.stepper, max_norm=norm_max, error_if_nonfinite=False
        )
        self.stepper.step()


def make_learner(
    fabric: Fabric, module: nn.Module, *, rate: float, weight_decay: float
) -> Learner:
    """Give a module an AdamW optimiser and let Fabric place both.

    References
    ----------
    Loshchilov, Hutter, ICLR (2019), arXiv:1711.05101.
    """
    module = share_statistics(module, fabric)
    module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=weight_decay)
    forward, stepper = fabric.setup(module, optimizer)
    return Learner(module, optimizer, forward, stepper, fabric)


def plain_step(learner: Learner, layout: Layout, objective: Objective) -> Step:
    """Return the step that compares restored slices with the true ones."""

    def step(inputs: Tensor, true: Tensor) -> Losses:
        learner.module.train()
        found = predict_slices(learner.forward, layout, inputs)
        terms = _compare(found, true, objective, learner.fabric)
        loss = _total(terms, objective)
        learner.learn(loss, objective.gradient_norm_max)
        return _detached(loss, terms, objective)

    return step


def adversarial_step(
    learner: Learner, judge: Learner, layout: Layout, objective: Objective
) -> Step:
    """Return the step that first teaches the discriminator, then the generator against it.

    References
    ----------
    Ledig et al., CVPR (2017) 105-114, doi:10.1109/CVPR.2017.19, equations 2, 3 and 6.
    """

    def step(inputs: Tensor, true: Tensor) -> Losses:
        learner.module.train()
        judge.module.train()
        found = predict_slices(learner.forward, layout, inputs)
        told = discriminator_loss(*_tell(judge, true, found.mean.detach()))
        judge.learn(told, objective.gradient_norm_max)
        judge.module.requires_grad_(requires_grad=False)
        terms = _compare(found, true, objective, learner.fabric)
        terms[ADVERSARIAL] = truth_logits_loss(_tell(judge, true, found.mean)[1])
        loss = _total(terms, objective)
        learner.learn(loss, objective.gradient_norm_max)
        judge.module.requires_grad_(requires_grad=True)
        return _detached(loss, terms, objective) | {"discriminator_loss": told.detach()}

    return step


def _tell(judge: Learner, true: Tensor, restored: Tensor) -> tuple[Tensor, Tensor]:
    """Return the discriminator's logits of true and of restored slices.

    Both are one batch: batch normalisation of each alone would hide what differs in their mean
    and spread.
    """
    both = torch.cat([true, restored]).contiguous(memory_format=torch.channels_last)
    of_true, of_restored = judge.forward(both).chunk(2)
    return of_true, of_restored


def _compare(found: Prediction, true: Tensor, objective: Objective, fabric: Fabric) -> Losses:
    if objective.wall_weight == 1.0:
        return losses(found, true, objective.terms, None)
    weights = wall_weights(true, objective.edge, objective.wall_weight)
    return losses(found, true, objective.terms, weights, mean_over(fabric, weights.sum()))


def _total(terms: Losses, objective: Objective) -> Tensor:
    return torch.stack([objective.terms[name] * loss for name, loss in terms.items()]).sum()


def _detached(loss: Tensor, terms: Losses, objective: Objective) -> Losses:
    """Return the loss and, where it is a sum, its terms."""
    parts = terms if len(objective.terms) > 1 else {}
    return {"loss": loss.detach(), **{f"{n}_loss": t.detach() for n, t in parts.items()}}
