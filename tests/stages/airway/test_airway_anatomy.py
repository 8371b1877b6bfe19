"""What a radiologist would ask of an airway, on a head whose airway is known."""

from __future__ import annotations

import numpy as np
import pytest
from airway_phantom import NOSTRIL_Z_MM, make_head, mirrored

from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume
from stages.airway.anatomy import airway_between_planes, airway_of_variant, find_airway
from stages.airway.lumen import volume_ml
from stages.airway.settings import AirwaySettings

COARSE = AirwaySettings(grid_spacing_mm=1.0)
RADII = (4.2, 3.2)


@pytest.fixture(scope="module")
def head():
    return make_head(radii=RADII)


@pytest.fixture(scope="module")
def airway(head):
    return find_airway(head, COARSE)


def test_both_sides_of_an_open_nose_are_patent(airway):
    assert airway.is_patent
    assert all(side.patent for side in airway.sides.values())


def test_nostril_planes_lie_at_the_openings_and_point_inwards(airway):
    # The opening is cut flat at one height; the plane is set back by 0.8 mm, the grid has 1 mm.
    for side, x in (("left", 6.0), ("right", -6.0)):
        plane = airway.planes[f"nostril-{side}"]
        np.testing.assert_allclose(plane.centre_mm, (x, -96.5, NOSTRIL_Z_MM), rtol=0, atol=2.5)
        assert plane.normal[2] > np.cos(np.deg2rad(20.0))


def test_pharynx_plane_crosses_the_pharynx_and_points_down(airway):
    plane = airway.planes["pharynx"]
    along = (plane.centre_mm[2] + 12.0) / (-90.0 + 12.0)
    assert 0.0 < along < 1.0
    assert abs(plane.centre_mm[0]) < 1.5
    assert abs(plane.centre_mm[1] - (-24.0 + along * 12.0)) < 2.0
    assert plane.normal[2] < -0.9


def test_narrowest_section_of_each_side_is_that_of_its_tube(airway):
    # Voxels of 1 mm in tubes of 6 to 8 mm; 0.97 and 0.94 at 0.6 mm.
    for side, radius in (("right", RADII[0]), ("left", RADII[1])):
        expected = np.pi * radius**2
        assert 0.85 * expected < airway.sides[side].minimal_area_mm2 < 1.05 * expected


