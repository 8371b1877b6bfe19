"""Streaks of dental metal: beam hardening and photon starvation, as error of the projections.

The slice is projected along parallel rays, once as it is and once with what a detector would see
through metal: a saturating attenuation and few, noisy photons. The difference, reconstructed by
filtered back-projection, is what the metal adds to the image beside itself.

References
----------
.. [1] De Man, Nuyts, Dupont, Marchal and Suetens (1999), Metal streak artifacts in X-ray computed
   tomography: a simulation study, doi:10.1109/23.775600.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import ndimage
from skimage.transform import iradon, radon

WATER_PER_MM = 0.0195
"""Linear attenuation of water at about 70 keV."""
_METAL_PER_MM = 0.35
_SATURATION = 4.0
"""Attenuation (natural logarithm) that the hard end of the spectrum leaves behind metal."""
_PHOTONS = 1.5e5
_DARK = 12.0
"""Photons per ray, and the detector's own noise in photons."""
_RAYS = 256
_ANGLES = np.linspace(0.0, 180.0, 300, endpoint=False)


def streaks(
    hu: Float[np.ndarray, "y x"],
    metal: Float[np.ndarray, "y x"],
    pixel_mm: float,
    rng: np.random.Generator,
) -> Float[np.ndarray, "y x"]:
    """Return what metal adds to a slice outside itself, HU.

    Parameters
    ----------
    hu
        The slice, metal not yet saturated.
    metal
        Share of each pixel that is metal.
    pixel_mm
        Edge of a pixel.
    rng
        Source of the photons' noise.
    """
    step = max(round(hu.shape[0] / _RAYS), 1)
    tissue = _shrunk(np.clip(hu / 1000.0 + 1.0, 0.0, 3.0) * (1.0 - metal), step) * WATER_PER_MM
    body = _projected(tissue, pixel_mm * step)
    through = _projected(_shrunk(metal, step), pixel_mm * step) * _METAL_PER_MM
    hardened = _SATURATION * -np.expm1(-through / _SATURATION)
    photons = _PHOTONS * np.exp(-body - hardened)
    scatter = np.sqrt(photons + _DARK**2) / np.maximum(photons, 1.0)
    noise = rng.standard_normal(body.shape) * np.minimum(scatter, 1.0)
    error = np.where(through > 1e-3, hardened - through + noise, 0.0)
    image = iradon(error, theta=_ANGLES, filter_name="hann", circle=False, output_size=len(tissue))
    added = image / (pixel_mm * step) * 1000.0 / WATER_PER_MM
    full = ndimage.zoom(added, np.array(hu.shape) / np.array(added.shape), order=1)
    outside: Float[np.ndarray, "y x"] = (full * (1.0 - np.minimum(2.0 * metal, 1.0))).astype(
        np.float32
    )
    return outside


def _projected(image: Float[np.ndarray, "y x"], pixel_mm: float) -> Any:
    return radon(image, theta=_ANGLES, circle=False) * pixel_mm


def _shrunk(image: Float[np.ndarray, "y x"], step: int) -> Float[np.ndarray, "y x"]:
    size = min(image.shape) // step * step
    part = image[:size, :size].astype(np.float64)
    shrunk: Float[np.ndarray, "y x"] = part.reshape(size // step, step, -1, step).mean(axis=(1, 3))
    return shrunk
