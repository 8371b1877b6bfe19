"""The airway command leaves a whole folder, whatever the nose is like."""

from __future__ import annotations

import json

import pytest
from airway_phantom import make_head

from pipeline.core.artefacts import digest
from pipeline.core.errors import InputError
from pipeline.core.planes import read_planes, write_planes
from pipeline.core.volume import read_volume, write_volume
from stages.airway.settings import AirwaySettings
from stages.airway.stage import run

COARSE = AirwaySettings(grid_spacing_mm=1.0)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp("airway")
    write_volume(folder / "head.nii.gz", make_head(spacing_mm=1.4, sinuses=False))
    run(folder / "head.nii.gz", folder / "one", COARSE)
    return folder


def test_folder_holds_what_the_contract_names(case):
    record = json.loads((case / "one" / "airway.json").read_text())
    assert record["format"] == 1
    assert record["patent"] is True
    assert record["reason"] is None
    assert {"left", "right"} == set(record["sides"])
    assert set(read_planes(case / "one" / "planes.json")) == {
        "nostril-left",
        "nostril-right",
        "pharynx",
    }
    lumen = read_volume(case / "one" / "lumen.nii.gz")
    region = read_volume(case / "one" / "region.nii.gz")
    assert lumen.grid.matches(region.grid)
    volume = lumen.values.sum() * lumen.grid.voxel_volume_mm3 / 1000.0
    assert record["lumen_volume_ml"] == pytest.approx(volume, rel=1e-3)


def test_second_run_gives_equal_bytes(case):
    run(case / "head.nii.gz", case / "two", COARSE)
    assert digest(case / "one") == digest(case / "two")


def test_variant_takes_planes_and_region_from_the_reference(case):
    run(case / "head.nii.gz", case / "variant", COARSE, reference=case / "one")
    assert digest(case / "variant" / "region.nii.gz") == digest(case / "one" / "region.nii.gz")
    ours, theirs = (read_planes(case / name / "planes.json") for name in ("variant", "one"))
    assert set(ours) == set(theirs)
    for name, plane in ours.items():
        assert plane.centre_mm == theirs[name].centre_mm
        assert plane.normal == pytest.approx(theirs[name].normal, abs=1e-15)


def test_closed_nose_leaves_a_record_with_the_reason_and_the_place(tmp_path):
    head = make_head(spacing_mm=1.6, sinuses=False, blocked=("left", "right"))
    write_volume(tmp_path / "head.nii.gz", head)
    run(tmp_path / "head.nii.gz", tmp_path / "out", COARSE)
    record = json.loads((tmp_path / "out" / "airway.json").read_text())
    assert record["patent"] is False
    assert "blocked" in record["reason"]
    assert len(record["place_mm"]) == 3
    assert not (tmp_path / "out" / "lumen.nii.gz").exists()


def test_planes_without_a_pharynx_are_refused(case, tmp_path):
    planes = read_planes(case / "one" / "planes.json")
    write_planes(tmp_path / "planes.json", [planes["nostril-left"]])
    with pytest.raises(InputError, match="pharynx"):
        run(case / "head.nii.gz", tmp_path / "out", COARSE, planes=tmp_path / "planes.json")
    assert not (tmp_path / "out").exists()
