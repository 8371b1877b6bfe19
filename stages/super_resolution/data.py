"""Training patches: thin slices cut from volumes, degraded, resampled and augmented on the fly.

The degradation acts along z and the in-plane resampling within slices: they commute, so slices
are degraded first and only the few that the network sees are resampled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from numpy.random import Generator
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import interpolate

from pipeline.core.errors import InputError
from pipeline.core.volume import Volume
from stages.super_resolution.baselines import histospline_rows
from stages.super_resolution.degradation import degrade, profile_taps
from stages.super_resolution.model import Layout, Normalisation
from stages.super_resolution.settings import TrainingSettings

_EDGE_HU = -400.0
"""Half-way between air and mucosa, where the airway wall is drawn."""

_WINDOW = 6
"""Thick slices to each side that shape a patch's histospline: its weights fall by 0.27 a slice,
so that what is left out is below 0.05 % of a jump."""

_POINTS = 200_000
"""Candidate centres kept per volume and kind; more than any training draws."""

_EVERYWHERE = 0.05
"""Share of patches centred anywhere, so that plain air and the couch are seen too."""


@dataclass(frozen=True)
class TrainingVolume:
    """Hold a thin-slice volume and where patches may be centred, (z, y, x) indices."""

    case: str
    values: Shaped[np.ndarray, "z y x"]
    spacing_mm: tuple[float, float, float]
    edges: Int[np.ndarray, "point 3"]
    body: Int[np.ndarray, "point 3"]


def prepare_volume(case: str, volume: Volume, rng: Generator) -> TrainingVolume:
    """Find the body and the air-tissue edges inside it."""
    body = body_mask(volume.values)
    tissue = volume.values > _EDGE_HU
    inside = ndimage.binary_erosion(body, np.ones((1, 5, 5), dtype=bool))
    edges = inside & tissue & ndimage.binary_dilation(~tissue & inside)
    return TrainingVolume(
        case,
        volume.values,
        volume.grid.spacing_mm,
        _some_points(edges, rng),
        _some_points(body, rng),
    )


def body_mask(values_hu: Shaped[np.ndarray, "z y x"]) -> Bool[np.ndarray, "z y x"]:
    """Mark tissue and the air that it encloses within each slice."""
    body = values_hu > _EDGE_HU
    for image in body:
        ndimage.binary_fill_holes(image, output=image)
    return body


def measure_normalisation(volumes: list[TrainingVolume]) -> Normalisation:
    """Return mean and standard deviation over points in the bodies, rounded to whole HU.

    Raises
    ------
    InputError
        If no volume holds tissue.
    """
    samples = [v.values[tuple(v.body.T)].astype(np.float64) for v in volumes]
    together = np.concatenate(samples)
    if together.size == 0 or together.std() < 1.0:
        raise InputError(
            "The training volumes hold nothing above -400 HU: needed are CT volumes in HU; check "
            "the manifest's files."
        )
    return Normalisation(float(np.round(together.mean())), float(np.round(together.std())))


@dataclass(frozen=True)
class PatchSampler:
    """Draw batches of patches from volumes, each volume equally often."""

    volumes: list[TrainingVolume]
    layout: Layout
    normalisation: Normalisation
    settings: TrainingSettings

    def batch(
        self, rng: Generator
    ) -> tuple[Float[Tensor, "batch channel y x"], Float[Tensor, "batch z y x"]]:
        """Return inputs (thick slices, histospline) and true thin slices, normalised."""
        patches = torch.stack([self._patch(rng) for _ in range(self.settings.batch_size)])
        centre, scale = self.normalisation.centre_hu, self.normalisation.scale_hu
        patches = (patches - centre) / scale
        split = self.layout.in_channels
        return patches[:, :split].contiguous(), patches[:, split:].contiguous()

    def _patch(self, rng: Generator) -> Float[Tensor, "channel y x"]:
        volume = self.volumes[rng.integers(len(self.volumes))]
        point = _draw_point(volume, self.settings.edge_fraction, rng)
        axes = _draw_axes(volume.spacing_mm, rng, all_axes=self.settings.all_axes)
        values = volume.values.transpose(axes)
        spacing = tuple(volume.spacing_mm[a] for a in axes)
        slab, index = self._slab(values, spacing, point[list(axes)], rng)
        channels = slice_channels(slab, index, self.layout)
        image = torch.from_numpy(channels)[None]
        size = (self.settings.patch, self.settings.patch)
        if image.shape[2:] != size:
            image = interpolate(image, size, mode="bicubic", antialias=True, align_corners=False)
        patch = image[0] + float(rng.uniform(-1, 1)) * self.settings.shift_hu
        patch = patch + torch.from_numpy(self._noise(rng))
        return _flip(patch, self.layout, rng)

    def _slab(
        self,
        values: Shaped[np.ndarray, "z y x"],
        spacing_mm: tuple[float, ...],
        point: Int[np.ndarray, 3],
        rng: Generator,
    ) -> tuple[Float[np.ndarray, "z y x"], int]:
        """Cut the thin slices around a point; any phase of the thick slices is as likely."""
        settings, factor = self.settings, self.layout.factor
        low, high = np.log([settings.pixel_spacing_min_mm, settings.pixel_spacing_max_mm])
        edge_mm = settings.patch * float(np.exp(rng.uniform(low, high)))
        rows = _span(point[1], edge_mm / spacing_mm[1], values.shape[1])
        columns = _span(point[2], edge_mm / spacing_mm[2], values.shape[2])
        phase = int(rng.integers(min(factor, values.shape[0] - factor + 1)))
        count = (values.shape[0] - phase) // factor
        index = int(np.clip((point[0] - phase) // factor, 0, count - 1))
        first, last = max(0, index - _WINDOW), min(count, index + _WINDOW + 1)
        cut = slice(phase + factor * first, phase + factor * last)
        return values[cut, rows, columns].astype(np.float32), index - first

    def _noise(self, rng: Generator) -> Float[np.ndarray, "channel y x"]:
        """Return the noise of a random scanner as every channel sees it."""
        layout, edge = self.layout, self.settings.patch
        thin = rng.standard_normal((layout.context * layout.factor, edge, edge), np.float32)
        # A reconstruction kernel correlates neighbouring pixels; 0.7 pixels leave 0.42 of sigma.
        thin = ndimage.gaussian_filter(thin, (0, 0.7, 0.7), truncate=3.0) / np.float32(0.42)
        thin *= np.float32(rng.uniform() * self.settings.noise_hu)
        return slice_channels(thin, layout.context // 2, layout)


def slice_channels(
    thin: Float[np.ndarray, "z y x"], index: int, layout: Layout
) -> Float[np.ndarray, "channel y x"]:
    """Degrade thin slices; return the network's input for one thick slice, and its true slices.

    Parameters
    ----------
    thin
        Thin slices, HU.
    index
        Thick slice to restore.
    layout
        What the channels are.
    """
    factor = layout.factor
    thick = degrade(thin, profile_taps(layout.profile, factor), factor)
    rows = histospline_rows(len(thick), index, factor).astype(np.float32)
    base = np.tensordot(rows, thick, axes=1)
    true = thin[factor * index : factor * (index + 1)]
    return np.concatenate([thick[context_indices(index, len(thick), layout)], base, true])


def context_indices(index: int, count: int, layout: Layout) -> Int[np.ndarray, " context"]:
    """Return the thick slices around one; beyond the stack its outermost slice is repeated."""
    reach = layout.context // 2
    return np.clip(np.arange(index - reach, index + reach + 1), 0, count - 1)


def _draw_point(
    volume: TrainingVolume, edge_fraction: float, rng: Generator
) -> Int[np.ndarray, 3]:
    kind = rng.uniform()
    if kind < _EVERYWHERE or len(volume.body) == 0:
        return rng.integers(0, volume.values.shape)
    wants_edge = kind < _EVERYWHERE + (1.0 - _EVERYWHERE) * edge_fraction
    points = volume.edges if wants_edge and len(volume.edges) else volume.body
    chosen: Int[np.ndarray, 3] = points[rng.integers(len(points))].astype(np.int64)
    return chosen


def _draw_axes(
    spacing_mm: tuple[float, float, float], rng: Generator, *, all_axes: bool
) -> tuple[int, int, int]:
    eligible = [a for a in range(3) if abs(spacing_mm[a] / spacing_mm[0] - 1.0) <= 0.25]
    through = int(rng.choice(eligible)) if all_axes else 0
    first, second = (a for a in range(3) if a != through)
    return (through, first, second) if rng.uniform() < 0.5 else (through, second, first)


def _span(centre: int, length: float, available: int) -> slice:
    size = int(np.clip(round(length), 1, available))
    start = int(np.clip(centre - size // 2, 0, available - size))
    return slice(start, start + size)


def _flip(
    patch: Float[Tensor, "channel y x"], layout: Layout, rng: Generator
) -> Float[Tensor, "channel y x"]:
    in_plane = [axis for axis in (1, 2) if rng.uniform() < 0.5]
    flipped = patch.flip(in_plane) if in_plane else patch
    if rng.uniform() < 0.5:
        sizes = [layout.context, layout.factor, layout.factor]
        groups = torch.split(flipped, sizes)
        flipped = torch.cat([group.flip(0) for group in groups])
    return flipped


def _some_points(mask: Bool[np.ndarray, "z y x"], rng: Generator) -> Int[np.ndarray, "point 3"]:
    flat = np.flatnonzero(mask)
    if len(flat) > _POINTS:
        flat = rng.choice(flat, _POINTS, replace=False)
    return np.stack(np.unravel_index(flat, mask.shape), axis=1).astype(np.int32)
