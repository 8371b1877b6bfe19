"""The phantom's airway is a nose: its truth is consistent, connected, and the one that is seen."""

import numpy as np
import pytest
import trimesh
from numpy.testing import assert_allclose
from scipy import ndimage
from scipy.spatial import cKDTree

from pipeline.core.geometry import VoxelGrid
from stages.phantom.airway import nostril_height
from stages.phantom.anatomy import draw_anatomy, mirrored
from stages.phantom.scanner import draw_textures, paint
from stages.phantom.tissues import build_patient
from stages.phantom.truth import (
    SIDES,
    airway_distance_mm,
    lumen_distance,
    lumen_grid,
    lumen_shares,
    lumen_surface,
    open_sides,
    plane_area_mm2,
    section_areas_mm2,
    true_planes,
    volume_ml,
)

SEEDS = (1, 2, 7, 11)


def test_distance_has_unit_gradient_on_the_wall(make_patient):
    patient = make_patient(7)
    points = _near_wall(patient, 0.05)
    step = 0.01
    gradient = np.linalg.norm(
        [
            (airway_distance_mm(patient, points + e) - airway_distance_mm(patient, points - e))
            / (2 * step)
            for e in step * np.eye(3)
        ],
        axis=0,
    )
    # Creases, where two walls blend at an acute angle, have no normal: one point in a hundred.
    assert_allclose(np.percentile(gradient, [1.5, 50, 98.5]), 1.0, atol=0.1)


def test_distance_is_the_distance_to_the_surface(make_patient):
    patient = make_patient(7)
    points = _near_wall(patient, 0.6)
    surface = lumen_surface(patient, 0.5)
    mesh = trimesh.Trimesh(surface.vertices_mm, surface.faces, process=False)
    samples, _ = trimesh.sample.sample_surface(mesh, 400_000, seed=0)
    nearest, _ = cKDTree(samples).query(points)
    value = np.abs(airway_distance_mm(patient, points))
    # Samples lie 0.23 mm apart on average: a point on the wall is found 0.12 mm away, one at
    # 0.5 mm 0.03 mm too far; curvature of 1/2 mm changes the distance by up to 0.06 mm.
    assert np.median(np.abs(value - nearest)) < 0.06
    assert np.percentile(np.abs(value - nearest), 95) < 0.2


