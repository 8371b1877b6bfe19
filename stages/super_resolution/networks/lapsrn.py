"""LapSRN: one level of a Laplacian pyramid along z.

References
----------
.. [1] Lai, Huang, Ahuja, Yang, CVPR (2017) 5835-5843, doi:10.1109/CVPR.2017.618.
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

_SLOPE = 0.2


class LapSRNSettings(BaseModel):
    """Choose the size of a LapSRN; the defaults are the paper's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(64, ge=1, le=1024, description="Maps of every layer.")
    depth: int = Field(10, ge=1, le=100, description="3x3 convolutions that extract features.")


class LapSRN(ResidualNetwork):
    """Extract features, spread them over the sub-slices, add a residual image to each [1]_.

    `depth` 3x3 convolutions with LeakyReLU (0.2) at the coarse resolution, a transposed
    convolution that spreads features along z, and a 3x3 convolution to the residual that all
    sub-slices share. A factor of 3 is one level; its Charbonnier loss is the training's. The
    paper's image branch, a learned interpolation, is the baseline here.

    Parameters
    ----------
    in_channels
        Channels of the input.
    out_channels
        Channels of the output: sub-slices.
    settings
        Width and depth.
    generator
        Source of the initial weights.

    Notes
    -----
    A transposed convolution with a stride equal to its length along z is a convolution to
    ``out_channels`` times as many maps and a one-dimensional shuffle: so it is computed.
    """

    def __init__(
        self, in_channels: int, out_channels: int, settings: LapSRNSettings, generator: Generator
    ) -> None:
        super().__init__()
        width, act = settings.width, nn.LeakyReLU(_SLOPE, inplace=True)
        layers: list[nn.Module] = []
        for index in range(settings.depth):
            layers += [nn.Conv2d(width if index else in_channels, width, 3, padding=1), act]
        self.features = nn.Sequential(*layers)
        self.spread = nn.Sequential(nn.Conv2d(width, width * out_channels, 3, padding=1), act)
        self.exit = nn.Conv2d(width, 1, 3, padding=1)
        self.slices = out_channels
        self.reach = settings.depth + 2
        initialise_convolutions(self, generator, nonlinearity="leaky_relu", slope=_SLOPE)
        initialise_exit(self.exit)

    def forward(self, image: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch z y x"]:
        """Return the residual."""
        spread = self.spread(self.features(image))
        # (batch, z, channel) with z outermost in the channels: a view, no data moves
        slices = spread.unflatten(1, (self.slices, -1)).flatten(0, 1)
        residual: Tensor = self.exit(slices).unflatten(0, (-1, self.slices)).squeeze(2)
        return residual
