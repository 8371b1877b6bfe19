"""Plane sections through a flow field, where the flow is fastest and along the passages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_NORMALS = ("y", "x")
"""World axis that stands on a section whose first shown axis is x or y."""


_MARGIN = 2
"""Cells shown around the fluid."""


@dataclass(frozen=True)
class FlowField:
    """Hold a flow on a regular box in world coordinates.

    Parameters
    ----------
    speed
        Magnitude of the velocity, m/s, (z, y, x); NaN outside the fluid.
    pressure
        Static pressure relative to the outlet, Pa.
    origin_mm, spacing_mm
        First cell centre (x, y, z) and cell edge.
    """

    speed: Float[np.ndarray, "z y x"]
    pressure: Float[np.ndarray, "z y x"]
    origin_mm: Float[np.ndarray, "3"]
    spacing_mm: float


@dataclass(frozen=True)
class FlowSection:
    """Hold a section for display: speed, m/s, and pressure, Pa, with extent and axis labels, mm."""

    title: str
    speed: Float[np.ndarray, "row column"]
    pressure: Float[np.ndarray, "row column"]
    extent_mm: tuple[float, float, float, float]
    labels: tuple[str, str]


def common_places(field: FlowField) -> dict[str, float]:
    """Choose the sections once, on the baseline: where they cut, mm.

    The coronal section has two fifths of the airway before it; the sagittal ones have a quarter of it beside
    them.
    """
    fluid = np.isfinite(field.speed)
    x = field.origin_mm[0] + field.spacing_mm * np.arange(field.speed.shape[2])
    y = field.origin_mm[1] + field.spacing_mm * np.arange(field.speed.shape[1])
    weight = fluid.sum(axis=(0, 1))
    low, high = (_quantile(x, weight, share) for share in (0.25, 0.75))
    return {
        "coronal": _quantile(y, fluid.sum(axis=(0, 2)), 0.4),
        "sagittal, right": low,
        "sagittal, left": high,
    }


def _quantile(
    places: Float[np.ndarray, "n"], weight: Float[np.ndarray, "n"], share: float
) -> float:
    running = np.cumsum(weight) / max(weight.sum(), 1)
    return float(places[int(np.searchsorted(running, share))])


def cut_sections(field: FlowField, places: Mapping[str, float]) -> list[FlowSection]:
    """Cut a field at the given places."""
    return [_cut(field, title, place) for title, place in places.items()]


def _cut(field: FlowField, title: str, place: float) -> FlowSection:
    axis = 1 if title == "coronal" else 2
    world = 1 if title == "coronal" else 0
    index = round((place - field.origin_mm[world]) / field.spacing_mm)
    index = int(np.clip(index, 0, field.speed.shape[axis] - 1))
    across = 0 if title == "coronal" else 1
    nz = field.speed.shape[0]
    columns = field.speed.shape[2 if title == "coronal" else 1]
    half = 0.5 * field.spacing_mm
    left = field.origin_mm[across] - half
    bottom = field.origin_mm[2] - half
    extent = (
        float(left),
        float(left + columns * field.spacing_mm),
        float(bottom),
        float(bottom + nz * field.spacing_mm),
    )
    return FlowSection(
        f"{title}, {_NORMALS[across]} = {place:.0f} mm",
        np.take(field.speed, index, axis=axis),
        np.take(field.pressure, index, axis=axis),
        extent,
        (("x, mm" if across == 0 else "y, mm"), "z, mm"),
    )


def shown_box(row: Sequence[FlowSection]) -> tuple[float, float, float, float]:
    """Return the smallest box, left, right, bottom, top, mm, that holds the fluid of all sections."""
    boxes = [_fluid_box(section) for section in row if np.isfinite(section.speed).any()]
    boxes = boxes or [section.extent_mm for section in row]
    left, right, bottom, top = zip(*boxes, strict=True)
    return min(left), max(right), min(bottom), max(top)


def _fluid_box(section: FlowSection) -> tuple[float, float, float, float]:
    fluid = np.isfinite(section.speed)
    rows, columns = np.flatnonzero(fluid.any(axis=1)), np.flatnonzero(fluid.any(axis=0))
    left, right, bottom, top = section.extent_mm
    dx = (right - left) / fluid.shape[1]
    dy = (top - bottom) / fluid.shape[0]
    return (
        float(left + (columns[0] - _MARGIN) * dx),
        float(left + (columns[-1] + 1 + _MARGIN) * dx),
        float(bottom + (rows[0] - _MARGIN) * dy),
        float(bottom + (rows[-1] + 1 + _MARGIN) * dy),
    )
