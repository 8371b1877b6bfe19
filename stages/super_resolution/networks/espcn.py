"""ESPCN: convolutions at the coarse resolution, then a sub-pixel shuffle.

References
----------
.. [1] Shi et al., CVPR (2016) 1874-1883, doi:10.1109/CVPR.2016.207.
"""

from __future__ import annotations

from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Generator, Tensor, nn

from stages.super_resolution.networks.interface import (
    ResidualNetwork,
    initialise_convolutions,
    initialise_exit,
)


class ESPCNSettings(BaseModel):
    """Choose the size of an ESPCN; the defaults are the paper's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(64, ge=1, le=1024, description="Maps of the first layer.")
    second_width: int = Field(32, ge=1, le=1024, description="Maps of the second layer.")


class ESPCN(ResidualNetwork):
    """Apply 5x5 and 3x3 convolutions with tanh, then a 3x3 one to the sub-slices [1]_.

    The coarse axis is z alone: the shuffle of the last layer's channels is one-dimensional and
    makes each channel a thin slice, so that it moves no data.

    Parameters
    ----------
    in_channels
        Channels of the input.
    out_channels
        Channels of the output: sub-slices.
    settings
        Widths.
    generator
        Source of the initial weights.
    """

    def __init__(
        self, in_channels: int, out_channels: int, settings: ESPCNSettings, generator: Generator
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, settings.width, 5, padding=2)
        self.second = nn.Conv2d(settings.width, settings.second_width, 3, padding=1)
        self.exit = nn.Conv2d(settings.second_width, out_channels, 3, padding=1)
        self.reach = 2 + 1 + 1
        initialise_convolutions(self, generator, nonlinearity="tanh")
        initialise_exit(self.exit)

    def forward(self, image: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch z y x"]:
        """Return the residual."""
        features = self.second(self.first(image).tanh()).tanh()
        residual: Tensor = self.exit(features)
        return residual