def test_sections_along_a_tube_have_its_area_and_lie_on_its_axis(airway):
    for side, radius in (("right", RADII[0]), ("left", RADII[1])):
        record = airway.sides[side]
        area = np.array(record.profile_area_mm2)
        inner = area[len(area) // 4 : -len(area) // 4]
        assert 0.95 < np.median(inner) / (np.pi * radius**2) < 1.1
        assert (np.diff(record.profile_distance_mm) >= 0).all()
        for section in record.sections.values():
            assert (section.place_mm[0] < 0) == (side == "right")


def test_named_sections_follow_one_another_from_valve_to_choana(airway):
    for record in airway.sides.values():
        order = ["valve", "anterior turbinate", "posterior turbinate", "choana"]
        ways = [record.sections[name].distance_mm for name in order]
        assert ways == sorted(ways)
        assert ways[0] <= 25.0
        first, last = (np.array(record.sections[n].place_mm) for n in ("valve", "choana"))
        # The nose leads back: the choana lies far behind the valve.
        assert last[1] - first[1] > 30.0


def test_sinuses_are_cut_off_and_their_volume_is_reported(airway):
    two_spheres_ml = 2 * 4.0 / 3.0 * np.pi * 11.0**3 / 1000.0
    # What remains of each sinus is a cap of at most `recess_mm` + widening at its ostium.
    assert 0.85 * two_spheres_ml < airway.sinus_volume_ml < 1.1 * two_spheres_ml


@pytest.mark.slow
def test_sinuses_are_kept_if_asked_for(head, airway):
    kept = find_airway(head, AirwaySettings(grid_spacing_mm=1.0, cut_sinuses=False))
    assert kept.sinus_volume_ml == 0.0
    spacing = kept.grid.spacing_mm[0]
    assert volume_ml(kept.lumen, spacing) == pytest.approx(
        volume_ml(airway.lumen, spacing) + airway.sinus_volume_ml, rel=1e-9
    )


def test_lumen_lies_in_the_region_and_in_air(head, airway):
    assert (airway.region[airway.lumen] == 1).all()
    assert airway.region.max() == 2


def test_lumen_grows_with_the_isolevel(airway):
    low, middle, high = airway.volume_at_ml.values()
    assert low < middle < high
    for side, record in airway.sides.items():
        low, middle, high = (areas[side] for areas in airway.minimal_area_at_mm2.values())
        assert low < high
        assert middle == record.minimal_area_mm2


@pytest.mark.slow
def test_mirrored_head_swaps_left_and_right(head, airway):
    other = find_airway(mirrored(head), COARSE)
    for side, opposite in (("left", "right"), ("right", "left")):
        assert other.sides[opposite].minimal_area_mm2 == pytest.approx(
            airway.sides[side].minimal_area_mm2, rel=0.1
        )
        plane, image = airway.planes[f"nostril-{side}"], other.planes[f"nostril-{opposite}"]
        np.testing.assert_allclose(
            np.array(plane.centre_mm) * (-1, 1, 1), image.centre_mm, rtol=0, atol=1.5
        )


@pytest.mark.slow
def test_moved_head_moves_its_planes(airway):
    move = np.array([31.7, -12.4, 55.3])
    other = find_airway(make_head(radii=RADII, shift_mm=tuple(move)), COARSE)
    for name, plane in airway.planes.items():
        np.testing.assert_allclose(
            np.array(plane.centre_mm) + move, other.planes[name].centre_mm, rtol=0, atol=2.0
        )


def test_blocked_side_is_called_blocked_where_it_is_blocked():
    airway = find_airway(make_head(blocked=("left",)), COARSE)
    assert airway.sides["right"].patent
    left = airway.sides["left"]
    assert not left.patent
    assert "left" in left.reason
    assert np.linalg.norm(np.array(left.place_mm) - (6.0, -75.0, -4.0)) < 15.0
    assert set(airway.planes) == {"nostril-right", "pharynx"}


def test_nose_blocked_on_both_sides_is_not_patent_and_the_place_is_named():
    airway = find_airway(make_head(blocked=("left", "right")), COARSE)
    assert not airway.is_patent
    for side in airway.sides.values():
        assert "blocked" in side.reason
        assert abs(side.place_mm[0]) < 12.0
        assert np.linalg.norm(np.array(side.place_mm[1:]) - (-75.0, -4.0)) < 12.0


@pytest.mark.parametrize("kind", ["air", "water", "noise", "single voxel"])
def test_volume_without_a_head_is_not_patent(kind):
    shape = (1, 1, 1) if kind == "single voxel" else (60, 90, 90)
    values = {
        "air": np.full(shape, -1000.0),
        "water": np.zeros(shape),
        "noise": np.random.default_rng(1).normal(-300.0, 600.0, shape),
        "single voxel": np.zeros(shape),
    }[kind]
    volume = Volume(values.astype(np.float32), VoxelGrid(shape, (2.0, 2.0, 2.0)))
    airway = find_airway(volume, COARSE)
    assert not airway.is_patent
    assert all(side.reason for side in airway.sides.values())


def test_variant_of_the_same_image_has_the_same_lumen(head, airway):
    region = Volume(airway.region, airway.grid)
    again = airway_of_variant(head, airway.planes, region, COARSE)
    both = (again.lumen & airway.lumen).sum()
    assert 2 * both / (again.lumen.sum() + airway.lumen.sum()) > 0.995
    assert again.planes == airway.planes
    for side in ("left", "right"):
        assert again.sides[side].minimal_area_mm2 == pytest.approx(
            airway.sides[side].minimal_area_mm2, rel=0.05
        )


def test_variant_in_which_a_side_closes_says_so(airway):
    region = Volume(airway.region, airway.grid)
    closed = make_head(radii=RADII, blocked=("left",))
    variant = airway_of_variant(closed, airway.planes, region, COARSE)
    assert variant.sides["right"].patent
    assert not variant.sides["left"].patent


def test_given_planes_are_used_as_they_are(head, airway):
    again = airway_between_planes(head, airway.planes, COARSE)
    for name, plane in airway.planes.items():
        assert again.planes[name].centre_mm == plane.centre_mm
        np.testing.assert_allclose(again.planes[name].normal, plane.normal, rtol=0, atol=1e-12)
    overlap = volume_ml(again.lumen, 1.0) / volume_ml(airway.lumen, 1.0)
    assert overlap == pytest.approx(1.0, abs=0.03)
