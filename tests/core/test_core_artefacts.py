"""Artefacts: whole with their record, or not there at all; equal runs give equal bytes."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest

from pipeline.core.artefacts import digest, publish, read_json, read_sidecar, sidecar_path
from pipeline.core.errors import Ct2FlowError, InputError, NumericalError, UsageError
from pipeline.core.provenance import code_digest, library_versions


def make(output, text="a", **options):
    settings = {"kind": "text", "stage": "ingest", "settings": {"x": 1}} | options
    with publish(output, **settings) as pending:
        if pending.path.is_dir():
            (pending.path / "part.txt").write_text(text)
        else:
            pending.path.write_text(text)
        pending.warnings.append("a caveat")
        pending.properties["length_mm"] = 3.0


@pytest.mark.parametrize("folder", [False, True])
def test_an_artefact_comes_with_the_record_of_its_making(tmp_path, folder):
    output = tmp_path / "deep" / "out"
    make(output, folder=folder, seed=5)
    record = read_sidecar(output)
    assert record["sha256"] == digest(output)
    assert (record["kind"], record["seed"], record["settings"]) == ("text", 5, {"x": 1})
    assert record["warnings"] == ["a caveat"]
    assert record["properties"] == {"length_mm": 3.0}
    assert record["code"]["digest"] == code_digest("ingest")
    assert [p for p in tmp_path.rglob("*") if "partial" in p.name] == []


@pytest.mark.parametrize("folder", [False, True])
def test_a_failed_making_leaves_nothing_and_keeps_what_was_there(tmp_path, folder):
    output = tmp_path / "out"
    make(output, folder=folder)
    before = digest(output)
    with (
        pytest.raises(NumericalError),
        publish(
            output,
            kind="text",
            stage="ingest",
            settings={},
            overwrite=True,
            folder=folder,
        ),
    ):
        raise NumericalError("diverged")
    assert digest(output) == before
    assert read_sidecar(output)["sha256"] == before
    assert [p for p in tmp_path.iterdir() if "partial" in p.name] == []


def test_the_sidecar_is_gone_while_an_artefact_is_replaced_and_back_when_it_is_whole(tmp_path):
    output = tmp_path / "out"
    make(output, "a")
    make(output, "b", overwrite=True)
    assert read_sidecar(output)["sha256"] == hashlib.sha256(b"b").hexdigest()


@pytest.mark.parametrize("folder", [False, True])
def test_an_existing_artefact_is_not_overwritten_unless_told(tmp_path, folder):
    make(tmp_path / "out", folder=folder)
    with pytest.raises(UsageError, match="--overwrite"):
        make(tmp_path / "out", folder=folder)
    make(tmp_path / "out", folder=folder, overwrite=True)


@pytest.mark.parametrize("folder", [False, True])
def test_two_makings_give_equal_bytes_and_records(tmp_path, folder):
    for name in ("a", "b"):
        make(tmp_path / name / "out", folder=folder)
    one, two = (sidecar_path(tmp_path / name / "out").read_bytes() for name in ("a", "b"))
    assert one == two


def test_a_folder_keeps_its_record_and_digest_when_it_is_moved(tmp_path):
    make(tmp_path / "out", folder=True)
    shutil.move(tmp_path / "out", tmp_path / "elsewhere")
    assert read_sidecar(tmp_path / "elsewhere")["sha256"] == digest(tmp_path / "elsewhere")


def test_the_digest_of_a_folder_sees_names_and_contents_but_no_hidden_files(tmp_path):
    folder = tmp_path / "f"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a").write_text("1")
    first = digest(folder)
    (folder / ".snakemake_timestamp").touch()
    assert digest(folder) == first
    (folder / "sub" / "a").rename(folder / "sub" / "b")
    renamed = digest(folder)
    (folder / "sub" / "b").write_text("2")
    assert len({first, renamed, digest(folder)}) == 3


def test_inputs_are_recorded_by_name_and_digest_without_their_folders(tmp_path):
    (tmp_path / "patient").mkdir()
    (tmp_path / "patient" / "in.txt").write_text("x")
    make(tmp_path / "out", inputs=[tmp_path / "patient" / "in.txt"])
    text = sidecar_path(tmp_path / "out").read_text()
    assert json.loads(text)["inputs"] == {"in.txt": hashlib.sha256(b"x").hexdigest()}
    assert str(tmp_path) not in text


def test_a_users_own_file_has_an_empty_record(tmp_path):
    (tmp_path / "own.stl").touch()
    assert read_sidecar(tmp_path / "own.stl") == {}


@pytest.mark.parametrize("text", ["text", "[1]", ""])
def test_unusable_json_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.json"):
        read_json(tmp_path / "a.json")


def test_each_kind_of_failure_has_its_exit_code_and_keeps_its_facts():
    assert [e.exit_code for e in (UsageError, InputError, NumericalError)] == [2, 3, 4]
    error = InputError("Slices are missing.", missing=3)
    assert isinstance(error, Ct2FlowError)
    assert error.facts == {"missing": 3}


def test_the_code_digest_differs_between_stages():
    assert code_digest("ingest") != code_digest("triplets")


def test_versions_of_libraries_that_are_not_installed_are_left_out():
    assert set(library_versions(["numpy", "no-such-library"])) == {"numpy"}
