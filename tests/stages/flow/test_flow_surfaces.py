"""Surfaces as people bring them: overlapping parts, islands, copies, mixed winding, holes."""

from __future__ import annotations

import re

import numpy as np
import pytest
from flow_meshes import Patches, bend, circle, rotation, tube

from pipeline.core.errors import InputError
from stages.flow.mesh import assemble, enclosed_volume
from stages.flow.voxels import build_lattice
from stages.flow.wall_faces import wall_faces

SPACING = 0.5
RADIUS, LENGTH = 4.0, 20.0


@pytest.fixture
def pipe() -> Patches:
    return tube(circle(2 * RADIUS, 64), LENGTH)


def as_body(patches: Patches) -> np.ndarray:
    return np.concatenate(list(patches.values()))


def with_wall(patches: Patches, *more: np.ndarray) -> Patches:
    return {**patches, "wall": np.concatenate([patches["wall"], *more])}


def cells_of(patches: Patches) -> np.ndarray:
    return build_lattice(assemble(patches), SPACING).cells


def place_in(sentence: str) -> np.ndarray:
    found = re.search(r"near \((.*?), (.*?), (.*?)\) mm", sentence)
    assert found is not None
    return np.array([float(v) for v in found.groups()])


def test_a_second_tube_across_the_first_is_refused_with_a_place_in_both(pipe):
    other = tube(circle(2 * RADIUS, 64), LENGTH, shift=(4.0, 0.1, 3.2))
    with pytest.raises(InputError, match=r"overlap near .*--repair") as refusal:
        build_lattice(assemble(with_wall(pipe, as_body(other))), SPACING)
    x, y, z = place_in(str(refusal.value))
    assert np.hypot(x, y) < RADIUS
    assert np.hypot(x - 4.0, y - 0.1) < RADIUS
    assert 3.2 < z < LENGTH


def test_a_tube_through_the_middle_of_another_is_refused_though_rays_meet_them_nested(pipe):
    other = tube(circle(5.0, 64), 30.0, turn=rotation(90.0, 0.0, 0.0), shift=(0.0, 15.0, 10.0))
    with pytest.raises(InputError, match="overlap near") as refusal:
        build_lattice(assemble(with_wall(pipe, as_body(other))), SPACING)
    x, y, z = place_in(str(refusal.value))
    assert np.hypot(x, y) < RADIUS
    assert np.hypot(x, z - 10.0) < 2.5


def test_a_tube_that_runs_through_itself_is_refused():
    coil = bend(circle(6.0, 32), 12.0, 430.0)
    with pytest.raises(InputError, match="overlap near") as refusal:
        build_lattice(assemble(coil), SPACING)
    x, _, z = place_in(str(refusal.value))
    assert 0.0 < np.rad2deg(np.arctan2(-z, x)) < 70.0


def test_overlaps_thinner_than_three_cells_are_told_and_solid(pipe):
    other = tube(circle(2 * RADIUS, 64), LENGTH, shift=(2 * RADIUS - 0.4, 0.1, 0.2))
    lattice = build_lattice(assemble(with_wall(pipe, as_body(other))), SPACING)
    assert lattice.overlap is not None
    assert lattice.overlap.place_mm[0] == pytest.approx(RADIUS - 0.2, abs=SPACING)
    alone = cells_of(pipe)
    assert 0 < len(alone) - len(lattice.cells) == lattice.overlap.cells


@pytest.mark.parametrize("way", [1, -1])
@pytest.mark.parametrize("inner_way", [1, -1])
def test_islands_are_solid_and_islands_in_them_too_however_they_are_wound(pipe, way, inner_way):
    island = as_body(tube(circle(5.0, 48), 8.0, shift=(0.3, 0.2, 6.1)))[:, ::way]
    hollow = as_body(tube(circle(3.0, 48), 4.0, shift=(0.3, 0.2, 8.1)))[:, ::inner_way]
    lattice = build_lattice(assemble(with_wall(pipe, island, hollow)), SPACING)
    assert lattice.overlap is None
    x, y, z = lattice.centres_mm.T
    within = (np.hypot(x - 0.3, y - 0.2) < 2.45) & (z > 6.1) & (z < 14.1)
    assert not within.any()
    missing = np.pi * (2.5**2) * 8.0 / SPACING**3
    assert len(cells_of(pipe)) - len(lattice.cells) == pytest.approx(missing, rel=0.03)


