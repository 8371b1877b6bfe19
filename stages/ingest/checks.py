"""Say whether numbers can be Hounsfield units of a head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from pipeline.core.errors import InputError
from pipeline.core.units import AIR_HU

AIR_BAND_HU = 120.0
"""Air of a calibrated scanner lies within a few HU of -1000; noise and sharp kernels widen it."""
LITTLE_AIR = 1e-3
"""Fraction of air below which an airway is unlikely to be in the picture."""
_CELL = 4


@dataclass(frozen=True)
class HuRange:
    """Summarise a volume: extremes in HU and the fraction of voxels that are air."""

    minimum_hu: float
    maximum_hu: float
    air_fraction: float


def check_hu(values: Shaped[np.ndarray, "z y x"]) -> tuple[HuRange, list[str]]:
    """Refuse what cannot be a CT in HU; return its range and warnings about what is odd.

    Raises
    ------
    InputError
        If the volume is constant, holds no value as low as air or none as high as soft tissue.
    """
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise InputError(
            f"Every voxel has the value {low:g}; needed is a CT in HU. Export the series again.",
            minimum=low,
            maximum=high,
        )
    if low > AIR_HU / 2 or high < -100.0:
        raise InputError(
            f"Values lie between {low:g} and {high:g}; a CT in HU holds air near -1000 and soft "
            "tissue near 40. Apply rescale slope and intercept, or give the original DICOM.",
            minimum=low,
            maximum=high,
        )
    coarse = values[::_CELL, ::_CELL, ::_CELL]
    near = (coarse >= AIR_HU - AIR_BAND_HU) & (coarse <= AIR_HU + AIR_BAND_HU)
    fraction = float(np.count_nonzero(near) / near.size)
    warnings = []
    if fraction < LITTLE_AIR:
        warnings.append(
            f"only {100 * fraction:.2f} % of the voxels are air (within {AIR_BAND_HU:g} HU of "
            "-1000): is this a calibrated CT?"
        )
    return HuRange(low, high, round(fraction, 5)), warnings
