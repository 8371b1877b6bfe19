"""Read a surface folder, simulate its flow and write the flow folder."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float

from pipeline.core.artefacts import digest, publish, write_json
from pipeline.core.errors import InputError
from pipeline.core.planes import Plane, read_planes
from stages.flow.boundary_file import line_data, wall_data
from stages.flow.checkpoint import Checkpoint, checkpoint_path
from stages.flow.derived import derive
from stages.flow.engines import engine_caveats
from stages.flow.field_file import image_data, read_image_data
from stages.flow.gaps import find_gaps
from stages.flow.mesh import WALL, PatchedSurface, assemble, is_inlet, is_outlet
from stages.flow.openings import make_openings
from stages.flow.record import caveats, flow_record, measure_planes, probe_values
from stages.flow.refinement.ladder import carries_flow, discretisation, peak_ratio
from stages.flow.refinement.rungs import read_ladder
from stages.flow.restart import case_digest, run_to_end
from stages.flow.sampling import NodeTable
from stages.flow.settings import FlowSettings
from stages.flow.start import FieldImage, FlowField, between_lattices, on_lattice
from stages.flow.voxels import SparseLattice, build_lattice

_LOG = logging.getLogger("ct2flow.flow")
_POINT_COLUMNS = ("x_mm", "y_mm", "z_mm")
_PROBE_COLUMNS = (
    *_POINT_COLUMNS,
    "pressure_pa",
    "velocity_x_m_s",
    "velocity_y_m_s",
    "velocity_z_m_s",
)


@dataclass(frozen=True)
class _Given:
    """Hold what a run is given beside its surface and settings."""

    points: Float[np.ndarray, "point 3"] | None
    sections: Mapping[str, Plane]
    initial: FieldImage | None
    coarser: Sequence[Mapping[str, Any]]


def run(
    surface_folder: Path,
    output: Path,
    settings: FlowSettings,
    *,
    probes: Path | None = None,
    planes: Path | None = None,
    initial: Path | None = None,
    coarser: Sequence[Path] = (),
    overwrite: bool = False,
) -> None:
    """Simulate the flow through a surface folder.

    Parameters
    ----------
    surface_folder
        Folder with wall.stl, inlet*.stl and outlet*.stl, lengths in mm.
    output
        Flow folder to write: flow.json, field.vti, wall.vtp and, if asked for, streamlines.vtp and
        probes.csv.
    settings
        Fluid, flow rate, lattice and end of the run.
    probes
        CSV with the columns x_mm, y_mm, z_mm.
    planes
        planes.json with cross-sections to measure.
    initial
        field.vti, or its flow folder, of a flow to begin with instead of rest.
    coarser
        Flow folders of the same flow on coarser lattices: flow.json then tells the discretisation error,
        and without `initial` the run begins with the least coarse one's, if that carries a flow.
    overwrite
        Replace an existing output.

    Raises
    ------
    InputError
        If a file is unusable or no inlet reaches an outlet.
    NumericalError
        If the flow diverges.
    """
    surface = assemble(read_patches(surface_folder))
    if surface.copies:
        _LOG.info("surface: %d copies of triangles left out", surface.copies)
    ladder = read_ladder(coarser, surface_folder, settings)
    if initial is None and ladder and carries_flow(ladder[0].record, settings):
        initial = ladder[0].folder
    if initial is not None and initial.is_dir():
        initial = initial / "field.vti"
    given = _Given(
        None if probes is None else read_points(probes),
        {} if planes is None else read_planes(planes),
        None if initial is None else read_image_data(initial),
        [rung.record for rung in ladder],
    )
    ratio = peak_ratio(given.coarser[0], settings) if initial is not None and ladder else None
    case = case_digest(surface_folder, settings, initial, ratio)
    checkpoint = Checkpoint(checkpoint_path(output), case)
    with publish(
        output,
        kind="flow",
        stage="flow",
        settings=settings,
        inputs=input_digests(surface_folder, (probes, planes, initial), coarser),
        tolerance="equal numbers on one kind of processor, whatever the threads; "
        "lattice.seconds and lattice.mlups are measured",
        overwrite=overwrite,
        folder=True,
    ) as pending:
        pending.properties["case"] = case
        pending.warnings += _simulate(pending.path, surface, settings, given, checkpoint, ratio)
    checkpoint.remove()


def input_digests(
    surface_folder: Path, others: Sequence[Path | None], coarser: Sequence[Path]
) -> dict[str, str]:
    """Return the digests of what a run reads, by name; coarser flows may have the surface's name."""
    found = {p.name: digest(p) for p in (surface_folder, *others) if p is not None}
    return found | {f"coarser-{k}/{p.name}": digest(p) for k, p in enumerate(coarser, start=1)}


