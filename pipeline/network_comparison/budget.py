"""An equal budget: the same samples for every network, or the same time turned into steps once."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pipeline.core.geometry import VoxelGrid
from pipeline.core.manifests import Case
from pipeline.core.volume import Volume, read_volume, write_volume
from pipeline.network_comparison.cutting import cut_volume
from stages.super_resolution.settings import TrainingSettings

_FEW = 2
_LEAST_S = 3.0
"""Time over which steps are counted: ten times the scatter of starting a training."""
_MOST_STEPS = 4000
_SLICES, _EDGE = 48, 256
"""Size of the piece of a volume that steps are timed on: their cost is that of patches."""


def steps_of(seconds: float, seconds_per_step: float) -> int:
    """Return the whole steps that take a time, one at least."""
    return max(1, round(seconds / seconds_per_step))


def planned(settings: TrainingSettings, *, reports: int, validations: int) -> TrainingSettings:
    """Space reports and validations evenly over the steps of a training.

    Parameters
    ----------
    settings
        Settings with the number of steps.
    reports
        Points of the learning curve wanted.
    validations
        Validations wanted, at most the reports.
    """
    report = max(1, settings.steps // reports)
    validation = report * max(1, round(settings.steps / (report * validations)))
    return settings.model_copy(
        update={"report_interval": report, "validation_interval": validation}
    )


def seconds_per_step(settings: TrainingSettings, case: Case, root: Path) -> float:
    """Time the training steps of a network on a piece of a training case.

    Parameters
    ----------
    settings
        Settings of the training; its network is timed.
    case
        A training case.
    root
        Folder that its path is relative to.

    Returns
    -------
    float
        Processor seconds per step, of all threads together; seconds on a GPU. Two trainings of
        few and of more steps are subtracted: what a training costs once is in both.
    """
    from stages.super_resolution.model import chosen_device

    clock = time.perf_counter if chosen_device(settings.device) == "cuda" else time.process_time
    with TemporaryDirectory() as name:
        folder = Path(name)
        manifest = _write_piece(folder, case, read_volume(root / case.path))
        _seconds(folder, manifest, settings, 1, clock)  # imports and compilation
        start = _seconds(folder, manifest, settings, _FEW, clock)
        more = 4 * _FEW
        while True:
            spent = _seconds(folder, manifest, settings, more, clock) - start
            each = max(spent, 1e-6) / (more - _FEW)
            if spent >= _LEAST_S or more >= _MOST_STEPS:
                return each
            more = min(_MOST_STEPS, max(2 * more, _FEW + math.ceil(1.2 * _LEAST_S / each)))


def _seconds(
    folder: Path,
    manifest: Path,
    settings: TrainingSettings,
    steps: int,
    clock: Callable[[], float],
) -> float:
    from stages.super_resolution.stage import train

    changes = {"steps": steps, "report_interval": steps, "validation_interval": steps}
    before = clock()
    train(manifest, folder / "model", settings.model_copy(update=changes), overwrite=True)
    return clock() - before


def _write_piece(folder: Path, case: Case, volume: Volume) -> Path:
    """Write the middle of a volume and a manifest of it alone."""
    grid = volume.grid
    size = np.minimum(grid.shape, (_SLICES, _EDGE, _EDGE))
    first = (np.array(grid.shape) - size) // 2
    piece = cut_volume(volume, first, first + size)
    write_volume(folder / "piece.nii.gz", Volume(piece.values, _plain(piece.grid)))
    path = folder / "piece.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "patient", "role", "source", "path"])
        writer.writerow([case.case, case.patient, "train", "volume", "piece.nii.gz"])
    return path


def _plain(grid: VoxelGrid) -> VoxelGrid:
    return VoxelGrid(grid.shape, grid.spacing_mm)
