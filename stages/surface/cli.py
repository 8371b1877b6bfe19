"""The commands `ct2flow surface` and `ct2flow surface check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter, validators

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
        SURFACE_DIR to make: wall.stl, inlet-*.stl, outlet-pharynx.stl, airway.stl, surface.json; with pipes
        or outside air before the nostrils also planes.json, the nostrils' planes.
    overwrite
        Replace the output if it exists.
    """
    from stages.surface.stage import run

    run(volume, airway, output, settings, overwrite=overwrite)


@app.command
def check(
    surface_dir: Path,
    /,
    *,
    repair: Path | None = None,
    hole_mm: Annotated[float, Parameter(validator=validators.Number(gte=0, lte=1000))] = 6.0,
    overwrite: bool = False,
) -> None:
    """Say whether a SURFACE_DIR is closed, oriented and free of self-intersections; repair it.

    Parameters
    ----------
    surface_dir
        Folder with wall.stl, inlet*.stl and outlet*.stl, in mm.
    repair
        SURFACE_DIR to write: vertices welded, triangles without area and copies dropped, triangles
        turned to agree, small holes closed. What needs a guess is left and named.
    hole_mm
        Longest perimeter of a hole that is closed, mm.
    overwrite
        Replace the repaired folder if it exists.
    """
    from stages.surface.stage import check as check_folder

    check_folder(surface_dir, repair=repair, hole_mm=hole_mm, overwrite=overwrite)
