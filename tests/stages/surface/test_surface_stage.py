"""The surface command writes patches that its own check accepts, and refuses what it must."""

from __future__ import annotations

import json

import numpy as np
import pytest
from surface_shapes import (
    ISOLEVEL_HU,
    SLOPE_HU_PER_MM,
    everywhere,
    grid_around,
    image_of,
    y_planes,
    y_tube,
)

from pipeline.core.artefacts import write_json
from pipeline.core.errors import InputError
from pipeline.core.planes import read_planes, write_planes
from pipeline.core.volume import write_volume
from stages.surface.mesh import Mesh, is_closed, join, volume_mm3
from stages.surface.settings import SurfaceSettings
from stages.surface.stage import check, run
from stages.surface.stl import read_stl, write_stl

SETTINGS = SurfaceSettings(isolevel_hu=ISOLEVEL_HU)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("surface")
    image = image_of(y_tube, grid_around(34.0, 0.8))
    write_volume(folder / "ct.nii.gz", image)
    airway = folder / "airway"
    airway.mkdir()
    sides = {side: {"patent": True, "minimal_area_mm2": 28.0} for side in ("left", "right")}
    write_json(airway / "airway.json", {"format": 1, "patent": True, "sides": sides})
    write_planes(airway / "planes.json", y_planes().values())
    write_volume(airway / "region.nii.gz", everywhere(image))
    run(folder / "ct.nii.gz", airway, folder / "surface", SETTINGS)
    return folder


def patches(folder):
    return [p for p in sorted(folder.glob("*.stl")) if p.name != "airway.stl"]


def test_patches_share_their_vertices_exactly_and_enclose_the_reported_volume(case):
    whole = join([read_stl(path) for path in patches(case / "surface")])
    record = json.loads((case / "surface" / "surface.json").read_text())
    assert is_closed(whole)
    assert record["watertight"] is True
    assert record["triangles"] == len(whole.faces)
    assert volume_mm3(whole) / 1000.0 == pytest.approx(record["volume_ml"], rel=1e-4)
    one_file = read_stl(case / "surface" / "airway.stl")
    assert volume_mm3(one_file) == pytest.approx(volume_mm3(whole), rel=1e-6)


def test_check_accepts_the_surface(case, capsys):
    check(case / "surface")
    lines = capsys.readouterr().out.splitlines()
    assert any("closed" in line for line in lines)
    assert all(line.startswith("note: ") for line in lines)


def test_check_names_a_hole_and_its_place(case, tmp_path):
    for path in patches(case / "surface"):
        mesh = read_stl(path)
        chosen = np.arange(len(mesh.faces)) > (0 if path.stem == "wall" else -1)
        write_stl(tmp_path / path.name, mesh.part(chosen))
    with pytest.raises(InputError, match="3 edges are not shared"):
        check(tmp_path)


def test_check_refuses_a_surface_that_is_inside_out(case, tmp_path):
    for path in patches(case / "surface"):
        mesh = read_stl(path)
        write_stl(tmp_path / path.name, Mesh(mesh.points, mesh.faces[:, ::-1]))
    with pytest.raises(InputError, match="inward"):
        check(tmp_path)


def test_check_refuses_a_folder_without_an_outlet(case, tmp_path):
    for path in patches(case / "surface"):
        if not path.stem.startswith("outlet"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match="outlet"):
        check(tmp_path)


def test_airway_that_is_not_patent_is_refused_with_its_reason(case, tmp_path):
    airway = tmp_path / "airway"
    airway.mkdir()
    record = {
        "format": 1,
        "patent": False,
        "reason": "The nose is blocked.",
        "place_mm": [1, 2, 3],
    }
    write_json(airway / "airway.json", record)
    with pytest.raises(InputError, match=r"The nose is blocked\..*\[1, 2, 3\]"):
        run(case / "ct.nii.gz", airway, tmp_path / "surface", SETTINGS)
    assert not (tmp_path / "surface").exists()


