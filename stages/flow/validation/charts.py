"""Plots of the validation as SVG text."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Okabe & Ito's colour-blind-safe colours."""
_MARKS = ("o", "s", "^", "D")
_STYLE = {"svg.fonttype": "none", "svg.hashsalt": "ct2flow", "font.size": 9}


def svg(curve: Mapping[str, Any], name: str) -> str:
    """Draw one curve; equal curves of equal names give equal text.

    Parameters
    ----------
    curve
        A `rows.Curve` as stored.
    name
        Distinguishes the identifiers inside the drawing from those of others on the page.
    """
    with rc_context({**_STYLE, "svg.hashsalt": f"ct2flow-{name}"}):
        figure = Figure(figsize=(5.2, 3.1), layout="constrained")
        axes = figure.subplots()
        _draw(axes, curve)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    drawing = text.getvalue()
    return drawing[drawing.index("<svg") :]


def _draw(axes: Any, curve: Mapping[str, Any]) -> None:
    for label, bars in curve["bars"].items():
        x = [bar[0] for bar in bars]
        middle = [0.5 * (bar[1] + bar[2]) for bar in bars]
        half = [0.5 * (bar[2] - bar[1]) for bar in bars]
        axes.errorbar(x, middle, yerr=half, fmt="none", capsize=3, color="#334155", label=label)
    styles = ("-", "--", ":")
    for k, (label, points) in enumerate(curve["lines"].items()):
        colour = _COLOURS[k % len(_COLOURS)] if curve["bars"] else "#64748b"
        axes.plot(
            *zip(*points, strict=True), styles[k % 3], color=colour, linewidth=1.2, label=label
        )
    for k, (label, points) in enumerate(curve["points"].items()):
        mark = _MARKS[k % len(_MARKS)]
        axes.plot(*zip(*points, strict=True), mark, color=_COLOURS[k % len(_COLOURS)], label=label)
    if curve["logarithmic"]:
        _logarithmic(axes, curve)
    axes.set_xlabel(curve["x_label"])
    axes.set_ylabel(curve["y_label"])
    axes.set_title(curve["title"], loc="left", fontsize=9.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)


def _logarithmic(axes: Any, curve: Mapping[str, Any]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = sorted({x for points in curve["points"].values() for x, _ in points})
    axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
