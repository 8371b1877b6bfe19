"""Commands of the triplets stage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from stages.triplets.settings import ProfileFitSettings, TripletsSettings

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


@app.command
def fit_profile(
    *,
    thin: Path,
    thick: Path,
    output: Path,
    settings: Annotated[ProfileFitSettings, Parameter(name="*")] = ProfileFitSettings(),  # noqa: B008
    overwrite: bool = False,
) -> None:
    """Estimate the scanner's slice profile from a thin and a thick series of one scan.

    Parameters
    ----------
    thin
        Volume of the thin slices in HU, as 'ct2flow ingest' writes it.
    thick
        Volume of the thick slices of the same scan and field of view.
    output
        JSON file to write; give it to 'ct2flow triplets --profile'.
    settings
        Nominal width of the thick slices.
    overwrite
        Replace an existing output.
    """
    from stages.triplets.stage import run_fit_profile

    run_fit_profile(thin, thick, output, settings, overwrite=overwrite)
