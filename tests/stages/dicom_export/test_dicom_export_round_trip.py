"""DICOM export: what is written reads back the same, is new, and says what it is."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import SimpleITK
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


def head(folder, *, low=-1024, high=3071, axes=AXIAL):
    values = np.random.default_rng(3).integers(low, high + 1, (7, 6, 5)).astype(np.float64)
    values[0, 0, :2] = low, high
    grid = VoxelGrid((7, 6, 5), (1.25, 0.488281, 0.5), (-12.5, 8.0078125, -115.73), axes)
    path = folder / "v.nii.gz"
    write_volume(path, Volume(values, grid))
    return path


@pytest.mark.parametrize("axes", [AXIAL, LEANING])
@pytest.mark.parametrize(("low", "high"), [(-1024, 3071), (-1024, 20000), (-5000, 3071)])
def test_whole_hu_and_geometry_survive_export_and_ingest(tmp_path, axes, low, high):
    source = head(tmp_path, low=low, high=high, axes=axes)
    run(source, tmp_path / "d", SETTINGS)
    assert exit_code(["ingest", str(tmp_path / "d"), "--output", str(tmp_path / "b.nii.gz")]) == 0
    before, after = read_volume(source), read_volume(tmp_path / "b.nii.gz")
    # NIfTI keeps the origin in float32: 116 mm times 2^-23.
    assert after.grid.matches(before.grid, tolerance_mm=1e-4)
    assert np.array_equal(after.values, np.maximum(before.values, -1024))


def test_simpleitk_reads_the_same_values_and_geometry(tmp_path):
    source = head(tmp_path, low=-5000)
    run(source, tmp_path / "d", SETTINGS)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "d")))
    image, volume = reader.Execute(), read_volume(source)
    assert np.array_equal(SimpleITK.GetArrayFromImage(image), volume.values)
    assert_allclose(image.GetOrigin(), volume.grid.origin_mm, atol=1e-5)
    assert_allclose(image.GetSpacing(), volume.grid.spacing_mm[::-1], atol=1e-5)


def test_the_series_is_new_derived_and_for_research_only(tmp_path):
    run(head(tmp_path), tmp_path / "d", SETTINGS)
    files = [pydicom.dcmread(path) for path in sorted((tmp_path / "d").glob("*.dcm"))]
    assert len({f.SOPInstanceUID for f in files}) == len(files) == 7
    assert len({f.SeriesInstanceUID for f in files}) == 1
    for file in files:
        assert file.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
        assert "RESEARCH USE ONLY" in file.SeriesDescription
        assert len(file.SeriesDescription) <= 64
        assert file.SpacingBetweenSlices == 1.25
        assert file.DerivationCodeSequence[0].CodeValue == "113085"
        assert not str(file.PatientName or "")
    steps = np.diff([f.ImagePositionPatient[2] for f in files])
    assert_allclose(steps, 1.25, atol=1e-5)


def test_two_runs_give_equal_bytes_and_another_volume_other_uids(tmp_path):
    source = head(tmp_path)
    for name in ("a", "b"):
        run(source, tmp_path / name, SETTINGS)
    first, second = (sorted((tmp_path / n).glob("*.dcm")) for n in ("a", "b"))
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    head(tmp_path, high=2000)
    run(source, tmp_path / "c", SETTINGS)
    uids = {pydicom.dcmread(p).SOPInstanceUID for p in [*first, *(tmp_path / "c").glob("*.dcm")]}
    assert len(uids) == 14


def test_like_joins_patient_study_and_frame_of_reference_but_not_the_series(tmp_path):
    source = head(tmp_path)
    run(source, tmp_path / "original", SETTINGS)
    for path in (tmp_path / "original").glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.PatientName, dataset.PatientID, dataset.KVP = "Doe^Jane", "17", "120"
        dataset.InstitutionName = "Clinic"
        dataset.save_as(path)
    run(source, tmp_path / "d", SETTINGS, like=tmp_path / "original")
    one = pydicom.dcmread(tmp_path / "original" / "slice0001.dcm")
    two = pydicom.dcmread(tmp_path / "d" / "slice0001.dcm")
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "KVP"):
        assert two[keyword].value == one[keyword].value
    for keyword in ("SeriesInstanceUID", "SOPInstanceUID"):
        assert two[keyword].value != one[keyword].value
    assert "InstitutionName" not in two
    record = (tmp_path / "d" / "artefact.json").read_text()
    assert "Jane" not in record


def test_values_that_sixteen_bits_cannot_hold_are_refused(tmp_path):
    with pytest.raises(InputError, match="DICOM CT holds -8192"):
        run(head(tmp_path, low=-9000), tmp_path / "d", SETTINGS)


def test_like_without_a_ct_image_is_refused(tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.txt").write_text("text " * 100)
    with pytest.raises(InputError, match="no CT image among 1 files"):
        run(head(tmp_path), tmp_path / "d", SETTINGS, like=tmp_path / "none")
