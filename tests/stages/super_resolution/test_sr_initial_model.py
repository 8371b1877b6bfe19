"""A training may begin with another model; no patient which that one learnt may judge the new one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from numpy.testing import assert_allclose
from safetensors.torch import load_file
from sr_volumes import TINY

from pipeline.core.artefacts import read_json, read_sidecar
from pipeline.core.errors import InputError, UsageError
from pipeline.core.manifests import Case
from stages.super_resolution.history import learnt_cases, names_its_patients, refuse_learnt
from stages.super_resolution.settings import TrainingSettings
from stages.super_resolution.stage import SHIPPED_FOLDER, train

ONE_STEP = TINY.model_copy(update={"steps": 1})


def make_case(name="a", patient="p", role="validation", sha256=""):
    return Case(case=name, patient=patient, role=role, source="volume", path="a", sha256=sha256)


def make_past(role="train", **facts):
    return {"case": "old", "role": role, "licence": "", **facts}


@pytest.fixture
def first(manifest, tmp_path):
    """Return a model trained on the patients 0 and 1, judged by 2; 3 is for the test."""
    train(manifest, tmp_path / "first", ONE_STEP)
    return tmp_path / "first"


def rewrite(manifest, *changes):
    """Write the manifest once more with other words in it."""
    text = manifest.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    other = manifest.with_name("other.csv")
    other.write_text(text)
    return other


def test_fine_tuning_starts_from_the_given_weights(manifest, tmp_path):
    train(manifest, tmp_path / "first", TINY)
    gentle = TINY.model_copy(update={"learning_rate": 1e-12, "average_decay": 0.0, "steps": 1})
    train(manifest, tmp_path / "second", gentle, initial=tmp_path / "first")
    first, second = (load_file(tmp_path / n / "weights.safetensors") for n in ("first", "second"))
    for name, value in first.items():
        if "running" not in name and "num_batches" not in name:
            assert_allclose(second[name], value, atol=1e-9)


def test_shipped_network_can_be_fine_tuned(manifest, tmp_path):
    settings = TrainingSettings(
        steps=1, batch_size=1, patch=16, validation_slices=1, device="cpu", precision="float32"
    )
    train(manifest, tmp_path / "model", settings, initial=Path("shipped"))
    found = read_json(tmp_path / "model" / "model.json")
    assert found["provenance"]["initial_sha256"]
    seen = {case["case"] for case in found["provenance"]["cases"]}
    before = read_json(SHIPPED_FOLDER / "model.json")["provenance"]["cases"]
    assert seen > {
        case["case"] for case in before
    }  # or a test patient of its past would pass for unseen


def test_initial_model_of_another_size_is_refused(manifest, tmp_path):
    train(manifest, tmp_path / "first", TINY)
    wider = TINY.model_copy(update={"width": 8})
    with pytest.raises(UsageError, match="matching settings"):
        train(manifest, tmp_path / "second", wider, initial=tmp_path / "first")


@pytest.mark.parametrize("role", ["validation", "test"])
def test_patient_whom_the_initial_model_learnt_may_not_judge(manifest, first, tmp_path, role):
    other = rewrite(manifest, ("patient-0,train", f"patient-0,{role}"))
    with pytest.raises(InputError, match=rf"patient patient-0 \({role}\).* first ") as refused:
        train(other, tmp_path / "second", ONE_STEP, initial=first)
    assert refused.value.exit_code == 3
    assert refused.value.facts["patients"] == ["patient-0"]
    assert not (tmp_path / "second").exists()


def test_patient_whom_a_model_before_the_initial_one_learnt_may_not_judge(
    manifest, first, tmp_path
):
    """The second model learns from another patient alone and yet carries the first one's."""
    grown = rewrite(
        manifest,
        ("head-0,patient-0,train,volume,head-0.nii.gz,CC0\n", ""),
        ("patient-1,train", "patient-1,test"),
        ("patient-3,test", "patient-3,train"),
    )
    with pytest.raises(InputError, match="patient-1"):
        train(grown, tmp_path / "second", ONE_STEP, initial=first)
    train(
        rewrite(grown, ("patient-1,test", "patient-1,train")),
        tmp_path / "second",
        ONE_STEP,
        initial=first,
    )
    last = rewrite(manifest, ("patient-0,train", "patient-0,validation"))
    with pytest.raises(InputError, match="patient-0"):
        train(last, tmp_path / "third", ONE_STEP, initial=tmp_path / "second")


def test_learnt_volume_under_another_name_may_not_judge(manifest, first, tmp_path):
    other = rewrite(manifest, ("head-0,patient-0,train", "head-x,patient-x,validation"))
    with pytest.raises(InputError, match="patient-x"):
        train(other, tmp_path / "second", ONE_STEP, initial=first)


def test_initial_model_without_its_patients_gets_a_warning(manifest, first, tmp_path):
    description = read_json(first / "model.json")
    for case in description["provenance"]["cases"]:
        del case["patient"]
    (first / "model.json").write_text(json.dumps(description))
    train(manifest, tmp_path / "second", ONE_STEP, initial=first)
    (warning,) = read_sidecar(tmp_path / "second")["warnings"]
    assert warning.startswith("first: does not record every patient")


def test_the_same_split_goes_on_without_a_warning(manifest, first, tmp_path):
    train(manifest, tmp_path / "second", ONE_STEP, initial=first)
    assert read_sidecar(tmp_path / "second")["warnings"] == []


@pytest.mark.parametrize(
    ("past", "is_learnt"),
    [
        (make_past(patient="p"), True),
        (make_past(patient="q"), False),
        (make_past(patient="p", role="validation"), False),
        (make_past(patient="q", sha256="0" * 64), True),
        (make_past(case="a"), True),
        (make_past(case="a", patient="q"), False),
    ],
    ids=["patient", "other", "judged only", "volume", "name alone", "name of another's scan"],
)
def test_a_case_was_learnt_by_its_patient_its_volume_or_an_unowned_name(past, is_learnt):
    case = make_case(sha256="0" * 64)
    assert learnt_cases([case], {}, [past]) == ([case] if is_learnt else [])
    assert learnt_cases([make_case()], {"a": "0" * 64}, [past]) == (
        [make_case()] if is_learnt else []
    )


def test_past_without_a_training_case_or_with_one_of_nobody_is_unknown():
    assert names_its_patients([make_past(patient="p"), make_past("validation")])
    assert not names_its_patients([make_past("validation", patient="p")])
    assert not names_its_patients([make_past(patient="p"), make_past()])


def test_refusal_names_five_patients_and_counts_the_others():
    cases = [make_case(f"c{i}", f"p{i // 2}") for i in range(16)]
    with pytest.raises(InputError, match=r"p0 .*p4 \(validation\) and 3 more: the initial"):
        refuse_learnt(cases, "m.csv", "old")
