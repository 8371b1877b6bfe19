"""What a model sees and makes: thick slices in, thin slices out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from stages.super_resolution.degradation import profile_taps


@dataclass(frozen=True)
class Layout:
    """State what a model sees and makes.

    Parameters
    ----------
    factor
        Width of the slice profile in thin slices.
    context
        Neighbouring thick slices seen, odd; beyond the stack its outermost slice is repeated.
    profile
        Slice profile of the thick slices it was trained on; ``fitted`` for given taps.
    stride
        Thin slices per thick slice; 0: the factor.
    taps
        Weights of a fitted profile, of odd number and sum 1; empty for named profiles.
    consistent
        Whether restored slices are made to agree with the thick ones; None: for box at a stride of
        the factor.
    predicts_variance
        Whether the network also gives the logarithm of a variance for each thin slice.
    view
        ``axial``: thick slices in, their thin slices out. ``upright``: neighbouring sagittal or
        coronal planes of the baseline in, the middle one restored.
    """

    factor: int
    context: int
    profile: str
    stride: int = 0
    taps: tuple[float, ...] = ()
    consistent: bool | None = None
    predicts_variance: bool = False
    view: str = "axial"

    def __post_init__(self) -> None:
        """Replace defaults by what they mean; lists of JSON become tuples."""
        object.__setattr__(self, "stride", self.stride or self.factor)
        object.__setattr__(self, "taps", tuple(self.taps))
        if self.consistent is None:
            object.__setattr__(self, "consistent", self.is_compact_box)

    @property
    def slices(self) -> int:
        """Return the number of thin slices per thick slice."""
        return self.stride

    @property
    def in_channels(self) -> int:
        """Return the number of input channels: thick slices, then the baseline's thin ones."""
        return self.context if self.is_upright else self.context + self.slices

    @property
    def images(self) -> int:
        """Return the number of images that are restored at once."""
        return 1 if self.is_upright else self.slices

    @property
    def base(self) -> slice:
        """Return which input channels are the baseline of the restored images."""
        if self.is_upright:
            return slice(self.context // 2, self.context // 2 + 1)
        return slice(self.context, self.context + self.slices)

    @property
    def out_channels(self) -> int:
        """Return the number of output channels: a residual, and a variance where predicted."""
        return self.images * (2 if self.predicts_variance else 1)

    @property
    def is_consistent(self) -> bool:
        """Say whether restored slices are made to agree with the thick slice."""
        return bool(self.consistent)

    @property
    def is_upright(self) -> bool:
        """Say whether the network sees sagittal and coronal planes."""
        return self.view == "upright"

    @property
    def is_compact_box(self) -> bool:
        """Say whether a thick slice is the mean of the thin slices of its own cell."""
        return self.profile == "box" and self.stride == self.factor

    @property
    def is_symmetric(self) -> bool:
        """Say whether a mirrored stack is as likely: the profile equals its mirror image."""
        return bool(np.allclose(self.profile_taps, self.profile_taps[::-1], atol=1e-6))

    @property
    def profile_taps(self) -> Float[np.ndarray, " tap"]:
        """Return the weights of the slice profile."""
        return np.array(self.taps) if self.taps else profile_taps(self.profile, self.factor)
