"""Sources: folders, zips, DICOMDIR and volume files give the same volume, or a clear refusal."""

from __future__ import annotations

import gzip
import logging
import os
import re
import stat
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from ct_series import SECRETS, Series, at_most, hu_at
from pydicom.fileset import FileSet

from pipeline.cli import exit_code
from pipeline.core.artefacts import read_sidecar
from pipeline.core.errors import InputError, UsageError
from pipeline.core.volume import read_volume
from stages.ingest.settings import IngestSettings
from stages.ingest.stage import describe, read_scan, run

DEFAULTS = IngestSettings()


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, Path("disc") / file.relative_to(folder))
    return path


def test_a_zip_gives_the_same_bytes_as_the_folder(tmp_path):
    folder = Series(name=lambda k: f"a/b/{k}").write(tmp_path / "s")
    archive = zipped(folder, tmp_path / "s.zip")
    run(folder, tmp_path / "one.nii.gz", DEFAULTS)
    run(archive, tmp_path / "two.nii.gz", DEFAULTS)
    assert (tmp_path / "one.nii.gz").read_bytes() == (tmp_path / "two.nii.gz").read_bytes()


def test_other_files_and_links_beside_the_series_do_no_harm(tmp_path):
    folder = Series().write(tmp_path / "s")
    plain = read_scan(folder, DEFAULTS).volume
    (folder / "README.txt").write_text("viewer " * 100)
    (folder / "empty").touch()
    (folder / "AUTORUN.INF").write_bytes(os.urandom(1000))
    (folder / "loop").symlink_to(folder)
    (folder / "broken").symlink_to(folder / "nowhere")
    assert np.array_equal(read_scan(folder, DEFAULTS).volume.values, plain.values)


def write_disc_with_directory(folder):
    disc = FileSet()
    for _, dataset in Series().slices():
        dataset.StudyID, dataset.StudyTime = "1", "1200"
        disc.add(dataset)
    disc.write(folder)
    disc._stage["t"].cleanup()


def test_a_dicomdir_stands_for_its_folder(tmp_path):
    write_disc_with_directory(tmp_path / "disc")
    reading = read_scan(tmp_path / "disc" / "DICOMDIR", DEFAULTS)
    assert reading.volume.grid.shape[0] == 16


def test_a_dicomdir_whose_files_are_missing_says_how_many(tmp_path):
    write_disc_with_directory(tmp_path / "disc")
    files = sorted(p for p in (tmp_path / "disc").rglob("*") if p.is_file())
    last = max(
        (p for p in files if p.name != "DICOMDIR"),
        key=lambda p: pydicom.dcmread(p).ImagePositionPatient[2],
    )
    last.unlink()
    reading = read_scan(tmp_path / "disc" / "DICOMDIR", DEFAULTS)
    assert any("1 of 16 files that the DICOMDIR names" in w for w in reading.warnings)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "C:\\evil"])
def test_a_zip_whose_paths_leave_its_folder_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(InputError, match="a path that leaves its folder"):
        read_scan(tmp_path / "z.zip", DEFAULTS)


def test_a_zip_with_a_symbolic_link_is_refused(tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(InputError, match="a symbolic link"):
        read_scan(tmp_path / "z.zip", DEFAULTS)


def test_a_zip_bomb_is_refused_without_unpacking(tmp_path):
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(100 * 2**20))
    with at_most(10 * 2**20):
        with pytest.raises(InputError, match="times its size"):
            read_scan(tmp_path / "z.zip", DEFAULTS)
        with pytest.raises(InputError, match=r"unpacks to 0\.1 GiB"):
            read_scan(tmp_path / "z.zip", IngestSettings(max_unpacked_gib=0.01))


def test_an_encrypted_zip_is_refused(tmp_path):
    folder = Series().write(tmp_path / "s")
    archive = zipped(folder, tmp_path / "z.zip")
    data = bytearray(archive.read_bytes())
    for start in re.finditer(b"PK\x01\x02", bytes(data)):
        data[start.start() + 8] |= 1
    archive.write_bytes(bytes(data))
    with pytest.raises(InputError, match="encrypted files"):
        read_scan(archive, DEFAULTS)


