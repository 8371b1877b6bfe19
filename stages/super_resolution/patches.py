"""Training patches: thin slices cut from volumes, degraded, resampled and augmented on the fly.

The degradation acts along z and the in-plane resampling within slices: they commute, so slices
are degraded first and only the few that the network sees are resampled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from numpy.random import Generator
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import interpolate

from stages.super_resolution.augmentation import Change, correlated, draw_flip
from stages.super_resolution.channels import slice_channels, upright_channels
from stages.super_resolution.layout import Layout
from stages.super_resolution.model import Normalisation
from stages.super_resolution.settings import TrainingSettings
from stages.super_resolution.training_volumes import PatchSource

WINDOW = 6
"""Thick slices to each side that shape a patch's histospline: its weights fall by 0.27 a slice,
so that what is left out is below 0.05 % of a jump."""

_SMALLEST = 2.2
"""How many times smaller a patient is shown, at most."""

_EVERYWHERE = 0.05
"""Share of patches centred anywhere, so that plain air and the couch are seen too."""

Cut = Callable[[], Float[Tensor, "channel y x"]]
"""A patch whose every random number is drawn, and that is cut, degraded and resampled when called:
of a batch that several processes share, each draws all and cuts its own."""
Channels = Callable[[], Float[np.ndarray, "channel y x"]]
"""What a patch's channels hold, HU, cut or made when called."""
Means = Callable[[Float[np.ndarray, "z y x"]], Float[np.ndarray, "cell y x"]]
"""Make the slices of a smaller patient of those of a larger one."""


@dataclass(frozen=True)
class PatchCentre:
    """Say where a patch is cut: volume, (z, y, x) index, and axes with the through-plane first."""

    volume: int
    point: tuple[int, int, int]
    axes: tuple[int, int, int]


@dataclass(frozen=True)
class BiasedCentres:
    """Hold centres of patches with the probability of each to be drawn."""

    centres: Sequence[PatchCentre]
    cumulative: Float[np.ndarray, " centre"]

    def draw(self, rng: Generator) -> PatchCentre:
        """Draw a centre."""
        index = int(np.searchsorted(self.cumulative, rng.uniform(), side="right"))
        return self.centres[min(index, len(self.centres) - 1)]


