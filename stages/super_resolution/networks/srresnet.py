"""SRResNet: residual blocks with batch normalisation; also the generator of SRGAN.

References
----------
.. [1] Ledig et al., CVPR (2017) 105-114, doi:10.1109/CVPR.2017.19, section 2.1.
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Generator, Tensor, nn

from stages.super_resolution.networks.interface import (
    ResidualNetwork,
    initialise_convolutions,
    initialise_exit,
)


class SRResNetSettings(BaseModel):
    """Choose the size of an SRResNet; the defaults are the paper's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(64, ge=1, le=1024, description="Maps of every layer.")
    depth: int = Field(16, ge=1, le=128, description="Residual blocks.")
    kernel: Literal[3, 5] = Field(3, description="Kernel of the residual blocks, pixels.")
    activation: Literal["prelu", "relu"] = Field("prelu", description="Activation.")


class SRResNet(ResidualNetwork):
    """Apply a 9x9 convolution, residual blocks under a long skip, and a 9x9 convolution [1]_.

    The paper's sub-pixel layers enlarge the image in plane and have no place here: the last
    convolution's channels are the thin slices, a one-dimensional shuffle along z.

    Parameters
    ----------
    in_channels
        Channels of the input.
    out_channels
        Channels of the output: sub-slices.
    settings
        Width, number of blocks, kernel and activation.
    generator
        Source of the initial weights.
    """

    def __init__(
        self, in_channels: int, out_channels: int, settings: SRResNetSettings, generator: Generator
    ) -> None:
        super().__init__()
        width, kernel = settings.width, settings.kernel
        self.entry = nn.Sequential(nn.Conv2d(in_channels, width, 9, padding=4), _act(settings))
        self.blocks = nn.ModuleList(_block(settings) for _ in range(settings.depth))
        self.close = nn.Sequential(_convolution(width, kernel), nn.BatchNorm2d(width))
        self.exit = nn.Conv2d(width, out_channels, 9, padding=4)
        self.reach = 4 + (2 * settings.depth + 1) * (kernel // 2) + 4
        initialise_convolutions(self, generator)
        initialise_exit(self.exit)

    def forward(self, image: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch z y x"]:
        """Return the residual."""
        features = entry = self.entry(image)
        for block in self.blocks:
            features = features + block(features)
        residual: Tensor = self.exit(entry + self.close(features))
        return residual


def _block(settings: SRResNetSettings) -> nn.Sequential:
    width, kernel = settings.width, settings.kernel
    return nn.Sequential(
        _convolution(width, kernel),
        nn.BatchNorm2d(width),
        _act(settings),
        _convolution(width, kernel),
        nn.BatchNorm2d(width),
    )


def _convolution(width: int, kernel: int) -> nn.Conv2d:
    # The bias is left to the batch normalisation that follows.
    return nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=False)


def _act(settings: SRResNetSettings) -> nn.Module:
    return nn.PReLU(settings.width) if settings.activation == "prelu" else nn.ReLU(inplace=True)
