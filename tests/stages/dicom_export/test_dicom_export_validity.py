"""DICOM export: valid for independent programs, linked to its sources, with its uncertainty."""

from __future__ import annotations

import shutil
import subprocess

import nibabel
import numpy as np
import pydicom
import pytest
from numpy.testing import assert_allclose

from pipeline.cli import exit_code
from pipeline.core.errors import InputError
from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume, read_volume, write_volume
from stages.dicom_export.settings import DicomExportSettings
from stages.dicom_export.stage import run

SETTINGS = DicomExportSettings()
AXIAL = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
LEANING = ((0.0, -0.6, 0.8), (0.0, 0.8, 0.6), (1.0, 0.0, 0.0))


def write(path, values, spacing=1.0, axes=AXIAL):
    grid = VoxelGrid(values.shape, (spacing, 0.488281, 0.5), (-12.5, 8.0078125, -115.73), axes)
    write_volume(path, Volume(values, grid))
    return path


def head(count=12):
    return np.random.default_rng(3).integers(-1024, 3072, (count, 9, 8)).astype(np.float64)


def thick_series(folder):
    """Write what a scanner might have: slices 3 mm apart, a localizer and another series."""
    values = head(4)
    source = write(folder.with_suffix(".nii.gz"), values, 3.0)
    run(source, folder, SETTINGS)
    for k, path in enumerate(sorted(folder.glob("*.dcm"))):
        dataset = pydicom.dcmread(path)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID = "1.2.3.7", "1.2.3.4"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.7.{k + 1}"
        dataset.PatientID, dataset.StudyDate, dataset.StudyTime = "17", "20200101", "101112"
        dataset.StudyID, dataset.PatientPosition, dataset.PatientName = "1", "HFS", "Doe^Jane"
        dataset.Manufacturer, dataset.ManufacturerModelName = "Maker", "Model X"
        dataset.DeviceSerialNumber, dataset.StationName = "SN-55512", "CTROOM7"
        dataset.save_as(path)
        if k == 0:
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.8.1"
            dataset.save_as(folder / "scout.dcm")
    return folder


