"""Commands of the ingest stage."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from stages.ingest.settings import IngestSettings

app = App(name="ingest", help="Read a CT series into a volume in HU.")


@app.default
def ingest(
    scan: Path,
    /,
    *,
    output: Path,
    settings: Annotated[IngestSettings, Parameter(name="*")] = IngestSettings(),  # noqa: B008
    overwrite: bool = False,
) -> None:
    """Read a CT series into a de-identified volume in Hounsfield units.

    Parameters
    ----------
    scan
        Folder, .zip or DICOMDIR of DICOM, or a .nii, .nii.gz, .nrrd, .mha, .mhd volume in HU.
    output
        Volume to write, .nii.gz or .nii.
    settings
        Choice of series and tolerances.
    overwrite
        Replace an existing output.
    """
    from stages.ingest.stage import run

    run(scan, output, settings, overwrite=overwrite)


@app.command(name="list")
def list_series(scan: Path, /, *, max_unpacked_gib: float = 8.0) -> None:
    """List the series of a scan: slices, spacing, thickness, kernel and suitability.

    Parameters
    ----------
    scan
        Folder, .zip or DICOMDIR of DICOM.
    max_unpacked_gib
        Largest unpacked size of a zip file, GiB.
    """
    from stages.ingest.stage import describe

    settings = IngestSettings(max_unpacked_gib=max_unpacked_gib)
    sys.stdout.write(describe(scan, settings))
