"""Losses between restored and true thin slices, in normalised units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import l1_loss, mse_loss

Loss = Callable[[Tensor, Tensor], Tensor]

_CHARBONNIER_EPSILON = 0.02
"""Width of the quadratic core, normalised units: about 10 HU, the noise of a head CT."""


def charbonnier(
    restored: Float[Tensor, "batch z y x"], true: Float[Tensor, "batch z y x"]
) -> Float[Tensor, ""]:
    """Return the mean of sqrt(d^2 + epsilon^2) - epsilon, a smooth absolute error.

    References
    ----------
    Charbonnier et al., IEEE ICIP (1994) 168-172, doi:10.1109/ICIP.1994.413553.
    """
    squared = (restored - true).square()
    return (squared + _CHARBONNIER_EPSILON**2).sqrt().mean() - _CHARBONNIER_EPSILON


LOSSES: Mapping[str, Loss] = MappingProxyType(
    {"l1": l1_loss, "mse": mse_loss, "charbonnier": charbonnier}
)
"""Loss by name; a new one is a function here and a line in this table."""