def slices_of(folder):
    return [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is absent")
@pytest.mark.parametrize("named", [False, True])
def test_dciodvfy_finds_no_error(tmp_path, named):
    like = thick_series(tmp_path / "original") if named else None
    spread = write(tmp_path / "s.nii.gz", np.abs(head()) / 20)
    source = write(tmp_path / "v.nii.gz", head())
    run(source, tmp_path / "d", SETTINGS, like=like, uncertainty=spread)
    paths = sorted((tmp_path / "d").rglob("*.dcm"))
    assert len(paths) == 24
    for path in paths:
        done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        assert "CTImage" in done.stderr
        assert "Error" not in done.stderr, done.stderr


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is absent")
@pytest.mark.parametrize("axes", [AXIAL, LEANING])
def test_dcm2niix_reads_the_same_voxels_at_the_same_places(tmp_path, axes):
    source = write(tmp_path / "v.nii.gz", head(), axes=axes)
    run(source, tmp_path / "d", SETTINGS)
    (tmp_path / "n").mkdir()
    command = ["dcm2niix", "-b", "n", "-f", "out", "-o", tmp_path / "n", tmp_path / "d"]
    subprocess.run(command, check=True, capture_output=True)
    theirs = nibabel.load(tmp_path / "n" / "out.nii")
    ours = nibabel.load(source)
    turned = nibabel.as_closest_canonical(theirs), nibabel.as_closest_canonical(ours)
    assert np.array_equal(turned[0].get_fdata(), turned[1].get_fdata())
    assert_allclose(turned[0].affine, turned[1].affine, atol=2e-4)


def test_every_slice_names_the_thick_slices_that_it_was_made_from(tmp_path):
    like = thick_series(tmp_path / "original")
    run(write(tmp_path / "v.nii.gz", head()), tmp_path / "d", SETTINGS, like=like)
    for dataset in slices_of(tmp_path / "d"):
        height = float(dataset.ImagePositionPatient[2])
        near = {f"1.2.3.7.{k + 1}" for k in range(4) if abs(-115.73 + 3 * k - height) < 4.5}
        assert {item.ReferencedSOPInstanceUID for item in dataset.SourceImageSequence} == near
        assert near
        purpose = dataset.SourceImageSequence[0].PurposeOfReferenceCodeSequence[0]
        assert purpose.CodeValue == "121322"


def test_the_scanner_is_named_as_contributing_but_not_the_single_device(tmp_path):
    like = thick_series(tmp_path / "original")
    run(write(tmp_path / "v.nii.gz", head()), tmp_path / "d", SETTINGS, like=like)
    dataset = slices_of(tmp_path / "d")[0]
    (scanner,) = dataset.ContributingEquipmentSequence
    assert (scanner.Manufacturer, scanner.ManufacturerModelName) == ("Maker", "Model X")
    assert scanner.PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
    assert dataset.Manufacturer == "ct2flow"
    assert "SN-55512" not in str(dataset)
    assert "CTROOM7" not in str(dataset)


def test_the_uncertainty_is_a_second_series_of_the_same_study_in_hundredths(tmp_path):
    spread = np.abs(head()) / 20 + 0.123
    paths = write(tmp_path / "v.nii.gz", head()), write(tmp_path / "s.nii.gz", spread)
    run(paths[0], tmp_path / "d", SETTINGS, uncertainty=paths[1])
    first, second = slices_of(tmp_path / "d"), slices_of(tmp_path / "d" / "uncertainty")
    for one, two in zip(first, second, strict=True):
        assert one.StudyInstanceUID == two.StudyInstanceUID
        assert one.PatientID == two.PatientID
        assert one.FrameOfReferenceUID == two.FrameOfReferenceUID
        assert one.ImagePositionPatient == two.ImagePositionPatient
        assert one.SeriesInstanceUID != two.SeriesInstanceUID
        assert one.SOPInstanceUID != two.SOPInstanceUID
        assert two.RescaleType == "HU_SD"
    read = [f.pixel_array * float(f.RescaleSlope) + float(f.RescaleIntercept) for f in second]
    assert_allclose(read, spread, atol=0.0051)


def test_an_uncertainty_series_is_never_read_as_a_scan(tmp_path):
    paths = write(tmp_path / "v.nii.gz", head()), write(tmp_path / "s.nii.gz", np.abs(head()) / 9)
    run(paths[0], tmp_path / "d", SETTINGS, uncertainty=paths[1])
    assert exit_code(["ingest", str(tmp_path / "d"), "--output", str(tmp_path / "b.nii.gz")]) == 0
    assert np.array_equal(read_volume(tmp_path / "b.nii.gz").values, head())
    only = tmp_path / "d" / "uncertainty"
    assert exit_code(["ingest", str(only), "--output", str(tmp_path / "c.nii.gz")]) == 3


@pytest.mark.parametrize("wrong", ["negative", "other grid"])
def test_an_uncertainty_that_does_not_fit_is_refused(tmp_path, wrong):
    values = -np.abs(head()) - 1 if wrong == "negative" else np.abs(head(11))
    paths = write(tmp_path / "v.nii.gz", head()), write(tmp_path / "s.nii.gz", values)
    with pytest.raises(InputError, match=r"(Standard deviations lie|another grid)"):
        run(paths[0], tmp_path / "d", SETTINGS, uncertainty=paths[1])
    assert not (tmp_path / "d").exists()


def test_fractions_are_kept_to_a_thirtysecond(tmp_path):
    values = head() * 0.9973
    run(write(tmp_path / "v.nii.gz", values), tmp_path / "d", SETTINGS)
    run_ = ["ingest", str(tmp_path / "d"), "--output", str(tmp_path / "b.nii.gz")]
    assert exit_code(run_) == 0
    assert_allclose(read_volume(tmp_path / "b.nii.gz").values, values, atol=0.5 / 16 + 1e-3)
