"""De-identification: the copies are valid CT images, linked as before, with every pixel."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import stat
import subprocess
import zipfile
from datetime import date

import pydicom
import pytest
from ct_series import Series
from multiframe import enhanced, item, save
from pydicom.uid import RLELossless

from pipeline.cli import exit_code
from stages.deidentify.pseudonyms import Pseudonyms, cap_age, shift_date, shift_date_time
from stages.ingest.settings import IngestSettings
from stages.ingest.stage import run as ingest

SECRET = bytes(range(32))
OTHER_SECRET = bytes(range(1, 33))


@pytest.fixture
def deidentify(tmp_path):
    """Return a function that runs the command and gives the folder it wrote."""
    numbers = itertools.count()

    def make(scan, *more, secret=SECRET, code=0):
        path = tmp_path / f"secret-{secret[0]}"
        path.write_bytes(secret)
        path.chmod(0o600)
        output = tmp_path / f"copy-{next(numbers)}"
        arguments = [str(scan), "--output", str(output), "--secret", str(path), *more]
        assert exit_code(["deidentify", *arguments]) == code
        return output

    return make


def images_of(folder):
    return [pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))]


def record_of(folder):
    return json.loads((folder / "artefact.json").read_text())


def visit(folder, uid, day, patient="P1"):
    """Write a series of one visit of a patient."""

    def change(dataset, k):
        dataset.StudyInstanceUID, dataset.PatientID = f"{uid}.1", patient
        dataset.StudyDate = dataset.SeriesDate = day
        dataset.SOPInstanceUID = f"{uid}.2.{k}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID

    return Series(count=3, uid=uid, change=change).write(folder)


def test_geometry_and_hu_after_ingest_equal_those_of_the_original(tmp_path, deidentify):
    scan = Series(orientation=(1.0, 0.0, 0.0, 0.0, 0.96, -0.28), shift_mm=(0.4, 0.0)).write(
        tmp_path / "scan"
    )
    ingest(scan, tmp_path / "a.nii.gz", IngestSettings())
    ingest(deidentify(scan), tmp_path / "b.nii.gz", IngestSettings())
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_a_multi_frame_image_is_ingested_as_before(tmp_path, deidentify):
    scan = save(enhanced(Series()), tmp_path / "scan")
    ingest(scan, tmp_path / "a.nii.gz", IngestSettings())
    ingest(deidentify(scan), tmp_path / "b.nii.gz", IngestSettings())
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_compressed_pixels_keep_their_bytes_and_encoding(tmp_path, deidentify):
    scan = Series(count=3, change=lambda dataset, _: dataset.compress(RLELossless)).write(
        tmp_path / "scan"
    )
    before = {d.InstanceNumber: d.PixelData for d in map(pydicom.dcmread, scan.iterdir())}
    after = images_of(deidentify(scan))
    assert {d.InstanceNumber: d.PixelData for d in after} == before
    assert {d.file_meta.TransferSyntaxUID for d in after} == {RLELossless}


def test_the_same_secret_gives_the_same_bytes_from_a_folder_and_a_zip(tmp_path, deidentify):
    scan = Series(count=3).write(tmp_path / "scan")
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        for path in sorted(scan.iterdir(), reverse=True):
            archive.write(path, f"elsewhere/{path.name}x")
    one, two = deidentify(scan), deidentify(tmp_path / "scan.zip")
    names = [p.relative_to(one) for p in sorted(one.rglob("*.dcm"))]
    assert names == [p.relative_to(two) for p in sorted(two.rglob("*.dcm"))]
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


def test_another_secret_gives_other_uids_patients_and_dates(tmp_path, deidentify):
    scan = visit(tmp_path / "scan", "1.2.77", "20240301")
    one, two = images_of(deidentify(scan))[0], images_of(deidentify(scan, secret=OTHER_SECRET))[0]
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID"):
        assert one[keyword].value != two[keyword].value
    assert one.StudyDate != two.StudyDate


def test_a_reference_to_another_image_leads_to_its_copy(tmp_path, deidentify):
    def refer(dataset, k):
        if k:
            dataset.SourceImageSequence = item(
                ReferencedSOPClassUID=dataset.SOPClassUID, ReferencedSOPInstanceUID="1.2.3.4.5.100"
            )
        else:
            dataset.SOPInstanceUID = "1.2.3.4.5.100"
            dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5.100"

    scan = Series(count=3, change=refer).write(tmp_path / "scan")
    copies = {d.InstanceNumber: d for d in images_of(deidentify(scan))}
    for number in (2, 3):
        reference = copies[number].SourceImageSequence[0]
        assert reference.ReferencedSOPInstanceUID == copies[1].SOPInstanceUID
        assert reference.ReferencedSOPClassUID == copies[1].SOPClassUID
    assert {d.file_meta.MediaStorageSOPInstanceUID for d in copies.values()} == {
        d.SOPInstanceUID for d in copies.values()
    }


def test_intervals_between_a_patients_dates_stay_and_no_date_does(tmp_path, deidentify):
    first = visit(tmp_path / "1", "1.2.77", "20240110")
    second = visit(tmp_path / "2", "1.2.88", "20240324")
    days = [
        date.fromisoformat(images_of(deidentify(scan))[0].StudyDate) for scan in (first, second)
    ]
    assert (days[1] - days[0]).days == 74
    assert days[0] < date(2024, 1, 10)


def test_two_patients_are_shifted_apart_and_told(tmp_path, deidentify, capsys):
    visit(tmp_path / "scan" / "1", "1.2.77", "20240110", "P1")
    visit(tmp_path / "scan" / "2", "1.2.88", "20240110", "P2")
    copies = images_of(deidentify(tmp_path / "scan"))
    assert len({d.StudyDate for d in copies}) == len({d.PatientID for d in copies}) == 2
    assert "2 patients" in capsys.readouterr().err


def test_dates_stay_on_demand_and_the_copy_says_so(tmp_path, deidentify):
    scan = visit(tmp_path / "scan", "1.2.77", "20240110")
    image = images_of(deidentify(scan, "--keep-dates"))[0]
    assert image.StudyDate == "20240110"
    assert image.LongitudinalTemporalInformationModified == "UNMODIFIED"
    codes = [i.CodeValue for i in image.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113106"]


def test_sex_and_age_go_unless_wanted_and_great_ages_are_capped(tmp_path, deidentify):
    def describe(dataset, _):
        dataset.PatientSex, dataset.PatientAge = "F", "093Y"

    scan = Series(count=3, change=describe).write(tmp_path / "scan")
    plain = images_of(deidentify(scan))[0]
    assert plain.PatientSex == ""
    assert "PatientAge" not in plain
    kept = images_of(deidentify(scan, "--keep-characteristics"))[0]
    assert (kept.PatientSex, kept.PatientAge) == ("F", "090Y")


def test_what_is_no_ct_image_is_left_out_and_counted(tmp_path, deidentify):
    def alter(dataset, k):
        if k == 3:
            dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.67"
        if k == 4:
            dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
        if k == 5:
            dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER", "CT_SOM5 PROT"]
        if k == 6:
            del dataset.ImagePositionPatient

    scan = Series(count=7, change=alter).write(tmp_path / "scan")
    (scan / "notes.txt").write_text("call Erika")
    (scan / "cut").write_bytes((scan / "IM0000").read_bytes()[:600])
    (scan / "copy").write_bytes((scan / "IM0000").read_bytes())
    copy = deidentify(scan)
    facts = record_of(copy)["properties"]
    assert len(images_of(copy)) == facts["images"] == 3
    left = facts["left_out"]
    assert left.pop("damaged", 0) + left.pop("images without pixels", 0) == 1
    assert left == {
        "copies of others": 1,
        "images without a place in the patient": 1,
        "not DICOM": 1,
        "pages of text": 1,
        "screen captures": 1,
        "structured reports": 1,
    }


def test_a_scan_without_ct_images_is_refused_and_leaves_nothing(tmp_path, deidentify, capsys):
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "Erika.txt").write_text("Erika")
    output = deidentify(tmp_path / "scan", code=3)
    assert not output.exists()
    assert "Erika" not in capsys.readouterr().err


def test_burnt_in_text_is_flagged_and_left_out_on_demand(tmp_path, deidentify, capsys):
    def mark(dataset, k):
        dataset.BurnedInAnnotation = "YES" if k == 1 else "NO"

    scan = Series(count=3, change=mark).write(tmp_path / "scan")
    flagged = deidentify(scan)
    assert sorted(d.BurnedInAnnotation for d in images_of(flagged)) == ["NO", "NO", "YES"]
    assert "1 images have text burnt into the pixels" in capsys.readouterr().err
    assert len(images_of(deidentify(scan, "--burnt-in", "leave-out"))) == 2


@pytest.mark.parametrize(("part", "flag"), [("HEAD", "YES"), ("", "YES"), ("CHEST", None)])
def test_a_head_is_said_to_show_a_face(tmp_path, deidentify, capsys, part, flag):
    def name_part(dataset, _):
        dataset.BodyPartExamined = part

    scan = Series(count=3, change=name_part).write(tmp_path / "scan")
    images = images_of(deidentify(scan))
    assert {d.get("RecognizableVisualFeatures") for d in images} == {flag}
    assert ("may show the face" in capsys.readouterr().err) == (flag == "YES")


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is absent")
@pytest.mark.parametrize("more", [(), ("--keep-dates", "--keep-characteristics")])
def test_dciodvfy_finds_no_error(tmp_path, deidentify, more):
    scan = visit(tmp_path / "scan", "1.2.77", "20240110")
    for path in deidentify(scan, *more).rglob("*.dcm"):
        done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        assert "CTImage" in done.stderr
        assert "Error" not in done.stderr, done.stderr


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_a_secret_is_made_once_for_its_owner_alone(tmp_path):
    scan, secret = Series(count=3).write(tmp_path / "scan"), tmp_path / "keys" / "secret"
    call = ["deidentify", str(scan), "--secret", str(secret), "--create-secret", "--output"]
    assert exit_code([*call, str(tmp_path / "a")]) == 0
    made = secret.read_bytes()
    assert len(made) == 32
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert exit_code([*call, str(tmp_path / "b")]) == 0
    assert secret.read_bytes() == made


def test_a_missing_short_or_misplaced_secret_is_a_wrong_usage(tmp_path, capsys):
    scan, secret = Series(count=3).write(tmp_path / "scan"), tmp_path / "secret"
    call = ["deidentify", str(scan), "--output", str(tmp_path / "a"), "--secret"]
    assert exit_code([*call, str(secret)]) == 2
    secret.write_bytes(b"shibboleth")
    assert exit_code([*call, str(secret)]) == 2
    assert exit_code([*call, str(tmp_path / "a" / "secret"), "--create-secret"]) == 2
    assert "shibboleth" not in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_the_standards_own_uids_stay_and_others_become_valid_ones():
    names = Pseudonyms(SECRET, 100)
    assert names.uid("1.2.840.10008.5.1.4.1.1.2") == "1.2.840.10008.5.1.4.1.1.2"
    for text in ("1.2.3", "1.2.840.10008.5.1.4.1.1.2.77", "no uid at all", ""):
        new = names.uid(text)
        assert new.is_valid
        assert new.startswith("2.25.")
        assert int(new[5:]) < 2**128
    assert "1.2.3" not in repr(names) + str(names)
    assert repr(SECRET)[2:-1] not in repr(names)


def test_shifts_are_within_their_bound_and_move_every_date():
    names = Pseudonyms(SECRET, 30)
    shifts = {names.shift_days(str(k)) for k in range(1000)}
    assert shifts == set(range(-30, 0))


def test_dates_and_ages_that_are_none_are_dropped():
    assert shift_date("1994.03.01", -1) == "19940228"
    assert shift_date_time("20240301", -1) == "20240229"
    assert shift_date_time("20240301101112.123456-0500", -1) == "20240229101112.123456-0500"
    for text in ("", "20241301", "2024", "Erika", "00010101"):
        assert shift_date(text, -1) is None
        assert shift_date_time(text, -1) is None
    assert cap_age("045Y") == "045Y"
    assert cap_age("999W") == "999W"
    assert cap_age("089Y") == "089Y"
    assert cap_age("091Y") == cap_age("120Y") == "090Y"
    assert cap_age("Erika") is None
