"""What every network offers to training and restoration, and how its first weights are drawn."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Generator, Tensor, nn


class ResidualNetwork(nn.Module):
    """Map normalised channels to a residual of the same in-plane size, zero before training."""

    in_plane_multiple: int = 1
    """y and x must be multiples of it."""
    in_plane_minimum: int = 1
    """y and x must not be smaller."""
    reach: int = 0
    """How far, in pixels, an input pixel can change the output."""

    def forward_traceably(
        self, image: Float[Tensor, "batch channel y x"]
    ) -> Float[Tensor, "batch z y x"]:
        """Return the residual by plain operators, which other formats also have."""
        residual: Tensor = self(image)
        return residual


def initialise_convolutions(
    network: nn.Module,
    generator: Generator,
    *,
    nonlinearity: Literal["relu", "leaky_relu", "tanh"] = "relu",
    slope: float = 0.0,
) -> None:
    """Draw the weights of all convolutions from normal distributions; biases are zero.

    Parameters
    ----------
    network
        Network whose convolutions are initialised in place.
    generator
        Source of the weights.
    nonlinearity
        ``relu``, ``leaky_relu`` or ``tanh``, what follows the convolutions.
    slope
        Slope of the leaky ReLU below zero.

    References
    ----------
    He et al., ICCV (2015) 1026-1034, doi:10.1109/ICCV.2015.123, equations 10 and 15; for tanh
    Glorot, Bengio, AISTATS (2010) 249-256.
    """
    for module in network.modules():
        if not isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            continue
        if nonlinearity == "tanh":
            nn.init.xavier_normal_(module.weight, generator=generator)
        else:
            nn.init.kaiming_normal_(
                module.weight, a=slope, nonlinearity=nonlinearity, generator=generator
            )
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def initialise_exit(layer: nn.Conv2d) -> None:
    """Set the last layer to zero: training starts at the baseline."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