def _simulate(
    folder: Path,
    surface: PatchedSurface,
    settings: FlowSettings,
    given: _Given,
    checkpoint: Checkpoint,
    ratio: float | None,
) -> list[str]:
    lattice = build_lattice(surface, settings.spacing_mm)
    _LOG.info("lattice: %d fluid cells of %g mm", len(lattice.cells), settings.spacing_mm)
    gaps = find_gaps(surface, lattice)
    for warning in gaps.caveats():
        _LOG.warning("%s", warning)
    openings = make_openings(surface, lattice)
    result, seconds = run_to_end(
        *(lattice, openings, settings, checkpoint),
        begin=lambda: _initial_flow(given, surface, lattice),
        peak_ratio=ratio,
    )
    warnings = caveats(surface, lattice, openings, result, settings)
    warnings += engine_caveats(settings.engine, result.engine)
    for warning in warnings:
        _LOG.warning("%s", warning)
    warnings = gaps.caveats() + warnings
    nodes = NodeTable(lattice)
    record = flow_record(lattice, openings, result, settings, seconds)
    record["lattice"] |= gaps.record()
    record["planes"] = measure_planes(surface, lattice, nodes, result, given.sections, settings)
    record["discretisation"] = discretisation(record, given.coarser) if given.coarser else None
    if not given.coarser:
        _LOG.info("one lattice: its error is unknown; --coarser or 'simulate refine' tell it")
    derived = derive(surface, lattice, openings, nodes, result, settings, given.sections)
    record |= derived.record
    for warning in derived.warnings:
        _LOG.warning("%s", warning)
    warnings += derived.warnings
    record["warnings"] = warnings
    write_json(folder / "flow.json", record)
    image = image_data(lattice, result, temperature_c=derived.temperature_c)
    (folder / "field.vti").write_bytes(image)
    (folder / "wall.vtp").write_bytes(wall_data(derived.wall))
    if derived.lines is not None:
        (folder / "streamlines.vtp").write_bytes(line_data(derived.lines))
    if given.points is not None:
        values = probe_values(surface, nodes, result, given.points)
        write_probes(folder / "probes.csv", given.points, values)
    return warnings


def _initial_flow(
    given: _Given, surface: PatchedSurface, lattice: SparseLattice
) -> FlowField | None:
    """Bring the field to begin with to the cells of a lattice, with walls where the surface has them."""
    if given.initial is None:
        return None
    source = build_lattice(surface, given.initial.spacing_mm)
    return between_lattices(on_lattice(given.initial, source), source, lattice)


def read_patches(folder: Path) -> dict[str, Float[np.ndarray, "face 3 3"]]:
    """Read the patches of a surface folder; other files are left alone.

    Raises
    ------
    InputError
        If the folder is missing or a patch is no STL.
    """
    if not folder.is_dir():
        raise InputError(f"{folder.name}: no such folder; give a folder with wall.stl.")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".stl" and _is_patch(p.stem))
    return {path.stem: _read_stl(path) for path in paths}


def _is_patch(name: str) -> bool:
    return name == WALL or is_inlet(name) or is_outlet(name)


def _read_stl(path: Path) -> Float[np.ndarray, "face 3 3"]:
    data = path.read_bytes()
    try:
        with np.errstate(all="ignore"):
            mesh = trimesh.load_mesh(io.BytesIO(data), file_type="stl", process=False)
        triangles = np.asarray(mesh.triangles, dtype=np.float64)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path.name}: is no readable STL; export it again as binary STL in mm.", path=path
        ) from error
    if triangles.ndim != 3 or len(triangles) == 0:
        raise InputError(
            f"{path.name}: holds no triangle or is cut short; export the patch again as binary "
            "STL in mm.",
            path=path,
        )
    return triangles


def read_points(path: Path) -> Float[np.ndarray, "point 3"]:
    """Read probe points.

    Raises
    ------
    InputError
        If the file is missing, holds no point, lacks a column or holds something that is no finite number.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
        values = [[float(row[name]) for name in _POINT_COLUMNS] for row in rows]
    except OSError as error:
        raise InputError(f"{path.name}: cannot be read ({error.strerror}).") from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path.name}: needed is a CSV file with the columns x_mm,y_mm,z_mm and numbers in "
            "every row; correct it.",
            path=path,
        ) from error
    points = np.array(values, dtype=np.float64).reshape(-1, 3)
    if len(points) == 0 or not np.isfinite(points).all():
        found = "holds no point" if len(points) == 0 else "holds a number that is not finite"
        raise InputError(
            f"{path.name}: {found}; needed are the columns x_mm,y_mm,z_mm and a row for each point.",
            path=path,
        )
    return points


def write_probes(
    path: Path, points: Float[np.ndarray, "point 3"], values: Float[np.ndarray, "4 point"]
) -> None:
    """Write pressure, Pa, and velocity, m/s, at points; NaN outside the fluid."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_PROBE_COLUMNS)
        for point, value in zip(points, values.T, strict=True):
            writer.writerow([f"{number:.9g}" for number in (*point, *value)])
