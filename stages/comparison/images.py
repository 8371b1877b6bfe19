"""Errors of a restored volume: over the whole, in the soft-tissue window, at the airway's wall.

References
----------
.. [1] Wang, Bovik, Sheikh & Simoncelli (2004), IEEE Trans. Image Process. 13, 600,
   doi:10.1109/TIP.2003.819861: structural similarity.
.. [2] Wang, Simoncelli & Bovik (2003), Asilomar Conf. Signals Syst. Comput., 1398,
   doi:10.1109/ACSSC.2003.1292216: its multi-scale form and the weights of the scales.
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
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the five scales of MS-SSIM, fine to coarse [2]_."""
_GAUSSIAN_WINDOW, _SIGMA = 11, 1.5
LEAST_MS_SSIM_EDGE = _GAUSSIAN_WINDOW * 2 ** (len(SCALE_WEIGHTS) - 1)
"""Pixels; smaller slices hold no window at the coarsest scale."""
_NO_LUMINANCE = 1e4
"""A stabiliser of the means so large that the luminance term is 1 within 1e-8."""
_RANGE = (
    f"HU clipped to {FULL_RANGE_HU[0]:g}..{FULL_RANGE_HU[1]:g}, range "
    f"{FULL_RANGE_HU[1] - FULL_RANGE_HU[0]:g} HU"
)
SSIM_DEFINITION = (
    f"mean over slices, {SSIM_WINDOW} x {SSIM_WINDOW} uniform window, {_RANGE}, constants 0.01 and 0.03 "
    "of it"
)
MS_SSIM_DEFINITION = (
    f"mean over slices, {_GAUSSIAN_WINDOW} x {_GAUSSIAN_WINDOW} Gaussian window (standard deviation "
    f"{_SIGMA:g} pixels) at {len(SCALE_WEIGHTS)} scales of half the size each, weights "
    f"{', '.join(map(str, SCALE_WEIGHTS))}, {_RANGE}; slices of {LEAST_MS_SSIM_EDGE} pixels or more"
)


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


def ms_ssim(
    reference: Float[np.ndarray, "z y x"], restored: Float[np.ndarray, "z y x"]
) -> float | None:
    """Return the mean multi-scale structural similarity of the slices (range 4095 HU) [2]_.

    None if a slice is smaller than `LEAST_MS_SSIM_EDGE`.
    """
    if min(reference.shape[1:]) < LEAST_MS_SSIM_EDGE:
        return None
    low, high = FULL_RANGE_HU
    return float(
        np.mean(
            [
                _ms_ssim_of_slice(
                    np.clip(a, low, high).astype(np.float32) - np.float32(low),
                    np.clip(b, low, high).astype(np.float32) - np.float32(low),
                )
                for a, b in zip(reference, restored, strict=True)
            ]
        )
    )


def _ms_ssim_of_slice(a: Float[np.ndarray, "y x"], b: Float[np.ndarray, "y x"]) -> float:
    """Multiply contrast and structure of each scale, and the luminance of the coarsest."""
    last = len(SCALE_WEIGHTS) - 1
    product = 1.0
    for scale, weight in enumerate(SCALE_WEIGHTS):
        stabiliser = 0.01 if scale == last else _NO_LUMINANCE
        similarity = structural_similarity(
            a,
            b,
            data_range=FULL_RANGE_HU[1] - FULL_RANGE_HU[0],
            gaussian_weights=True,
            sigma=_SIGMA,
            win_size=_GAUSSIAN_WINDOW,
            use_sample_covariance=False,
            K1=stabiliser,
        )
        product *= max(float(similarity), 0.0) ** weight
        a, b = _halved(a), _halved(b)
    return product


def _halved(image: Float[np.ndarray, "y x"]) -> Float[np.ndarray, "rows columns"]:
    rows, columns = (size // 2 for size in image.shape)
    blocks = image[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2)
    mean: Float[np.ndarray, "rows columns"] = blocks.mean(axis=(1, 3))
    return mean


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