def test_a_folder_without_dicom_says_how_many_files_it_looked_at(tmp_path):
    (tmp_path / "Mustermann").mkdir()
    (tmp_path / "Mustermann" / "a.txt").write_text("x")
    with pytest.raises(InputError, match="No DICOM image among 1 files"):
        describe(tmp_path / "Mustermann", DEFAULTS)
    with pytest.raises(InputError, match="No DICOM image among 1 files") as caught:
        read_scan(tmp_path / "Mustermann", DEFAULTS)
    assert "Mustermann" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Modality": "MR"}, "modality MR, not CT"),
        ({"NumberOfFrames": 3}, "multi-frame"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer"),
        ({"ImagePositionPatient": None}, "no position or orientation"),
        ({"PixelSpacing": None}, "no pixel spacing"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "not two orthogonal unit vectors"),
        ({"SamplesPerPixel": 3}, "colour images"),
    ],
)
def test_an_unsuitable_series_is_refused_with_its_reason(tmp_path, change, reason):
    def spoil(dataset, k):
        for keyword, value in change.items():
            setattr(dataset, keyword, value)

    folder = Series(change=spoil).write(tmp_path / "s")
    with pytest.raises(InputError, match=reason):
        read_scan(folder, DEFAULTS)
    assert reason in describe(folder, DEFAULTS)


def write_disc(folder):
    def derived(dataset, k):
        dataset.ImageType = ["DERIVED", "SECONDARY", "REFORMATTED"]

    def chest(dataset, k):
        dataset.BodyPartExamined = "CHEST"

    def scout(dataset, k):
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    sagittal = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
    base = {"count": 24, "spacing_mm": 2.7, "rows": 12, "columns": 12, "pixel_mm": (3.0, 3.0)}
    Series(uid="1.1", name=lambda k: f"a{k}", change=scout, count=2).write(folder)
    Series(uid="1.2", name=lambda k: f"b{k}", **(base | {"count": 16, "spacing_mm": 4})).write(
        folder
    )
    Series(uid="1.3", name=lambda k: f"c{k}", orientation=sagittal, **base).write(folder)
    Series(uid="1.4", name=lambda k: f"d{k}", **base).write(folder)
    Series(uid="1.5", name=lambda k: f"e{k}", change=derived, **base).write(folder)
    Series(uid="1.6", name=lambda k: f"f{k}", change=chest, **base).write(folder)
    Series(uid="1.7", name=lambda k: f"g{k}", count=8, spacing_mm=0.5).write(folder)
    return folder


def test_the_thin_axial_original_head_series_is_chosen_from_a_full_disc(tmp_path):
    reading = read_scan(write_disc(tmp_path / "s"), DEFAULTS)
    assert reading.series == "4"
    assert reading.volume.grid.shape[0] == 24
    assert any("also suitable: 2, 3, 5, 6, 7" in warning for warning in reading.warnings)


def test_a_series_can_be_chosen_by_number_and_by_uid(tmp_path):
    folder = write_disc(tmp_path / "s")
    assert read_scan(folder, IngestSettings(series="2")).volume.grid.shape[0] == 16
    assert read_scan(folder, IngestSettings(series="1.7")).series == "7"
    with pytest.raises(UsageError, match="not among the 7 series"):
        read_scan(folder, IngestSettings(series="12"))
    with pytest.raises(InputError, match="Series 1 cannot be stacked: a localizer"):
        read_scan(folder, IngestSettings(series="1"))


