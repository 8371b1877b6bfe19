"""Remeshing: even triangles, the same body, the same openings."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from surface_convergence import drawn, image_of
from surface_oracles import crossing_edges, loose_edges
from test_surface_truth import bend_box, bend_planes, bent_pipe

from stages.surface.corners import NONE, collapse, flip, grown, mesh_of, split, table_of
from stages.surface.mesh import Mesh, area_mm2, is_closed, join, volume_mm3
from stages.surface.projection import closest
from stages.surface.quality import triangle_quality
from stages.surface.remeshing import remesh_patches

EDGES_MM = (0.4, 0.8, 1.2)


@pytest.fixture(scope="module")
def bend():
    surface = drawn(image_of(bent_pipe, bend_box(), (0.5, 0.5, 0.5)), bend_planes())
    return {"wall": surface.wall, **surface.caps}


@pytest.fixture(scope="module")
def remeshed(bend):
    return {edge: remesh_patches(bend, edge) for edge in EDGES_MM}


def whole(patches):
    return join(list(patches.values()))


@pytest.mark.parametrize("edge_mm", EDGES_MM)
def test_remeshed_surface_is_closed_and_does_not_cross_itself(remeshed, edge_mm):
    mesh = whole(remeshed[edge_mm])
    assert is_closed(mesh)
    assert trimesh.Trimesh(mesh.points, mesh.faces, process=False).is_volume
    assert loose_edges(mesh) == 0
    assert crossing_edges(mesh) == 0


@pytest.mark.parametrize("edge_mm", EDGES_MM)
def test_edges_have_the_target_length_and_triangles_no_small_angles(remeshed, bend, edge_mm):
    quality = triangle_quality(whole(remeshed[edge_mm]))
    # Lengths between 4/5 and 4/3 of the target, most of them split ones: the mean lies a little below.
    assert 0.85 * edge_mm < quality.edge_mm_mean < 1.05 * edge_mm
    assert quality.edge_mm_sd < 0.2 * edge_mm
    assert quality.min_angle_degrees_p1 > 30.0
    assert triangle_quality(whole(bend)).min_angle_degrees_p1 < 10.0


@pytest.mark.parametrize("edge_mm", EDGES_MM)
def test_volume_stays_within_one_per_mille(remeshed, bend, edge_mm):
    assert volume_mm3(whole(remeshed[edge_mm])) == pytest.approx(volume_mm3(whole(bend)), rel=1e-3)


def test_wall_stays_where_it_was(remeshed):
    # A chord of length L on a tube of 4 mm lies up to L^2/(8 R) off, 0.045 mm at 1.2 mm; half of that after
    # the volume is made good. The image adds its own 0.02 mm.
    for edge_mm, patches in remeshed.items():
        points = patches["wall"].points
        rms = np.sqrt((bent_pipe(*points.T) ** 2).mean())
        assert rms < 0.02 + 0.5 * edge_mm**2 / 32.0


@pytest.mark.parametrize("edge_mm", EDGES_MM)
def test_caps_stay_on_their_planes_with_their_rims_shared(remeshed, bend, edge_mm):
    patches = remeshed[edge_mm]
    for name, plane in (
        ("inlet-left", bend_planes()["nostril-left"]),
        ("outlet-pharynx", bend_planes()["pharynx"]),
    ):
        height = (patches[name].points - np.array(plane.centre_mm)) @ np.array(plane.normal)
        assert np.abs(height).max() < 1e-5
        # Rims are sub-sampled: an inscribed polygon of edges L loses L^2/(6 R^2) of the area at most.
        lost = 1.0 - area_mm2(patches[name]) / area_mm2(bend[name])
        assert -1e-3 < lost < (4 / 3 * edge_mm) ** 2 / 6.0 / 16.0 + 1e-3


def test_caps_face_outwards_as_before(remeshed, bend):
    for name, mesh in remeshed[0.8].items():
        if name != "wall":
            one, two = (normal_of(m) for m in (mesh, bend[name]))
            assert one @ two > 0.9999


def normal_of(mesh):
    a, b, c = (mesh.points[mesh.faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a).sum(axis=0)
    return normal / np.linalg.norm(normal)


def thin_gap():
    """Return the gap of 0.06 mm between two cylinders of 6 mm, flow along z."""
    body = trimesh.creation.annulus(r_min=6.0, r_max=6.06, height=12.0, sections=128)
    body = body.subdivide_to_size(0.5)
    mesh = Mesh(np.asarray(body.vertices), np.asarray(body.faces))
    height = mesh.points[mesh.faces][:, :, 2]
    low, high = (height < -5.999).all(axis=1), (height > 5.999).all(axis=1)
    return {"wall": mesh.part(~(low | high)), "inlet": mesh.part(low), "outlet": mesh.part(high)}


def test_gap_thinner_than_the_chords_sagitta_is_drawn_finer_instead_of_crossed():
    # Edges of 4/3 x 2 mm have a sagitta of 0.15 mm: without finer edges 228 pairs of triangles cross.
    gap = thin_gap()
    assert is_closed(whole(gap))
    mesh = whole(remesh_patches(gap, 2.0))
    assert is_closed(mesh)
    assert crossing_edges(mesh) == 0
    assert volume_mm3(mesh) == pytest.approx(volume_mm3(whole(gap)), rel=1e-3)
    assert triangle_quality(mesh).edge_mm_mean < 0.8 * 2.0


def ball_table():
    ball = trimesh.creation.icosphere(subdivisions=2, radius=5.0)
    mesh = Mesh(np.asarray(ball.vertices), np.asarray(ball.faces))
    table = table_of(mesh, np.zeros(len(mesh.faces), dtype=np.int64), 1.0)
    return grown(table, 2 * len(mesh.points), 2 * len(mesh.faces))


def test_every_operation_leaves_the_surface_closed():
    # An icosphere of 162 vertices has no edge whose collapse or flip would pinch it.
    for operation, change in ((flip, 0), (split, 2), (collapse, -2)):
        table = ball_table()
        before = len(mesh_of(table)[0].faces)
        operation(table, 100)
        after = mesh_of(table)[0]
        assert is_closed(after)
        assert len(after.faces) == before + change
        live = table.corner[: table.used[0]] != NONE
        degree = np.bincount(table.vertex[: 3 * table.used[1]][np.repeat(faces_left(table), 3)])
        assert (degree[live] == table.valence[: table.used[0]][live]).all()


def faces_left(table):
    return table.label[: table.used[1]] != NONE


def test_flip_and_split_keep_the_volume_of_a_plane_part_and_collapse_shrinks_a_ball():
    table = ball_table()
    volume = volume_mm3(mesh_of(table)[0])
    split(table, 100)
    assert volume_mm3(mesh_of(table)[0]) == pytest.approx(volume, rel=1e-12)
    collapse(table, 200)
    assert volume_mm3(mesh_of(table)[0]) < volume


coordinates = st.tuples(*[st.floats(-10, 10, allow_subnormal=False)] * 3)


@given(coordinates, coordinates, coordinates, coordinates)
def test_no_point_of_a_triangle_is_nearer_than_the_nearest(p, a, b, c):
    area = np.linalg.norm(np.cross(np.subtract(b, a), np.subtract(c, a)))
    if area < 1e-3:
        return
    s, t = np.meshgrid(np.linspace(0, 1, 21), np.linspace(0, 1, 21))
    inside = s + t <= 1
    samples = np.outer(1 - s[inside] - t[inside], a) + np.outer(s[inside], b)
    samples += np.outer(t[inside], c)
    least = np.linalg.norm(samples - p, axis=1).min()
    found = np.linalg.norm(np.subtract(closest(p, a, b, c), p))
    assert found <= least + 1e-9
    # The nearest point cannot be nearer than the plane, nor farther from a sample than a sample's spacing.
    normal = np.cross(np.subtract(b, a), np.subtract(c, a)) / area
    assert found >= abs(np.subtract(p, a) @ normal) - 1e-9
