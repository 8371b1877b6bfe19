"""SRCNN: three convolutions on the interpolated image.

References
----------
.. [1] Dong, Loy, He, Tang, ECCV (2014) 184-199, doi:10.1007/978-3-319-10593-2_13.
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


class SRCNNSettings(BaseModel):
    """Choose the size of an SRCNN; the defaults are the paper's 9-1-5 network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(64, ge=1, le=1024, description="Maps of the first layer.")
    mapping_width: int = Field(32, ge=1, le=1024, description="Maps of the second layer.")
    mapping_kernel: Literal[1, 3, 5] = Field(1, description="Kernel of the second layer, pixels.")


class SRCNN(ResidualNetwork):
    """Extract patches, map them and combine them: 9x9, 1x1 and 5x5 convolutions, ReLU [1]_.

    Convolutions pad with zeros where the paper's shrink the image. The last layer gives the
    residual to the interpolated image, one channel per thin slice, and starts at zero; the
    paper's gives the image itself.

    Parameters
    ----------
    in_channels
        Channels of the input.
    out_channels
        Channels of the output.
    settings
        Widths, and the kernel in the middle.
    generator
        Source of the initial weights.
    """

    def __init__(
        self, in_channels: int, out_channels: int, settings: SRCNNSettings, generator: Generator
    ) -> None:
        super().__init__()
        kernel = settings.mapping_kernel
        self.extract = nn.Conv2d(in_channels, settings.width, 9, padding=4)
        self.map = nn.Conv2d(settings.width, settings.mapping_width, kernel, padding=kernel // 2)
        self.exit = nn.Conv2d(settings.mapping_width, out_channels, 5, padding=2)
        self.relu = nn.ReLU(inplace=True)
        self.reach = 4 + kernel // 2 + 2
        initialise_convolutions(self, generator)
        initialise_exit(self.exit)

    def forward(self, image: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch z y x"]:
        """Return the residual."""
        features = self.relu(self.map(self.relu(self.extract(image))))
        residual: Tensor = self.exit(features)
        return residual
