"""Batch normalisation by the statistics of the whole batch, of which each process has a part."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor, distributed, nn


def share_statistics(module: nn.Module, fabric: Fabric) -> nn.Module:
    """Let the batch normalisation of a module see the batches of all processes.

    Names and values of its weights stay. On GPUs it is torch's own; that does not exist for
    processors.
    """
    if fabric.world_size == 1:
        return module
    if fabric.device.type == "cuda":
        shared: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        return shared
    for part in module.modules():
        # Frozen statistics, which are of a class derived from it, stay frozen.
        if type(part) is nn.BatchNorm2d:
            part.__class__ = SharedBatchNorm
    return module


class SharedBatchNorm(nn.BatchNorm2d):
    """Normalise by mean and variance over the equal parts of a batch in all processes.

    References
    ----------
    Ioffe, Szegedy, ICML (2015), arXiv:1502.03167, algorithm 1, with m counted over all processes.
    """

    def forward(
        self, images: Float[Tensor, "batch channel y x"]
    ) -> Float[Tensor, "batch channel y x"]:
        """Return normalised images; in evaluation mode by the running statistics."""
        if not self.training:
            return super().forward(images)
        values = images.float()
        mean = _shared_mean(values.mean((0, 2, 3)))
        centred = values - mean[:, None, None]
        variance = _shared_mean(centred.square().mean((0, 2, 3)))
        self._remember(mean.detach(), variance.detach(), images.numel() // images.shape[1])
        scale = self.weight * torch.rsqrt(variance + self.eps)
        found = centred * scale[:, None, None] + self.bias[:, None, None]
        return found.to(images.dtype)

    def _remember(self, mean: Tensor, variance: Tensor, own_pixels: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        pixels = own_pixels * distributed.get_world_size()
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (pixels / (pixels - 1)), self.momentum)
        self.num_batches_tracked += 1


def _shared_mean(values: Tensor) -> Tensor:
    found: Tensor = _SharedMean.apply(values)  # type: ignore[no-untyped-call]
    return found


class _SharedMean(torch.autograd.Function):
    """Mean over the processes. Each one's loss depends on every part: so does its gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ARG004 -- torch's signature
        return _mean(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]  # noqa: ARG004
        return _mean(gradient)


def _mean(values: Tensor) -> Tensor:
    total = values.detach().clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()
