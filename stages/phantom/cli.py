"""Commands of the phantom stage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from stages.phantom.settings import ScanSettings, TruthSettings

app = App(name="phantom", help="Make a head with a known airway.")


@app.command
def dicom(
    *,
    output: Path,
    settings: Annotated[ScanSettings, Parameter(name="*")] = ScanSettings(),  # noqa: B008
    overwrite: bool = False,
) -> None:
    """Scan a phantom patient and write a DICOM series.

    Parameters
    ----------
    output
        Folder to write: one file per slice.
    settings
        Patient and scanner.
    overwrite
        Replace an existing output.
    """
    from stages.phantom.stage import run_dicom

    run_dicom(output, settings, overwrite=overwrite)


@app.command
def volume(
    *,
    output: Path,
    settings: Annotated[ScanSettings, Parameter(name="*")] = ScanSettings(),  # noqa: B008
    overwrite: bool = False,
) -> None:
    """Scan a phantom patient and write a volume in HU.

    Parameters
    ----------
    output
        NIfTI file to write.
    settings
        Patient and scanner.
    overwrite
        Replace an existing output.
    """
    from stages.phantom.stage import run_volume

    run_volume(output, settings, overwrite=overwrite)


@app.command
def truth(
    *,
    output: Path,
    settings: Annotated[TruthSettings, Parameter(name="*")] = TruthSettings(),  # noqa: B008
    overwrite: bool = False,
) -> None:
    """Write what is true of a phantom patient's airway.

    Parameters
    ----------
    output
        Folder to write: truth.json, planes.json, airway.stl, lumen.nii.gz.
    settings
        Patient and resolution.
    overwrite
        Replace an existing output.
    """
    from stages.phantom.stage import run_truth

    run_truth(output, settings, overwrite=overwrite)
