"""Errors of a restored volume: over the whole, in the soft-tissue window, at the airway's wall.

References
----------
.. [1] Wang, Bovik, Sheikh & Simoncelli (2004), IEEE Trans. Image Process. 13, 600,
   doi:10.1109/TIP.2003.819861: structural similarity.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from skimage.metrics import structural_similarity

FULL_RANGE_HU = (-1024.0, 3071.0)
"""Range of a 12-bit scanner; values are clipped to it, and PSNR refers to its width, 4095 HU."""
SOFT_TISSUE_HU = (-160.0, 240.0)
"""Window 400, level 40."""
SSIM_WINDOW = 7


def psnr_db(
    reference: Float[np.ndarray, "..."],
    restored: Float[np.ndarray, "..."],
    limits_hu: tuple[float, float] = FULL_RANGE_HU,
) -> float | None:
    """Return the peak signal-to-noise ratio, dB, the error pooled over all voxels.

    Both are clipped to the limits, whose width is the peak. None if they are equal.
    """
    low, high = limits_hu
    error = rms_hu(np.clip(reference, low, high), np.clip(restored, low, high))
    return None if error == 0 else float(20 * np.log10((high - low) / error))


def rms_hu(reference: Float[np.ndarray, "..."], restored: Float[np.ndarray, "..."]) -> float:
    """Return the root mean square difference, HU, summed in double precision."""
    total = 0.0
    for a, b in zip(np.atleast_2d(reference), np.atleast_2d(restored), strict=True):
        total += float(np.square(a.astype(np.float64) - b).sum())
    return float(np.sqrt(total / max(reference.size, 1)))


def ssim(reference: Float[np.ndarray, "z y x"], restored: Float[np.ndarray, "z y x"]) -> float:
    """Return the mean structural similarity of the slices (7x7 window, range 4095 HU) [1]_."""
    low, high = FULL_RANGE_HU
    values = [
        structural_similarity(
            np.clip(a, low, high).astype(np.float32),
            np.clip(b, low, high).astype(np.float32),
            data_range=high - low,
            win_size=SSIM_WINDOW,
        )
        for a, b in zip(reference, restored, strict=True)
    ]
    return float(np.mean(values))


def wall_band(
    reference: Float[np.ndarray, "z y x"],
    spacing_mm: tuple[float, float, float],
    *,
    isolevel_hu: float,
    width_mm: float,
    lumen: Bool[np.ndarray, "z y x"] | None = None,
) -> Bool[np.ndarray, "z y x"]:
    """Return the voxels within a distance of the airway's wall in the reference.

    Parameters
    ----------
    reference
        Thin-slice volume, HU.
    spacing_mm
        Distance of voxels along z, y, x.
    isolevel_hu
        Grey value of the wall.
    width_mm
        Largest distance from the wall.
    lumen
        The airway's lumen; without it every wall between air and tissue counts.
    """
    air = reference < isolevel_hu if lumen is None else lumen
    if not air.any() or air.all():
        return np.zeros_like(air)
    box = _box_around(air, [int(np.ceil(width_mm / s)) + 2 for s in spacing_mm])
    inner = air[box]
    outside = ndimage.distance_transform_edt(~inner, sampling=spacing_mm)
    inside = ndimage.distance_transform_edt(inner, sampling=spacing_mm)
    half = 0.5 * min(spacing_mm)
    band = np.zeros_like(air)
    band[box] = np.where(inner, inside, outside) - half <= width_mm
    return band


def _box_around(mask: Bool[np.ndarray, "z y x"], margin: list[int]) -> tuple[slice, ...]:
    found = ndimage.find_objects(mask.astype(np.uint8))[0]
    return tuple(
        slice(max(part.start - extra, 0), min(part.stop + extra, size))
        for part, extra, size in zip(found, margin, mask.shape, strict=True)
    )


def image_errors(
    reference: Float[np.ndarray, "z y x"],
    restored: Float[np.ndarray, "z y x"],
    band: Bool[np.ndarray, "z y x"],
) -> dict[str, float | None]:
    """Return every error of one restored volume."""
    at_wall = bool(band.any())
    return {
        "psnr_db": psnr_db(reference, restored),
        "psnr_soft_tissue_db": psnr_db(reference, restored, SOFT_TISSUE_HU),
        "psnr_airway_wall_db": psnr_db(reference[band], restored[band]) if at_wall else None,
        "rms_airway_wall_hu": rms_hu(reference[band], restored[band]) if at_wall else None,
        "ssim": ssim(reference, restored),
    }
