"""Commands of the triplets stage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from stages.triplets.settings import TripletsSettings

app = App(name="triplets", help="Simulate thick slices from thin ones.")


@app.default
def triplets(
    volume: Path,
    /,
    *,
    output: Path,
    settings: Annotated[TripletsSettings, Parameter(name="*")] = TripletsSettings(),  # noqa: B008
    overwrite: bool = False,
) -> None:
    """Simulate the thick slices of a coarse scan from a volume of thin slices.

    Parameters
    ----------
    volume
        HR volume in HU, .nii.gz or .nii.
    output
        Folder to write: lr.nii.gz, hr.nii.gz (the thin slices that match) and triplets.json.
    settings
        Slice profile and distance of the thick slices.
    overwrite
        Replace an existing output.
    """
    from stages.triplets.stage import run

    run(volume, output, settings, overwrite=overwrite)