def test_a_perforated_septum_is_one_shell_with_a_handle():
    ring = bend(circle(3.0, 24), 5.0, 360.0, steps=48)["wall"]
    outer = tube(circle(24.0, 64), 16.0, shift=(0.0, 0.0, -8.0))
    lattice = build_lattice(assemble(with_wall(outer, ring)), SPACING)
    assert lattice.overlap is None
    x, y, z = lattice.centres_mm.T
    assert not (np.hypot(np.hypot(x, z) - 5.0, y) < 1.4).any()
    assert (np.hypot(np.hypot(x, z), y) < 1.0).any()


def test_triangles_wound_at_random_are_turned_to_agree(pipe):
    turned = {name: faces.copy() for name, faces in pipe.items()}
    chosen = np.random.default_rng(7).random(len(turned["wall"])) < 0.3
    turned["wall"][chosen] = turned["wall"][chosen, ::-1]
    turned["inlet"] = turned["inlet"][:, ::-1]
    surface = assemble(turned)
    assert enclosed_volume(surface.triangles_mm) == pytest.approx(np.pi * RADIUS**2 * LENGTH)
    assert build_lattice(surface, SPACING).overlap is None


@pytest.mark.parametrize("way", [1, -1])
@pytest.mark.parametrize("copied", [slice(0, 1), slice(10, 13), slice(None)])
def test_copies_of_triangles_are_dropped(pipe, copied, way):
    copies = pipe["wall"][copied, ::way]
    surface = assemble(with_wall(pipe, copies))
    assert surface.copies == len(copies)
    np.testing.assert_array_equal(build_lattice(surface, SPACING).cells, cells_of(pipe))


def test_a_wall_that_holds_the_openings_too_leaves_them_to_the_openings(pipe):
    whole = with_wall(pipe, pipe["inlet"], pipe["outlet"])
    surface = assemble(whole)
    assert {name: len(surface.faces_of(name)) for name in surface.names} == {
        name: len(faces) for name, faces in pipe.items()
    }


@pytest.mark.parametrize("shared", [1, 64])
def test_an_opening_that_holds_triangles_of_another_is_refused_by_name(pipe, shared):
    said = rf"outlet-b\.stl: {shared} of its triangles are in outlet\.stl too"
    with pytest.raises(InputError, match=said):
        assemble({**pipe, "outlet-b": pipe["outlet"][:shared, ::-1]})


def test_triangles_that_an_opening_holds_twice_are_left_out(pipe):
    assert (
        assemble({**pipe, "outlet": np.concatenate([pipe["outlet"], pipe["outlet"][:3]])}).copies
        == 3
    )


def test_a_wall_without_thickness_stays_though_its_triangles_lie_twice_at_one_place(pipe):
    corners = np.array([(-2.0, 0.1, 5.0), (2.0, 0.1, 5.0), (2.0, 0.1, 15.0), (-2.0, 0.1, 15.0)])
    sheet = corners[[[0, 1, 2], [0, 2, 3]]]
    surface = assemble(with_wall(pipe, sheet, sheet[:, ::-1]))
    lattice = build_lattice(surface, SPACING)
    assert surface.copies == 0
    assert lattice.overlap is None
    np.testing.assert_array_equal(lattice.cells, cells_of(pipe))
    ends = lattice.links_of("wall")
    y = lattice.centres_mm[lattice.link_cell[ends]][:, 1]
    assert (np.abs(y - 0.1) < SPACING).sum() > 2 * 8 * 20


def test_a_hole_is_named_by_its_edge_and_with_the_command_that_closes_it(pipe):
    rim = np.abs(pipe["wall"][:, :, 2] - LENGTH).sum(axis=1) < LENGTH + 1e-9
    gone = np.flatnonzero(rim)[0]
    pipe["wall"] = np.delete(pipe["wall"], gone, axis=0)
    with pytest.raises(
        InputError, match=r"3 edges .*ct2flow surface check SURFACE_DIR --repair"
    ) as refusal:
        assemble(pipe)
    place = place_in(str(refusal.value))
    sides = 0.5 * (pipe["wall"] + np.roll(pipe["wall"], -1, axis=1))
    assert np.abs(sides - place).max(axis=2).min() < 0.051


