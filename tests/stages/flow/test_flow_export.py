"""A case for a cluster says what the settings say, in the solver's units, names and files."""

from __future__ import annotations

import json
import tomllib

import numpy as np
import pytest
import trimesh
from flow_meshes import blocks, circle, rectangle, rotation, tube, write_folder
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.errors import InputError, UsageError
from stages.flow.case_export.m_aia import grid_level
from stages.flow.case_export.patches import described_openings, hydraulic_diameter_mm
from stages.flow.case_export.stage import export_case
from stages.flow.mesh import assemble
from stages.flow.openings import make_openings
from stages.flow.settings import FlowSettings
from stages.flow.voxels import build_lattice

TURN = rotation(30.0, 20.0, 10.0)
SETTINGS = FlowSettings(flow_rate_ml_s=60.0, spacing_mm=0.4)


def tee():
    """Return a T of square tubes with two inlets and one outlet."""
    occupied = np.zeros((9, 3, 6), dtype=bool)
    occupied[:, :, 3:] = True
    occupied[3:6, :, :] = True

    def name_of(centre, normal):
        if normal == (-1, 0, 0) and centre[0] == 0.0:
            return "inlet-left"
        if normal == (1, 0, 0) and centre[0] == 18.0:
            return "inlet-right"
        return "outlet" if normal == (0, 0, -1) and centre[2] == 0.0 else "wall"

    return blocks(occupied, 2.0, name_of, turn=TURN)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    write_folder(folder / "surface", tee())
    export_case(folder / "surface", folder / "case", SETTINGS, ranks=8)
    return folder / "case"


@pytest.fixture(scope="module")
def files(made):
    names = ("geometry", "properties_grid", "properties_run")
    return {n: tomllib.loads((made / f"{n}.toml").read_text()) for n in names} | {
        "case": json.loads((made / "case.json").read_text())
    }


def test_every_file_that_another_names_is_there(made, files):
    grid, run = files["properties_grid"], files["properties_run"]
    assert {(made / p).is_file() for p in files["geometry"]["filename"].values()} == {True}
    assert grid["geometryInputFileName"] == run["geometryInputFileName"] == "geometry.toml"
    assert grid["gridOutputFileName"] == run["gridInputFileName"]
    assert (grid["gridGenerator"], grid["flowSolver"]) == (True, False)
    assert (run["gridGenerator"], run["flowSolver"]) == (False, True)


def test_segments_carry_the_condition_of_their_patch(files):
    geometry = files["geometry"]
    names = {
        int(k): v.removeprefix("stl/").removesuffix(".stl")
        for k, v in geometry["filename"].items()
    }
    conditions = {names[int(k)]: v for k, v in geometry["BC"].items()}
    assert conditions == {"wall": 2000, "inlet-left": 4070, "inlet-right": 4070, "outlet": 4072}
    assert geometry["noSegments"] == len(names) == 4
    openings = {names[k] for k in geometry["inOutSegmentsIds"]}
    assert openings == {"inlet-left", "inlet-right", "outlet"}
    assert {k: geometry[f"body_segments.{v}"] for k, v in names.items()} == {k: k for k in names}
    assert {names[k] for k in files["properties_run"]["inflowSegmentIds"]} == {
        "inlet-left",
        "inlet-right",
    }


def test_reynolds_and_mach_number_turn_back_into_flow_rate_and_viscosity(files):
    run, facts = files["properties_run"], files["case"]
    outlet_m2 = 36e-6
    dx_m, dt_s = 0.4e-3, facts["to_si"]["time_step_s"]
    velocity_lu = run["Ma"] / np.sqrt(3)
    length_lu = run["referenceLength"] / 0.4  # m-AIA: STL unit over the finest cell's edge
    viscosity_lu = run["Ma"] / np.sqrt(3) / run["Re"] * length_lu  # m-AIA's own definition
    assert velocity_lu * dx_m / dt_s * outlet_m2 == pytest.approx(60e-6, rel=1e-6)
    assert viscosity_lu * dx_m**2 / dt_s == pytest.approx(1.65e-5, rel=1e-9)
    assert facts["to_si"]["relaxation_time"] == pytest.approx(3 * viscosity_lu + 0.5, rel=1e-9)
    pressure = 1.14 * (dx_m / dt_s) ** 2 / 3
    assert facts["to_si"]["pressure_pa_per_density"] == pytest.approx(pressure, rel=1e-9)
    assert run["referenceLength"] == pytest.approx(6.0, rel=1e-6)
    assert run["timeSteps"] * dt_s * 60e-6 == pytest.approx(0.4 * 864e-9, rel=5e-3)


def test_the_grid_has_the_spacing_asked_for(made, files):
    points = np.concatenate([trimesh.load_mesh(p).vertices for p in (made / "stl").iterdir()])
    extent = np.ptp(points, axis=0).max()
    for name in ("properties_grid", "properties_run"):
        level, factor = files[name]["maxRfnmntLvl"], files[name]["reductionFactor"]
        assert extent * factor / 2**level == pytest.approx(0.4, rel=1e-6)
        assert files[name]["minLevel"] <= level
    assert (
        files["properties_grid"]["maxUniformRefinementLevel"]
        == files["properties_grid"]["maxRfnmntLvl"]
    )


@given(st.floats(1.0, 500.0), st.floats(0.02, 5.0))
def test_every_grid_is_a_halved_cube_around_the_geometry(extent, spacing):
    level, factor = grid_level(extent, spacing)
    assert 1.0 <= factor < 2.0 or level == 1
    assert extent * factor / 2**level == pytest.approx(spacing, rel=1e-6) or extent < spacing


