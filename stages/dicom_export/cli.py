"""Commands of the DICOM export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from stages.dicom_export.settings import DicomExportSettings

app = App(help="Write a volume as a derived DICOM series. Research use only.")


@app.default
def dicom_export(
    volume: Path,
    /,
    *,
    output: Path,
    like: Path | None = None,
    uncertainty: Path | None = None,
    settings: Annotated[DicomExportSettings, Parameter(name="*")] = DicomExportSettings(),  # noqa: B008
    overwrite: bool = False,
) -> None:
    """Write a volume in HU as a derived CT series.

    Parameters
    ----------
    volume
        Volume in HU, .nii.gz or .nii.
    output
        Folder to write, one file per slice.
    like
        Folder, zip, DICOMDIR or file of the original DICOM series: the new one joins its patient, study and
        frame of reference, so the output then names the patient. Without it nobody is named.
    uncertainty
        Standard deviation of the volume, HU, on its grid; a second series, steps of 0.01 HU.
    settings
        Labels of the series.
    overwrite
        Replace an existing output.
    """
    from stages.dicom_export.stage import run

    run(volume, output, settings, like=like, uncertainty=uncertainty, overwrite=overwrite)
