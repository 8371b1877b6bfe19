"""Surfaces, voxels and wall distances."""

from __future__ import annotations

import numpy as np
import pytest
from flow_meshes import blocks, circle, rotation, tube

from pipeline.core.errors import InputError
from pipeline.core.planes import Plane
from stages.flow.lattice import VELOCITIES, WEIGHTS
from stages.flow.mesh import assemble, enclosed_volume
from stages.flow.sections import section_inside, section_points
from stages.flow.voxels import build_lattice, points_inside


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
