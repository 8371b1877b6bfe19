"""A phantom cohort grows without changing, and every patient of it can be scanned."""

from __future__ import annotations

import pytest

from pipeline.cli import exit_code
from pipeline.core.manifests import read_manifest
from stages.phantom.settings import ScanSettings


def cohort(folder, count, *words):
    path = folder / "cohort.csv"
    arguments = ["manifest", "phantoms", "--count", str(count), "--output", str(path)]
    assert exit_code([*arguments, "--overwrite", *words]) == 0
    return read_manifest(path).cases


def test_larger_cohort_begins_with_the_smaller_one(tmp_path):
    assert cohort(tmp_path, 30)[:5] == cohort(tmp_path, 5)


def test_every_patient_is_another_one_and_a_scan_that_the_phantom_takes(tmp_path):
    cases = cohort(tmp_path, 50, "--validation", "3")
    settings = [ScanSettings.model_validate(case.phantom_settings()) for case in cases]
    assert len({s.seed for s in settings}) == 50
    assert len({(s.noise_hu, s.sharpness, s.pixel_mm) for s in settings}) == 50
    assert [case.role for case in cases] == ["validation"] * 3 + ["train"] * 47


def test_patients_are_those_of_their_seeds_whoever_is_first(tmp_path):
    late = cohort(tmp_path, 3, "--first-seed", "1002", "--validation", "0")
    early = cohort(tmp_path, 5)
    assert [case.path for case in late] == [case.path for case in early[2:]]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--count", "2", "--validation", "2"], "nobody is left to learn from"),
        (["--count", "3", "--first-seed", str(2**31 - 2)], "seeds end at"),
    ],
)
def test_impossible_cohort_is_refused_in_one_sentence(tmp_path, capsys, words, sentence):
    assert exit_code(["manifest", "phantoms", "--output", str(tmp_path / "c.csv"), *words]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "c.csv").exists()
