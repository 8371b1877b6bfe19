"""The few lines that a finished run prints."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_NAMES = {"hr": "HR", "lr": "LR", "interpolated": "interpolated", "sr": "SR"}


def print_summary(results: Mapping[str, Any], output: Path) -> None:
    """Print the pressure losses with their errors and where the report lies."""
    sys.stdout.write("\n".join([*summary_lines(results), ""]))
    sys.stdout.write(f"report: {output / 'report.html'}\n")


def summary_lines(results: Mapping[str, Any]) -> list[str]:
    """Return one line per variant: total pressure loss, Pa, deviation and lattice error, %."""
    airway = results.get("airway", {})
    if not airway.get("patent", False):
        return [f"no open airway: {airway.get('reason') or 'no reason recorded'}"]
    lines = ["total pressure loss, nostrils to pharynx:"]
    for key, name in _NAMES.items():
        entry = results.get("pressure_loss", {}).get(key)
        if entry:
            lines.append(_line(name, entry))
    return lines


def _line(name: str, entry: Mapping[str, Any]) -> str:
    total = entry.get("total_pa")
    if total is None:
        return f"  {name:<13} no flow: {entry.get('reason') or 'the airway is closed'}"
    error = entry.get("discretisation_percent")
    text = f"  {name:<13} {total:7.2f} Pa"
    text += "" if error is None else f"  lattice error +-{error:.1f} %"
    deviation = entry.get("deviation_from_hr_percent")
    if deviation is None or name == "HR":
        return text
    text += f"  deviation from HR {deviation:+.1f} %"
    # The verdict of results.json counts the errors of both losses, as the report does.
    if entry.get("resolved") is False:
        text += " (not resolved: smaller than an error that it carries)"
    elif not entry.get("resolved"):
        text += " (its error is unknown)"
    return text
