"""How to make the same results again: settings as a file for `ct2flow run`, and the command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

SETTINGS_FILE = "settings.yaml"
_NOT_SETTINGS = {"restoration": ("model",)}
"""Entries of a stage's record that say what was chosen, not how: the workflow sets them."""


def settings_yaml(
    results: Mapping[str, Any], interpolation: str, report: Mapping[str, Any]
) -> str:
    """Return every setting of the run as an experiment file.

    Parameters
    ----------
    results
        Content of results.json.
    interpolation
        Method that 'interpolated' names.
    report
        Settings of the report itself.
    """
    stages = {
        stage: {k: v for k, v in values.items() if k not in _NOT_SETTINGS.get(stage, ())}
        for stage, values in results["provenance"]["settings"].items()
    }
    model = {"interpolation": interpolation}
    if "training" in stages:
        model["source"] = "train"
    content: dict[str, Any] = {"model": model}
    baseline = results["pressure_loss"].get("hr", {})
    coarser = baseline.get("coarser")
    if coarser and baseline.get("spacing_mm"):
        content["coarse_ratio"] = round(coarser[0]["spacing_mm"] / baseline["spacing_mm"], 6)
        content["lattices"] = 1 + len(coarser)
    content |= {**stages, "report": dict(report)}
    return yaml.safe_dump(content, sort_keys=False)


def command(case: str) -> str:
    """Return the command that repeats the case with the settings file beside it."""
    return f"ct2flow run INPUT --output DIR --case {case} --experiment {SETTINGS_FILE}"
