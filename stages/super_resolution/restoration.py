"""Restore whole volumes with a network, one thick slice at a time, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from stages.super_resolution.baselines import apply_operator, histospline_operator
from stages.super_resolution.data import context_indices
from stages.super_resolution.model import Model, denormalise, normalise, restore_slices

_NEGLIGIBLE = 1e-9
"""Histospline weights below this move a slice by less than 1e-5 HU; their slices are not read."""


def restore_volume(
    model: Model,
    thick: Shaped[np.ndarray, "thick y x"],
    *,
    tile: int,
    precision: str,
    device: str = "cpu",
) -> Iterator[Float[np.ndarray, "factor y x"]]:
    """Yield the thin slices of each thick slice in turn, float32, HU.

    Parameters
    ----------
    model
        Network with its layout and normalisation, on the device.
    thick
        Thick slices, HU; any in-plane size.
    tile
        In-plane edge above which a slice is cut into tiles; the result does not depend on it.
    precision
        ``bfloat16`` or ``float32``, of the network's arithmetic.
    device
        Where the network is.
    """
    for inputs in slice_inputs(thick, range(len(thick)), model):
        batch = torch.from_numpy(inputs)[None].to(device)
        yield restore_images(model, batch, tile=tile, precision=precision)[0].cpu().numpy()


def slice_inputs(
    thick: Shaped[np.ndarray, "thick y x"], indices: range | list[int], model: Model
) -> Iterator[Float[np.ndarray, "channel y x"]]:
    """Yield what a network sees of each listed thick slice: context, then histospline, HU."""
    factor = model.layout.factor
    matrix = histospline_operator(len(thick), factor)
    for index in indices:
        rows = matrix[factor * index : factor * (index + 1)]
        used = np.flatnonzero(np.abs(rows).max(axis=0) > _NEGLIGIBLE)
        base = apply_operator(rows[:, used], thick[used[0] : used[-1] + 1])
        context = thick[context_indices(index, len(thick), model.layout)]
        yield np.concatenate([context.astype(np.float32), base])


def restore_images(
    model: Model, inputs_hu: Float[Tensor, "batch channel y x"], *, tile: int, precision: str
) -> Float[Tensor, "batch z y x"]:
    """Restore the thin slices of whole images, HU.

    Parameters
    ----------
    model
        Network with its layout and normalisation.
    inputs_hu
        Context and histospline slices, HU.
    tile
        In-plane edge above which images are cut into tiles.
    precision
        ``bfloat16`` or ``float32``.

    Notes
    -----
    Images are extended by reflection to the multiple that the network needs. Tiles overlap by
    the network's reach, so that every kept pixel sees all that it would see in the whole image.
    """
    rows, columns = inputs_hu.shape[2:]
    multiple = int(model.network.in_plane_multiple)  # type: ignore[arg-type]
    halo = _round_up(int(model.network.reach), multiple)  # type: ignore[arg-type]
    images = _extend(normalise(inputs_hu, model.normalisation), multiple)
    restored = torch.empty(
        (len(images), model.layout.factor, *images.shape[2:]), device=images.device
    )
    step = _round_up(tile, multiple)
    spans = [_tiles(size, step, halo) for size in images.shape[2:]]
    with torch.inference_mode(), _autocast(precision, images.device.type):
        for (seen_y, kept_y, own_y), (seen_x, kept_x, own_x) in product(*spans):
            seen = images[:, :, seen_y, seen_x].contiguous(memory_format=torch.channels_last)
            part = restore_slices(model.network, model.layout, seen)
            restored[:, :, kept_y, kept_x] = part[:, :, own_y, own_x]
    return denormalise(restored[:, :, :rows, :columns], model.normalisation)


def _extend(
    images: Float[Tensor, "batch channel y x"], multiple: int
) -> Float[Tensor, "batch channel rows columns"]:
    indices = [
        torch.from_numpy(np.pad(np.arange(n), (0, -n % multiple), mode="symmetric"))
        for n in images.shape[2:]
    ]
    if all(len(index) == n for index, n in zip(indices, images.shape[2:], strict=True)):
        return images
    rows, columns = (index.to(images.device) for index in indices)
    return images[:, :, rows][:, :, :, columns]


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
