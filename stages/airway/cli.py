"""The command `ct2flow airway`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from stages.airway.settings import AirwaySettings

app = App(name="airway", help="Find the airway of a head, from the nostrils to the pharynx.")


@app.default
def airway(
    volume: Path,
    *,
    output: Path,
    planes: Path | None = None,
    reference: Path | None = None,
    mask: Path | None = None,
    overwrite: bool = False,
    settings: Annotated[AirwaySettings, Parameter(name="*")] = AirwaySettings(),  # noqa: B008
) -> None:
    """Find the airway and write it as a folder; a nose that is not patent is a result as well.

    Parameters
    ----------
    volume
        CT volume in HU (.nii or .nii.gz).
    output
        Folder to make: airway.json, planes.json, lumen.nii.gz, region.nii.gz.
    planes
        The user's planes.json, used instead of found planes.
    reference
        Airway folder of the same patient's reference volume: its planes and its region are used.
    mask
        A mask of the airway made elsewhere (3D Slicer, a segmentation network): not zero is airway.
        Grey values still place the wall, and nothing is pruned.
    overwrite
        Replace the output if it exists.
    """
    from stages.airway.stage import run

    run(
        volume,
        output,
        settings,
        planes=planes,
        reference=reference,
        mask=mask,
        overwrite=overwrite,
    )
