"""SRGAN: SRResNet trained against a discriminator.

References
----------
.. [1] Ledig et al., CVPR (2017) 105-114, doi:10.1109/CVPR.2017.19, section 2.1.1 and equation 3.
.. [2] Radford, Metz, Chintala, ICLR (2016), arXiv:1511.06434.
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from pydantic import Field
from torch import Generator, Tensor, nn

from stages.super_resolution.networks.interface import initialise_convolutions
from stages.super_resolution.networks.srresnet import SRResNet, SRResNetSettings

_SLOPE = 0.2


class SRGANSettings(SRResNetSettings):
    """Choose the sizes of generator and discriminator; the defaults are the paper's."""

    discriminator_width: int = Field(
        64, ge=1, le=512, description="Maps of the discriminator's first layer."
    )
    discriminator_depth: int = Field(
        4, ge=1, le=6, description="Stages of the discriminator; each doubles the maps."
    )
    discriminator_activation: Literal["leakyrelu", "relu"] = Field(
        "leakyrelu", description="Activation of the discriminator."
    )


class SRGAN(SRResNet):
    """Generate thin slices: the SRResNet, trained against a `Discriminator` [1]_."""


class Discriminator(nn.Module):
    """Say how much a stack of thin slices looks like a true one, as a logit [1]_.

    Stages of a 3x3 convolution and one with stride 2, each stage with twice the maps of the one
    before, batch normalisation (except on the first layer), LeakyReLU 0.2, and two dense layers.
    A mean over the image replaces the paper's flattening, so that any patch fits; strides instead
    of pooling [2]_.

    Parameters
    ----------
    channels
        Thin slices of a stack.
    settings
        Width and number of stages.
    generator
        Source of the initial weights.
    """

    def __init__(self, channels: int, settings: SRGANSettings, generator: Generator) -> None:
        super().__init__()
        leaky = settings.discriminator_activation == "leakyrelu"
        act: nn.Module = nn.LeakyReLU(_SLOPE) if leaky else nn.ReLU()
        width = settings.discriminator_width
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), act]
        layers += _convolution(width, width, act, stride=2)
        for _ in range(settings.discriminator_depth - 1):
            layers += _convolution(width, 2 * width, act)
            layers += _convolution(2 * width, 2 * width, act, stride=2)
            width *= 2
        self.features = nn.Sequential(*layers)
        self.decide = nn.Sequential(nn.Linear(width, 2 * width), act, nn.Linear(2 * width, 1))
        initialise_convolutions(
            self, generator, nonlinearity="leaky_relu", slope=_SLOPE if leaky else 0.0
        )

    def forward(self, slices: Float[Tensor, "batch z y x"]) -> Float[Tensor, " batch"]:
        """Return one logit per stack: positive for true ones."""
        logit: Tensor = self.decide(self.features(slices).mean(dim=(2, 3))).squeeze(1)
        return logit


def _convolution(
    in_channels: int, out_channels: int, act: nn.Module, *, stride: int = 1
) -> list[nn.Module]:
    convolution = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(out_channels), act]
