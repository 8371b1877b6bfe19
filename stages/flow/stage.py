"""Read a surface folder, simulate its flow and write the flow folder."""

from __future__ import annotations

import csv
import io
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyvista
import trimesh
from jaxtyping import Float

from pipeline.core.artefacts import publish, write_json
from pipeline.core.errors import InputError
from pipeline.core.planes import Plane, read_planes
from stages.flow import engine, measures
from stages.flow.mesh import WALL, PatchedSurface, assemble, is_inlet, is_outlet
from stages.flow.openings import Opening, make_openings
from stages.flow.settings import FlowSettings
from stages.flow.solver import FlowResult, Solver
from stages.flow.voxels import SparseLattice, build_lattice, thin_gap_cells

_LOG = logging.getLogger("ct2flow.flow")
_PROBE_COLUMNS = (
    "x_mm,y_mm,z_mm,pressure_pa,velocity_x_m_s,velocity_y_m_s,velocity_z_m_s".split(",")
)
FLOW_FORMAT = 1


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
        tolerance="bitwise for one number of threads on one processor; else 1e-4 of each value",
        overwrite=overwrite,
        folder=True,
    ) as pending:
        lattice = build_lattice(surface, settings.spacing_mm)
        _LOG.info("lattice: %d fluid cells of %g mm", len(lattice.cells), settings.spacing_mm)
        openings = make_openings(surface, lattice, developed=settings.inlet == "developed")
        start = time.monotonic()
        result = Solver(lattice, openings, settings).run()
        seconds = time.monotonic() - start
        pending.warnings += _warnings(surface, lattice, openings, result)
        for warning in pending.warnings:
            _LOG.warning("%s", warning)
        flow = measures.CellField(
            lattice, lattice.dense_index(), result.velocity_m_s, result.pressure_pa
        )
        record = flow_record(lattice, result, settings, seconds)
        record["planes"] = measure_planes(flow, sections, settings)
        record["warnings"] = list(pending.warnings)
        write_json(pending.path / "flow.json", record)
        write_field(pending.path / "field.vti", flow)
        if points is not None:
            write_probes(pending.path / "probes.csv", points, measures.sample(flow, points))


def read_patches(folder: Path) -> dict[str, Float[np.ndarray, "face 3 3"]]:
    """Read the patches of a surface folder.

    Raises
    ------
    InputError
        If the folder or a file is missing or no STL.
    """
    if not folder.is_dir():
        raise InputError(f"{folder.name}: no such folder; give a folder with wall.stl.")
    paths = sorted(p for p in folder.glob("*.stl") if _is_patch(p.stem))
    return {path.stem: _read_stl(path) for path in paths}


def _is_patch(name: str) -> bool:
    return name == WALL or is_inlet(name) or is_outlet(name)


def _read_stl(path: Path) -> Float[np.ndarray, "face 3 3"]:
    data = path.read_bytes()
    try:
        with np.errstate(all="ignore"):
            mesh = trimesh.load_mesh(io.BytesIO(data), file_type="stl", process=False)
        triangles = np.asarray(mesh.triangles, dtype=np.float64)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, UnicodeError) as error:
        raise InputError(
            f"{path.name}: is no readable STL; export it again as binary STL in mm.", path=path
        ) from error
    if triangles.ndim != 3 or len(triangles) == 0:
        raise InputError(f"{path.name}: holds no triangle; export the patch again.", path=path)
    return triangles


def read_points(path: Path) -> Float[np.ndarray, "point 3"]:
    """Read probe points.

    Raises
    ------
    InputError
        If the file is missing, lacks a column or holds something that is no number.
    """
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        values = [[float(row[name]) for name in _PROBE_COLUMNS[:3]] for row in rows]
    except OSError as error:
        raise InputError(f"{path.name}: cannot be read ({error.strerror}).") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path.name}: needed is a CSV file with the columns x_mm,y_mm,z_mm and numbers in "
            "every row; correct it.",
            path=path,
        ) from error
    return np.array(values, dtype=np.float64).reshape(-1, 3)


def measure_planes(
    flow: measures.CellField, planes: Mapping[str, Plane], settings: FlowSettings
) -> dict[str, dict[str, float | None]]:
    """Measure every named section."""
    return {
        name: measures.measure_plane(flow, plane, settings.density_kg_m3)
        for name, plane in planes.items()
    }