def test_the_patches_in_ascii_close_one_volume_with_outward_normals(made):
    paths = sorted((made / "stl").iterdir())
    assert all(p.read_text().startswith(f"solid {p.stem}\nfacet normal") for p in paths)
    mesh = trimesh.util.concatenate([trimesh.load_mesh(p) for p in paths])
    mesh.merge_vertices(digits_vertex=5)
    assert mesh.is_watertight
    original = assemble(tee())
    same = trimesh.Trimesh(**trimesh.triangles.to_kwargs(original.triangles_mm))
    assert mesh.volume == pytest.approx(same.volume, rel=1e-6)
    assert mesh.volume > 0


def test_vertices_survive_the_way_through_text_to_the_last_bit(made, tmp_path):
    again = {p.stem: trimesh.load_mesh(p).triangles for p in (made / "stl").iterdir()}
    for name, triangles in tee().items():
        found = np.sort(again[name].reshape(-1, 9).astype(np.float32), axis=0)
        rows = np.sort(triangles.astype(np.float32).reshape(-1, 9), axis=0)
        np.testing.assert_array_equal(found, rows)


def test_normals_point_outward_and_velocities_with_the_flow(files):
    run = files["properties_run"]
    outward = np.array(run["bndNormalVectors"]).reshape(-1, 3) @ TURN
    np.testing.assert_allclose(outward, [(-1, 0, 0), (1, 0, 0), (0, 0, -1)], atol=1e-6)
    velocity = np.array(run["initialVelocityVectors"]).reshape(-1, 3) @ TURN
    np.testing.assert_allclose(velocity, [(1, 0, 0), (-1, 0, 0), (0, 0, -1)], atol=1e-6)


@pytest.mark.parametrize("flip", [False, True])
def test_openings_without_a_lattice_are_those_with_one(flip):
    patches = tube(circle(8.0), 20.0, turn=TURN)
    if flip:  # a patch wound the other way
        patches["outlet"] = patches["outlet"][:, ::-1]
    surface = assemble(patches)
    with_lattice = make_openings(surface, build_lattice(surface, 0.8))
    for one, two in zip(described_openings(surface), with_lattice, strict=True):
        assert (one.name, one.inlet) == (two.name, two.inlet)
        np.testing.assert_allclose(one.direction, two.direction, atol=1e-12)
        np.testing.assert_allclose([one.area_mm2, *one.centre_mm], [two.area_mm2, *two.centre_mm])


def test_the_hydraulic_diameter_is_four_areas_over_the_perimeter():
    round_, square = tube(circle(8.0, 512), 5.0), tube(rectangle(6.0, 2.0), 5.0)
    assert hydraulic_diameter_mm(round_["inlet"]) == pytest.approx(8.0, rel=1e-4)
    assert hydraulic_diameter_mm(square["outlet"]) == pytest.approx(3.0, rel=1e-12)


def test_flat_inlets_set_the_velocity_and_outlets_the_pressure(tmp_path):
    surface = write_folder(tmp_path / "surface", tee())
    export_case(surface, tmp_path / "case", SETTINGS.model_copy(update={"inlet": "flat"}))
    geometry = tomllib.loads((tmp_path / "case" / "geometry.toml").read_text())
    run = tomllib.loads((tmp_path / "case" / "properties_run.toml").read_text())
    assert list(geometry["BC"].values()) == [2000, 1000, 1000, 4000]
    assert run["rho1"] == 1.0
    # Both inlets have 36 mm2: the velocity is half of what one outlet of that size would have.
    assert run["Re"] == pytest.approx(60e-6 / 72e-6 * 6e-3 / 1.65e-5, rel=1e-6)


def test_what_the_solver_has_no_condition_for_is_refused(tmp_path):
    patches = tee()
    write_folder(tmp_path / "surface", patches)
    with pytest.raises(UsageError, match="developed"):
        export_case(
            tmp_path / "surface",
            tmp_path / "case",
            SETTINGS.model_copy(update={"inlet": "developed"}),
        )
    patches["outlet-b"] = patches.pop("inlet-right")
    write_folder(tmp_path / "two", patches)
    with pytest.raises(UsageError, match="one outlet"):
        export_case(tmp_path / "two", tmp_path / "case", SETTINGS)
    with pytest.raises(UsageError, match="--ranks 0"):
        export_case(tmp_path / "surface", tmp_path / "case", SETTINGS, ranks=0)
    with pytest.raises(InputError, match="levels"):
        export_case(
            tmp_path / "surface",
            tmp_path / "case",
            SETTINGS.model_copy(update={"spacing_mm": 1e-6}),
        )
    assert not (tmp_path / "case").exists()


def test_an_open_surface_is_refused(tmp_path):
    patches = tee()
    patches["wall"] = patches["wall"][1:]
    write_folder(tmp_path / "surface", patches)
    with pytest.raises(InputError, match="not closed"):
        export_case(tmp_path / "surface", tmp_path / "case", SETTINGS)


def test_equal_input_gives_equal_bytes(made, tmp_path):
    write_folder(tmp_path / "surface", tee())
    export_case(tmp_path / "surface", tmp_path / "case", SETTINGS, ranks=8)
    names = sorted(p.relative_to(made) for p in made.rglob("*") if p.is_file())
    assert len(names) == 9
    for name in names:
        assert (made / name).read_bytes() == (tmp_path / "case" / name).read_bytes()