def test_the_list_names_every_series_and_no_patient(tmp_path, capsys):
    folder = write_disc(tmp_path / "s")
    assert exit_code(["ingest", "list", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert len(shown.strip().splitlines()) == 8
    assert "2.700" in shown
    assert "H60s" in shown
    assert not [secret for secret in SECRETS.values() if secret in shown]


def test_nothing_of_the_patient_passes_into_volume_sidecar_or_log(tmp_path, caplog):
    folder = Series(uid="1.2.840.999.77").write(tmp_path / "Mustermann_Erika")
    with caplog.at_level(logging.DEBUG, logger="ct2flow"):
        run(folder, tmp_path / "o.nii.gz", IngestSettings(series="1.2.840.999.77"))
    sidecar = (tmp_path / "o.nii.gz.json").read_text()
    volume = gzip.decompress((tmp_path / "o.nii.gz").read_bytes()).decode("latin-1")
    secrets = [*SECRETS.values(), "1.2.840.999", "1.2.3.4", "Mustermann", "Erika"]
    for text in (sidecar, caplog.text, volume):
        assert not [secret for secret in secrets if secret in text]
    properties = read_sidecar(tmp_path / "o.nii.gz")["properties"]
    assert properties["kernel"] == "H60s"
    assert properties["kvp"] == 120


def test_the_volume_and_its_record_are_the_same_in_a_second_run(tmp_path):
    folder = Series().write(tmp_path / "s")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        run(folder, tmp_path / name / "o.nii.gz", DEFAULTS)
    for file in ("o.nii.gz", "o.nii.gz.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    written = read_volume(tmp_path / "a" / "o.nii.gz")
    assert written.grid.matches(read_scan(folder, DEFAULTS).volume.grid)


def test_existing_output_is_kept_unless_told(tmp_path):
    folder = Series().write(tmp_path / "s")
    run(folder, tmp_path / "o.nii.gz", DEFAULTS)
    with pytest.raises(UsageError, match="--overwrite"):
        run(folder, tmp_path / "o.nii.gz", DEFAULTS)
    run(folder, tmp_path / "o.nii.gz", DEFAULTS, overwrite=True)
    with pytest.raises(UsageError, match="must end in"):
        run(folder, tmp_path / "o.nrrd", DEFAULTS)


DIRECTIONS = {
    "LPS": np.eye(3),
    "RAS": np.diag([-1.0, -1.0, 1.0]),
    "sagittal": np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]]),
    "oblique": np.array([[1.0, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]]),
}


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha", ".mhd"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_voxel_of_a_volume_file_keeps_its_place(tmp_path, suffix, direction):
    image = SimpleITK.Image([18, 16, 14], SimpleITK.sitkFloat32)
    image.SetSpacing([1.2, 1.1, 1.5])
    image.SetDirection(DIRECTIONS[direction].ravel().tolist())
    image.SetOrigin((DIRECTIONS[direction] @ [-9.0, -8.0, -10.0]).tolist())
    index = np.stack(np.indices((14, 16, 18)), axis=-1)[..., ::-1] * [1.2, 1.1, 1.5]
    world = index @ DIRECTIONS[direction].T + image.GetOrigin()
    filled = SimpleITK.GetImageFromArray(np.maximum(hu_at(world), -1024).astype(np.float32))
    filled.CopyInformation(image)
    SimpleITK.WriteImage(filled, str(tmp_path / f"v{suffix}"))
    volume = read_scan(tmp_path / f"v{suffix}", DEFAULTS).volume
    index = np.stack(np.indices(volume.grid.shape), axis=-1)
    truth = np.maximum(hu_at(volume.grid.to_world_mm(index)), -1024)
    # NIfTI keeps its geometry in float32: 1e-6 of 20 mm times a gradient of 150 HU/mm.
    np.testing.assert_allclose(volume.values, truth, atol=0.05)


def test_a_volume_of_thick_sagittal_slices_is_stacked_along_them(tmp_path):
    image = SimpleITK.GetImageFromArray(np.random.default_rng(0).normal(-400, 300, (20, 22, 8)))
    image.SetSpacing([5.0, 1.0, 1.0])
    SimpleITK.WriteImage(image, str(tmp_path / "v.nrrd"))
    reading = read_scan(tmp_path / "v.nrrd", DEFAULTS)
    assert reading.volume.grid.spacing_mm[0] == 5.0
    assert any("not axial" in warning for warning in reading.warnings)


def spoilt_volumes(folder):
    array = np.full((6, 6, 6), -1000, np.float32)
    array[2:4] = 40
    image = SimpleITK.GetImageFromArray(array)
    SimpleITK.WriteImage(image, str(folder / "good.mha"))
    SimpleITK.WriteImage(SimpleITK.JoinSeries([image, image]), str(folder / "4d.nii.gz"))
    SimpleITK.WriteImage(SimpleITK.Compose(image, image), str(folder / "two.mha"))
    nan = array.copy()
    nan[0, 0, 0] = np.nan
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(nan), str(folder / "nan.nrrd"))
    (folder / "text.nii.gz").write_text("no volume")
    good = (folder / "good.mha").read_bytes()
    (folder / "short.mha").write_bytes(good[:-300])
    (folder / "claim.mha").write_bytes(
        good.replace(b"DimSize = 6 6 6", b"DimSize = 9999 9999 999")
    )
    away = good.split(b"ElementDataFile")[0] + b"ElementDataFile = ../good.raw\n"
    (folder / "away.mhd").write_bytes(away)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("4d.nii.gz", "three dimensions"),
        ("two.mha", "2 channels"),
        ("nan.nrrd", "NaN"),
        ("text.nii.gz", "cannot be read"),
        ("short.mha", "cannot be read"),
        ("claim.mha", "more than its size can hold"),
        ("away.mhd", "files elsewhere"),
    ],
)
def test_a_spoilt_volume_file_is_refused_with_its_reason(tmp_path, name, reason):
    spoilt_volumes(tmp_path)
    with pytest.raises(InputError, match=reason):
        read_scan(tmp_path / name, DEFAULTS)


def test_values_below_the_scale_are_clipped_in_volume_files_too(tmp_path):
    array = np.full((6, 6, 6), -3000, np.int16)
    array[2:4] = 40
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(tmp_path / "v.nrrd"))
    reading = read_scan(tmp_path / "v.nrrd", DEFAULTS)
    assert reading.volume.values.min() == -1024
    assert reading.properties["clipped_voxels"] == 4 * 36
