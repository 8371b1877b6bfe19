"""Commands of the flow stage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from stages.flow.settings import FlowSettings

app = App(name="simulate", help="Simulate the air flow through a closed surface.")


@app.default
def simulate(
    surface_dir: Path,
    /,
    *,
    output: Path,
    settings: Annotated[FlowSettings, Parameter(name="*")] = FlowSettings(),  # noqa: B008
    probes: Path | None = None,
    planes: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Simulate the flow from the inlets to the outlets of a surface folder.

    Parameters
    ----------
    surface_dir
        Folder with wall.stl, inlet*.stl and outlet*.stl, lengths in mm.
    output
        Folder to write: flow.json, field.vti, probes.csv.
    settings
        Fluid, flow rate, lattice and end of the run.
    probes
        CSV file with the columns x_mm,y_mm,z_mm.
    planes
        planes.json with cross-sections to measure.
    overwrite
        Replace an existing output.
    """
    from stages.flow.stage import run

    run(surface_dir, output, settings, probes=probes, planes=planes, overwrite=overwrite)
