"""Read a surface folder, simulate its flow and write the flow folder."""

from __future__ import annotations

import csv
import io
import logging
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import trimesh
from jaxtyping import Float

from pipeline.core.artefacts import publish, write_json
from pipeline.core.errors import InputError
from pipeline.core.planes import Plane, read_planes
from stages.flow.engines import engine_caveats
from stages.flow.field_file import image_data
from stages.flow.mesh import WALL, PatchedSurface, assemble, is_inlet, is_outlet
from stages.flow.openings import make_openings
from stages.flow.record import caveats, flow_record, measure_planes, probe_values
from stages.flow.sampling import NodeTable
from stages.flow.settings import FlowSettings
from stages.flow.simulation import Simulation
from stages.flow.voxels import build_lattice

_LOG = logging.getLogger("ct2flow.flow")
_POINT_COLUMNS = ("x_mm", "y_mm", "z_mm")
_PROBE_COLUMNS = (
    *_POINT_COLUMNS,
    "pressure_pa",
    "velocity_x_m_s",
    "velocity_y_m_s",
    "velocity_z_m_s",
)


def run(
    surface_folder: Path,
    output: Path,
    settings: FlowSettings,
    *,
    probes: Path | None = None,
    planes: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Simulate the flow through a surface folder.

    Parameters
    ----------
    surface_folder
        Folder with wall.stl, inlet*.stl and outlet*.stl, lengths in mm.
    output
        Flow folder to write: flow.json, field.vti and, if asked for, probes.csv.
    settings
        Fluid, flow rate, lattice and end of the run.
    probes
        CSV with the columns x_mm, y_mm, z_mm.
    planes
        planes.json with cross-sections to measure.
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
    points = None if probes is None else read_points(probes)
    sections = {} if planes is None else read_planes(planes)
    inputs = [surface_folder, *(p for p in (probes, planes) if p is not None)]
    with publish(
        output,
        kind="flow",
        stage="flow",
        settings=settings,
        inputs=inputs,
        tolerance="equal numbers on one kind of processor, whatever the threads; "
        "lattice.seconds and lattice.mlups are measured",
        overwrite=overwrite,
        folder=True,
    ) as pending:
        pending.warnings += _simulate(pending.path, surface, settings, points, sections)


def _simulate(
    folder: Path,
    surface: PatchedSurface,
    settings: FlowSettings,
    points: Float[np.ndarray, "point 3"] | None,
    sections: Mapping[str, Plane],
) -> list[str]:
    lattice = build_lattice(surface, settings.spacing_mm)
    _LOG.info("lattice: %d fluid cells of %g mm", len(lattice.cells), settings.spacing_mm)
    openings = make_openings(surface, lattice)
    start = time.monotonic()
    result = Simulation(lattice, openings, settings).run()
    seconds = time.monotonic() - start
    warnings = caveats(surface, lattice, openings, result)
    warnings += engine_caveats(settings.engine, result.engine)
    for warning in warnings:
        _LOG.warning("%s", warning)
    nodes = NodeTable(lattice)
    record = flow_record(lattice, openings, result, settings, seconds)
    record["planes"] = measure_planes(surface, lattice, nodes, result, sections, settings)
    record["warnings"] = warnings
    write_json(folder / "flow.json", record)
    (folder / "field.vti").write_bytes(image_data(lattice, result))
    if points is not None:
        write_probes(folder / "probes.csv", points, probe_values(surface, nodes, result, points))
    return warnings


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
        If the file is missing, lacks a column or holds something that is no number.
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
    return np.array(values, dtype=np.float64).reshape(-1, 3)


def write_probes(
    path: Path, points: Float[np.ndarray, "point 3"], values: Float[np.ndarray, "4 point"]
) -> None:
    """Write pressure, Pa, and velocity, m/s, at points; NaN outside the fluid."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_PROBE_COLUMNS)
        for point, value in zip(points, values.T, strict=True):
            writer.writerow([f"{number:.9g}" for number in (*point, *value)])
