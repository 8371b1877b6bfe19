"""What the command writes beside the pressure loss."""

from __future__ import annotations

import json

import numpy as np
import pytest
import pyvista
from flow_meshes import circle, rotation, tube, write_folder

from pipeline.core.planes import Plane, write_planes
from stages.flow.settings import FlowSettings
from stages.flow.stage import run

TURN = rotation(30.0, 20.0, 10.0)
SETTINGS = FlowSettings(
    flow_rate_ml_s=6.0, spacing_mm=1.0, threads=1, inlet="developed", streamlines=20
)


@pytest.fixture(scope="module")
def surface(tmp_path_factory):
    return write_folder(
        tmp_path_factory.mktemp("fields") / "surface", tube(circle(8.0), 20.0, turn=TURN)
    )


@pytest.fixture(scope="module")
def flow_dir(surface):
    planes = [
        Plane(f"at-{z:g}", tuple(TURN @ np.array([0.0, 0.0, z])), tuple(TURN[:, 2]), 9.0)
        for z in (4.0, 16.0)
    ]
    write_planes(surface.parent / "planes.json", planes)
    run(surface, surface.parent / "out", SETTINGS, planes=surface.parent / "planes.json")
    return surface.parent / "out"


@pytest.fixture(scope="module")
def record(flow_dir):
    return json.loads((flow_dir / "flow.json").read_text())


def test_the_air_warms_on_its_way_and_the_heat_is_accounted_for(record):
    heat = record["temperature"]
    warm = [heat["planes"]["at-4"], heat["planes"]["at-16"], heat["outlets"]["outlet"]]
    assert 20.0 < warm[0] < warm[1] < warm[2] < 34.0
    assert abs(heat["heat_balance_percent"]) < 1.0
    gained = 6e-6 * SETTINGS.density_kg_m3 * SETTINGS.heat_capacity_j_kg_k * (warm[2] - 20.0)
    assert heat["heat_carried_w"] == pytest.approx(gained, rel=2e-3)
    out = heat["heat_carried_w"] + heat["heat_conducted_w"]
    assert heat["heat_flow_w"] == pytest.approx(out, rel=0.01)
    assert heat["heat_flux_integral_w"] == pytest.approx(heat["heat_flow_w"], rel=0.2)
    assert heat["settled"]


def test_the_wall_record_agrees_with_its_file(flow_dir, record):
    wall = pyvista.read(flow_dir / "wall.vtp")
    area = wall.compute_cell_sizes()["Area"]
    shear = wall["wall_shear_stress_magnitude"]
    assert record["wall"]["shear_stress_mean_pa"] == pytest.approx(
        area @ shear / area.sum(), rel=1e-4
    )
    assert record["wall"]["shear_stress_max_pa"] == pytest.approx(shear.max(), rel=1e-6)
    known = ("shear_stress_mean_pa", "shear_stress_99_percent_pa", "shear_stress_max_pa")
    mean, percentile, largest = (record["wall"][name] for name in known)
    assert mean < percentile <= largest
    assert record["wall"]["area_mm2"] == pytest.approx(8 * np.pi * 20, rel=0.002)
    assert record["wall"]["force_balance_percent"] < 5.0


def test_field_and_lines_hold_temperatures_between_inlet_and_wall(flow_dir):
    image = pyvista.read(flow_dir / "field.vti")
    inside = np.isfinite(image["pressure"])
    assert np.isfinite(image["temperature"][inside]).all()
    assert np.isnan(image["temperature"][~inside]).all()
    lines = pyvista.read(flow_dir / "streamlines.vtp")
    for values in (image["temperature"][inside], lines["temperature"]):
        assert values.min() >= 20.0 - 1e-4
        assert values.max() <= 34.0 + 1e-4


def test_all_lines_of_a_pipe_reach_the_outlet(record):
    assert record["streamlines"] == {
        "number": 20,
        "reached_outlet": 1.0,
        "inlets": {"inlet": 20},
    }


def test_what_is_not_wanted_is_not_written(surface):
    settings = SETTINGS.model_copy(
        update={"temperature": False, "streamlines": 0, "max_steps": 64}
    )
    out = surface.parent / "bare"
    run(surface, out, settings)
    record = json.loads((out / "flow.json").read_text())
    assert {"temperature", "streamlines"}.isdisjoint(record)
    assert "wall" in record
    assert not (out / "streamlines.vtp").exists()
    assert "temperature" not in pyvista.read(out / "field.vti").array_names
    assert "heat_flux" not in pyvista.read(out / "wall.vtp").array_names
