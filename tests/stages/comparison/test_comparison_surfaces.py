"""Distances of concentric spheres and shifted planes are known."""

import numpy as np
import pytest
import trimesh

from pipeline.core.errors import InputError
from stages.comparison.stage import run_surfaces
from stages.comparison.surfaces import (
    distance_to_surface,
    enclosed_ml,
    sample_by_area,
    surface_distance,
)


def sphere(radius):
    return np.array(trimesh.creation.icosphere(subdivisions=4, radius=radius).triangles)


def test_concentric_spheres_are_their_radii_apart():
    found = surface_distance(sphere(10.0), sphere(10.5))
    # A chord of the icosphere lies edge^2 / (8 r) inside: 0.7^2 / 80 mm.
    np.testing.assert_allclose(found.mean_mm, 0.5, atol=0.01)
    np.testing.assert_allclose(found.hausdorff95_mm, 0.5, atol=0.015)


def test_a_surface_has_no_distance_to_itself():
    assert surface_distance(sphere(5.0), sphere(5.0)).largest_mm < 1e-6


def test_distance_is_symmetric():
    a, b = sphere(6.0), sphere(6.3) + 0.2
    np.testing.assert_allclose(surface_distance(a, b).mean_mm, surface_distance(b, a).mean_mm)


def test_the_largest_distance_is_where_the_surfaces_differ():
    dented = sphere(10.0)
    top = np.array([0.0, 0.0, 10.0])
    dented[np.linalg.norm(dented - top, axis=2) < 1.5] *= 0.8
    found = surface_distance(sphere(10.0), dented)
    assert np.linalg.norm(np.array(found.largest_place_mm) - top) < 3
    assert found.hausdorff95_mm < found.largest_mm


def test_points_are_drawn_in_proportion_to_area():
    small = np.array([[[0, 0, 0], [1, 0, 0], [0, 1, 0]]], dtype=float)
    large = np.array([[[10, 0, 0], [13, 0, 0], [10, 3, 0]]], dtype=float)
    points = sample_by_area(np.concatenate([small, large]), 10_000)
    share = (points[:, 0] >= 10).mean()
    np.testing.assert_allclose(share, 0.9, atol=1e-3)


@pytest.mark.parametrize("height", [-2.0, 0.3, 5.0])
def test_distance_to_a_plane_is_the_height(height):
    triangles = np.array([[[-9, -9, 0], [9, -9, 0], [0, 9, 0]]], dtype=float)
    points = np.array([[0.0, 0.0, height], [1.0, -2.0, height]])
    np.testing.assert_allclose(distance_to_surface(points, triangles), abs(height), atol=1e-6)


def test_the_enclosed_volume_agrees_with_trimesh_and_lies_below_the_sphere_s():
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=10.0)
    found = enclosed_ml(np.array(mesh.triangles) + 50.0)
    np.testing.assert_allclose(found, mesh.volume / 1000, rtol=1e-9)
    assert 0.99 * 4 / 3 * np.pi < found < 4 / 3 * np.pi


@pytest.mark.parametrize("is_there", [False, True])
def test_a_folder_without_a_wall_is_refused_by_name_and_nothing_is_written(tmp_path, is_there):
    reference, lost = tmp_path / "hr", tmp_path / "lost"
    reference.mkdir()
    (reference / "wall.stl").write_bytes(trimesh.creation.icosphere().export(file_type="stl"))
    if is_there:
        lost.mkdir()
    with pytest.raises(InputError, match=r"lost/wall\.stl"):
        run_surfaces([reference, lost], tmp_path / "out.json", reference=reference)
    assert not (tmp_path / "out.json").exists()
