"""Manifests: split by patient, tied to their data by digests, and prepared once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.cli import exit_code
from pipeline.core.artefacts import digest, read_sidecar
from pipeline.core.errors import InputError
from pipeline.core.geometry import VoxelGrid
from pipeline.core.manifests import (
    COLUMNS,
    Manifest,
    check_manifest,
    parse_manifest,
    read_manifest,
    write_manifest,
)
from pipeline.core.volume import Volume, read_volume, write_volume

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted((ROOT / "data_manifests").glob("*.csv"))
DATA = ROOT.parent / "shared" / "data"
HEAD = "case,patient,role,source,path,files,sha256\n"


def is_remote(case):
    return case.url.startswith("s3://")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_manifest_parses_and_keeps_each_patient_in_one_role(path):
    manifest = read_manifest(path)
    roles = {case.patient: case.role for case in manifest.cases}
    assert all(roles[case.patient] == case.role for case in manifest.cases)
    assert all(case.licence for case in manifest.cases)
    scans = [case for case in manifest.cases if case.source != "phantom"]
    # The archive states no digest before the first fetch, but the exact number of bytes.
    assert all(case.sha256 or (case.size_bytes and is_remote(case)) for case in scans)
    assert all(case.files for case in scans)


def test_no_case_that_is_tested_is_in_a_training_manifest():
    by_name = {path.stem: read_manifest(path) for path in SHIPPED}
    tested = {c.patient for m in by_name.values() for c in m.with_role("test")}
    learnt = {c.patient for m in by_name.values() for c in m.cases if c.role != "test"}
    assert not tested & learnt
    assert "pcir-adult" in tested
    assert "phantom-007" in tested


def test_the_data_are_as_the_shipped_manifests_say():
    if not DATA.is_dir():
        pytest.skip(f"needs the development scans in {DATA.name}, which are not in the repository")
    for path in SHIPPED:
        local = Manifest(tuple(c for c in read_manifest(path).cases if not is_remote(c)))
        assert [check for check in check_manifest(local, DATA) if check.problem] == []


def test_a_manifest_survives_writing_and_reading(tmp_path):
    manifest = read_manifest(ROOT / "data_manifests" / "heads.csv")
    write_manifest(tmp_path / "m.csv", manifest)
    assert read_manifest(tmp_path / "m.csv") == manifest
    assert (tmp_path / "m.csv").read_text().splitlines()[0] == ",".join(COLUMNS)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("a,p,train,volume,a.nii,1,\na,p,train,volume,b.nii,1,\n", "case a twice"),
        ("a,p,train,volume,a.nii,1,\nb,p,test,volume,b.nii,1,\n", "in train and in test"),
        ("a,p,train,volume,a.nii,1,\nb,p,validation,volume,b.nii,1,\n", "in train and in valid"),
        ("a,p,learn,volume,a.nii,1,\n", r"line 2: role"),
        ("a,p,train,tape,a.nii,1,\n", r"line 2: source"),
        ("a b,p,train,volume,a.nii,1,\n", r"line 2: case"),
        ("a,p,train,volume,/etc/a.nii,1,\n", r"line 2: path"),
        ("a,p,train,volume,../a.nii,1,\n", r"line 2: path"),
        ("a,p,train,volume,a.nii,many,\n", r"line 2: files"),
        ("a,p,train,volume,a.nii,1,12ab\n", r"line 2: sha256"),
        ("a,p,train,volume,a.nii,1,,more\n", "another number of fields"),
        ("a,p\n", "another number of fields"),
        ("", "lists no case"),
    ],
)
def test_an_unusable_manifest_is_refused_with_its_line(rows, reason):
    with pytest.raises(InputError, match=reason):
        parse_manifest(HEAD + rows, "m.csv")


@pytest.mark.parametrize("head", ["", "case,patient\n", HEAD.replace("sha256", "sha1")])
def test_unknown_or_missing_columns_are_refused(head):
    with pytest.raises(InputError, match="has the columns"):
        parse_manifest(head + "a,p\n", "m.csv")


def write_data(root):
    values = np.full((4, 5, 6), -1000.0)
    values[1:3] = 40
    root.mkdir()
    write_volume(root / "a.nii.gz", Volume(values, VoxelGrid((4, 5, 6), (1.5, 1.0, 1.0))))
    text = HEAD + f"a,p,train,volume,a.nii.gz,1,{digest(root / 'a.nii.gz')}\n"
    (root / "m.csv").write_text(text)
    return root / "m.csv"


def test_missing_and_altered_data_are_found(tmp_path, capsys):
    path = write_data(tmp_path / "data")
    manifest = read_manifest(path)
    assert check_manifest(manifest, tmp_path / "data")[0].problem == ""
    assert exit_code(["manifest", "check", str(path), "--data-root", str(path.parent)]) == 0
    assert "not below" in check_manifest(manifest, tmp_path)[0].problem
    with (path.parent / "a.nii.gz").open("ab") as file:
        file.write(b"x")
    assert "another content" in check_manifest(manifest, path.parent)[0].problem
    assert exit_code(["manifest", "check", str(path), "--data-root", str(path.parent)]) == 3
    assert "another content" in capsys.readouterr().out


def test_files_are_counted_in_folders(tmp_path):
    (tmp_path / "d").mkdir()
    for name in "abc":
        (tmp_path / "d" / name).touch()
    manifest = parse_manifest(HEAD + "a,p,train,dicom,d,2,\n", "m.csv")
    assert "holds 3 files, the manifest says 2" in check_manifest(manifest, tmp_path)[0].problem


def test_prepared_volumes_are_made_once_and_again_only_when_they_are_not_whole(tmp_path):
    path = write_data(tmp_path / "data")
    output = tmp_path / "out"
    arguments = ["manifest", "prepare", str(path), "--data-root", str(path.parent)]
    arguments += ["--output", str(output)]
    assert exit_code(arguments) == 0
    prepared = read_manifest(output / "manifest.csv")
    case = prepared.cases[0]
    assert (case.source, case.path, case.role) == ("volume", "a.nii.gz", "train")
    assert case.sha256 == digest(output / "a.nii.gz") == read_sidecar(output / case.path)["sha256"]
    assert check_manifest(prepared, output)[0].problem == ""
    made = (output / "a.nii.gz").stat().st_mtime_ns
    assert exit_code(arguments) == 0
    assert (output / "a.nii.gz").stat().st_mtime_ns == made
    (output / "a.nii.gz").write_bytes(b"cut")
    assert exit_code(arguments) == 0
    assert read_volume(output / "a.nii.gz").grid.shape == (4, 5, 6)


def test_preparing_altered_data_is_refused(tmp_path):
    path = write_data(tmp_path / "data")
    (path.parent / "a.nii.gz").write_bytes(b"cut")
    arguments = ["manifest", "prepare", str(path), "--data-root", str(path.parent)]
    assert exit_code([*arguments, "--output", str(tmp_path / "out")]) == 3


def test_phantom_settings_are_read_from_the_path():
    row = 'a,p,train,phantom,"seed=7, matrix=256",0,\n'
    case = parse_manifest(HEAD + row, "m.csv").cases[0]
    assert case.phantom_settings() == {"seed": "7", "matrix": "256"}
    wrong = parse_manifest(HEAD + "a,p,train,phantom,seven,0,\n", "m.csv")
    with pytest.raises(InputError, match="no list of phantom settings"):
        check_manifest(wrong, Path())


def test_roles_can_be_picked():
    rows = "a,p,train,volume,a.nii,1,\nb,q,test,volume,b.nii,1,\n"
    manifest = parse_manifest(HEAD + rows, "m.csv")
    assert [case.case for case in manifest.with_role("test")] == ["b"]
    assert isinstance(manifest, Manifest)
