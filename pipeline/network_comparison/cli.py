"""The command `ct2flow train compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pipeline.network_comparison.settings import NetworkComparisonSettings
from stages.super_resolution.settings import TrainingSettings


def compare(
    manifest: Path,
    /,
    *,
    output: Path,
    settings: Annotated[NetworkComparisonSettings, Parameter(name="*")] = (
        NetworkComparisonSettings()  # noqa: B008
    ),
    training: TrainingSettings = TrainingSettings(),  # noqa: B008
    data_root: Path | None = None,
) -> None:
    """Train every network at an equal budget and judge it on the test cases of a manifest.

    Stopped or killed, it goes on where it was when the same command is run again; the report is
    written after every method.

    Parameters
    ----------
    manifest
        CSV file of prepared volumes (.nii.gz) with the roles train, test and, wanted, validation.
    output
        Folder to write: report.md, report.html, report.json, plan.json, models, cases, results. A
        file notes.md that you put there, with what you read in the tables, is part of the report
        whenever it is written.
    settings
        Networks, seeds, budget and test region.
    training
        What all trainings share: data sampling, loss, schedule, arithmetic. Its steps are the
        budget if no seconds are given.
    data_root
        Folder that the manifest's paths are relative to; else the manifest's own.
    """
    from pipeline.network_comparison.comparison import compare_networks

    compare_networks(manifest, output, settings, training, data_root=data_root)
