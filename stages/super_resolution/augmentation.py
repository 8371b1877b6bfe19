"""Changes of a patch that no scanner minds: mirror images, and noise as a kernel correlates it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from numpy.random import Generator
from scipy import ndimage
from torch import Tensor

from stages.super_resolution.layout import Layout

Change = Callable[[Float[Tensor, "channel y x"]], Float[Tensor, "channel y x"]]
"""A change of a patch whose random numbers are drawn."""


def correlated(white: Float[np.ndarray, "z y x"]) -> Float[np.ndarray, "z y x"]:
    """Return white noise of unit standard deviation as a reconstruction kernel correlates it.

    A Gaussian of 0.7 pixels leaves 0.42 of the standard deviation of white noise.
    """
    noise: Float[np.ndarray, "z y x"] = ndimage.gaussian_filter(
        white, (0, 0.7, 0.7), truncate=3.0
    ) / np.float32(0.42)
    return noise


def draw_flip(layout: Layout, rng: Generator) -> Change:
    """Draw a mirror image: along both axes of the plane and, of a symmetric profile, along z."""
    in_plane = [axis for axis in (1, 2) if rng.uniform() < 0.5]
    # A profile that leans to one side makes a mirrored stack that no scanner makes.
    along_z = rng.uniform() < 0.5 and layout.is_symmetric

    def flip(patch: Float[Tensor, "channel y x"]) -> Float[Tensor, "channel y x"]:
        flipped = patch.flip(in_plane) if in_plane else patch
        if not along_z:
            return flipped
        groups = torch.split(flipped, [layout.context, layout.slices, layout.slices])
        return torch.cat([group.flip(0) for group in groups])

    return flip
