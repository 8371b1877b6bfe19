"""Commands of the flow stage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from pipeline.core.errors import UsageError
from stages.flow.settings import FlowSettings

app = App(name="simulate", help="Simulate the air flow through a closed surface.")
app.command(
    "stages.flow.validation.cli:validate", name="validate", help="Validate the flow solver."
)


@app.default
def simulate(
    surface_dir: Path,
    /,
    *,
    output: Path,
    settings: Annotated[FlowSettings, Parameter(name="*")] = FlowSettings(),  # noqa: B008
    probes: Path | None = None,
    planes: Path | None = None,
    initial: Path | None = None,
    coarser: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)] = (),
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
    initial
        field.vti, or the flow folder that holds it, to begin with instead of rest: a coarser lattice's,
        or that of nearly the same airway.
    coarser
        Flow folders of the same surface on coarser lattices: flow.json then tells the discretisation
        error, and the run begins with the least coarse one's flow, unless --initial names another.
    overwrite
        Replace an existing output.
    """
    from stages.flow.stage import run

    run(
        *(surface_dir, output, settings),
        probes=probes,
        planes=planes,
        initial=initial,
        coarser=coarser,
        overwrite=overwrite,
    )


@app.command
def refine(
    surface_dir: Path,
    /,
    *,
    output: Path,
    spacings_mm: str,
    settings: Annotated[FlowSettings, Parameter(name="*")] = FlowSettings(),  # noqa: B008
    probes: Path | None = None,
    planes: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Simulate on several lattices, each beginning with the coarser one's flow, for the lattice error.

    Parameters
    ----------
    surface_dir
        Folder with wall.stl, inlet*.stl and outlet*.stl, lengths in mm.
    output
        Folder to write: a flow folder for each spacing and refinement.json. Lattices that are done are kept.
    spacings_mm
        Spacings, mm, such as 0.5,0.35,0.25; they replace --spacing-mm.
    settings
        Fluid, flow rate and end of the runs.
    probes
        CSV file with the columns x_mm,y_mm,z_mm.
    planes
        planes.json with cross-sections to measure.
    overwrite
        Replace flow folders of other settings.
    """
    from stages.flow.refinement.stage import refine as run_refinement

    run_refinement(
        *(surface_dir, output, settings),
        spacings_mm=parse_numbers(spacings_mm),
        probes=probes,
        planes=planes,
        overwrite=overwrite,
    )


@app.command
def export(
    surface_dir: Path,
    /,
    *,
    output: Path,
    solver: Literal["m-aia"] = "m-aia",
    ranks: int = 16,
    settings: Annotated[FlowSettings, Parameter(name="*")] = FlowSettings(),  # noqa: B008
    overwrite: bool = False,
) -> None:
    """Write a flow as the input of an MPI solver, for a cluster; see docs/cluster_export.md.

    Parameters
    ----------
    surface_dir
        Folder with wall.stl, inlet*.stl and outlet*.stl, lengths in mm.
    output
        Folder to write: the solver's files, the patches and case.json.
    solver
        Solver that shall read them.
    ranks
        MPI processes that will compute.
    settings
        Fluid, flow rate, spacing and length of the run.
    overwrite
        Replace an existing output.
    """
    from stages.flow.case_export.stage import export_case

    export_case(surface_dir, output, settings, solver=solver, ranks=ranks, overwrite=overwrite)


def parse_numbers(text: str) -> list[float]:
    """Read numbers with commas between them.

    Raises
    ------
    UsageError
        If something else is among them.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(
            f"'{text}': needed are numbers with commas between them, such as 0.5,0.35,0.25."
        ) from error
