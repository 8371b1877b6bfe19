"""Figures of the report as PNG bytes; equal scales for every variant, units on every axis."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipeline.core.volume import Volume
from stages.report.record import NAMES, RESOLUTIONS
from stages.report.sections import FlowSection
from stages.report.settings import ReportSettings
from stages.report.slices import VIEWS, Frame, cut, differences

_DPI = 110
_COLOURS = {"hr": "#334155", "lr": "#b45309", "interpolated": "#0e7490", "sr": "#6d28d9"}
_AXES = {
    "axial": ("x, mm", "y, mm"),
    "coronal": ("x, mm", "z, mm"),
    "sagittal": ("y, mm", "z, mm"),
}


def png(figure: Figure) -> bytes:
    """Write a figure as PNG whose bytes hold no date and no version."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def pressure_figure(results: Mapping[str, Any]) -> bytes:
    """Show the total pressure losses with their lattice errors."""
    entries = {
        key: results["pressure_loss"][key]
        for key in RESOLUTIONS
        if results["pressure_loss"].get(key, {}).get("total_pa") is not None
    }
    figure = Figure(figsize=(6.2, 3.0), layout="constrained")
    axes = figure.subplots()
    for place, (key, entry) in enumerate(entries.items()):
        error = (entry.get("discretisation_percent") or 0.0) / 100 * entry["total_pa"]
        axes.bar(place, entry["total_pa"], 0.6, color=_COLOURS[key])
        axes.errorbar(place, entry["total_pa"], yerr=error, color="black", capsize=5)
        axes.annotate(
            f"{entry['total_pa']:.2f}",
            (place, entry["total_pa"]),
            xytext=(14, 4),
            textcoords="offset points",
        )
    axes.set_xticks(range(len(entries)), [NAMES[key] for key in entries])
    axes.set_ylabel("total pressure loss, Pa")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    return png(figure)


def slices_figure(
    volumes: Mapping[str, Volume], lumen: Volume, frame: Frame, settings: ReportSettings
) -> bytes:
    """Show the variants side by side at one place, and what differs from HR."""
    baseline = volumes["hr"]
    changed = differences({k: v for k, v in volumes.items() if k != "hr"}, baseline)
    columns = [*volumes, *changed]
    figure = Figure(figsize=(2.5 * len(columns), 8.2), layout="constrained")
    grid = figure.subplots(3, len(columns), squeeze=False)
    for row, view in enumerate(VIEWS):
        edge = cut(lumen, baseline.grid, frame, view)
        for column, name in enumerate(columns):
            is_change = column >= len(volumes)
            volume = changed[name] if is_change else volumes[name]
            shown = cut(volume, baseline.grid, frame, view)
            limits = (
                (-settings.difference_hu, settings.difference_hu)
                if is_change
                else (settings.window_low_hu, settings.window_high_hu)
            )
            axes = grid[row, column]
            image = axes.imshow(
                shown.values,
                cmap="PuOr" if is_change else "gray",
                vmin=limits[0],
                vmax=limits[1],
                extent=shown.extent_mm,
                interpolation="nearest",
            )
            if not is_change:
                _outline(axes, edge.values, edge.extent_mm)
            if row == 0:
                axes.set_title(f"{NAMES[name]} - HR" if is_change else NAMES[name], fontsize=10)
            _label(axes, view, first=column == 0)
            if row == len(VIEWS) - 1:
                bar = figure.colorbar(image, ax=axes, orientation="horizontal", shrink=0.8)
                bar.set_label("difference, HU" if is_change else "HU", fontsize=8)
                bar.ax.tick_params(labelsize=7)
    return png(figure)


def _outline(
    axes: Any,
    mask: Float[np.ndarray, "row column"],
    extent_mm: tuple[float, float, float, float],
) -> None:
    if not mask.any():
        return
    left, right, bottom, top = extent_mm
    rows, columns = mask.shape
    x = left + (np.arange(columns) + 0.5) * (right - left) / columns
    y = top + (np.arange(rows) + 0.5) * (bottom - top) / rows
    axes.contour(x, y, mask, levels=[0.5], colors="#22d3ee", linewidths=0.6)


def _label(axes: Any, view: str, *, first: bool) -> None:
    across, along = _AXES[view]
    axes.tick_params(labelsize=7)
    axes.set_xlabel(across, fontsize=8)
    if first:
        axes.set_ylabel(f"{view}\n{along}", fontsize=9)
    else:
        axes.set_yticklabels([])


def sections_figure(
    sections: Mapping[str, Sequence[FlowSection]], quantity: str, unit: str, colours: str
) -> bytes:
    """Show a quantity on the same sections of every variant with one colour scale.

    Parameters
    ----------
    sections
        Sections by resolution.
    quantity
        ``speed`` or ``pressure``.
    unit
        Unit of the quantity.
    colours
        Name of a colour map.
    """
    values = np.concatenate(
        [
            getattr(s, quantity)[np.isfinite(getattr(s, quantity))]
            for v in sections.values()
            for s in v
        ]
    )
    low, high = (0.0, 1.0) if len(values) == 0 else np.quantile(values, [0.002, 0.998])
    low = 0.0 if quantity == "speed" else float(low)
    rows = max(len(v) for v in sections.values())
    figure = Figure(figsize=(3.1 * len(sections), 2.9 * rows), layout="constrained")
    grid = figure.subplots(rows, len(sections), squeeze=False)
    image = None
    for column, (name, cuts) in enumerate(sections.items()):
        for row, section in enumerate(cuts):
            axes = grid[row, column]
            image = axes.imshow(
                getattr(section, quantity),
                cmap=colours,
                vmin=low,
                vmax=float(high),
                extent=section.extent_mm,
                origin="lower",
                interpolation="nearest",
            )
            axes.set_title(f"{NAMES[name]}, {section.title}", fontsize=9)
            axes.set_xlabel(section.labels[0], fontsize=8)
            axes.set_ylabel(section.labels[1], fontsize=8)
            axes.tick_params(labelsize=7)
    if image is not None:
        bar = figure.colorbar(image, ax=grid, shrink=0.7)
        bar.set_label(f"{quantity}, {unit}")
    return png(figure)


def montage(
    pictures: Mapping[str, Sequence[UInt8[np.ndarray, "row column rgb"]]],
    titles: Sequence[str],
    scale: tuple[str, float, float, str] | None,
) -> bytes:
    """Arrange rendered pictures, one column per variant, with one colour scale (label, ends, map)."""
    rows = len(titles)
    figure = Figure(figsize=(3.1 * len(pictures), 3.0 * rows), layout="constrained")
    grid = figure.subplots(rows, len(pictures), squeeze=False)
    for column, (name, shown) in enumerate(pictures.items()):
        for row, picture in enumerate(shown):
            axes = grid[row, column]
            axes.imshow(picture)
            axes.set_axis_off()
            axes.set_title(f"{NAMES[name]}, {titles[row]}", fontsize=9)
    if scale is not None:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        label, low, high, colours = scale
        mappable = ScalarMappable(Normalize(low, high), colours)
        bar = figure.colorbar(mappable, ax=grid, orientation="horizontal", shrink=0.5)
        bar.set_label(label)
    return png(figure)