def test_a_gap_at_the_outlet_is_named_there(pipe):
    pipe["outlet"] = pipe["outlet"][1:]
    with pytest.raises(InputError, match="not closed") as refusal:
        assemble(pipe)
    assert place_in(str(refusal.value))[2] == LENGTH


def test_patches_that_differ_by_rounding_leave_no_gap_for_a_ray(pipe):
    """Corners of the wall are off by up to a millionth of the size and still those of the openings."""
    shaken = dict(pipe)
    rng = np.random.default_rng(3)
    corners, number = np.unique(pipe["wall"].reshape(-1, 3), axis=0, return_inverse=True)
    corners = corners + rng.uniform(-2e-5, 2e-5, corners.shape)
    shaken["wall"] = corners[number.ravel()].reshape(-1, 3, 3)
    surface = assemble(shaken)
    used = {tuple(corner) for corner in surface.triangles_mm.reshape(-1, 3)}
    assert len(used) == len(np.unique(pipe["wall"].reshape(-1, 3), axis=0)) + 2


def has_fluid_before_all_wall(patches: Patches) -> bool:
    surface = assemble(patches)
    return bool((wall_faces(surface, build_lattice(surface, SPACING)).cell >= 0).all())


@pytest.mark.parametrize("way", [1, -1])
def test_normals_of_islands_point_out_of_the_fluid_however_they_are_wound(pipe, way):
    island = as_body(tube(circle(4.0, 32), 8.0, shift=(0.3, 0.2, 6.1)))[:, ::way]
    hollow = as_body(tube(circle(2.0, 32), 4.0, shift=(0.3, 0.2, 8.1)))[:, ::way]
    enclosed = [np.abs(enclosed_volume(part)) for part in (as_body(pipe), island, hollow)]
    surface = assemble(with_wall(pipe, island, hollow))
    volume = enclosed[0] - enclosed[1] + enclosed[2]
    assert enclosed_volume(surface.triangles_mm) == pytest.approx(volume, rel=1e-6)
    assert has_fluid_before_all_wall(with_wall(pipe, island))


def test_two_airways_of_which_one_is_inside_out_are_as_if_both_were_right(pipe):
    other = tube(circle(6.0, 48), LENGTH, shift=(12.0, 0.0, 0.0))
    both = with_wall(pipe, other["wall"][:, ::-1])
    both |= {"inlet-b": other["inlet"][:, ::-1], "outlet-b": other["outlet"][:, ::-1]}
    volume = enclosed_volume(as_body(pipe)) + enclosed_volume(as_body(other))
    assert enclosed_volume(assemble(both).triangles_mm) == pytest.approx(volume, rel=1e-6)
    assert has_fluid_before_all_wall(both)


def rod(x: float, y: float, width: float) -> np.ndarray:
    square = [(x, y), (x + width, y), (x + width, y + width), (x, y + width)]
    return as_body(tube(np.array(square), 10.0, shift=(0.0, 0.0, 5.0)))


@pytest.mark.parametrize("way", [1, -1])
@pytest.mark.parametrize("other_way", [1, -1])
def test_rods_that_touch_along_an_edge_are_solid_however_they_are_wound(pipe, way, other_way):
    rods = rod(-2.03, -2.03, 2.0)[:, ::way], rod(-0.03, -0.03, 2.0)[:, ::other_way]
    lattice = build_lattice(assemble(with_wall(pipe, *rods)), SPACING)
    assert lattice.overlap is None
    missing = 2 * (2.0**2) * 10.0 / SPACING**3
    assert len(cells_of(pipe)) - len(lattice.cells) == pytest.approx(missing, rel=0.01)


def test_a_speck_far_away_does_not_weld_the_triangles_of_the_rest(pipe):
    speck = rod(4e4, 0.0, 1.0)
    surface = assemble(with_wall(pipe, speck))
    assert len(surface.triangles_mm) == len(as_body(pipe)) + len(speck)
    np.testing.assert_array_equal(
        build_lattice(surface, SPACING).cells.shape, cells_of(pipe).shape
    )


def test_patches_of_points_are_refused_by_name(pipe):
    with pytest.raises(InputError, match=r"wall\.stl: its triangles have no area"):
        assemble({name: np.zeros_like(faces) for name, faces in pipe.items()})
