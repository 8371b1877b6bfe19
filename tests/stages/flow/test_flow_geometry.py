"""Surfaces, voxels and wall distances."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from flow_meshes import bend, blocks, circle, rotation, tube

from pipeline.core.errors import InputError
from pipeline.core.planes import Plane
from stages.flow.crossings import points_inside
from stages.flow.lattice import VELOCITIES, WEIGHTS, Q
from stages.flow.mesh import assemble, enclosed_volume
from stages.flow.sections import section_inside, section_points
from stages.flow.voxels import build_lattice


def test_lattice_weights_are_isotropic_to_fourth_order():
    c, w = VELOCITIES.astype(float), WEIGHTS
    eye = np.eye(3)
    second = np.einsum("q,qi,qj->ij", w, c, c)
    fourth = np.einsum("q,qi,qj,qk,ql->ijkl", w, c, c, c, c)
    pairs = sum(np.einsum(p, eye, eye) for p in ("ij,kl->ijkl", "ik,jl->ijkl", "il,jk->ijkl"))
    np.testing.assert_allclose(w.sum(), 1.0, rtol=1e-15)
    np.testing.assert_allclose(second, eye / 3, atol=1e-15)
    np.testing.assert_allclose(fourth, pairs / 9, atol=1e-15)


def test_orientation_is_mended_whichever_way_faces_are_wound():
    patches = tube(circle(8.0), 20.0)
    inside_out = {name: faces[:, ::-1] for name, faces in patches.items()}
    volume = np.pi * 16.0 * 20.0
    assert enclosed_volume(assemble(inside_out).triangles_mm) == pytest.approx(volume, rel=1e-3)


def test_fluid_cells_fill_the_volume():
    surface = assemble(tube(circle(8.0), 20.0, turn=rotation(30.0, 20.0, 10.0)))
    lattice = build_lattice(surface, 0.4)
    volume = len(lattice.cells) * 0.4**3
    assert volume == pytest.approx(np.pi * 16.0 * 20.0, rel=0.01)


def test_link_distances_end_on_the_pipe():
    turn = rotation(30.0, 20.0, 10.0)
    surface = assemble(tube(circle(8.0, 512), 20.0, turn=turn))
    lattice = build_lattice(surface, 0.5)
    wall = lattice.links_of("wall")
    reach = VELOCITIES[lattice.link_direction[wall]] * lattice.link_distance[wall][:, None]
    ends = (lattice.centres_mm[lattice.link_cell[wall]] + reach * 0.5) @ turn
    radius = np.hypot(ends[:, 0], ends[:, 1])
    # distances are kept in float32 and are at least a thousandth of a link
    np.testing.assert_allclose(radius, 4.0, atol=2e-3)


def test_rays_through_vertices_and_edges_keep_their_parity():
    surface = assemble(tube(circle(8.0, 8), 20.0))
    corners = surface.triangles_mm.reshape(-1, 3)
    middle = corners.mean(axis=0)
    points = np.array([[0.0, y, z] for y in (0.0, *corners[:4, 1] * 0.999) for z in (5.0, 10.0)])
    assert points_inside(surface, points).all()
    outside = points.copy()
    outside[:, 0] = -100.0
    assert not points_inside(surface, outside).any()
    assert points_inside(surface, middle[None]).all()


def test_section_of_an_oblique_pipe_has_the_area_of_its_circle():
    turn = rotation(30.0, 20.0, 10.0)
    surface = assemble(tube(circle(8.0), 20.0, turn=turn))
    x, y, z = turn @ np.array([0.0, 0.0, 10.0])
    u, v, w = turn[:, 2]
    points, area = section_points(surface.triangles_mm, Plane("s", (x, y, z), (u, v, w), 9.0), 0.1)
    assert len(points) * area == pytest.approx(np.pi * 16.0, rel=0.01)


def test_section_that_lies_on_an_opening_is_read_just_inside():
    turn = rotation(30.0, 20.0, 10.0)
    surface = assemble(tube(circle(8.0), 20.0, turn=turn))
    u, v, w = turn[:, 2]
    plane = Plane("s", (0.0, 0.0, 0.0), (u, v, w), 9.0)
    points, area = section_inside(surface.triangles_mm, plane, 0.1, margin_mm=0.25)
    assert len(points) * area == pytest.approx(np.pi * 16.0, rel=0.01)


def _two_rooms():
    occupied = np.zeros((3, 1, 1), dtype=bool)
    occupied[[0, 2]] = True

    def name(centre, normal):
        if normal == (-1, 0, 0) and centre[0] < 1e-6:
            return "inlet"
        return "outlet" if normal == (1, 0, 0) and centre[0] > 9.0 - 1e-6 else "wall"

    return blocks(occupied, 3.0, name)


def test_a_closed_passage_is_refused():
    with pytest.raises(InputError, match="no inlet is connected to an outlet"):
        build_lattice(assemble(_two_rooms()), 0.5)


def test_an_open_surface_is_refused_with_the_place():
    patches = tube(circle(8.0), 20.0)
    patches["wall"] = patches["wall"][3:]
    with pytest.raises(InputError, match=r"not closed.*near"):
        assemble(patches)


@pytest.mark.parametrize("missing", ["wall", "inlet", "outlet"])
def test_a_missing_patch_is_named(missing):
    patches = tube(circle(8.0), 20.0)
    del patches[missing]
    with pytest.raises(InputError, match=missing):
        assemble(patches)


def test_a_lattice_too_coarse_for_the_surface_is_refused():
    with pytest.raises(InputError, match="smaller"):
        build_lattice(assemble(tube(circle(1.0), 2.0)), 50.0)


def test_memory_goes_with_the_fluid_not_with_its_box():
    turn = rotation(45.0, 35.264, 0.0)
    surface = assemble(tube(circle(4.0), 200.0, turn=turn))
    build_lattice(surface, 1.0)
    tracemalloc.start()
    lattice = build_lattice(surface, 0.4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    number = len(lattice.cells)
    assert np.prod(np.array(lattice.shape, dtype=float)) > 500 * number
    held = sum(a.nbytes for a in vars(lattice).values() if isinstance(a, np.ndarray))
    assert peak < 2.5 * held
    assert held < 200 * number


def test_a_box_of_billions_of_cells_is_no_reason_to_refuse():
    surface = assemble(tube(circle(1.0, 16), 200.0, turn=rotation(45.0, 35.264, 0.0)))
    lattice = build_lattice(surface, 0.08)
    assert np.prod(np.array(lattice.shape, dtype=float)) > 2**31
    assert len(lattice.cells) * 0.08**3 == pytest.approx(np.pi * 0.25 * 200.0, rel=0.01)


def test_a_lattice_of_too_many_fluid_cells_is_refused_before_it_is_made():
    surface = assemble(tube(circle(8.0), 20.0))
    tracemalloc.start()
    with pytest.raises(
        InputError, match=r"1\.01e\+09 fluid cells .* may have 1e\+08; choose a larger"
    ):
        build_lattice(surface, 0.01)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


def test_cells_and_neighbours_of_a_bend_are_those_of_points_and_places():
    """Two legs and the hollow between them lie on one line of cells."""
    surface = assemble(bend(circle(4.0, 24), 6.0, 180.0, steps=24, turn=rotation(80.0, 20.0, 5.0)))
    lattice = build_lattice(surface, 0.5)
    places = np.argwhere(np.ones(lattice.shape, dtype=bool))
    inside = points_inside(surface, lattice.origin_mm + 0.5 * places)
    np.testing.assert_array_equal(lattice.cells, places[inside])
    number = {tuple(cell): n for n, cell in enumerate(lattice.cells.tolist())}
    ends = np.zeros((Q, len(lattice.cells)), dtype=bool)
    ends[lattice.link_direction, lattice.link_cell] = True
    for q in range(Q):
        ahead = (lattice.cells + VELOCITIES[q]).tolist()
        expected = np.array([number.get(tuple(place), -1) for place in ahead])
        assert ends[q, expected < 0].all()
        np.testing.assert_array_equal(lattice.neighbour[q], np.where(ends[q], -1, expected))
