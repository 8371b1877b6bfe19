"""Holes in the septum are found where they are, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from airway_phantom import AIR, TISSUE, capsule, make_head

from pipeline.core.volume import Volume
from stages.airway.anatomy import airway_of_variant, find_airway
from stages.airway.septum import find_meeting
from stages.airway.settings import AirwaySettings
from stages.airway.stage import airway_record

COARSE = AirwaySettings(grid_spacing_mm=0.6)
HOLE_MM = (0.0, -62.0, -4.0)


def perforated(head, radius_mm):
    """Return the head with a round hole of the septum between its passages."""
    index = np.moveaxis(np.mgrid[tuple(slice(n) for n in head.grid.shape)], 0, -1)
    _, y, z = HOLE_MM
    tube = capsule(head.grid.to_world_mm(index), (-6.0, y, z), (6.0, y, z), radius_mm)
    share = np.clip(0.5 - tube / head.grid.spacing_mm[0], 0.0, 1.0)
    hole = TISSUE + (AIR - TISSUE) * share
    return Volume(np.minimum(head.values, hole).astype(np.float32), head.grid)


@pytest.fixture(scope="module")
def head():
    return make_head(radii=(3.5, 3.5), sinuses=False)


@pytest.fixture(scope="module")
def sound(head):
    return find_airway(head, COARSE)


def test_a_sound_septum_has_no_holes_although_the_sides_meet_in_the_nasopharynx(sound):
    assert sound.septum_holes == ()
    assert airway_record(sound, COARSE)["septum_holes"] == []


@pytest.mark.parametrize("radius_mm", [1.2, 2.5])
def test_a_hole_is_found_in_a_variant_with_its_place_and_area(head, sound, radius_mm):
    region = Volume(sound.region, sound.grid)
    variant = airway_of_variant(perforated(head, radius_mm), sound.planes, region, COARSE)
    (hole,) = variant.septum_holes
    np.testing.assert_allclose(hole.place_mm, HOLE_MM, rtol=0, atol=1.5)
    assert hole.area_mm2 == pytest.approx(np.pi * radius_mm**2, rel=0.35)
    (sentence,) = airway_record(variant, COARSE)["warnings"]
    assert "before the choanae" in sentence


@pytest.mark.slow
def test_a_hole_is_found_in_a_head_on_its_own(head):
    (hole,) = find_airway(perforated(head, 2.0), COARSE).septum_holes
    np.testing.assert_allclose(hole.place_mm, HOLE_MM, rtol=0, atol=1.5)


def test_area_of_a_slanted_meeting_place_is_that_of_the_plane(sound):
    # Two boxes joined by a slanted duct in front, and by a far one behind, as if by a nasopharynx.
    grid = sound.grid
    shape = (24, 60, 40)
    air = np.zeros(shape, dtype=bool)
    air[4:20, :, 4:12] = air[4:20, :, 28:36] = True
    air[4:20, 54:, 4:36] = True
    z, y, x = np.mgrid[:24, :60, :40]
    duct = (np.abs(y - 20 - 0.5 * (x - 20)) <= 4) & (np.abs(z - 12) <= 4) & (x >= 4) & (x < 36)
    left, right, pharynx = np.zeros(shape, bool), np.zeros(shape, bool), np.zeros(shape, bool)
    left[4:20, 0, 28:36] = right[4:20, 0, 4:12] = True
    pharynx[4:20, 59, 18:22] = True
    (hole,) = find_meeting(air | duct, left, right, pharynx, grid).holes
    # The equal ways meet on a plane across the duct, or square to x where they are the same: both bounds.
    face = 81 * grid.spacing_mm[0] ** 2
    assert 0.8 * face < hole.area_mm2 < 1.3 * face
