"""Mixed-scale dense network, in a form that is fast on processors.

References
----------
.. [1] Pelt, Sethian, PNAS 115 (2018) 254-259, doi:10.1073/pnas.1715832114.
.. [2] Hendriksen et al., IEEE Trans. Comput. Imaging 5 (2019): on-the-fly use of such networks.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Generator, Tensor, nn
from torch.nn.functional import conv2d, pad

from stages.super_resolution.networks.interface import ResidualNetwork, initialise_exit


class MSDSettings(BaseModel):
    """Choose the size of a mixed-scale dense network; the defaults are the paper's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    depth: int = Field(100, ge=1, le=1000, description="Layers; each adds one image.")
    dilations: int = Field(
        10, ge=1, le=64, description="Dilations: layer i (from 0) has (i mod this) + 1."
    )


class MSD(ResidualNetwork):
    """Let every layer see all images before it, each at its own dilation [1]_.

    z_i = ReLU(sum over l < i of a 3x3 convolution of z_l with dilation s_i, plus b_i), inputs
    included, s_i = (i mod `dilations`) + 1; the output is a 1x1 convolution of all images that
    starts at zero. Images are reflected at their borders.

    Parameters
    ----------
    in_channels
        Channels of the input.
    out_channels
        Channels of the output: sub-slices.
    settings
        Depth and dilations.
    generator
        Source of the initial weights: N(0, 2 / (9 (in_channels + depth - 1) + out_channels)).

    Notes
    -----
    A convolution with many inputs and one output is slow as such. It is the sum of nine shifted
    images, each a linear combination of the inputs: one matrix product of nine rows, and nine
    additions. All images of all layers lie in one stack, so that nothing is concatenated, and the
    derivative, of the same form, needs no more than a second stack.
    """

    def __init__(
        self, in_channels: int, out_channels: int, settings: MSDSettings, generator: Generator
    ) -> None:
        super().__init__()
        depth = settings.depth
        self.in_channels = in_channels
        self.dilations = tuple(i % settings.dilations + 1 for i in range(depth))
        self.weights = nn.Parameter(torch.empty(sum(9 * (in_channels + i) for i in range(depth))))
        """Layer after layer, each (tap, image); tap = 3 row + column."""
        self.biases = nn.Parameter(torch.zeros(depth))
        self.exit = nn.Conv2d(in_channels + depth, out_channels, 1)
        self.reach = sum(self.dilations)
        self.in_plane_minimum = max(self.dilations) + 1
        variance = 2.0 / (9 * (in_channels + depth - 1) + out_channels)
        nn.init.normal_(self.weights, std=math.sqrt(variance), generator=generator)
        initialise_exit(self.exit)

    def forward(self, image: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch z y x"]:
        """Return the residual; y and x must exceed the largest dilation."""
        device = image.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        with torch.autocast(device, enabled=False):
            stack: Tensor = _DenseStack.apply(  # type: ignore[no-untyped-call]
                image, self.weights, self.biases, self.dilations, dtype or image.dtype
            )
            rows = self.exit.weight.flatten(1).to(stack.dtype) @ stack.flatten(1)
            rows = rows + self.exit.bias.to(stack.dtype)[:, None]  # type: ignore[union-attr]
            return rows.view(-1, *stack.shape[1:]).transpose(0, 1)

    def forward_naively(
        self, image: Float[Tensor, "batch channel y x"]
    ) -> Float[Tensor, "batch z y x"]:
        """Return the residual by its definition: concatenate, reflect, convolve with dilation."""
        for layer, dilation in zip(
            _layers(self.weights, image.shape[1]), self.dilations, strict=True
        ):
            index = image.shape[1] - self.in_channels
            kernel = layer.T.reshape(1, -1, 3, 3)
            reflected = pad(image, [dilation] * 4, mode="reflect")
            new = conv2d(reflected, kernel, self.biases[index : index + 1], dilation=dilation)
            image = torch.cat([image, new.relu()], dim=1)
        residual: Tensor = self.exit(image)
        return residual

    def forward_traceably(
        self, image: Float[Tensor, "batch channel y x"]
    ) -> Float[Tensor, "batch z y x"]:
        """Return the residual by its definition."""
        return self.forward_naively(image)


def _layers(
    weights: Float[Tensor, " weight"], in_channels: int
) -> list[Float[Tensor, "tap image"]]:
    """Cut the row of all weights into layers."""
    layers, start, images = [], 0, in_channels
    while start < len(weights):
        layers.append(weights[start : start + 9 * images].view(9, images))
        start, images = start + 9 * images, images + 1
    return layers


class _DenseStack(torch.autograd.Function):
    """All images of the network, (image, batch, y, x), from its inputs."""

    @staticmethod
    def forward(
        ctx: Any,
        image: Float[Tensor, "batch channel y x"],
        weights: Float[Tensor, " weight"],
        biases: Float[Tensor, " layer"],
        dilations: tuple[int, ...],
        dtype: torch.dtype,
    ) -> Float[Tensor, "image batch y x"]:
        batch, channels, rows, columns = image.shape
        stack = image.new_empty((channels + len(dilations), batch, rows, columns), dtype=dtype)
        stack[:channels] = image.transpose(0, 1)
        layers = _layers(weights.to(dtype), channels)
        for index, (layer, dilation) in enumerate(zip(layers, dilations, strict=True)):
            seen = channels + index
            taps = (layer @ stack[:seen].flatten(1)).view(3, 3, batch, rows, columns)
            new = _sum_shifted(taps, dilation).add_(biases[index].to(dtype))
            torch.clamp(new, min=0, out=stack[seen])
        ctx.save_for_backward(stack, weights)
        ctx.dilations, ctx.in_dtype = dilations, image.dtype
        return stack

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        stack, weights = ctx.saved_tensors
        gradient = gradients[0].clone(memory_format=torch.contiguous_format)
        channels = stack.shape[0] - len(ctx.dilations)
        layers = _layers(weights.to(stack.dtype), channels)
        flat, images = gradient.flatten(1), stack.flatten(1)
        for_weights: list[Tensor] = []
        for_biases = weights.new_empty(len(ctx.dilations))
        for index in reversed(range(len(ctx.dilations))):
            seen = channels + index
            active = gradient[seen] * (stack[seen] > 0)
            taps = _spread_shifted(active, ctx.dilations[index]).view(9, -1)
            for_weights.append((taps @ images[:seen].T).flatten().to(weights.dtype))
            for_biases[index] = active.sum(dtype=weights.dtype)
            flat[:seen].addmm_(layers[index].T, taps)
        for_image = gradient[:channels].transpose(0, 1).to(ctx.in_dtype)
        return for_image, torch.cat(for_weights[::-1]), for_biases, None, None


def _sum_shifted(
    taps: Float[Tensor, "3 3 batch y x"], dilation: int
) -> Float[Tensor, "batch y x"]:
    """Add nine images, each shifted by its place in the kernel; `taps` is overwritten."""
    rows = taps[:, 1]
    _add_shifted(rows, taps[:, 0], -dilation, -1)
    _add_shifted(rows, taps[:, 2], dilation, -1)
    total = rows[1]
    _add_shifted(total, rows[0], -dilation, -2)
    _add_shifted(total, rows[2], dilation, -2)
    return total


def _spread_shifted(
    image: Float[Tensor, "batch y x"], dilation: int
) -> Float[Tensor, "3 3 batch y x"]:
    """Apply the adjoint of `_sum_shifted`."""
    taps = image.new_zeros((3, 3, *image.shape))
    rows = taps[:, 1]
    rows[1] = image
    _add_shifted_back(rows[0], image, -dilation, -2)
    _add_shifted_back(rows[2], image, dilation, -2)
    _add_shifted_back(taps[:, 0], rows, -dilation, -1)
    _add_shifted_back(taps[:, 2], rows, dilation, -1)
    return taps


def _add_shifted(target: Tensor, source: Tensor, shift: int, axis: int) -> None:
    """Add source(p + shift) to target(p) along an axis, the source reflected at its borders."""
    for at, of, mirrored in _spans(target.shape[axis], shift):
        part = source.narrow(axis, *of)
        target.narrow(axis, *at).add_(part.flip(axis) if mirrored else part)


def _add_shifted_back(target: Tensor, source: Tensor, shift: int, axis: int) -> None:
    """Apply the adjoint of `_add_shifted`."""
    for at, of, mirrored in _spans(target.shape[axis], shift):
        part = source.narrow(axis, *at)
        target.narrow(axis, *of).add_(part.flip(axis) if mirrored else part)


def _spans(size: int, shift: int) -> list[tuple[tuple[int, int], tuple[int, int], bool]]:
    """Return (start, length) in target and source, inside and mirrored at the border."""
    s, inside = abs(shift), size - abs(shift)
    if shift > 0:
        return [((0, inside), (s, inside), False), ((inside, s), (inside - 1, s), True)]
    return [((s, inside), (0, inside), False), ((0, s), (1, s), True)]
