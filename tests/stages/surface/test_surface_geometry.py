"""The surface is where the body's wall is, and its openings are where the planes are."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from surface_shapes import (
    ISOLEVEL_HU,
    everywhere,
    grid_around,
    image_of,
    sphere,
    tube,
    y_planes,
    y_tube,
)

from pipeline.core.errors import InputError
from pipeline.core.planes import Plane
from pipeline.core.volume import Volume
from stages.surface.build import build_surface
from stages.surface.cutting import cut_open
from stages.surface.intersections import self_intersections
from stages.surface.isosurface import extract_surface, smooth_surface
from stages.surface.mesh import Mesh, area_mm2, edge_faults, is_closed, volume_mm3
from stages.surface.settings import SurfaceSettings
from stages.surface.stl import read_stl, write_stl

RADIUS_MM = 8.0
SETTINGS = SurfaceSettings(isolevel_hu=ISOLEVEL_HU)


def sphere_mesh(spacing_mm, shift_mm=(0.13, -0.07, 0.21)):
    grid = grid_around(11.0, spacing_mm)
    image = image_of(sphere(RADIUS_MM, shift_mm), grid)
    return extract_surface(image.values - ISOLEVEL_HU, grid)


@pytest.fixture(scope="module")
def y_surface():
    image = image_of(y_tube, grid_around(34.0, 0.8))
    return build_surface(image, everywhere(image), y_planes(), SETTINGS)


def test_marching_cubes_underestimates_volume_and_area_of_a_sphere():
    mesh = sphere_mesh(1.0)
    assert volume_mm3(mesh) < 4.0 / 3.0 * np.pi * RADIUS_MM**3
    assert area_mm2(mesh) < 4.0 * np.pi * RADIUS_MM**2


@pytest.mark.parametrize(
    ("measure", "truth"),
    [(volume_mm3, 4.0 / 3.0 * np.pi * RADIUS_MM**3), (area_mm2, 4.0 * np.pi * RADIUS_MM**2)],
)
def test_volume_and_area_converge_at_second_order(measure, truth):
    spacings = np.array([2.0, 1.0, 0.5])
    errors = [abs(measure(sphere_mesh(h)) - truth) for h in spacings]
    orders = np.diff(np.log(errors)) / np.diff(np.log(spacings))
    # The position of the sphere between the nodes makes the leading coefficient vary a little.
    assert (orders > 1.7).all()


def test_surface_of_a_moved_sphere_is_the_moved_surface():
    # A move by whole voxels samples the same values: only rounding differs.
    one = sphere_mesh(1.0, (0.0, 0.0, 0.0))
    grid = grid_around(11.0, 1.0, shift_mm=(40.0, -200.0, 700.0))
    image = image_of(sphere(RADIUS_MM, (40.0, -200.0, 700.0)), grid)
    other = extract_surface(image.values - ISOLEVEL_HU, grid)
    np.testing.assert_allclose(other.points - (40.0, -200.0, 700.0), one.points, rtol=0, atol=1e-4)


def test_volume_by_the_divergence_theorem_equals_that_of_trimesh():
    mesh = sphere_mesh(1.0)
    other = trimesh.Trimesh(mesh.points, mesh.faces, process=False)
    assert volume_mm3(mesh) == pytest.approx(other.volume, rel=1e-10)
    assert area_mm2(mesh) == pytest.approx(other.area, rel=1e-10)
    assert other.is_watertight
    assert other.is_winding_consistent


def test_smoothing_keeps_the_volume_of_a_sphere_within_two_per_mille():
    mesh = sphere_mesh(0.5)
    smooth = smooth_surface(mesh, iterations=20, pass_band=0.2)
    assert volume_mm3(smooth) == pytest.approx(volume_mm3(mesh), rel=2e-3)


def test_smoothing_keeps_a_passage_of_one_millimetre_open():
    grid = grid_around(8.0, 0.5)
    image = image_of(tube((-20, 0, 0), (20, 0, 0), 0.75), grid)
    values = np.pad(image.values[1:-1, 1:-1, 1:-1] - ISOLEVEL_HU, 1, constant_values=500.0)
    mesh = extract_surface(values, grid)
    smooth = smooth_surface(mesh, iterations=20, pass_band=0.2)
    assert volume_mm3(smooth) == pytest.approx(volume_mm3(mesh), rel=0.05)


def test_patches_are_closed_together_and_oriented_outwards(y_surface):
    whole = y_surface.whole
    assert is_closed(whole)
    assert volume_mm3(whole) > 0
    mesh = trimesh.Trimesh(whole.points, whole.faces, process=False)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent


def test_no_triangles_cross(y_surface):
    assert len(self_intersections(y_surface.whole)) == 0


def test_openings_lie_on_their_planes(y_surface):
    # Coordinates below 64 mm have a float32 spacing of at most 3.8e-6 mm.
    for name, cap in y_surface.caps.items():
        plane = y_surface.openings[name].plane
        height = (cap.points - np.array(plane.centre_mm)) @ np.array(plane.normal)
        assert np.abs(height).max() < 1e-5


def test_openings_have_the_area_of_the_tubes(y_surface):
    # Polygons inscribed in a circle of 3 to 4 mm with edges of 0.5 mm: 0.5 % low; linear interpolation of
    # a distance field at 0.8 mm on a curved wall: h^2/(8 R) = 0.03 mm, 2 % of the area.
    areas = {name: area_mm2(cap) for name, cap in y_surface.caps.items()}
    assert areas["inlet-left"] == pytest.approx(np.pi * 9.0, rel=0.03)
    assert areas["inlet-right"] == pytest.approx(np.pi * 9.0, rel=0.03)
    assert areas["outlet-pharynx"] == pytest.approx(np.pi * 16.0, rel=0.03)


def test_caps_face_against_the_inflow_and_along_the_outflow(y_surface):
    for name, cap in y_surface.caps.items():
        a, b, c = (cap.points[cap.faces[:, i]] for i in range(3))
        normal = np.cross(b - a, c - a).sum(axis=0)
        sign = 1.0 if name.startswith("outlet") else -1.0
        assert sign * (normal @ np.array(y_surface.openings[name].plane.normal)) > 0


def test_mirrored_image_gives_the_mirrored_surface(y_surface):
    # The image is symmetric itself, so that the two inlets must agree.
    left, right = (y_surface.caps[f"inlet-{side}"] for side in ("left", "right"))
    assert area_mm2(left) == pytest.approx(area_mm2(right), rel=5e-3)
    # Flying edges splits faces in a handed way: smoothing moves points by some hundredths of a voxel.
    np.testing.assert_allclose(
        centre_of_area(left) * (-1, 1, 1), centre_of_area(right), rtol=0, atol=0.02
    )


def centre_of_area(mesh):
    corners = mesh.points[mesh.faces]
    area = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    return (corners.mean(axis=1) * area[:, None]).sum(axis=0) / area.sum()


def test_plane_cuts_only_the_section_at_its_centre():
    # Two parallel tubes of one body: the plane of the first must not cut the second.
    bridge = tube((-6, 0, 12), (6, 0, 12), 3.0)
    legs = [tube((s * 6, 0, -15), (s * 6, 0, 12), 3.0) for s in (-1, 1)]
    grid = grid_around(20.0, 0.8)
    image = image_of(lambda p: np.minimum.reduce([bridge(p), *(leg(p) for leg in legs)]), grid)
    mesh = extract_surface(image.values - ISOLEVEL_HU, grid)
    plane = Plane("nostril-left", (6.0, 0.0, -5.0), (0.0, 0.0, 1.0), 8.0)
    rest, opening = cut_open(mesh, plane, keep_ahead=True)
    assert len(opening.loops_mm) == 1
    removed = volume_mm3(mesh) - np.pi * 9.0 * 10.0 - 2.0 / 3.0 * np.pi * 27.0
    other_leg = rest.points[(rest.points[:, 0] < 0) & (rest.points[:, 2] < -15.0)]
    assert len(other_leg) > 0
    assert not ((rest.points[:, 0] > 0) & (rest.points[:, 2] < -5.0 - 1e-9)).any()
    assert removed > 0


def test_plane_that_does_not_separate_is_refused():
    # A ring cut once stays in one piece.
    grid = grid_around(16.0, 0.8)

    def ring(p):
        return np.hypot(np.hypot(p[..., 0], p[..., 2]) - 10.0, p[..., 1]) - 3.0

    image = image_of(ring, grid)
    mesh = extract_surface(image.values - ISOLEVEL_HU, grid)
    with pytest.raises(InputError, match="does not separate"):
        cut_open(mesh, Plane("pharynx", (10.0, 0.0, 0.0), (0.0, 0.0, 1.0), 6.0), keep_ahead=True)


def test_wall_is_untouched_by_the_region_where_the_region_is_wide():
    image = image_of(y_tube, grid_around(34.0, 0.8))
    wide = everywhere(image)
    narrow_values = np.asarray(image.values < ISOLEVEL_HU + 500.0, dtype=np.uint8)
    narrow = Volume(narrow_values, image.grid)
    one = build_surface(image, wide, y_planes(), SETTINGS)
    two = build_surface(image, narrow, y_planes(), SETTINGS)
    assert volume_mm3(one.whole) == pytest.approx(volume_mm3(two.whole), rel=2e-3)


def test_stl_bytes_are_repeatable_and_read_back_exactly(tmp_path, y_surface):
    one, two = tmp_path / "one.stl", tmp_path / "two.stl"
    write_stl(one, y_surface.wall)
    write_stl(two, y_surface.wall)
    assert one.read_bytes() == two.read_bytes()
    back = read_stl(one)
    assert len(back.faces) == len(y_surface.wall.faces)
    assert volume_mm3(back) == pytest.approx(volume_mm3(y_surface.wall), rel=1e-12)


def test_ascii_stl_of_another_program_is_read(tmp_path):
    box = trimesh.creation.box((2.0, 3.0, 4.0))
    path = tmp_path / "box.stl"
    path.write_text(box.export(file_type="stl_ascii"))
    mesh = read_stl(path)
    assert is_closed(mesh)
    assert volume_mm3(mesh) == pytest.approx(24.0, rel=1e-6)


def test_crossing_triangles_are_found():
    one = trimesh.creation.icosphere(subdivisions=2, radius=5.0)
    points = np.concatenate([one.vertices, one.vertices + np.array((6.0, 0.1, 0.2))])
    faces = np.concatenate([one.faces, one.faces + len(one.vertices)])
    assert len(self_intersections(Mesh(points, faces))) > 0
    assert len(self_intersections(Mesh(one.vertices, one.faces))) == 0


def test_missing_triangle_is_two_faults_of_closedness():
    one = trimesh.creation.icosphere(subdivisions=1, radius=5.0)
    assert edge_faults(one.faces[1:]) == (3, 0)
    turned = one.faces.copy()
    turned[0] = turned[0][::-1]
    assert edge_faults(turned) == (0, 3)
