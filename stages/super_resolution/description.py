"""What is written down about a training: its cases, its measures, the command that repeats it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.artefacts import digest
from pipeline.core.manifests import Case
from pipeline.core.provenance import code_digest
from stages.super_resolution.settings import TrainingSettings
from stages.super_resolution.training import TrainingResult
from stages.super_resolution.validation import ValidationCase

STAGE = "super_resolution"
MACHINE_SETTINGS = {"threads", "device", "precision"}
"""Settings that say where to compute; the arithmetic they lead to counts, not their names."""


@dataclass(frozen=True)
class TrainingCase:
    """Hold a case of the manifest with the file it lies in."""

    case: Case
    path: Path
    sha256: str

    def record(self) -> dict[str, str]:
        """Return what a model's description says about the case."""
        known = self.case.model_dump(include={"case", "patient", "role", "licence"})
        return {**known, "sha256": self.sha256}


def network_settings(settings: TrainingSettings) -> dict[str, Any]:
    """Return what the network is built from."""
    return {"width": settings.width, "depth": settings.depth}


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
            "psnr_db": round(result.psnr_db[case.case], 4),
            "histospline_psnr_db": round(case.histospline_psnr_db, 4),
        }
        for case in judged
    }
    return {
        "training": settings.model_dump(mode="json"),
        "metrics": {"step": result.step, "validation": validation},
        "provenance": {
            "cases": [case.record() for case in cases],
            "manifest_sha256": digest(manifest),
            "initial_sha256": digest(initial) if initial else None,
            "code": code_digest(STAGE),
            "command": _command(settings, manifest, initial),
        },
    }


def _command(settings: TrainingSettings, manifest: Path, initial: Path | None) -> str:
    """Write the command that repeats the training, with the settings that differ from defaults."""
    defaults = TrainingSettings().model_dump(mode="json")
    flags = [
        f"--{name.replace('_', '-')} {value}"
        for name, value in settings.model_dump(mode="json").items()
        if value != defaults[name] and not isinstance(value, bool)
    ]
    flags += [] if settings.all_axes else ["--no-all-axes"]
    flags += ["--initial INITIAL_MODEL_DIR"] if initial else []
    return " ".join(["ct2flow train", manifest.name, "--output MODEL_DIR", *flags])


def fingerprint(
    cases: list[TrainingCase], settings: TrainingSettings, initial: Path | None, precision: str
) -> str:
    """Digest everything that shapes a training: a state of another one is not resumed."""
    facts: Mapping[str, Any] = {
        "settings": settings.model_dump(mode="json", exclude=MACHINE_SETTINGS),
        "precision": precision,
        "cases": [case.record() for case in cases],
        "initial": digest(initial) if initial else None,
        "code": code_digest(STAGE),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