@dataclass(frozen=True)
class PatchSampler:
    """Draw batches of patches, each volume equally often or from biased centres."""

    volumes: Sequence[PatchSource]
    layout: Layout
    normalisation: Normalisation
    settings: TrainingSettings
    bias: BiasedCentres | None = None

    def batch(
        self, rng: Generator, part: range | None = None
    ) -> tuple[Float[Tensor, "batch channel y x"], Float[Tensor, "batch z y x"]]:
        """Return inputs (thick slices, baseline) and true thin slices, normalised.

        Parameters
        ----------
        rng
            Source of the batch's random numbers.
        part
            Which patches of the batch are wanted; they are those of the whole. None: all.
        """
        patches = []
        for index in range(self.settings.batch_size):
            cut = self._patch(self.draw_centre(rng), rng)
            if part is None or index in part:
                patches.append(cut())
        return self._normalised(patches)

    def draw_centre(self, rng: Generator) -> PatchCentre:
        """Draw where a patch is cut."""
        if self.bias is not None:
            return self.bias.draw(rng)
        index = int(rng.integers(len(self.volumes)))
        volume = self.volumes[index]
        z, y, x = _draw_point(volume, self.settings.edge_fraction, rng).tolist()
        axes = _draw_axes(volume.spacing_mm, rng, all_axes=self.settings.all_axes)
        return PatchCentre(index, (z, y, x), axes)

    def patches_at(
        self, centres: Sequence[PatchCentre], rngs: Sequence[Generator]
    ) -> tuple[Float[Tensor, "batch channel y x"], Float[Tensor, "batch z y x"]]:
        """Return a patch at each centre, each augmented by its own generator, normalised."""
        return self._normalised([self._patch(c, g)() for c, g in zip(centres, rngs, strict=True)])

    def without_noise(self) -> PatchSampler:
        """Return a sampler whose patches are what the volume holds, shifted by no scanner."""
        plain = {"noise_hu": 0.0, "shift_hu": 0.0, "kernel_change": 0.0}
        return replace(self, settings=self.settings.model_copy(update=plain))

    def _normalised(
        self, patches: Sequence[Float[Tensor, "channel y x"]]
    ) -> tuple[Float[Tensor, "batch channel y x"], Float[Tensor, "batch z y x"]]:
        centre, scale = self.normalisation.centre_hu, self.normalisation.scale_hu
        together = (torch.stack(list(patches)) - centre) / scale
        split = self.layout.in_channels
        return together[:, :split].contiguous(), together[:, split:].contiguous()

    def _patch(self, centre: PatchCentre, rng: Generator) -> Cut:
        """Draw all that is random about a patch."""
        if self.layout.is_upright:
            return self._upright_patch(*self._turned(centre), rng)
        channels, size = self._channels(centre, rng), (self.settings.patch, self.settings.patch)
        other_kernel = self._other_kernel(rng)
        shift_hu = float(rng.uniform(-1, 1)) * self.settings.shift_hu
        noise, flip = self._noise(rng), draw_flip(self.layout, rng)

        def cut() -> Float[Tensor, "channel y x"]:
            patch = other_kernel(_resized(channels(), size)) + shift_hu
            return flip(patch + torch.from_numpy(noise()))

        return cut

    def _turned(
        self, centre: PatchCentre
    ) -> tuple[Shaped[np.ndarray, "z y x"], tuple[float, ...], Int[np.ndarray, 3]]:
        """Return the volume, its spacing and the point with the through-plane axis first."""
        volume, axes = self.volumes[centre.volume], centre.axes
        spacing_mm = tuple(volume.spacing_mm[a] for a in axes)
        return volume.values.transpose(axes), spacing_mm, np.array(centre.point)[list(axes)]

    def _channels(self, centre: PatchCentre, rng: Generator) -> Channels:
        """Draw what is cut of what the network sees around a point and of what is true there."""
        values, spacing_mm, point = self._turned(centre)
        size = self._draw_size(rng)
        slab, index, means = self._slab(values, spacing_mm, point, size, rng)
        return lambda: slice_channels(means(slab.astype(np.float32)), index, self.layout)

    def _upright_patch(
        self,
        values: Shaped[np.ndarray, "z plane u"],
        spacing_mm: tuple[float, ...],
        point: Int[np.ndarray, 3],
        rng: Generator,
    ) -> Cut:
        """Cut neighbouring planes, degrade them along z and resample them across."""
        settings, layout = self.settings, self.layout
        slab, planes, start = self._planes(values, spacing_mm[2], point, rng)
        shift_hu = float(rng.uniform(-1, 1)) * settings.shift_hu
        white = rng.standard_normal((len(slab), len(planes), slab.shape[2]), np.float32)
        deviation_hu = np.float32(rng.uniform() * settings.noise_hu)
        other_kernel = self._other_kernel(rng)
        flips = [a for a in (1, 2) if rng.uniform() < 0.5 and (a == 2 or layout.is_symmetric)]
        turns = rng.uniform() < 0.5

        def cut() -> Float[Tensor, "channel z u"]:
            thin = slab[:, planes].astype(np.float32)
            thin += shift_hu
            thin += correlated(white) * deviation_hu
            channels = upright_channels(thin, layout)
            rows = np.arange(start, start + settings.patch)
            # A volume with fewer slices than the patch has rows is mirrored at its end.
            mirrored = np.pad(np.arange(channels.shape[1]), (0, settings.patch), mode="symmetric")
            patch = _resized(channels[:, mirrored[rows]], (settings.patch, settings.patch))
            patch = other_kernel(patch)
            patch = patch.flip(flips) if flips else patch
            return torch.cat([patch[:-1].flip(0), patch[-1:]]) if turns else patch

        return cut

    def _planes(
        self,
        values: Shaped[np.ndarray, "z plane u"],
        spacing_mm: float,
        point: Int[np.ndarray, 3],
        rng: Generator,
    ) -> tuple[Shaped[np.ndarray, "z plane u"], Int[np.ndarray, " context"], int]:
        """Draw slices around a point, with what shapes their baseline; planes; the patch's row."""
        settings, stride, reach = self.settings, self.layout.slices, self.layout.context // 2
        phase = int(rng.integers(min(stride, len(values) - stride + 1)))
        cells = (len(values) - phase) // stride
        own = span((point[0] - phase) // stride, -(-settings.patch // stride) + 1, cells)
        first, last = max(0, own.start - WINDOW), min(cells, own.stop + WINDOW)
        planes = np.clip(np.arange(point[1] - reach, point[1] + reach + 1), 0, values.shape[1] - 1)
        columns = span(point[2], self.draw_edge_mm(rng) / spacing_mm, values.shape[2])
        slab = values[phase + stride * first : phase + stride * last, :, columns]
        return slab, planes, stride * (own.start - first) + int(rng.integers(stride))

    def _other_kernel(self, rng: Generator) -> Change:
        """Draw a kernel that sharpens or softens: in the plane, so that z knows nothing of it."""
        largest = self.settings.kernel_change
        if largest == 0:
            return lambda patch: patch
        sigma, share = (
            (0, 0 if self.layout.is_upright else 1, 1),
            float(rng.uniform(-largest, largest)),
        )

        def change(patch: Float[Tensor, "channel y x"]) -> Float[Tensor, "channel y x"]:
            detail = patch - torch.from_numpy(ndimage.gaussian_filter(patch.numpy(), sigma))
            return patch + share * detail

        return change

    def draw_edge_mm(self, rng: Generator) -> float:
        """Draw the length of a patch from a range of pixel spacings."""
        settings = self.settings
        low, high = np.log([settings.pixel_spacing_min_mm, settings.pixel_spacing_max_mm])
        return settings.patch * float(np.exp(rng.uniform(low, high)))

    def _draw_size(self, rng: Generator) -> float:
        """Draw how many times smaller the patient is shown."""
        if self.settings.shrink == 0 or rng.uniform() >= self.settings.shrink:
            return 1.0
        return float(np.exp(rng.uniform(0.0, np.log(_SMALLEST))))

    def _slab(
        self,
        values: Shaped[np.ndarray, "z y x"],
        spacing_mm: tuple[float, ...],
        point: Int[np.ndarray, 3],
        size: float,
        rng: Generator,
    ) -> tuple[Shaped[np.ndarray, "z y x"], int, Means]:
        """Draw the thin slices around a point; any phase of the thick slices is as likely.

        Returns
        -------
        slab, index, means
            Slices as they are; the thick slice among those that their means over `size` slices make;
            and what makes these means.
        """
        stride = self.layout.slices
        size = min(size, values.shape[0] / stride)
        edge_mm = size * self.draw_edge_mm(rng)
        rows = span(point[1], edge_mm / spacing_mm[1], values.shape[1])
        columns = span(point[2], edge_mm / spacing_mm[2], values.shape[2])
        slices = int(values.shape[0] / size)
        phase = int(rng.integers(min(stride, slices - stride + 1)))
        count = (slices - phase) // stride
        index = int(np.clip((point[0] / size - phase) // stride, 0, count - 1))
        first, last = max(0, index - WINDOW), min(count, index + WINDOW + 1)
        low, high = phase + stride * first, phase + stride * last
        cut = slice(int(low * size), min(int(np.ceil(high * size)), values.shape[0]))
        faces = np.arange(low, high + 1) * size - cut.start
        return values[cut, rows, columns], index - first, partial(cell_averages, faces)

    def _noise(self, rng: Generator) -> Channels:
        """Draw the noise of a random scanner, as every channel sees it."""
        layout, edge = self.layout, self.settings.patch
        white = rng.standard_normal((layout.context * layout.slices, edge, edge), np.float32)
        deviation_hu = np.float32(rng.uniform() * self.settings.noise_hu)
        return lambda: slice_channels(
            correlated(white) * deviation_hu, layout.context // 2, layout
        )


def cell_averages(
    faces: Float[np.ndarray, " face"], values: Float[np.ndarray, "z y x"]
) -> Float[np.ndarray, "cell y x"]:
    """Return means of slices over wider cells, each slice being the mean over its own.

    Parameters
    ----------
    faces
        Faces of the cells, in slices from the first face of the stack.
    values
        Slices.
    """
    if np.array_equal(faces, np.arange(len(values) + 1)):
        return values
    below = np.clip(faces[:, None] - np.arange(len(values)), 0, 1)
    weights = np.diff(below, axis=0) / np.diff(faces)[:, None]
    return np.tensordot(weights.astype(np.float32), values, axes=1)


def _resized(
    channels: Float[np.ndarray, "channel y x"], size: tuple[int, int]
) -> Float[Tensor, "channel rows columns"]:
    image = torch.from_numpy(np.ascontiguousarray(channels))[None]
    if image.shape[2:] == size:
        return image[0]
    return interpolate(image, size, mode="bicubic", antialias=True, align_corners=False)[0]


def _draw_point(volume: PatchSource, edge_fraction: float, rng: Generator) -> Int[np.ndarray, 3]:
    kind, body = rng.uniform(), volume.body
    if kind < _EVERYWHERE or len(body) == 0:
        return rng.integers(0, volume.values.shape)
    wants_edge = kind < _EVERYWHERE + (1.0 - _EVERYWHERE) * edge_fraction
    edges = volume.edges if wants_edge else body
    points = edges if len(edges) else body
    chosen: Int[np.ndarray, 3] = points[rng.integers(len(points))].astype(np.int64)
    return chosen


def _draw_axes(
    spacing_mm: tuple[float, float, float], rng: Generator, *, all_axes: bool
) -> tuple[int, int, int]:
    eligible = [a for a in range(3) if abs(spacing_mm[a] / spacing_mm[0] - 1.0) <= 0.25]
    through = int(rng.choice(eligible)) if all_axes else 0
    first, second = (a for a in range(3) if a != through)
    return (through, first, second) if rng.uniform() < 0.5 else (through, second, first)


def span(centre: int, length: float, available: int) -> slice:
    """Return a span of a length around a centre, moved and cut to what is available."""
    size = int(np.clip(round(length), 1, available))
    start = int(np.clip(centre - size // 2, 0, available - size))
    return slice(start, start + size)
