"""U-Net with batch normalisation.

References
----------
.. [1] Ronneberger, Fischer, Brox, MICCAI (2015) 234-241, doi:10.1007/978-3-319-24574-4_28.
.. [2] Ioffe, Szegedy, ICML (2015) 448-456: batch normalisation.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Generator, Tensor, nn

from stages.super_resolution.networks.interface import (
    ResidualNetwork,
    initialise_convolutions,
    initialise_exit,
)


class UNetSettings(BaseModel):
    """Choose the size of a U-Net."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(16, ge=1, le=512, description="Channels of the finest level.")
    depth: int = Field(
        4, ge=1, le=6, description="Levels; each halves the image and doubles the channels."
    )


class UNet(ResidualNetwork):
    """Map input channels to output channels of the same in-plane size [1]_.

    Two 3x3 convolutions with batch normalisation [2]_ and ReLU per level, 2x2 max pooling down,
    2x2 transposed convolutions up, skips by concatenation, a final 1x1 convolution that starts
    at zero. Convolutions pad with zeros, so that the size is kept.

    Parameters
    ----------
    in_channels
        Channels of the input.
    out_channels
        Channels of the output.
    settings
        Width and depth.
    generator
        Source of the initial weights.
    """

    def __init__(
        self, in_channels: int, out_channels: int, settings: UNetSettings, generator: Generator
    ) -> None:
        super().__init__()
        widths = [settings.width * 2**level for level in range(settings.depth)]
        pairs = list(pairwise(widths))
        self.entry = _double_convolution(in_channels, widths[0])
        self.down = nn.ModuleList(_double_convolution(a, b) for a, b in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairs)
        self.merge = nn.ModuleList(_double_convolution(2 * a, a) for a, _ in pairs)
        self.pool = nn.MaxPool2d(2)
        self.exit = nn.Conv2d(widths[0], out_channels, 1)
        self.in_plane_multiple = 2 ** (settings.depth - 1)
        self.reach = _reach(settings.depth)
        initialise_convolutions(self, generator)
        initialise_exit(self.exit)

    def forward(self, image: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch z y x"]:
        """Return the residual; y and x must be multiples of `in_plane_multiple`."""
        levels = [self.entry(image)]
        for block in self.down:
            levels.append(block(self.pool(levels[-1])))
        features = levels.pop()
        for up, merge in zip(reversed(self.up), reversed(self.merge), strict=True):
            features = merge(torch.cat([levels.pop(), up(features)], dim=1))
        residual: Tensor = self.exit(features)
        return residual


def _double_convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    # The bias is left to the batch normalisation that follows.
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _reach(depth: int) -> int:
    """Bound how far, in pixels, an input pixel can change the output.

    Two 3x3 convolutions reach 2 pixels of their level; all levels but the coarsest have two such
    pairs. Pooling and its inverse widen this by less than one pixel of the coarsest level.
    """
    coarsest = 1 << (depth - 1)
    return sum(4 << level for level in range(depth - 1)) + 2 * coarsest + coarsest
