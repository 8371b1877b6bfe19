"""Restore whole volumes with a network, one thick slice at a time, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from stages.super_resolution.baselines import apply_operator
from stages.super_resolution.channels import context_indices
from stages.super_resolution.consistency import baseline_operator
from stages.super_resolution.model import Model, denormalise, normalise, predict_slices

_NEGLIGIBLE = 1e-9
"""Baseline weights below this move a slice by less than 1e-5 HU; their slices are not read."""


@dataclass(frozen=True)
class Arithmetic:
    """Choose how images are computed; none of it changes what they show, beyond rounding.

    Parameters
    ----------
    tile
        In-plane edge above which a slice is cut into tiles; the result does not depend on it.
    precision
        ``bfloat16`` or ``float32``, of the network's arithmetic.
    symmetries
        Mirror images that are averaged: 1, 4 (flips) or 8 (flips of both orders of the axes).
    """

    tile: int = 768
    precision: str = "float32"
    symmetries: int = 1


@dataclass(frozen=True)
class Restored:
    """Hold restored thin slices and, where the network predicts it, their sigma; HU."""

    values: Shaped[np.ndarray, "slices y x"]
    sigma: Float[np.ndarray, "slices y x"] | None


def restore_volume(
    model: Model,
    thick: Shaped[np.ndarray, "thick y x"],
    arithmetic: Arithmetic,
    *,
    device: str = "cpu",
    consistent: bool | None = None,
) -> Iterator[Restored]:
    """Yield the thin slices of each thick slice in turn, float32, HU.

    Parameters
    ----------
    model
        Network with its layout and normalisation, on the device.
    thick
        Thick slices, HU; any in-plane size.
    arithmetic
        Tiles, precision and symmetries.
    device
        Where the network is.
    consistent
        Whether each slice is made to agree with the thick slice; None: as the layout says.
    """
    for inputs in slice_inputs(thick, range(len(thick)), model):
        batch = torch.from_numpy(inputs)[None].to(device)
        mean, sigma = restore_images(model, batch, arithmetic, consistent=consistent)
        yield Restored(mean[0].cpu().numpy(), None if sigma is None else sigma[0].cpu().numpy())


def slice_inputs(
    thick: Shaped[np.ndarray, "thick y x"], indices: range | list[int], model: Model
) -> Iterator[Float[np.ndarray, "channel y x"]]:
    """Yield what a network sees of each listed thick slice: context, then baseline, HU."""
    stride = model.layout.slices
    matrix = baseline_operator(len(thick), model.layout)
    for index in indices:
        rows = matrix[stride * index : stride * (index + 1)]
        used = np.flatnonzero(np.abs(rows).max(axis=0) > _NEGLIGIBLE)
        base = apply_operator(rows[:, used], thick[used[0] : used[-1] + 1])
        context = thick[context_indices(index, len(thick), model.layout)]
        yield np.concatenate([context.astype(np.float32), base])


def restore_images(
    model: Model,
    inputs_hu: Float[Tensor, "batch channel y x"],
    arithmetic: Arithmetic,
    *,
    consistent: bool | None = None,
) -> tuple[Float[Tensor, "batch z y x"], Float[Tensor, "batch z y x"] | None]:
    """Restore the thin slices of whole images; return them and their sigma if predicted, HU.

    Parameters
    ----------
    model
        Network with its layout and normalisation.
    inputs_hu
        Context and baseline slices, HU.
    arithmetic
        Tiles, precision and symmetries.
    consistent
        Whether each slice is made to agree with the thick slice; None: as the layout says.

    Notes
    -----
    Images are extended by reflection to the multiple that the network needs. Tiles overlap by
    the network's reach, so that every kept pixel sees all that it would see in the whole image.
    Of mirror images the mean is taken, of restored slices as of variances.
    """
    images, layout = normalise(inputs_hu, model.normalisation), model.layout
    chosen = layout.is_consistent if consistent is None else consistent
    total = images.new_zeros((len(images), layout.out_channels, *images.shape[2:]))
    with torch.inference_mode(), _autocast(arithmetic.precision, images.device.type):
        for mirror in _MIRRORS[: arithmetic.symmetries]:
            seen = mirror.apply(images)
            found = _restore_tiled(model, seen, arithmetic.tile, consistent=chosen)
            total += mirror.undo(found)
    total /= arithmetic.symmetries
    mean = denormalise(total[:, : layout.images], model.normalisation)
    if not layout.predicts_variance:
        return mean, None
    return mean, total[:, layout.images :].sqrt() * model.normalisation.scale_hu


@dataclass(frozen=True)
class _Mirror:
    """Name a symmetry of the image plane: exchange the axes, then flip some."""

    flips: tuple[int, ...]
    exchanges: bool

    def apply(self, images: Tensor) -> Tensor:
        return (images.transpose(2, 3) if self.exchanges else images).flip(self.flips)

    def undo(self, images: Tensor) -> Tensor:
        flipped = images.flip(self.flips)
        return flipped.transpose(2, 3) if self.exchanges else flipped


_MIRRORS = tuple(_Mirror(f, e) for e in (False, True) for f in ((), (3,), (2,), (2, 3)))
"""The symmetries of the square; the first four keep the order of the axes."""


def _restore_tiled(
    model: Model, images: Float[Tensor, "batch channel y x"], tile: int, *, consistent: bool
) -> Float[Tensor, "batch part y x"]:
    """Restore normalised images tile by tile; restored slices, then variances if predicted."""
    rows, columns = images.shape[2:]
    network, layout = model.network, model.layout
    multiple, halo = network.in_plane_multiple, _round_up(network.reach, network.in_plane_multiple)
    images = _extend(images, multiple, network.in_plane_minimum)
    restored = images.new_empty((len(images), layout.out_channels, *images.shape[2:]))
    step = _round_up(max(tile, network.in_plane_minimum), multiple)
    spans = [_tiles(size, step, halo) for size in images.shape[2:]]
    for (seen_y, kept_y, own_y), (seen_x, kept_x, own_x) in product(*spans):
        seen = images[:, :, seen_y, seen_x].contiguous(memory_format=torch.channels_last)
        found = predict_slices(network, layout, seen, consistent=consistent)
        parts = [
            found.mean,
            *([found.log_variance.exp()] if found.log_variance is not None else []),
        ]
        restored[:, :, kept_y, kept_x] = torch.cat(parts, dim=1)[:, :, own_y, own_x]
    return restored[:, :, :rows, :columns]


def _extend(
    images: Float[Tensor, "batch channel y x"], multiple: int, minimum: int
) -> Float[Tensor, "batch channel rows columns"]:
    needed = [_round_up(max(size, minimum), multiple) for size in images.shape[2:]]
    if needed == list(images.shape[2:]):
        return images
    rows, columns = (
        torch.from_numpy(np.pad(np.arange(size), (0, more - size), mode="symmetric"))
        for size, more in zip(images.shape[2:], needed, strict=True)
    )
    return images[:, :, rows.to(images.device)][:, :, :, columns.to(images.device)]


def _tiles(size: int, step: int, halo: int) -> list[tuple[slice, slice, slice]]:
    """Return, per tile, what it sees, what it is kept for, and where that lies in the tile."""
    found = []
    for start in range(0, size, step):
        end = min(start + step, size)
        first, last = max(0, start - halo), min(size, end + halo)
        found.append((slice(first, last), slice(start, end), slice(start - first, end - first)))
    return found


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _autocast(precision: str, device: str) -> torch.autocast:
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")
