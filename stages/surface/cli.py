"""The commands `ct2flow surface` and `ct2flow surface check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from stages.surface.settings import SurfaceSettings

app = App(name="surface", help="Make the airway's closed surface as STL patches.")


@app.default
def surface(
    volume: Path,
    *,
    airway: Path,
    output: Path,
    overwrite: bool = False,
    settings: Annotated[SurfaceSettings, Parameter(name="*")] = SurfaceSettings(),  # noqa: B008
) -> None:
    """Draw the wall at an isolevel, cut it at the airway's planes and close the openings.

    Parameters
    ----------
    volume
        CT volume in HU (.nii or .nii.gz).
    airway
        Airway folder of that volume.
    output
        SURFACE_DIR to make: wall.stl, inlet-*.stl, outlet-pharynx.stl, airway.stl, surface.json.
    overwrite
        Replace the output if it exists.
    """
    from stages.surface.stage import run

    run(volume, airway, output, settings, overwrite=overwrite)


@app.command
def check(surface_dir: Path, /) -> None:
    """Say whether a SURFACE_DIR is closed, oriented and free of self-intersections.

    Parameters
    ----------
    surface_dir
        Folder with wall.stl, inlet*.stl and outlet*.stl, in mm.
    """
    from stages.surface.stage import check as check_folder

    check_folder(surface_dir)