def test_side_that_is_closed_gets_no_inlet(case, tmp_path):
    airway = tmp_path / "airway"
    airway.mkdir()
    sides = {"left": {"patent": True}, "right": {"patent": False}}
    areas = {"-500": {"left": 40.0}, "-400": {"left": 50.0}, "-300": {"left": 55.0}}
    record = {"format": 1, "patent": True, "sides": sides, "minimal_area_at_isolevel_mm2": areas}
    write_json(airway / "airway.json", record)
    write_planes(airway / "planes.json", y_planes().values())
    (airway / "region.nii.gz").write_bytes((case / "airway" / "region.nii.gz").read_bytes())
    run(case / "ct.nii.gz", airway, tmp_path / "surface", SETTINGS)
    assert record_of(tmp_path / "surface")["minimal_area_at_isolevel_mm2"] == areas
    names = {path.stem for path in patches(tmp_path / "surface")}
    assert names == {"wall", "inlet-left", "outlet-pharynx"}


def record_of(folder):
    return json.loads((folder / "surface.json").read_text())


def test_record_says_how_volume_and_wall_change_with_the_isolevel(case):
    levels = record_of(case / "surface")["isolevel_sensitivity"]
    assert [levels[n]["isolevel_hu"] for n in ("lower", "nominal", "upper")] == [-580, -480, -380]
    assert levels["nominal"]["volume_ml"] == record_of(case / "surface")["volume_ml"]
    # 100 HU are a third of a millimetre at 300 HU per mm; the mean area makes dV = area dr second order.
    step_mm = 100.0 / SLOPE_HU_PER_MM
    for name, sign in (("lower", -1.0), ("upper", 1.0)):
        change = 1000.0 * (levels[name]["volume_ml"] - levels["nominal"]["volume_ml"])
        wall = 0.5 * (levels[name]["wall_area_mm2"] + levels["nominal"]["wall_area_mm2"])
        assert change == pytest.approx(sign * wall * step_mm, rel=0.03)


def test_level_at_which_the_airway_cannot_be_drawn_is_said_to_be_so(case, tmp_path):
    # A veil of -530 HU across both arms: air at the wall's level of -480, tissue 100 HU below.
    image = image_of(y_tube, grid_around(34.0, 0.8))
    veil = np.abs(np.arange(image.grid.shape[0]) - image.grid.shape[0] * 0.4) < 1.5
    values = image.values.copy()
    values[veil] = np.maximum(values[veil], ISOLEVEL_HU - 50.0)
    write_volume(tmp_path / "ct.nii.gz", image.with_values(values))
    run(tmp_path / "ct.nii.gz", case / "airway", tmp_path / "surface", SETTINGS)
    assert record_of(tmp_path / "surface")["isolevel_sensitivity"]["lower"] is None
    sidecar = json.loads((tmp_path / "surface" / "artefact.json").read_text())
    assert any("-580 HU" in sentence for sentence in sidecar["warnings"])


def test_uncertainty_of_zero_leaves_the_sensitivity_out(case, tmp_path):
    settings = SETTINGS.model_copy(update={"isolevel_uncertainty_hu": 0.0})
    run(case / "ct.nii.gz", case / "airway", tmp_path / "surface", settings)
    assert record_of(tmp_path / "surface")["isolevel_sensitivity"] == {}


def test_remeshed_surface_with_pipes_reports_its_triangles_and_keeps_the_nostrils(case, tmp_path):
    settings = SETTINGS.model_copy(update={"target_edge_mm": 1.0, "inlet_extension_mm": 5.0})
    run(case / "ct.nii.gz", case / "airway", tmp_path / "surface", settings)
    record = record_of(tmp_path / "surface")
    check(tmp_path / "surface")
    quality = record["triangle_quality"]
    assert quality["min_angle_degrees_p1"] > 30.0
    assert quality["edge_mm_mean"] == pytest.approx(1.0, rel=0.15)
    assert set(read_planes(tmp_path / "surface" / "planes.json")) == {
        "nostril-left",
        "nostril-right",
    }
    # Pipes and remeshing leave what is said of nostril to pharynx as it is.
    plain = record_of(case / "surface")["isolevel_sensitivity"]
    assert record["isolevel_sensitivity"] == plain
    assert record["volume_ml"] > record_of(case / "surface")["volume_ml"]


def test_surface_with_its_inlets_on_the_nostrils_has_no_planes_of_its_own(case):
    assert not (case / "surface" / "planes.json").exists()
