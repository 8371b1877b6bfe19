"""SwinIR: attention within shifted windows.

References
----------
.. [1] Liang et al., ICCV Workshops (2021) 1833-1844, doi:10.1109/ICCVW54120.2021.00210.
.. [2] Liu et al., ICCV (2021) 9992-10002, doi:10.1109/ICCV48922.2021.00986.
"""

from __future__ import annotations

from typing import Self

from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Generator, Tensor, nn

from stages.super_resolution.networks.interface import (
    ResidualNetwork,
    initialise_convolutions,
    initialise_exit,
)

_LINEAR_STD = 0.02
"""Standard deviation of the first weights of attention and dense layers [2]_."""


class SwinIRSettings(BaseModel):
    """Choose the size of a SwinIR; the defaults are the paper's lightweight network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(60, ge=1, le=1024, description="Channels of the tokens.")
    depth: int = Field(4, ge=1, le=32, description="Residual groups.")
    blocks: int = Field(6, ge=1, le=32, description="Transformer blocks per group.")
    heads: int = Field(6, ge=1, le=64, description="Attention heads.")
    window: int = Field(8, ge=2, le=32, multiple_of=2, description="Edge of a window, pixels.")
    expansion: float = Field(2.0, ge=1, le=8, description="Hidden over outer width, dense layers.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        return self


class SwinIR(ResidualNetwork):
    """Apply a convolution, residual groups of Swin blocks [2]_ under a long skip, and one more.

    A group is a row of Swin blocks, a 3x3 convolution and a skip; a layer normalisation and a
    3x3 convolution end the body [1]_. The Swin blocks are MONAI's.

    Parameters
    ----------
    in_channels
        Channels of the input.
    out_channels
        Channels of the output: sub-slices.
    settings
        Sizes.
    generator
        Source of the initial weights.
    """

    def __init__(
        self, in_channels: int, out_channels: int, settings: SwinIRSettings, generator: Generator
    ) -> None:
        super().__init__()
        width, window, depth = settings.width, settings.window, settings.depth
        self.entry = nn.Conv2d(in_channels, width, 3, padding=1)
        self.groups = nn.ModuleList(_Group(settings) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.close = nn.Conv2d(width, width, 3, padding=1)
        self.exit = nn.Conv2d(width, out_channels, 3, padding=1)
        self.in_plane_multiple = window
        self.reach = 3 + depth * (settings.blocks * (window - 1) + 1)
        _initialise(self, generator)

    def forward(self, image: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch z y x"]:
        """Return the residual; y and x must be multiples of the window."""
        features = entry = self.entry(image)
        for group in self.groups:
            features = group(features)
        features = self.norm(features.movedim(1, -1)).movedim(-1, 1)
        residual: Tensor = self.exit(entry + self.close(features))
        return residual


class _Group(nn.Module):
    def __init__(self, settings: SwinIRSettings) -> None:
        # MONAI takes seconds to import: only whoever builds this network waits for it.
        from monai.networks.nets.swin_unetr import BasicLayer

        super().__init__()
        self.layer = BasicLayer(
            settings.width,
            settings.blocks,
            settings.heads,
            (settings.window, settings.window),
            drop_path=[0.0] * settings.blocks,
            mlp_ratio=settings.expansion,
            qkv_bias=True,
            use_flash_attention=True,  # outside training: half the time, equal to rounding
        )
        self.close = nn.Conv2d(settings.width, settings.width, 3, padding=1)

    def forward(
        self, features: Float[Tensor, "batch channel y x"]
    ) -> Float[Tensor, "batch channel y x"]:
        closed: Tensor = self.close(self.layer(features))
        return features + closed


def _initialise(network: SwinIR, generator: Generator) -> None:
    initialise_convolutions(network, generator)
    for name, tensor in network.named_parameters():
        if name.endswith("relative_position_bias_table") or (
            "groups" in name and tensor.ndim == 2
        ):
            nn.init.trunc_normal_(tensor, std=_LINEAR_STD, generator=generator)
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    initialise_exit(network.exit)
