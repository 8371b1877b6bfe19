"""One coronal slice of each restoration, at the same place of the patient, as PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.image import imsave

from pipeline.core.volume import Volume, read_volume

WINDOW_HU = (-1000.0, 300.0)
"""From air to bone's edge: walls and mucosa are seen, metal is not."""
_WANTED = "anterior turbinate"


def place_of(record: Mapping[str, Any]) -> Float[np.ndarray, "3"] | None:
    """Return where to cut: between the turbinates' heads, else at the narrowest places; mm.

    Parameters
    ----------
    record
        Content of an airway.json.
    """
    places = []
    for side in record.get("sides", {}).values():
        named = side.get("sections", {}).get(_WANTED, {}).get("place_mm")
        place = named or side.get("minimal_area_place_mm")
        if place:
            places.append(place)
    if not places:
        return None
    mean: Float[np.ndarray, "3"] = np.mean(places, axis=0)
    return mean


def coronal_png(volume: Volume, place_mm: Float[np.ndarray, "3"] | None) -> bytes:
    """Draw the slice across y through a place, or through the middle; voxels stay voxels."""
    middle = (np.array(volume.grid.shape) - 1) / 2
    index = middle if place_mm is None else volume.grid.to_index(place_mm)
    row = int(np.clip(np.rint(index[1]), 0, volume.grid.shape[1] - 1))
    image = volume.values[::-1, row].astype(np.float32)
    dz, _, dx = volume.grid.spacing_mm
    rows = np.minimum(
        (np.arange(round(len(image) * dz / dx)) * dx / dz).astype(int), len(image) - 1
    )
    file = io.BytesIO()
    low, high = WINDOW_HU
    imsave(
        *(file, image[rows]),
        vmin=low,
        vmax=high,
        cmap="gray",
        format="png",
        metadata={"Software": ""},
    )
    return file.getvalue()


def write_picture(path: Path, volume: Path, record: Mapping[str, Any]) -> None:
    """Write the picture of a volume, at the place that an airway.json says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(coronal_png(read_volume(volume), place_of(record)))
