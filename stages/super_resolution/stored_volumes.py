"""Prepared training volumes on disk, read patch by patch: memory does not grow with patients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped
from numpy.random import Generator

from pipeline.core.artefacts import read_json, write_json
from pipeline.core.errors import InputError
from pipeline.core.provenance import code_digest
from stages.super_resolution.cases import TrainingCase, read_case
from stages.super_resolution.settings import TrainingSettings
from stages.super_resolution.training_volumes import TrainingVolume, prepare_volume

_RECORD = "volume.json"


@dataclass(frozen=True)
class StoredVolume:
    """Read a prepared volume from its folder.

    Every access maps the file anew and lets go of it again: the pages that patches touched would
    else stay in memory, until all volumes lie there.
    """

    case: str
    folder: Path
    spacing_mm: tuple[float, float, float]

    @property
    def values(self) -> Shaped[np.ndarray, "z y x"]:
        """Return the thin slices, HU, mapped from disk."""
        return self._mapped("values")

    @property
    def edges(self) -> Int[np.ndarray, "point 3"]:
        """Return points on air-tissue edges inside the body, mapped from disk."""
        return self._mapped("edges")

    @property
    def body(self) -> Int[np.ndarray, "point 3"]:
        """Return points in the body, mapped from disk."""
        return self._mapped("body")

    def _mapped(self, name: str) -> Shaped[np.ndarray, "..."]:
        path = self.folder / f"{name}.npy"
        array: Shaped[np.ndarray, "..."] = np.load(path, mmap_mode="r")
        return array


@dataclass(frozen=True)
class VolumeStore:
    """Keep prepared volumes below a folder, one folder each, two bytes a voxel."""

    path: Path

    def prepare(
        self, case: TrainingCase, settings: TrainingSettings, rng: Generator
    ) -> StoredVolume:
        """Prepare a case's volume, or find it prepared by an earlier, interrupted run.

        Parameters
        ----------
        case
            Training case.
        settings
            Settings of the training.
        rng
            Source of the points that are kept.

        Raises
        ------
        InputError
            If the volume is unusable.
        """
        folder = self.path / case.case.case
        mark = {
            "sha256": case.sha256,
            "seed": settings.seed,
            "factor": settings.factor,
            "code": code_digest("super_resolution"),
        }
        found = _record(folder)
        if found.get("mark") != mark:
            spacing_mm = _write(folder, case, settings, rng)
            found = {"mark": mark, "spacing_mm": list(spacing_mm)}
            write_json(folder / _RECORD, found)
        z, y, x = found["spacing_mm"]
        return StoredVolume(case.case.case, folder, (z, y, x))


def _record(folder: Path) -> dict[str, Any]:
    try:
        return dict(read_json(folder / _RECORD)) if (folder / _RECORD).is_file() else {}
    except InputError:  # torn by a kill: it is made again
        return {}


def _write(
    folder: Path, case: TrainingCase, settings: TrainingSettings, rng: Generator
) -> tuple[float, float, float]:
    """Write a volume's arrays; its record, written last, says that they are whole."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _RECORD).unlink(missing_ok=True)
    volume: TrainingVolume = prepare_volume(case.case.case, read_case(case, settings), rng)
    for name in ("values", "edges", "body"):
        np.save(folder / f"{name}.npy", getattr(volume, name))
    return volume.spacing_mm
