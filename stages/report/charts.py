"""Charts of the pressure losses: what they are, how far from HR, and which side carries them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from stages.report.panels import COLOURS, WIDTH_IN, png, style
from stages.report.record import NAMES, RESOLUTIONS

Losses = Mapping[str, Mapping[str, Any]]


def pressure_chart(results: Mapping[str, Any]) -> bytes:
    """Show total losses with lattice errors, deviations from HR and the flow of each side."""
    losses = {
        key: results["pressure_loss"][key]
        for key in RESOLUTIONS
        if results["pressure_loss"].get(key, {}).get("total_pa") is not None
    }
    with style():
        figure = Figure(figsize=(WIDTH_IN, 3.1), layout="constrained")
        left, middle, right = figure.subplots(1, 3, width_ratios=(1.1, 1, 1.1))
        _draw_losses(left, losses)
        _draw_deviations(middle, {k: v for k, v in losses.items() if k != "hr"})
        _draw_sides(right, losses)
        for axes in (left, middle, right):
            axes.spines[["top", "right"]].set_visible(False)
        return png(figure)


def _draw_losses(axes: Any, losses: Losses) -> None:
    for place, (key, entry) in enumerate(losses.items()):
        total, percent = entry["total_pa"], entry.get("discretisation_percent")
        axes.bar(place, total, 0.62, color=COLOURS[key], alpha=0.88)
        if percent is not None:
            error = percent / 100 * abs(total)
            axes.errorbar(place, total, yerr=error, color="black", capsize=4, linewidth=1)
        for coarse in entry.get("coarser", ()):
            axes.plot(place, coarse["total_pa"], "D", ms=4.5, mfc="white", mec="black")
    names = [f"{NAMES[key]}\n{entry['total_pa']:.2f}" for key, entry in losses.items()]
    axes.set_xticks(range(len(losses)), names)
    axes.set_ylabel("total pressure loss, Pa")
    axes.set_ylim(bottom=0)
    axes.set_title("a  Pressure loss", loc="left", fontweight="bold")


def _draw_deviations(axes: Any, losses: Losses) -> None:
    axes.axhline(0, color="#64748b", linewidth=0.8)
    for place, (key, entry) in enumerate(losses.items()):
        deviation = entry.get("deviation_from_hr_percent")
        if deviation is None:
            continue
        error = carried_error_percent(entry)
        resolved = entry.get("resolved")
        axes.errorbar(
            place, deviation, yerr=error, fmt="o", ms=7, capsize=4, linewidth=1,
            color=COLOURS[key], mfc=COLOURS[key] if resolved else "white",
        )  # fmt: skip
        for coarse in entry.get("coarser", ()):
            if coarse.get("deviation_percent") is not None:
                axes.plot(place + 0.18, coarse["deviation_percent"], "D", ms=4.5, mfc="white",
                          mec="black")  # fmt: skip
    axes.set_xlim(-0.6, max(len(losses), 1) - 0.4)
    axes.set_xticks(range(len(losses)), [NAMES[key] for key in losses])
    axes.set_ylabel("deviation from HR, %")
    axes.set_title("b  Deviation", loc="left", fontweight="bold")


def carried_error_percent(entry: Mapping[str, Any]) -> float | None:
    """Return the larger of a loss's lattice error and of its deviation's, percent."""
    errors = [entry.get("discretisation_percent"), entry.get("deviation_error_percent")]
    known = [float(error) for error in errors if error is not None]
    return max(known) if known else None


def _draw_sides(axes: Any, losses: Losses) -> None:
    names = list(losses)
    for place, key in enumerate(names):
        start = 0.0
        sides = sorted(losses[key].get("paths", {}).items(), reverse=True)
        for shade, (side, path) in enumerate(sides):
            rate = path["flow_rate_ml_s"]
            axes.barh(
                place, rate, 0.62, left=start, color=COLOURS[key], alpha=0.88 - 0.38 * (shade % 2)
            )
            axes.annotate(f"{side} {rate:.0f}", (start + rate / 2, place), ha="center",
                          va="center", fontsize=8.5)  # fmt: skip
            start += rate
    axes.set_yticks(range(len(names)), [NAMES[key] for key in names])
    axes.invert_yaxis()
    axes.set_xlabel("flow rate, ml/s")
    axes.set_title("c  Flow through each side", loc="left", fontweight="bold")
