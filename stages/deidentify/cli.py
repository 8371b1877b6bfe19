"""Commands of the de-identification."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from stages.deidentify.settings import DeidentifySettings, FaceSettings

app = App(name="deidentify", help="Make CT images that name nobody; cut the face off a head.")


@app.default
def deidentify(
    scan: Path,
    /,
    *,
    output: Path,
    secret: Path,
    create_secret: bool = False,
    settings: Annotated[DeidentifySettings, Parameter(name="*")] = DeidentifySettings(),  # noqa: B008
    overwrite: bool = False,
) -> None:
    """Copy the CT images of a scan without anything that names the patient.

    Parameters
    ----------
    scan
        Folder, .zip or DICOMDIR of DICOM.
    output
        Folder to write, one folder per series in it.
    secret
        File with the project's secret: the same secret gives the same pseudonyms. Keep it; who has
        it can link the copies to the originals.
    create_secret
        Make the secret, 32 random bytes, if there is no such file.
    settings
        Options of the confidentiality profile.
    overwrite
        Replace an existing output.
    """
    from stages.deidentify.stage import run

    run(scan, output, settings, secret=secret, make_secret=create_secret, overwrite=overwrite)


@app.command
def face(
    volume: Path,
    /,
    *,
    output: Path,
    airway: Path | None = None,
    settings: Annotated[FaceSettings, Parameter(name="*")] = FaceSettings(),  # noqa: B008
    overwrite: bool = False,
) -> None:
    """Cut the face off a head; the airway and its surroundings keep every voxel.

    Parameters
    ----------
    volume
        Volume in HU, .nii.gz or .nii.
    output
        Volume to write, .nii.gz or .nii.
    airway
        Airway folder of this volume ('ct2flow airway'). Without it all air inside the head is
        protected like the airway, and more of the nose and the lips stays.
    settings
        Depth of the cut and width of what is protected.
    overwrite
        Replace an existing output.
    """
    from stages.deidentify.face_stage import run

    run(volume, output, settings, airway=airway, overwrite=overwrite)
