"""Repair: what needs no guess is put right exactly, what does is left and named."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from pipeline.cli import exit_code
from pipeline.core.errors import InputError
from stages.surface.mesh import Mesh, is_closed, join, volume_mm3
from stages.surface.repair import repair_patches
from stages.surface.stage import check
from stages.surface.stl import read_stl, write_stl


def tube():
    """Return a closed cylinder along z as wall, inlet and outlet."""
    body = trimesh.creation.cylinder(radius=4.0, height=20.0, sections=32)
    for _ in range(4):
        body = body.subdivide()
    mesh = Mesh(np.asarray(body.vertices), np.asarray(body.faces))
    height = mesh.points[mesh.faces][:, :, 2]
    low, high = (height < -9.999).all(axis=1), (height > 9.999).all(axis=1)
    return {"wall": mesh.part(~(low | high)), "inlet": mesh.part(low), "outlet": mesh.part(high)}


def whole(patches):
    return join(list(patches.values()))


def test_a_sound_surface_is_left_alone():
    sound = tube()
    repaired = repair_patches(sound, hole_mm=6.0)
    assert repaired.sentences == []
    assert volume_mm3(whole(repaired.patches)) == volume_mm3(whole(sound))
    for name, mesh in sound.items():
        assert len(repaired.patches[name].faces) == len(mesh.faces)


def test_vertices_apart_by_rounding_are_welded():
    rng = np.random.default_rng(1)
    loose = {
        name: Mesh(m.points[m.faces].reshape(-1, 3), np.arange(3 * len(m.faces)).reshape(-1, 3))
        for name, m in tube().items()
    }
    loose = {
        n: Mesh(m.points + rng.uniform(-2e-5, 2e-5, m.points.shape), m.faces)
        for n, m in loose.items()
    }
    assert not is_closed(whole(loose))
    repaired = repair_patches(loose, hole_mm=6.0)
    assert is_closed(whole(repaired.patches))
    assert volume_mm3(whole(repaired.patches)) == pytest.approx(
        volume_mm3(whole(tube())), rel=1e-4
    )
    assert "welded" in repaired.sentences[0]


def test_copies_and_triangles_without_area_are_dropped():
    spoilt = tube()
    wall = spoilt["wall"]
    waste = np.concatenate([wall.faces, wall.faces[:5], wall.faces[:3, [0, 0, 1]]])
    spoilt["wall"] = Mesh(wall.points, waste)
    repaired = repair_patches(spoilt, hole_mm=6.0)
    assert is_closed(whole(repaired.patches))
    assert len(repaired.patches["wall"].faces) == len(wall.faces)
    assert any("3 triangles without area" in s for s in repaired.sentences)
    assert any("5 copies" in s for s in repaired.sentences)


@pytest.mark.parametrize("share", [0.01, 0.4, 1.0])
def test_turned_triangles_are_turned_back(share):
    rng = np.random.default_rng(2)
    spoilt = {}
    for name, mesh in tube().items():
        flip = rng.random(len(mesh.faces)) < share
        spoilt[name] = Mesh(mesh.points, np.where(flip[:, None], mesh.faces[:, ::-1], mesh.faces))
    repaired = repair_patches(spoilt, hole_mm=6.0)
    assert is_closed(whole(repaired.patches))
    assert volume_mm3(whole(repaired.patches)) == pytest.approx(volume_mm3(whole(tube())))


def test_small_holes_are_closed_in_their_patch_and_large_ones_left():
    spoilt = tube()
    wall = spoilt["wall"]
    centres = wall.points[wall.faces].mean(axis=1)
    middle = centres[np.argmin(np.abs(centres[:, 2]))]
    near = np.linalg.norm(centres - middle, axis=1) < 2.0
    spoilt["wall"] = wall.part(~near)
    lost = wall.part(near)
    repaired = repair_patches(spoilt, hole_mm=300.0)
    assert is_closed(whole(repaired.patches))
    assert len(repaired.patches["inlet"].faces) == len(spoilt["inlet"].faces)
    assert len(repaired.patches["wall"].faces) > len(spoilt["wall"].faces)
    # A fan over a hole in a curved wall cuts off at most the sagitta times the hole's area.
    change = abs(volume_mm3(whole(repaired.patches)) / volume_mm3(whole(tube())) - 1)
    assert change < 0.01
    assert len(lost.faces) > 1
    left = repair_patches(spoilt, hole_mm=0.5)
    assert not is_closed(whole(left.patches))


def write(folder, patches):
    folder.mkdir()
    for name, mesh in patches.items():
        write_stl(folder / f"{name}.stl", mesh)
    return folder


def test_the_command_writes_a_folder_that_the_check_accepts(tmp_path, capsys):
    spoilt = tube()
    spoilt["wall"] = Mesh(spoilt["wall"].points, spoilt["wall"].faces[1:])
    folder = write(tmp_path / "spoilt", spoilt)
    assert exit_code(["surface", "check", str(folder)]) == 3
    out = tmp_path / "sound"
    assert exit_code(["surface", "check", str(folder), "--repair", str(out)]) == 0
    assert "repair: closed 1 holes" in capsys.readouterr().out
    check(out)
    assert is_closed(read_stl(out / "airway.stl"))
    assert exit_code(["surface", "check", str(folder), "--repair", str(out)]) == 2


def test_what_cannot_be_repaired_leaves_nothing_behind(tmp_path):
    spoilt = tube()
    outlet = spoilt["outlet"]
    spoilt["outlet"] = Mesh(outlet.points, outlet.faces[:2])
    folder = write(tmp_path / "spoilt", spoilt)
    with pytest.raises(InputError, match="not shared by exactly two"):
        check(folder, repair=tmp_path / "sound")
    assert not (tmp_path / "sound").exists()
