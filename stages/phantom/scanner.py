"""What a scanner sees: partial volume, slice profile, in-plane blur, noise, field of view.

References
----------
.. [1] Riederer, Pelc and Chesler (1978), The noise power spectrum in computed x-ray tomography,
   doi:10.1088/0031-9155/23/3/008: filtered back-projection leaves noise whose power rises with
   frequency and falls with the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int16
from scipy import fft, ndimage

from pipeline.core.geometry import VoxelGrid
from pipeline.core.units import PADDING_HU
from stages.phantom.coverage import cover
from stages.phantom.metal import streaks
from stages.phantom.textures import RandomField, draw_field
from stages.phantom.tissues import METAL, Material, Patient, Tissue

SLAB = 8
"""Slices painted at a time: two blocks of the coverage search."""

_FWHM_PER_SIGMA = 2.354820045
_HU_LIMITS = (-1024.0, 3071.0)
"""Range of twelve stored bits with an intercept of -1024 HU."""


@dataclass(frozen=True)
class Optics:
    """Hold how the scanner blurs and what noise it adds.

    Parameters
    ----------
    thickness_mm
        Width of the box that averages through the slice.
    blur_mm
        Full width at half maximum of the in-plane point spread (Gaussian).
    noise_hu
        Standard deviation of the noise.
    seed
        Seed of the noise.
    profile
        Slice-sensitivity profile; its full width at half maximum is the thickness.
    sharpness
        Gain of the kernel at edges, relative to a soft one; noise becomes finer with it.
    """

    thickness_mm: float
    blur_mm: float
    noise_hu: float
    seed: int
    profile: str = "box"
    sharpness: float = 0.0


@dataclass(frozen=True)
class Textures:
    """Hold the random fields that all tissues share."""

    slow: RandomField
    fascia: RandomField
    fine: RandomField


def draw_textures(seed: int) -> Textures:
    """Draw the fields of one patient."""
    rng = np.random.default_rng([seed, 1])
    return Textures(draw_field(rng, 9.0), draw_field(rng, 11.0), draw_field(rng, 1.5))


def scan(
    patient: Patient, grid: VoxelGrid, optics: Optics
) -> Iterator[Int16[np.ndarray, "slice y x"]]:
    """Yield slabs of the scan from the first slice to the last, HU."""
    textures = draw_textures(patient.anatomy.texture_seed)
    inside = reconstruction_circle(grid)
    for start in range(0, grid.shape[0], SLAB):
        stop = min(start + SLAB, grid.shape[0])
        hu = _through_profile(patient.tissues, textures, grid, start, stop, optics)
        hu += _metal_streaks(patient.tissues, hu, grid, start, stop, optics)
        hu = sharpen(blur(hu, grid, optics.blur_mm), grid, optics.sharpness)
        for k in range(start, stop):
            hu[k - start] += noise(
                grid,
                optics.noise_hu,
                np.random.default_rng([optics.seed, 2, k]),
                sharpness=optics.sharpness,
            )
        hu[:, ~inside] = PADDING_HU
        yield np.clip(np.rint(hu), *_HU_LIMITS).astype(np.int16)


def profile_parts(profile: str, width_mm: float) -> list[tuple[float, float, float]]:
    """Return a profile as a sum of boxes: weight, offset and width of each, mm.

    A triangle is a box averaged over its own width; the Gaussian is weighted at five places.

    Raises
    ------
    ValueError
        If there is no such profile.
    """
    if profile == "box":
        return [(1.0, 0.0, width_mm)]
    if profile == "triangle":
        return [(0.2, ((j + 0.5) / 5 - 0.5) * width_mm, width_mm) for j in range(5)]
    if profile == "gaussian":
        step = 0.5 * width_mm
        offsets = [step * j for j in (-2, -1, 0, 1, 2)]
        # The boxes have a variance of their own, which the weights leave to them.
        variance = (width_mm / _FWHM_PER_SIGMA) ** 2 - step**2 / 12
        weights = np.exp(-0.5 * np.array(offsets) ** 2 / variance)
        return [(float(w), o, step) for w, o in zip(weights / weights.sum(), offsets, strict=True)]
    raise ValueError(f"No slice profile is called {profile!r}.")


def _through_profile(
    tissues: Sequence[Tissue],
    textures: Textures,
    grid: VoxelGrid,
    start: int,
    stop: int,
    optics: Optics,
) -> Float[np.ndarray, "slice y x"]:
    total: Float[np.ndarray, "slice y x"] = np.zeros(
        (stop - start, *grid.shape[1:]), dtype=np.float32
    )
    x, y, z = grid.origin_mm
    for weight, offset_mm, width_mm in profile_parts(optics.profile, optics.thickness_mm):
        moved = replace(grid, origin_mm=(x, y, z + offset_mm))
        part = paint(tissues, textures, moved, start, stop, thickness_mm=width_mm)
        total += np.float32(weight) * part
    return total


def _metal_streaks(
    tissues: Sequence[Tissue],
    hu: Float[np.ndarray, "slice y x"],
    grid: VoxelGrid,
    start: int,
    stop: int,
    optics: Optics,
) -> Float[np.ndarray, "slice y x"]:
    z, y, x = grid_axes(grid)
    metal: Float[np.ndarray, "slice y x"] = np.zeros_like(hu)
    for tissue in tissues:
        if tissue.material == METAL:
            axes, width = (z[start:stop], y, x), optics.thickness_mm
            covered = cover(tissue.distance, axes, tissue.bounds_mm, thickness_mm=width)
            if covered is not None:
                metal[covered[0]] = np.maximum(metal[covered[0]], covered[1])
    added: Float[np.ndarray, "slice y x"] = np.zeros_like(hu)
    for k in np.flatnonzero(metal.any(axis=(1, 2))):
        rng = np.random.default_rng([optics.seed, 4, start + int(k)])
        added[k] = streaks(hu[k], metal[k], grid.spacing_mm[1], rng)
    return added


def paint(
    tissues: Sequence[Tissue],
    textures: Textures,
    grid: VoxelGrid,
    start: int,
    stop: int,
    *,
    thickness_mm: float,
) -> Float[np.ndarray, "slice y x"]:
    """Return the mean HU of each voxel of some slices, without blur and noise.

    Notes
    -----
    Tissues are painted over one another: HU <- HU + c (HU_tissue - HU), with c the share of the
    voxel that the tissue covers.
    """
    z, y, x = grid_axes(grid)
    hu = np.full((stop - start, *grid.shape[1:]), -1000.0, dtype=np.float32)
    fields = [
        f.on_grid(z[start:stop], y, x) for f in (textures.slow, textures.fascia, textures.fine)
    ]
    for tissue in tissues:
        covered = cover(
            tissue.distance, (z[start:stop], y, x), tissue.bounds_mm, thickness_mm=thickness_mm
        )
        if covered is None:
            continue
        where, share = covered
        value = _appearance(tissue.material, [f[where] for f in fields])
        hu[where] += share * (value - hu[where])
    return hu


def grid_axes(
    grid: VoxelGrid,
) -> tuple[Float[np.ndarray, " z"], Float[np.ndarray, " y"], Float[np.ndarray, " x"]]:
    """Return the coordinates of the slices, rows and columns of an axial grid, mm."""
    x0, y0, z0 = grid.origin_mm
    z, y, x = (
        o + s * np.arange(n)
        for o, s, n in zip((z0, y0, x0), grid.spacing_mm, grid.shape, strict=True)
    )
    return z, y, x


def _appearance(
    material: Material, fields: Sequence[Float[np.ndarray, "z y x"]]
) -> Float[np.ndarray, "z y x"] | np.float32:
    slow, fascia, fine = fields
    value: Float[np.ndarray, "z y x"] | np.float32 = np.float32(material.hu)
    if material.slow_hu:
        value = value + np.float32(material.slow_hu) * slow
    if material.fine_hu:
        value = value + np.float32(material.fine_hu) * fine
    if material.fascia_hu:
        value = value - np.float32(material.fascia_hu) * np.exp(
            -((fascia / np.float32(0.13)) ** 2)
        )
    return value


def blur(
    hu: Float[np.ndarray, "slice y x"], grid: VoxelGrid, fwhm_mm: float
) -> Float[np.ndarray, "slice y x"]:
    """Apply the in-plane point spread; the mean is kept."""
    if fwhm_mm == 0:
        return hu
    for axis in (1, 2):
        sigma = fwhm_mm / _FWHM_PER_SIGMA / grid.spacing_mm[axis]
        hu = ndimage.gaussian_filter1d(hu, sigma, axis=axis, mode="nearest", truncate=4.0)
    return hu


def sharpen(
    hu: Float[np.ndarray, "slice y x"], grid: VoxelGrid, gain: float
) -> Float[np.ndarray, "slice y x"]:
    """Raise edges in-plane as sharp kernels do, overshoot included; the mean is kept."""
    if gain == 0:
        return hu
    sharp: Float[np.ndarray, "slice y x"] = hu + np.float32(gain) * (hu - blur(hu, grid, 2.0))
    return sharp


def noise(
    grid: VoxelGrid, deviation_hu: float, rng: np.random.Generator, *, sharpness: float = 0.0
) -> Float[np.ndarray, "y x"]:
    """Return one slice of noise with the texture of a soft kernel, finer if it is sharper.

    Notes
    -----
    Amplitude spectrum sqrt(f + f_s) exp(-(f/f_c)^2): a ramp under a soft apodisation [1]_, with
    the low-frequency floor f_s that the brain region of real head CT shows.
    """
    if deviation_hu == 0:
        return np.zeros(grid.shape[1:], dtype=np.float32)
    shape, (_, dy, dx) = grid.shape[1:], grid.spacing_mm
    frequency = np.hypot(fft.fftfreq(shape[0], dy)[:, None], fft.rfftfreq(shape[1], dx)[None])
    amplitude = np.sqrt(frequency + 0.15) * np.exp(
        -((frequency / (0.50 * (1.0 + 0.5 * sharpness))) ** 2)
    )
    white = fft.rfft2(rng.standard_normal(shape, dtype=np.float32))
    coloured = fft.irfft2(white * amplitude.astype(np.float32), s=shape)
    # Parseval: the mean power of the filter over all frequencies is the variance it leaves.
    weight = np.full(frequency.shape[1], 2.0)
    weight[0] = 1.0
    if shape[1] % 2 == 0:
        weight[-1] = 1.0
    power = (amplitude**2 * weight).sum() / (shape[0] * shape[1])
    scaled: Float[np.ndarray, "y x"] = coloured * np.float32(deviation_hu / np.sqrt(power))
    return scaled


def reconstruction_circle(grid: VoxelGrid) -> np.ndarray:
    """Return the pixels inside the scanner's circular field of view."""
    _, rows, columns = grid.shape
    y = (np.arange(rows) - (rows - 1) / 2) * grid.spacing_mm[1]
    x = (np.arange(columns) - (columns - 1) / 2) * grid.spacing_mm[2]
    radius = min(rows * grid.spacing_mm[1], columns * grid.spacing_mm[2]) / 2
    return (y[:, None] ** 2 + x[None] ** 2) <= radius**2
