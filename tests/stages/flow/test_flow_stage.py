"""The command from SURFACE_DIR to FLOW_DIR."""

from __future__ import annotations

import json

import numpy as np
import pytest
import pyvista
from flow_meshes import circle, rotation, tube, write_folder

from pipeline.core.errors import InputError, UsageError
from pipeline.core.planes import Plane, write_planes
from stages.flow.settings import FlowSettings
from stages.flow.stage import read_patches, run

TURN = rotation(30.0, 20.0, 10.0)


@pytest.fixture(scope="module")
def flow_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flow")
    surface = write_folder(folder / "surface", tube(circle(8.0), 30.0, turn=TURN))
    centre, normal = TURN @ np.array([0.0, 0.0, 15.0]), TURN[:, 2]
    write_planes(folder / "planes.json", [Plane("middle", tuple(centre), tuple(normal), 9.0)])
    (folder / "points.csv").write_text(
        "x_mm,y_mm,z_mm\n" + ",".join(map(str, centre)) + "\n100,0,0\n"
    )
    settings = FlowSettings(flow_rate_ml_s=3.0, spacing_mm=0.8, threads=1, inlet="developed")
    run(
        surface,
        folder / "out",
        settings,
        probes=folder / "points.csv",
        planes=folder / "planes.json",
    )
    return folder / "out"


def test_flow_json_holds_every_field_of_the_contract(flow_dir):
    record = json.loads((flow_dir / "flow.json").read_text())
    four = {"area_mm2", "flow_rate_ml_s", "static_pressure_pa", "total_pressure_pa"}
    assert record["format"] == 1
    assert set(record["openings"]) == {"inlet", "outlet"}
    assert all(set(entry) == four for entry in record["openings"].values())
    assert set(record["planes"]["middle"]) == four
    assert {"static_pa", "total_pa"} <= set(record["pressure_loss"])
    assert {
        *("spacing_mm", "time_step_s", "fluid_cells", "steps", "seconds", "mlups"),
        *("engine", "precision", "threads", "bytes_per_cell"),
    } <= set(record["lattice"])
    assert {"reynolds", "mach_max", "relaxation_time"} <= set(record["numbers"])
    assert {"reached", "pressure_loss_change", "mass_imbalance"} <= set(record["convergence"])


def test_the_same_flow_passes_openings_and_planes(flow_dir):
    record = json.loads((flow_dir / "flow.json").read_text())
    assert record["openings"]["outlet"]["flow_rate_ml_s"] == pytest.approx(3.0, rel=5e-3)
    assert record["openings"]["inlet"]["flow_rate_ml_s"] == pytest.approx(3.0, rel=5e-3)
    assert record["planes"]["middle"]["flow_rate_ml_s"] == pytest.approx(3.0, rel=0.04)
    assert record["planes"]["middle"]["area_mm2"] == pytest.approx(16 * np.pi, rel=0.01)


def test_centreline_velocity_is_twice_the_mean_and_outside_is_nan(flow_dir):
    centre, outside = np.genfromtxt(flow_dir / "probes.csv", delimiter=",", skip_header=1)
    mean = 3.0 / (16 * np.pi)
    assert np.linalg.norm(centre[4:]) == pytest.approx(2 * mean, rel=0.05)
    assert np.isnan(outside[3:]).all()


def test_the_field_opens_with_vtk_and_agrees_with_the_probe(flow_dir):
    image = pyvista.read(flow_dir / "field.vti")
    centre = np.genfromtxt(flow_dir / "probes.csv", delimiter=",", skip_header=1)[0]
    number = image.find_closest_point(centre[:3])
    assert image["pressure"][number] == pytest.approx(centre[3], rel=0.1)
    assert np.isnan(image["pressure"]).any()


def test_an_output_that_exists_is_refused(flow_dir):
    with pytest.raises(UsageError, match="--overwrite"):
        run(flow_dir.parent / "surface", flow_dir, FlowSettings(spacing_mm=1.0))


@pytest.mark.parametrize(
    "content", [b"", b"no mesh at all", b"\0" * 84, b"solid x\nfacet normal 0 0 z\n"]
)
def test_a_broken_stl_is_refused_by_name(tmp_path, content):
    folder = write_folder(tmp_path / "surface", tube(circle(8.0), 20.0))
    (folder / "inlet.stl").write_bytes(content)
    with pytest.raises(InputError, match=r"inlet\.stl"):
        read_patches(folder)