def test_symmetric_patient_has_a_symmetric_airway(make_patient, rng):
    patient = make_patient()
    points = _in_box(rng, 20_000)
    reflected = points * [-1.0, 1.0, 1.0]
    assert_allclose(
        patient.airway.distance(*points.T), patient.airway.distance(*reflected.T), atol=1e-9
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_mirrored_patient_has_the_mirrored_airway(seed, rng):
    anatomy = draw_anatomy(np.random.default_rng(seed))
    points = _in_box(rng, 20_000)
    ours = airway_distance_mm(build_patient(anatomy), points)
    theirs = airway_distance_mm(build_patient(mirrored(anatomy)), points * [-1.0, 1.0, 1.0])
    near = np.abs(ours) < 1.0
    assert_allclose(ours[near], theirs[near], atol=1e-6)


def test_volume_converges_at_second_order(volumes):
    order = np.log2(abs((volumes[0] - volumes[1]) / (volumes[1] - volumes[2])))
    assert order > 1.6
    assert abs(volumes[2] / volumes[1] - 1) < 0.01


def test_volume_by_shares_agrees_with_the_volume_inside_the_surface(make_patient, volumes):
    patient = make_patient(7)
    grid = lumen_grid(patient, 0.5)
    by_shares = volume_ml(lumen_shares(patient, grid), grid)
    _, coarse, fine = volumes
    assert_allclose(by_shares, fine + (fine - coarse) / 3, rtol=2e-3)


def test_surface_is_closed_and_points_outwards(make_patient):
    surface = lumen_surface(make_patient(2), 0.7)
    mesh = trimesh.Trimesh(surface.vertices_mm, surface.faces, process=False)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_both_sides_lead_from_nostril_to_pharynx(make_patient, seed):
    assert _open(make_patient(seed)) == {"left": True, "right": True}


@pytest.mark.parametrize("blocked", ["left", "right", "both"])
def test_blocked_sides_do_not_lead_to_the_pharynx(make_patient, blocked):
    closed = {"left", "right"} if blocked == "both" else {blocked}
    expected = {side: side not in closed for side in SIDES}
    assert _open(make_patient(7, f"{blocked}-blocked")) == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_proportions_are_those_of_adults(make_patient, seed):
    patient = make_patient(seed)
    planes = true_planes(patient)
    areas = {name: plane_area_mm2(patient, plane) for name, plane in planes.items()}
    assert 90 < areas["nostril-left"] < 190
    assert 90 < areas["nostril-right"] < 190
    assert 150 < areas["pharynx"] < 400
    for side in SIDES.values():
        along = section_areas_mm2(patient, side)
        # Unilateral minimal areas of 47 adults: 24 to 121 mm2 (PMC6939154).
        assert 24 < along.min() < 121
        # The valve lies in the front third of the passage.
        assert along.argmin() < along.size / 3


@pytest.mark.parametrize("seed", SEEDS)
def test_planes_point_in_the_direction_of_inspiration(make_patient, seed):
    patient = make_patient(seed)
    planes = true_planes(patient)
    for name, plane in planes.items():
        ahead = np.array(plane.centre_mm) + 1.5 * np.array(plane.normal)
        behind = np.array(plane.centre_mm) - 1.5 * np.array(plane.normal)
        inner, outer = (behind, ahead) if name == "pharynx" else (ahead, behind)
        distance = lumen_distance(patient)
        assert distance(*inner[:, None]) < 0 < distance(*outer[:, None])
    assert planes["nostril-left"].centre_mm[0] > planes["nostril-right"].centre_mm[0]


@pytest.mark.parametrize("seed", [2, 7])
def test_airway_meets_the_outside_only_at_the_nostrils(make_patient, seed):
    patient = make_patient(seed, pitch_degrees=0.0, yaw_degrees=0.0, roll_degrees=0.0)
    x, y, z = patient.anatomy.shift_mm
    grid = VoxelGrid((104, 236, 120), (0.7, 0.6, 0.6), (x - 36.0, y - 100.0, z - 24.0))
    textures = draw_textures(0)
    hu = paint(patient.tissues, textures, grid, 0, 104, thickness_mm=0.7)
    points = grid.to_world_mm(np.stack(np.indices(grid.shape), axis=-1))
    a, b, c = patient.frame.to_anatomy(*np.moveaxis(points, -1, 0))
    height = nostril_height(b, c, patient.anatomy)
    air = hu < -500.0
    assert _connected(air, inside=(grid, patient), outside=(0, 0, 0))
    # A lid of 2 mm across both nostrils, and nothing else, shuts the airway.
    lid = (np.abs(height - 2.0) < 1.0) & (b < -58.0) & (np.abs(a) < 20.0)
    assert not _connected(air & ~lid, inside=(grid, patient), outside=(0, 0, 0))


def test_patients_differ_between_seeds_and_agree_within_one():
    first, again, other = (draw_anatomy(np.random.default_rng(s)) for s in (3, 3, 4))
    assert first == again
    assert first != other


def test_blocking_a_side_leaves_the_rest_of_the_patient_alone():
    open_one, blocked = (
        draw_anatomy(np.random.default_rng(3), v) for v in ("open", "left-blocked")
    )
    assert blocked.right == open_one.right
    assert blocked.texture_seed == open_one.texture_seed


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture(scope="module")
def volumes(make_patient):
    patient = make_patient(7)
    return [_volume_of_surface(patient, spacing) for spacing in (1.0, 0.5, 0.25)]


def _in_box(rng, count):
    return rng.uniform([-20, -85, -40], [20, 30, 48], (count, 3))


def _near_wall(patient, reach_mm):
    points = _in_box(np.random.default_rng(1), 200_000)
    lumen = lumen_distance(patient)(*points.T)
    wall = airway_distance_mm(patient, points)
    return points[(np.abs(wall) < reach_mm) & (np.abs(lumen - wall) < 2.0) & (points[:, 2] > -15)]


def _volume_of_surface(patient, spacing_mm):
    surface = lumen_surface(patient, spacing_mm)
    return trimesh.Trimesh(surface.vertices_mm, surface.faces, process=False).volume / 1000.0


def _open(patient):
    grid = lumen_grid(patient, 0.6)
    return open_sides(patient, lumen_shares(patient, grid), grid)


def _connected(air, *, inside, outside):
    grid, patient = inside
    labels, _ = ndimage.label(air)
    pharynx = true_planes(patient)["pharynx"].centre_mm
    index = np.rint(grid.to_index(np.array(pharynx))).astype(int)
    assert air[tuple(index)]
    assert air[outside]
    return labels[tuple(index)] == labels[outside]
