"""The public scans are chosen by rules that anyone can repeat, and named by what the index says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from pipeline.core.manifests import read_manifest
from pipeline.fetching.bucket import PUBLIC_ENDPOINT, parse_series

FOLDER = Path(__file__).resolve().parents[2] / "data_manifests"
SHIPPED = sorted(FOLDER.glob("idc_*.csv"))
spec = importlib.util.spec_from_file_location("select_idc", FOLDER / "select_idc.py")
select_idc = importlib.util.module_from_spec(spec)
spec.loader.exec_module(select_idc)


def make_row(**changes):
    row = dict.fromkeys(select_idc.COLUMNS)
    row |= {"collection_id": "c", "PatientID": "P1", "SeriesInstanceUID": "1.2.3"}
    row |= {"StudyDescription": "CT NECK W CONTRAST", "SeriesDescription": "NECK  1.5  I31s"}
    row |= {"sop_class_name": "CT Image Storage", "license_short_name": "CC BY 4.0"}
    row |= {"instanceCount": 219, "series_size_MB": 115.647034, "source_DOI": "10.1/x"}
    return row | {"series_aws_url": "s3://idc-open-data/u-u/*"} | changes


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"StudyDescription": "CT_HEAD_WO", "SeriesDescription": "THIN_BONE"},
        {"StudyDescription": "LUNG CA", "SeriesDescription": "1_25_Neck"},
        {"StudyDescription": "CT SINUS", "SeriesDescription": "bone 0.6"},
    ],
)
def test_a_thin_axial_head_or_neck_is_chosen(changes):
    assert select_idc.fits(make_row(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"license_short_name": "CC BY-NC 4.0"},
        {"analysis_result_id": "someone"},
        {"instanceCount": 40},
        {"sop_class_name": "Enhanced CT Image Storage"},
        {"SeriesDescription": "NECK 3.0 I31s"},
        {"SeriesDescription": "COR NECK"},
        {"SeriesDescription": "Lung Vol 0.5"},
        {"SeriesDescription": None},
        {"BodyPartExamined": "CHEST"},
        {"StudyDescription": "PET CT NECK"},
        {"StudyDescription": "CT CHEST", "SeriesDescription": "CT Atten Cor Head In"},
        {"StudyDescription": None, "SeriesDescription": "thins"},
    ],
)
def test_other_series_are_left(changes):
    assert not select_idc.fits(make_row(**changes))


@pytest.mark.parametrize(
    ("text", "thickness_mm"),
    [("NECK  1.5  I31s", 1.5), ("1_25_Neck", 1.25), ("Neck_1_0_I26s_3", 1.0), ("BONE", None)],
)
def test_a_thickness_is_taken_from_the_description_or_not_at_all(text, thickness_mm):
    assert select_idc.thickness_mm(text) == thickness_mm


def test_a_patient_has_one_series_the_longest_and_one_role():
    rows = [make_row(PatientID=f"P{k}", instanceCount=100 + k) for k in range(6)]
    rows += [make_row(PatientID=f"P{k}", instanceCount=200 + k) for k in range(6)]
    cases = select_idc.select(rows, 5, "0")["c"]
    assert len({case.patient for case in cases}) == len(cases) == 5
    assert all(case.files >= 200 for case in cases)
    assert sorted(case.role for case in cases) == ["test", *["train"] * 3, "validation"]
    assert cases == select_idc.select(rows[::-1], 5, "0")["c"]


def test_a_case_says_what_the_index_says_and_no_more():
    case = select_idc.make_case(make_row(), "test", "25.0.5")
    assert (case.size_bytes, case.files, case.sha256) == (115_647_034, 219, "")
    assert (case.url, case.licence) == ("s3://idc-open-data/u-u/", "CC-BY-4.0")
    assert case.notes == (
        "study 'CT NECK W CONTRAST', series 'NECK 1.5 I31s' (idc-index-data 25.0.5)."
    )


def test_the_shipped_manifests_name_at_least_three_collections_completely():
    assert len(SHIPPED) >= 3
    for path in SHIPPED:
        for case in read_manifest(path).cases:
            assert case.licence in select_idc.LICENCES.values()
            assert re.fullmatch(r"10\.\d{4,5}/\S+", case.doi)
            assert case.files >= select_idc.FEWEST_SLICES
            assert case.size_bytes > case.files * 100_000
            assert case.series_uid
            assert parse_series(case.url, PUBLIC_ENDPOINT).prefix.count("-") == 4


def test_no_series_is_in_two_manifests():
    cases = [case for path in SHIPPED for case in read_manifest(path).cases]
    assert len({case.series_uid for case in cases}) == len({c.case for c in cases}) == len(cases)
