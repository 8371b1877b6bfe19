"""The look that every figure shares, and grids of panels whose scale is the same throughout."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

WIDTH_IN = 11.0
"""Width of a figure that fills the page."""
_DPI = 130
_TOP_IN = 0.12
"""Room above the titles, which the layout engine takes too little of."""
_TEXT_IN = 0.42
"""Height that titles and axis labels of a row take."""
COLOURS = {"hr": "#3b4252", "lr": "#d55e00", "interpolated": "#e69f00", "sr": "#0072b2"}
"""Okabe and Ito's colours, told apart by every kind of colour vision."""
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "axes.edgecolor": "#64748b",
    "axes.labelcolor": "#334155",
    "xtick.color": "#475569",
    "ytick.color": "#475569",
    "axes.linewidth": 0.7,
}


def style() -> Any:
    """Return the context in which figures are made."""
    return rc_context(_STYLE)


def png(figure: Figure) -> bytes:
    """Write a figure as PNG whose bytes hold no date and no version."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def panel_grid(
    columns: int, rows: Sequence[tuple[float, float]], *, bar_in: float = 0.55
) -> tuple[Figure, Any]:
    """Return a figure with room for panels of equal scale in each row.

    Parameters
    ----------
    columns
        Panels per row.
    rows
        Width and height that a row's panels show, in any one unit.
    bar_in
        Height left for colour bars, inches.
    """
    panel = (WIDTH_IN - 0.6) / columns - 0.1
    heights = [panel * height / width for width, height in rows]
    total = sum(heights) + _TEXT_IN * len(rows) + bar_in
    figure = Figure(figsize=(WIDTH_IN, total))
    top = 1.0 - _TOP_IN / total
    figure.set_layout_engine("constrained", rect=(0.0, 0.0, 1.0, top))
    grid = figure.subplots(
        len(rows), columns, squeeze=False, height_ratios=[h + _TEXT_IN for h in heights]
    )
    return figure, grid


def label_axes(axes: Any, across: str, along: str, *, first: bool) -> None:
    """Write axis labels; only a row's first panel carries the vertical one."""
    axes.set_xlabel(across, labelpad=1)
    axes.tick_params(length=2, pad=1)
    axes.locator_params(nbins=5)
    if first:
        axes.set_ylabel(along)
    else:
        axes.set_yticklabels([])
