"""A whole case of small artefacts: two tubes that stand for the sides of a nose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyvista
import trimesh
from scipy import ndimage
from skimage.measure import marching_cubes

from pipeline.core.artefacts import publish, write_json
from pipeline.core.geometry import VoxelGrid
from pipeline.core.planes import Plane, write_planes
from pipeline.core.volume import Volume, write_volume
from stages.comparison.settings import ComparisonSettings
from stages.comparison.stage import run_flows, run_images, run_surfaces

RADIUS_MM = {"hr": 3.0, "lr": 2.7, "interpolated": 2.8, "sr": 2.95}
LOSS_PA = {"hr": 9.695, "lr": 8.965, "interpolated": 7.706, "sr": 9.849}
CASE = "tubes"
GRID = VoxelGrid((27, 30, 40), (1.25, 1.0, 1.0), (-20.0, -60.0, 100.0))
CENTRES_MM = {"left": (8.0, 116.0), "right": (-8.0, 116.0)}
SETTINGS = {
    "flow": {
        "flow_rate_ml_s": 250.0,
        "spacing_mm": 0.5,
        "density_kg_m3": 1.14,
        "kinematic_viscosity_m2_s": 1.65e-5,
        "precision": "float32",
    },
    "surface": {"isolevel_hu": -400.0},
    "airway": {"isolevel_hu": -400.0},
    "triplets": {"factor": 3, "profile": "box", "stride": 3},
    "ingest": {"series": "1"},
}
WARNING = "left out 4 of 188 slices that lie off the regular grid"


def distance_mm(points, radius):
    """Return the distance to the walls of two tubes along y, negative inside."""
    x, z = points[..., 0], points[..., 2]
    sides = [np.hypot(x - a, z - b) for a, b in CENTRES_MM.values()]
    return np.minimum(*sides) - radius


def tube_volume(radius, seed=0):
    index = np.stack(np.indices(GRID.shape), axis=-1)
    distance = distance_mm(GRID.to_world_mm(index), radius)
    noise = np.random.default_rng(seed).normal(0, 8, GRID.shape)
    values = np.clip(-480 + 520 * distance, -1000, 40) + noise
    return Volume(np.rint(values).astype(np.int16), GRID)


def thick_slices(volume):
    nz = volume.grid.shape[0] // 3
    mean = volume.values[: 3 * nz].reshape(nz, 3, *volume.grid.shape[1:]).mean(axis=1)
    origin = tuple(float(v) for v in volume.grid.to_world_mm(np.array([1.0, 0.0, 0.0])))
    z, y, x = volume.grid.spacing_mm
    return Volume(mean.astype(np.float32), VoxelGrid(mean.shape, (3 * z, y, x), origin))


def write_case(results: Path, *, patent: bool = True, closed: tuple[str, ...] = ()) -> Path:
    """Write every artefact of a case below `results` and return it."""
    hr = tube_volume(RADIUS_MM["hr"])
    lr = thick_slices(hr)
    _file(results / "volumes" / CASE / "hr.nii.gz", hr, "ingest", warnings=[WARNING])
    with _folder(results / "triplets" / CASE, "triplets") as pending:
        write_volume(pending.path / "hr.nii.gz", hr)
        write_volume(pending.path / "lr.nii.gz", lr)
        pending.warnings.append(WARNING)
    for seed, method in enumerate(("linear", "spline", "histospline", "sr"), start=1):
        blurred = ndimage.gaussian_filter1d(hr.values.astype(float), 1.5 / seed, axis=0)
        volume = hr.with_values(np.rint(blurred).astype(np.int16))
        _file(results / "restored" / CASE / f"{method}.nii.gz", volume, "super_resolution")
    open_names = []
    for name in RADIUS_MM if patent else ("hr",):
        is_open = patent and name not in closed
        _airway(results / "airway" / CASE / name, hr, patent=is_open)
        if is_open:
            open_names.append(name)
            _surface(results / "surface" / CASE / name, RADIUS_MM[name])
            _flow(results / "flow" / CASE / name, name, 0.5)
            _flow(results / "flow-coarse" / CASE / name, name, 0.7)
    _comparisons(results, open_names)
    return results


def _comparisons(results, open_names):
    out = results / "comparison" / CASE
    restored = [
        results / "restored" / CASE / f"{m}.nii.gz"
        for m in ("linear", "spline", "histospline", "sr")
    ]
    run_images(
        restored,
        out / "images.json",
        ComparisonSettings(),
        reference=results / "triplets" / CASE / "hr.nii.gz",
        airway=results / "airway" / CASE / "hr",
    )
    if open_names:
        surfaces = [results / "surface" / CASE / name for name in open_names]
        run_surfaces(surfaces, out / "surfaces.json", reference=surfaces[0])
        flows = [results / "flow" / CASE / name for name in open_names]
        coarse = [results / "flow-coarse" / CASE / name for name in open_names]
        run_flows(flows, out / "flows.json", baseline=flows[0], coarse=coarse)


def _folder(path, stage):
    return publish(path, kind=stage, stage=stage, settings=SETTINGS.get(stage, {}), folder=True)


def _file(path, volume, stage, warnings=()):
    inputs = {"scan": "ab" * 32} if stage == "ingest" else {}
    with publish(
        path, kind="volume", stage=stage, settings=SETTINGS.get(stage, {}), inputs=inputs
    ) as pending:
        pending.warnings += warnings
        write_volume(pending.path, volume)


def _airway(path, hr, *, patent):
    side = {"patent": patent, "reason": None, "place_mm": None, "minimal_area_mm2": None}
    if not patent:
        side |= {"reason": "no air connects nostril and pharynx.", "place_mm": [8.0, -50.0, 116.0]}
    else:
        side |= {"minimal_area_mm2": 28.3}
    record = {
        "format": 1,
        "patent": patent,
        "reason": side["reason"],
        "place_mm": side["place_mm"],
        "sides": {"left": side, "right": side},
        "lumen_volume_ml": 1.7 if patent else 0.0,
        "sinus_volume_ml": 0.0,
        "isolevel_hu": -400.0,
        "warnings": [],
    }
    with _folder(path, "airway") as pending:
        write_json(pending.path / "airway.json", record)
        if patent:
            lumen = hr.with_values((hr.values < -400).astype(np.uint8))
            write_volume(pending.path / "lumen.nii.gz", lumen)
            plane = Plane("pharynx", (0.0, -31.0, 116.0), (0.0, 1.0, 0.0), 12.0)
            write_planes(pending.path / "planes.json", [plane])


def tube_mesh(radius, step=0.5):
    """Return open tubes as (face, corner, xyz), mm."""
    z, y, x = (np.arange(a, b, step) for a, b in ((108, 124), (-60, -30), (-16, 16)))
    points = np.stack(np.meshgrid(z, y, x, indexing="ij")[::-1], axis=-1)
    distance = distance_mm(points, radius)
    vertices, faces, _, _ = marching_cubes(distance, 0.0, spacing=(step,) * 3)
    world = vertices[:, ::-1] + np.array([-16.0, -60.0, 108.0])
    return world[faces]


def _surface(path, radius):
    with _folder(path, "surface") as pending:
        triangles = tube_mesh(radius)
        _stl(pending.path / "wall.stl", triangles)
        for name in ("inlet-left", "inlet-right", "outlet-pharynx"):
            _stl(pending.path / f"{name}.stl", triangles[:4])
        content = {
            "format": 1,
            "volume_ml": 2 * np.pi * radius**2 * 30 / 1000,
            "minimal_area_mm2": {"left": np.pi * radius**2, "right": np.pi * radius**2},
        }
        write_json(pending.path / "surface.json", content)


def _stl(path, triangles):
    faces = np.arange(3 * len(triangles)).reshape(-1, 3)
    trimesh.Trimesh(triangles.reshape(-1, 3), faces, process=False).export(path)


def flow_record(loss_pa, spacing_mm, *, left=110.0, right=140.0):
    """Return a flow.json as CONTRACT.md describes it."""
    total = loss_pa * (1.0 + 0.1 * (spacing_mm - 0.5))
    rates = {"inlet-left": left, "inlet-right": right, "outlet-pharynx": left + right}
    return {
        "format": 1,
        "openings": {
            name: {
                "area_mm2": 28.3,
                "flow_rate_ml_s": rate,
                "static_pressure_pa": total - 0.5 if name.startswith("inlet") else 0.0,
                "total_pressure_pa": total + 1.0 if name.startswith("inlet") else 1.0,
            }
            for name, rate in rates.items()
        },
        "planes": {},
        "pressure_loss": {
            "static_pa": total - 0.5,
            "total_pa": total,
            "standard_deviation_in_time_pa": 0.05,
        },
        "lattice": {
            "spacing_mm": spacing_mm,
            "time_step_s": 1e-5,
            "fluid_cells": 12000,
            "steps": 4000,
            "seconds": 12.0,
            "mlups": 4.0,
            "engine": "numba",
            "precision": "float32",
            "threads": 2,
            "bytes_per_cell": 248,
        },
        "numbers": {
            "reynolds": 700.0,
            "mach_max": 0.17,
            "relaxation_time": 0.51,
            "peak_velocity_m_s": 6.1,
        },
        "convergence": {
            "reached": spacing_mm == 0.5,
            "pressure_loss_change": 5e-5,
            "mass_imbalance": 2e-4,
            "statistically_steady": spacing_mm != 0.5,
            "time_mean_error": None if spacing_mm == 0.5 else 0.004,
            "averaging_window_s": 0.01,
            "simulated_time_s": 0.04,
        },
    }


def _flow(path, name, spacing_mm):
    with _folder(path, "flow") as pending:
        write_json(pending.path / "flow.json", flow_record(LOSS_PA[name], spacing_mm))
        field_image(RADIUS_MM[name], spacing_mm).save(pending.path / "field.vti")


def field_image(radius, step):
    """Return parabolic flow along y and a linear pressure on a regular box, NaN outside."""
    shape = tuple(int(length / step) for length in (16, 30, 32))
    origin = np.array([-16.0, -60.0, 108.0]) + step / 2
    index = np.stack(np.indices(shape), axis=-1)[..., ::-1]
    points = origin + step * index
    inside = distance_mm(points, radius) < 0
    share = 1 + distance_mm(points, radius) / radius
    velocity = np.zeros((*shape, 3))
    velocity[..., 1] = 2.0 * (1 - share**2)
    velocity[~inside] = np.nan
    pressure = np.where(inside, 9.0 * (-30 - points[..., 1]) / 30, np.nan)
    image = pyvista.ImageData(dimensions=shape[::-1], spacing=(step,) * 3, origin=tuple(origin))
    image.point_data["velocity"] = velocity.reshape(-1, 3).astype(np.float32)
    image.point_data["pressure"] = pressure.ravel().astype(np.float32)
    return image
