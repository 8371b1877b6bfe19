"""Volumes to train on: the thin slices of a case, and where in them patches may be centred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Int, Shaped
from numpy.random import Generator
from scipy import ndimage

from pipeline.core.errors import InputError
from pipeline.core.volume import Volume
from stages.super_resolution.model import Normalisation

EDGE_HU = -400.0
"""Half-way between air and mucosa, where the airway wall is drawn."""

_POINTS = 200_000
"""Candidate centres kept per volume and kind; more than any training draws."""


class PatchSource(Protocol):
    """Give the thin slices of a case, and where patches may be centred, (z, y, x) indices."""

    @property
    def case(self) -> str:
        """Return the case's name."""

    @property
    def values(self) -> Shaped[np.ndarray, "z y x"]:
        """Return the thin slices, HU, in memory or on disk."""

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Return the spacing along z, y and x."""

    @property
    def edges(self) -> Int[np.ndarray, "point 3"]:
        """Return points on air-tissue edges inside the body."""

    @property
    def body(self) -> Int[np.ndarray, "point 3"]:
        """Return points in the body."""


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
    tissue = volume.values > EDGE_HU
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
    body = values_hu > EDGE_HU
    for image in body:
        ndimage.binary_fill_holes(image, output=image)
    return body


def measure_normalisation(volumes: Sequence[PatchSource]) -> Normalisation:
    """Return mean and standard deviation over points in the bodies, rounded to whole HU.

    Raises
    ------
    InputError
        If no volume holds tissue.
    """
    count, total, squares = 0, 0.0, 0.0
    for volume in volumes:
        values_hu = volume.values[tuple(volume.body.T)].astype(np.float64)
        count, total = count + values_hu.size, total + float(values_hu.sum())
        squares += float(np.square(values_hu).sum())
    mean = total / max(count, 1)
    # HU are below 1e4 and float64 has 16 digits: the difference of squares is good to 1e-6 HU.
    deviation = float(np.sqrt(max(squares / max(count, 1) - mean**2, 0.0)))
    if deviation < 1.0:
        raise InputError(
            "The training volumes hold nothing above -400 HU: needed are CT volumes in HU; check "
            "the manifest's files."
        )
    return Normalisation(float(np.round(mean)), float(np.round(deviation)))


def _some_points(mask: Bool[np.ndarray, "z y x"], rng: Generator) -> Int[np.ndarray, "point 3"]:
    flat = np.flatnonzero(mask)
    if len(flat) > _POINTS:
        flat = rng.choice(flat, _POINTS, replace=False)
    return np.stack(np.unravel_index(flat, mask.shape), axis=1).astype(np.int32)
