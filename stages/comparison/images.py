"""Errors of a restored volume: over the whole, in the soft-tissue window, at the airway's wall.

References
----------
.. [1] Wang, Bovik, Sheikh & Simoncelli (2004), IEEE Trans. Image Process. 13, 600,
   doi:10.1109/TIP.2003.819861: structural similarity.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
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