def flow_record(
    lattice: SparseLattice, result: FlowResult, settings: FlowSettings, seconds: float
) -> dict[str, Any]:
    """Return flow.json as far as the run alone decides it."""
    inlets = {k: v for k, v in result.openings.items() if is_inlet(k)}
    area = sum(v["area_mm2"] for v in inlets.values()) * 1e-6
    flow_m3_s = settings.flow_rate_ml_s * 1e-6
    diameter = np.sqrt(4 * area / np.pi)
    cells = len(lattice.cells)
    finite_change = min(result.pressure_loss_change, 1e9)
    return {
        "format": FLOW_FORMAT,
        "openings": result.openings,
        "planes": {},
        "pressure_loss": {"static_pa": result.static_loss_pa, "total_pa": result.total_loss_pa},
        "lattice": {
            "spacing_mm": settings.spacing_mm,
            "time_step_s": result.scales.time_step_s,
            "fluid_cells": cells,
            "thin_gap_cells": thin_gap_cells(lattice),
            "steps": result.steps,
            "seconds": round(seconds, 3),
            "mlups": round(cells * result.steps / max(seconds, 1e-9) / 1e6, 3),
            "engine": settings.engine,
            "precision": settings.precision,
            "threads": settings.threads,
            "bytes_per_cell": engine.bytes_per_cell(np.dtype(settings.precision).type),
        },
        "numbers": {
            "reynolds": float(
                flow_m3_s / area * diameter / settings.kinematic_viscosity_m2_s
            ),
            "mach_max": result.mach_max,
            "relaxation_time": result.scales.relaxation_time(settings.kinematic_viscosity_m2_s),
            "peak_velocity_m_s": result.peak_velocity_m_s,
        },
        "convergence": {
            "reached": result.reached,
            "pressure_loss_change": finite_change,
            "mass_imbalance": min(result.mass_imbalance, 1e9),
            "pressure_loss_std_pa": result.pressure_loss_std_pa,
            "simulated_time_s": result.time_s,
        },
    }


def _warnings(
    surface: PatchedSurface,
    lattice: SparseLattice,
    openings: tuple[Opening, ...],
    result: FlowResult,
) -> list[str]:
    found = []
    size = float(np.ptp(surface.triangles_mm.reshape(-1, 3), axis=0).max())
    if size < 1.0 or size > 2000.0:
        found.append(f"the surface is {size:.3g} mm long; lengths must be in mm.")
    reached = {opening.name for opening in openings}
    found += [
        f"{name}: no fluid cell reaches this opening at {lattice.spacing_mm} mm; it carries no flow."
        for name in surface.openings
        if name not in reached
    ]
    thin = thin_gap_cells(lattice) / len(lattice.cells)
    if thin > 0.01:
        found.append(
            f"{100 * thin:.1f} % of the fluid cells lie in gaps one cell wide; the pressure loss "
            "there is not resolved: choose a smaller --spacing-mm."
        )
    if not result.reached:
        found.append(
            "the run has not converged: the pressure loss changed by "
            f"{100 * min(result.pressure_loss_change, 1e4):.2g} % between the last two windows "
            f"and varies by {result.pressure_loss_std_pa:.2g} Pa in time; the mean is reported."
        )
    return found


def write_field(path: Path, flow: measures.CellField) -> None:
    """Write velocity, m/s, and pressure, Pa relative to the outlet, as VTK image data."""
    velocity, pressure = measures.box_field(flow)
    image = pyvista.ImageData(
        dimensions=flow.lattice.shape,
        spacing=(flow.lattice.spacing_mm,) * 3,
        origin=tuple(float(v) for v in flow.lattice.origin_mm),
    )
    image.point_data["velocity"] = velocity.reshape(-1, 3).astype(np.float32)
    image.point_data["pressure"] = pressure.ravel().astype(np.float32)
    image.save(path)


def write_probes(
    path: Path, points: Float[np.ndarray, "point 3"], values: Float[np.ndarray, "4 point"]
) -> None:
    """Write pressure, Pa, and velocity, m/s, at points; NaN outside the fluid."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_PROBE_COLUMNS)
        for point, value in zip(points, values.T, strict=True):
            writer.writerow([f"{number:.9g}" for number in (*point, *value)])
