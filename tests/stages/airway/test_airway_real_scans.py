"""Real scans: the airway is where a person found it by eye, or the reason why there is none is clear."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.volume import Volume
from stages.airway.anatomy import airway_of_variant, find_airway
from stages.airway.settings import AirwaySettings
from stages.ingest.settings import IngestSettings
from stages.ingest.stage import read_scan

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not DATA.is_dir(), reason="needs the development scans, which are not in the repository"
    ),
]


def scan_of(name):
    folder = DATA / name
    volumes = sorted(folder.glob("*.nrrd"))
    return read_scan(volumes[0] if volumes else folder, IngestSettings()).volume


def thick(volume):
    """Return the means of three slices each."""
    count = volume.grid.shape[0] // 3
    values = volume.values[: 3 * count].reshape(count, 3, *volume.grid.shape[1:]).mean(axis=1)
    grid = volume.grid
    spacing = (3 * grid.spacing_mm[0], *grid.spacing_mm[1:])
    x, y, z = grid.to_world_mm(np.array([1.0, 0.0, 0.0]))
    origin = (float(x), float(y), float(z))
    wide = replace(grid, shape=values.shape, spacing_mm=spacing, origin_mm=origin)
    return Volume(values.astype(np.float32), wide)


@pytest.fixture(scope="module")
def head():
    return scan_of("pcir-head-ct")


@pytest.fixture(scope="module")
def airway(head):
    return find_airway(head, AirwaySettings())


def test_both_sides_lead_from_their_nostril_by_the_choana_to_the_pharynx(airway):
    left, right = airway.planes["nostril-left"], airway.planes["nostril-right"]
    for plane in (left, right):
        _, y, z = plane.centre_mm
        assert -108 < y < -76
        assert -56 < z < -44
    assert 12 < left.centre_mm[0] - right.centre_mm[0] < 30
    pharynx = airway.planes["pharynx"]
    assert pharynx.centre_mm[1] > -30
    assert pharynx.normal[2] < -0.7
    # Measured by another program on the same head.
    for side, area_mm2 in (("right", 38.9), ("left", 55.0)):
        assert airway.sides[side].minimal_area_mm2 == pytest.approx(area_mm2, rel=0.1)
    for record in airway.sides.values():
        assert record.patent
        _, y, z = record.sections["choana"].place_mm
        assert -45 < y < -20
        assert -40 < z < -15
    assert 25 < airway.lumen.sum() * airway.grid.voxel_volume_mm3 / 1000 < 45


def test_thick_slices_of_the_same_head_lead_to_the_same_places(head, airway):
    coarse = thick(head)
    alone = find_airway(coarse, AirwaySettings())
    for name, plane in airway.planes.items():
        np.testing.assert_allclose(alone.planes[name].centre_mm, plane.centre_mm, rtol=0, atol=4.0)
    region = Volume(airway.region, airway.grid)
    variant = airway_of_variant(coarse, airway.planes, region, AirwaySettings())
    assert variant.planes == airway.planes
    assert all(side.patent for side in variant.sides.values())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("visible-human-female-head", "blocked"),
        ("philips-skull-phantom-1mm", "cut or damaged"),
        ("philips-skull-phantom-5mm", "cut or damaged"),
        ("ge-head-tilted", "No nose was found"),
    ],
)
def test_a_head_without_an_open_nose_is_not_patent_and_the_reason_says_why(name, words):
    airway = find_airway(scan_of(name), AirwaySettings())
    assert not airway.is_patent
    assert all(words in side.reason for side in airway.sides.values())
