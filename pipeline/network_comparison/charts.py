"""Learning curves as SVG text."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d31")
"""Okabe & Ito's colour-blind-safe colours, and a brown."""
_DASHES = ("-", "--", ":", "-.")
_STYLE = {"svg.fonttype": "none", "font.size": 9}


def learning_curves(record: Mapping[str, Any]) -> list[str]:
    """Draw loss and validation of every training against its steps, as a share of the budget."""
    return [
        _svg(record, "loss", "training loss"),
        _svg(record, "gain", "validation PSNR above histospline, dB"),
    ]


def _svg(record: Mapping[str, Any], kind: str, y_label: str) -> str:
    networks = list(record["plan"]["networks"])
    with rc_context({**_STYLE, "svg.hashsalt": f"ct2flow-{kind}"}):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.subplots()
        for name, points in record["curves"].items():
            network, seed = name.rsplit("-seed", 1)
            index = networks.index(network)
            x, y = _series(points, kind, record["plan"]["networks"][network]["steps"])
            first = int(seed) == record["seeds"][0]
            axes.plot(
                *(x, y),
                _DASHES[record["seeds"].index(int(seed)) % len(_DASHES)],
                color=_COLOURS[index % len(_COLOURS)],
                linewidth=1.2,
                marker="o" if kind == "gain" else None,
                markersize=3,
                label=network if first else None,
            )
        if kind == "gain":
            axes.axhline(0.0, color="#64748b", linewidth=0.8)
        else:
            axes.set_yscale("log")
        axes.set_xlabel("share of the budget, % (dashes: further seeds)")
        axes.set_ylabel(y_label)
        axes.spines[["top", "right"]].set_visible(False)
        if record["curves"]:
            axes.legend(frameon=False, fontsize=8, ncols=2)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    drawing = text.getvalue()
    return drawing[drawing.index("<svg") :]


def _series(
    points: Sequence[Mapping[str, Any]], kind: str, steps: int
) -> tuple[list[float], list[float]]:
    if kind == "loss":
        chosen = [(p["step"], p["loss"]) for p in points if "loss" in p]
    else:
        chosen = [
            (p["step"], p["mean_psnr_db"] - p["histospline_mean_psnr_db"])
            for p in points
            if "mean_psnr_db" in p
        ]
    return [100.0 * step / steps for step, _ in chosen], [value for _, value in chosen]
