"""Losses between restored and true thin slices, in normalised units.

Each loss is an image of errors; its mean, weighted where the airway wall is, is what training
lowers. A loss is a weighted sum of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, max_pool2d, pad

from stages.super_resolution.model import Prediction

LossImage = Callable[[Prediction, Tensor], Tensor]

ADVERSARIAL = "adversarial"
_CHARBONNIER_EPSILON = 0.02
"""Width of the quadratic core, normalised units: about 10 HU, the noise of a head CT."""
_SSIM_WINDOW = 11
_SSIM_RANGE = 4.0
"""Grey-value range of the SSIM, normalised units: air to bone, about 1500 HU."""
_BAND = 2
"""Half-width of the band around air-tissue edges, pixels."""


def l1(found: Prediction, true: Float[Tensor, "batch z y x"]) -> Float[Tensor, "batch z y x"]:
    """Return the absolute error."""
    return (found.mean - true).abs()


def mse(found: Prediction, true: Float[Tensor, "batch z y x"]) -> Float[Tensor, "batch z y x"]:
    """Return the squared error."""
    return (found.mean - true).square()


def charbonnier(
    found: Prediction, true: Float[Tensor, "batch z y x"]
) -> Float[Tensor, "batch z y x"]:
    """Return sqrt(d^2 + epsilon^2) - epsilon, a smooth absolute error.

    References
    ----------
    Charbonnier et al., IEEE ICIP (1994) 168-172, doi:10.1109/ICIP.1994.413553.
    """
    squared = (found.mean - true).square()
    return (squared + _CHARBONNIER_EPSILON**2).sqrt() - _CHARBONNIER_EPSILON


def gradient(
    found: Prediction, true: Float[Tensor, "batch z y x"]
) -> Float[Tensor, "batch z y x"]:
    """Return the absolute error of the differences to the next pixel along z, y and x, added.

    References
    ----------
    Mathieu, Couprie, LeCun, ICLR (2016), arXiv:1511.05440, equation 6 (exponent 1).
    """
    error = found.mean - true
    # At the far ends there is no next pixel: the difference is to the pixel itself, zero.
    steps = [torch.diff(error, dim=axis, append=error.narrow(axis, -1, 1)) for axis in (1, 2, 3)]
    return torch.stack([step.abs() for step in steps]).sum(0)


def ssim(found: Prediction, true: Float[Tensor, "batch z y x"]) -> Float[Tensor, "batch z y x"]:
    """Return 1 - SSIM in Gaussian windows of 11 pixels, the outermost windows repeated.

    References
    ----------
    Wang et al., IEEE Trans. Image Process. 13 (2004) 600-612, doi:10.1109/TIP.2003.819861.
    """
    # MONAI takes seconds to import: only whoever uses this loss waits for it.
    from monai.metrics.regression import compute_ssim_and_cs

    inside, _ = compute_ssim_and_cs(
        found.mean,
        true,
        spatial_dims=2,
        kernel_size=(_SSIM_WINDOW, _SSIM_WINDOW),
        kernel_sigma=(1.5, 1.5),
        data_range=_SSIM_RANGE,
    )
    return pad(1.0 - inside, [_SSIM_WINDOW // 2] * 4, mode="replicate")


def nll(found: Prediction, true: Float[Tensor, "batch z y x"]) -> Float[Tensor, "batch z y x"]:
    """Return the negative log-likelihood of a Gaussian, (log s^2 + (y - m)^2 / s^2) / 2.

    References
    ----------
    Nix, Weigend, IEEE ICNN (1994) 55-60, doi:10.1109/ICNN.1994.374138.
    """
    if found.log_variance is None:
        raise ValueError("This loss needs a network that predicts a variance.")
    squared = (found.mean - true).square()
    return 0.5 * (found.log_variance + squared * torch.exp(-found.log_variance))


LOSSES: Mapping[str, LossImage] = MappingProxyType(
    {
        "l1": l1,
        "mse": mse,
        "charbonnier": charbonnier,
        "gradient": gradient,
        "ssim": ssim,
        "nll": nll,
    }
)
"""Images of errors by name; a new one is a function here and a line in this table."""


def losses(
    found: Prediction,
    true: Float[Tensor, "batch z y x"],
    terms: Mapping[str, float],
    weights: Float[Tensor, "batch z y x"] | None,
    total: Float[Tensor, ""] | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """Return the mean of each term's image, before its weight in the sum; not the adversarial one.

    Parameters
    ----------
    found
        Restored slices.
    true
        True slices.
    terms
        Weight of each term.
    weights
        Weight of each pixel; None: all alike.
    total
        What the weights are taken to sum to; None: what they do. Of a batch that processes share
        it is the mean over them, so that the mean of their losses is that of the whole batch.
    """
    return {
        name: weighted_mean(LOSSES[name](found, true), weights, total)
        for name in terms
        if name != ADVERSARIAL
    }


def weighted_mean(
    image: Float[Tensor, "batch z y x"],
    weights: Float[Tensor, "batch z y x"] | None,
    total: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    """Return the mean of an image under weights, whose sum may be given."""
    if weights is None:
        return image.mean()
    return (image * weights).sum() / (weights.sum() if total is None else total)


def wall_weights(
    true: Float[Tensor, "batch z y x"], edge: float, weight: float
) -> Float[Tensor, "batch z y x"]:
    """Return `weight` within two pixels of an air-tissue edge, else 1.

    An edge lies between pixels of any of the thin slices of a thick one: a level wall, which no
    slice shows, is one too.

    Parameters
    ----------
    true
        True slices.
    edge
        Value half-way between air and tissue.
    weight
        Weight of the band.
    """
    tissue = (true > edge).to(true.dtype)
    near_tissue, near_air = (
        max_pool2d(mask.amax(1, keepdim=True), 2 * _BAND + 1, stride=1, padding=_BAND)
        for mask in (tissue, 1.0 - tissue)
    )
    return (1.0 + (weight - 1.0) * near_tissue * near_air).expand_as(true)


def truth_logits_loss(logits: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
    """Return how far a discriminator's logits are from calling slices true."""
    return binary_cross_entropy_with_logits(logits, torch.ones_like(logits))


def discriminator_loss(
    of_true: Float[Tensor, " batch"], of_restored: Float[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """Return the cross-entropy of a discriminator that should tell true from restored slices.

    References
    ----------
    Goodfellow et al., NeurIPS (2014), arXiv:1406.2661, algorithm 1.
    """
    wrong = binary_cross_entropy_with_logits(of_restored, torch.zeros_like(of_restored))
    return truth_logits_loss(of_true) + wrong
