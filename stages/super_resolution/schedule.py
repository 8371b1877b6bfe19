"""Learning rate over the steps, and the running average of the weights."""

from __future__ import annotations

import math

import torch
from torch import nn

_FINAL_RATE = 0.01
"""Share of the peak learning rate that the cosine ends at."""


def rate_share(step: int, *, steps: int, warmup_steps: int) -> float:
    """Return the share of the peak learning rate at a step (from 1): linear warm-up, half cosine.

    Parameters
    ----------
    step
        Step, from 1.
    steps
        Steps of the whole training.
    warmup_steps
        Steps of warm-up; at most a tenth of all are taken.

    References
    ----------
    Loshchilov, Hutter, ICLR (2017), arXiv:1608.03983.
    """
    warmup = min(warmup_steps, steps // 10)
    if step <= warmup:
        return step / warmup
    done = (step - warmup) / max(steps - warmup, 1)
    return _FINAL_RATE + (1.0 - _FINAL_RATE) * 0.5 * (1.0 + math.cos(math.pi * done))


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move an average of weights and batch statistics towards the network's, in place."""
    pairs = zip(average.state_dict().values(), network.state_dict().values(), strict=True)
    for old, new in pairs:
        if old.is_floating_point():
            old.lerp_(new, 1.0 - decay)
        else:
            old.copy_(new)
