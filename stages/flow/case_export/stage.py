"""Read a surface folder and write it as the input of a cluster's solver."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pipeline.core.artefacts import publish, write_json
from pipeline.core.errors import UsageError
from stages.flow.case_export.m_aia import (
    cluster_case,
    facts,
    geometry_file,
    grid_file,
    run_file,
)
from stages.flow.case_export.patches import ascii_stl, described_openings
from stages.flow.mesh import assemble
from stages.flow.settings import FlowSettings
from stages.flow.stage import read_patches


def export_case(
    surface_folder: Path,
    output: Path,
    settings: FlowSettings,
    *,
    solver: Literal["m-aia"] = "m-aia",
    ranks: int = 16,
    overwrite: bool = False,
) -> None:
    """Write a flow as m-AIA's input.

    Parameters
    ----------
    surface_folder
        Folder with wall.stl, inlet*.stl and outlet*.stl, lengths in mm.
    output
        Folder to write: geometry.toml, properties_grid.toml, properties_run.toml, stl and case.json.
    settings
        Fluid, flow rate, spacing and length of the run.
    solver
        Solver that shall read them.
    ranks
        MPI processes that will compute, 1 or more.
    overwrite
        Replace an existing output.

    Raises
    ------
    InputError
        If the patches are unusable or not closed.
    UsageError
        If m-AIA has no condition for the openings, or there is no process.
    """
    if ranks < 1:
        raise UsageError(f"--ranks {ranks}: needed is at least one MPI process.", ranks=ranks)
    surface = assemble(read_patches(surface_folder))
    case = cluster_case(surface, described_openings(surface), settings)
    with publish(
        output,
        kind="cluster-case",
        stage="flow",
        settings={"solver": solver, "ranks": ranks, **settings.model_dump(mode="json")},
        inputs=[surface_folder],
        overwrite=overwrite,
        folder=True,
    ) as pending:
        stl = pending.path / "stl"
        stl.mkdir()
        for name in case.segments:
            (stl / f"{name}.stl").write_text(ascii_stl(name, surface.faces_of(name)))
        (pending.path / "geometry.toml").write_text(geometry_file(case))
        (pending.path / "properties_grid.toml").write_text(grid_file(case, ranks))
        (pending.path / "properties_run.toml").write_text(run_file(case, settings, ranks))
        write_json(pending.path / "case.json", facts(case))
