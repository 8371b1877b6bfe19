"""What is written down about a training: its cases, its measures, the command that repeats it."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.core.artefacts import digest
from pipeline.core.provenance import code_digest
from stages.super_resolution.cases import TrainingCase
from stages.super_resolution.history import with_history
from stages.super_resolution.importance import summarise_importance
from stages.super_resolution.layout import Layout
from stages.super_resolution.plan import recorded
from stages.super_resolution.settings import TrainingSettings
from stages.super_resolution.training import TrainingResult
from stages.super_resolution.validation import Score, ValidationCase

STAGE = "super_resolution"
MACHINE_SETTINGS = {"threads", "device", "precision"}
"""Settings that say where to compute; the arithmetic they lead to counts, not their names."""


def describe(
    cases: list[TrainingCase],
    judged: list[ValidationCase],
    result: TrainingResult,
    *,
    settings: TrainingSettings,
    manifest: Path,
    initial: Path | None,
) -> dict[str, Any]:
    """Return the sections training, metrics and provenance of model.json."""
    validation = {
        case.case: {
            **_rounded(result.scores[case.case], ""),
            **_rounded(case.histospline, "histospline_"),
        }
        for case in judged
    }
    metrics: dict[str, Any] = {"step": result.step, "validation": validation}
    if result.importance is not None:
        metrics["importance"] = summarise_importance(result.importance, settings)
    return {
        "training": recorded(settings),
        "metrics": metrics,
        "provenance": {
            "cases": with_history([case.record() for case in cases], initial),
            "manifest_sha256": digest(manifest),
            "initial_sha256": digest(initial) if initial else None,
            "code": code_digest(STAGE),
            "command": _command(settings, manifest, initial),
        },
    }


def _rounded(score: Score, prefix: str) -> dict[str, float]:
    values = {f"{prefix}{name}": value for name, value in asdict(score).items()}
    return {name: round(value, 4) for name, value in values.items() if value is not None}


def _command(settings: TrainingSettings, manifest: Path, initial: Path | None) -> str:
    """Write the command that repeats the training, with the settings that differ from defaults."""
    defaults = TrainingSettings().model_dump(mode="json")
    flags = []
    for name, value in recorded(settings).items():
        flag = f"--{name.replace('_', '-')}"
        if value == defaults[name]:
            continue
        if isinstance(value, bool):
            flags.append(flag if value else f"--no-{flag.removeprefix('--')}")
        else:
            items = value if isinstance(value, list) else [value]
            flags += [f"{flag} {shlex.quote(str(item))}" for item in items]
    flags += ["--initial INITIAL_MODEL_DIR"] if initial else []
    return " ".join(["ct2flow train", manifest.name, "--output MODEL_DIR", *flags])


def fingerprint(
    cases: list[TrainingCase],
    settings: TrainingSettings,
    layout: Layout,
    *,
    initial: Path | None,
    precision: str,
) -> str:
    """Digest everything that shapes a training: a state of another one is not resumed."""
    facts: Mapping[str, Any] = {
        "settings": {n: v for n, v in recorded(settings).items() if n not in MACHINE_SETTINGS},
        "layout": asdict(layout),
        "precision": precision,
        "cases": [case.record() for case in cases],
        "initial": digest(initial) if initial else None,
        "code": code_digest(STAGE),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
