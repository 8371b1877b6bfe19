"""Pictures of volumes, flow sections and surfaces; one scale and one place for every variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from pipeline.core.volume import Volume
from stages.report.panels import label_axes, panel_grid, png, style
from stages.report.record import NAMES
from stages.report.sections import FlowSection, shown_box
from stages.report.settings import ReportSettings
from stages.report.slices import VIEWS, Frame, cut, differences, shown_range

_AXES = {
    "axial": ("x, mm", "y, mm"),
    "coronal": ("x, mm", "z, mm"),
    "sagittal": ("y, mm", "z, mm"),
}
_OUTLINE = "#22d3ee"
_OUTSIDE = "#eef2f6"


def slices_figure(
    volumes: Mapping[str, Volume], lumen: Volume, frame: Frame, settings: ReportSettings
) -> bytes:
    """Show the variants side by side at one place, and what differs from HR.

    A variant on a coarser grid is compared by repeating its slices.
    """
    baseline = volumes["hr"]
    changed = differences({k: v for k, v in volumes.items() if k != "hr"}, baseline)
    ranges = [shown_range(baseline.grid, frame, view) for view in VIEWS]
    shapes = [(abs(r[1] - r[0]), abs(r[3] - r[2])) for r in ranges]
    grey = Normalize(settings.window_low_hu, settings.window_high_hu)
    change = Normalize(-settings.difference_hu, settings.difference_hu)
    with style():
        figure, grid = panel_grid(len(volumes) + len(changed), shapes)
        for row, (view, limits) in enumerate(zip(VIEWS, ranges, strict=True)):
            edge = cut(lumen, baseline.grid, frame, view)
            columns = [*((v, "gray", grey) for v in volumes.values()),
                       *((v, "PuOr", change) for v in changed.values())]  # fmt: skip
            for axes, (volume, colours, norm) in zip(grid[row], columns, strict=True):
                shown = cut(volume, baseline.grid, frame, view)
                axes.imshow(shown.values, cmap=colours, norm=norm, extent=shown.extent_mm,
                            interpolation="nearest")  # fmt: skip
                if norm is grey:
                    _outline(axes, edge.values, edge.extent_mm)
                axes.set(xlim=limits[:2], ylim=limits[2:])
                across, along = _AXES[view]
                label_axes(axes, across, f"{view}\n{along}", first=axes is grid[row, 0])
        names = [*(NAMES[n] for n in volumes), *(f"{NAMES[n]} − HR" for n in changed)]
        for axes, name in zip(grid[0], names, strict=True):
            axes.set_title(name)
        split = len(volumes)
        _bar(figure, grid[-1, :split], ScalarMappable(grey, "gray"), "HU")
        _bar(figure, grid[-1, split:], ScalarMappable(change, "PuOr"), "difference to HR, HU")
        return png(figure)


def _bar(figure: Any, axes: Any, mappable: ScalarMappable, label: str) -> None:
    if len(axes) == 0:
        return
    bar = figure.colorbar(mappable, ax=list(axes), orientation="horizontal", shrink=0.6,
                          aspect=40, extend="both")  # fmt: skip
    bar.set_label(label)


def _outline(
    axes: Any,
    mask: Float[np.ndarray, "row column"],
    extent_mm: tuple[float, float, float, float],
) -> None:
    if mask.size == 0 or not mask.any() or min(mask.shape) < 2:
        return
    left, right, bottom, top = extent_mm
    rows, columns = mask.shape
    x = left + (np.arange(columns) + 0.5) * (right - left) / columns
    y = top + (np.arange(rows) + 0.5) * (bottom - top) / rows
    axes.contour(x, y, mask, levels=[0.5], colors=_OUTLINE, linewidths=0.5)


def sections_figure(
    sections: Mapping[str, Sequence[FlowSection]], quantity: str, label: str, colours: str
) -> bytes:
    """Show a quantity on the same sections of every variant with one colour scale.

    Parameters
    ----------
    sections
        Sections by resolution.
    quantity
        ``speed`` or ``pressure``.
    label
        Name and unit of the quantity.
    colours
        Name of a colour map.
    """
    norm = Normalize(*shared_range(sections, quantity))
    boxes = [shown_box(row) for row in zip(*sections.values(), strict=True)]
    shapes = [(b[1] - b[0], b[3] - b[2]) for b in boxes]
    with style():
        figure, grid = panel_grid(len(sections), shapes)
        for column, (name, cuts) in enumerate(sections.items()):
            for row, section in enumerate(cuts):
                axes = grid[row, column]
                axes.set_facecolor(_OUTSIDE)
                axes.imshow(getattr(section, quantity), cmap=colours, norm=norm,
                            extent=section.extent_mm, origin="lower",
                            interpolation="nearest")  # fmt: skip
                box = boxes[row]
                axes.set(xlim=box[:2], ylim=box[2:])
                across, along = section.labels
                place = "\n".join(section.title.rsplit(", ", 1))
                label_axes(axes, across, f"{place}\n{along}", first=column == 0)
                if row == 0:
                    axes.set_title(NAMES[name])
        _bar(figure, grid[-1], ScalarMappable(norm, colours), label)
        return png(figure)


def shared_range(
    sections: Mapping[str, Sequence[FlowSection]], quantity: str
) -> tuple[float, float]:
    """Return the colour scale of a quantity: all sections but 0.2 % at each end; speed from 0."""
    values = [getattr(s, quantity).ravel() for cuts in sections.values() for s in cuts]
    pooled = np.concatenate([v[np.isfinite(v)] for v in values])
    if len(pooled) == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.quantile(pooled, [0.002, 0.998]))
    low = 0.0 if quantity == "speed" else low
    return (low, high) if high > low else (low, low + 1.0)


def montage(
    pictures: Mapping[str, Sequence[UInt8[np.ndarray, "row column rgb"]]],
    titles: Sequence[str],
    scale: tuple[str, float, str],
) -> bytes:
    """Arrange rendered pictures, one column per variant, above one symmetric colour scale.

    Parameters
    ----------
    pictures
        Pictures of each variant in the order of the titles.
    titles
        Where each row is seen from.
    scale
        Label, end and colour map of the scale.
    """
    label, limit, colours = scale
    cropped = [crop_white(row) for row in zip(*pictures.values(), strict=True)]
    shapes = [(float(row[0].shape[1]), float(row[0].shape[0])) for row in cropped]
    with style():
        figure, grid = panel_grid(len(pictures), shapes)
        for row, shown in enumerate(cropped):
            for axes, picture in zip(grid[row], shown, strict=True):
                axes.imshow(picture)
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
            grid[row, 0].set_ylabel(titles[row])
        for axes, name in zip(grid[0], pictures, strict=True):
            axes.set_title(NAMES[name])
        _bar(figure, grid[-1], ScalarMappable(Normalize(-limit, limit), colours), label)
        return png(figure)


def crop_white(
    pictures: Sequence[UInt8[np.ndarray, "row column rgb"]],
) -> list[UInt8[np.ndarray, "row column rgb"]]:
    """Cut the margin that all pictures share, so that their scale stays equal."""
    drawn = np.any([(picture < 250).any(axis=2) for picture in pictures], axis=0)
    if not drawn.any():
        return list(pictures)
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    return [picture[box] for picture in pictures]
