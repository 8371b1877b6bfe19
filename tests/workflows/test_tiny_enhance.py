"""A coarse scan comes back as thin slices, as NIfTI and as DICOM that an independent reader reads."""

import numpy as np
import pydicom
import pytest
import SimpleITK

from pipeline.cli import exit_code
from pipeline.core.volume import read_volume

pytestmark = pytest.mark.slow

FACTOR = 3
SCAN = ["--matrix", "96", "--pixel-mm", "2.2", "--slice-spacing-mm", "4.5"]


@pytest.fixture(scope="module")
def enhanced(tmp_path_factory):
    folder = tmp_path_factory.mktemp("enhance")
    coarse = folder / "coarse.nii.gz"
    assert exit_code(["phantom", "volume", "--seed", "4", "--output", str(coarse), *SCAN]) == 0
    assert exit_code(["enhance", str(coarse), "--output", str(folder / "out")]) == 0
    return read_volume(coarse), folder / "out"


def test_restored_slices_average_to_the_measured_ones(enhanced):
    coarse, output = enhanced
    fine = read_volume(output / "restored.nii.gz")
    means = fine.values.reshape(-1, FACTOR, *coarse.values.shape[1:]).mean(axis=1)
    # Whole HU: rounding moves each slice by half a unit at most; values at the ends of the range clip.
    inner = (coarse.values > -1000) & (coarse.values < 3000)
    assert np.abs(means - coarse.values)[inner].max() <= 0.5 + 1e-6


def test_restored_slices_fill_the_measured_ones(enhanced):
    coarse, output = enhanced
    fine = read_volume(output / "restored.nii.gz").grid
    assert fine.spacing_mm[0] == pytest.approx(coarse.grid.spacing_mm[0] / FACTOR)
    middle = fine.to_world_mm(np.array([1.0, 0, 0]))
    np.testing.assert_allclose(middle, coarse.grid.origin_mm, atol=1e-3)


def test_the_dicom_series_holds_the_same_volume(enhanced):
    _, output = enhanced
    fine = read_volume(output / "restored.nii.gz")
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(output / "dicom")))
    image = reader.Execute()
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), fine.values)
    np.testing.assert_allclose(image.GetSpacing()[::-1], fine.grid.spacing_mm, rtol=1e-5)
    np.testing.assert_allclose(image.GetOrigin(), fine.grid.origin_mm, atol=1e-3)


def test_the_series_joins_the_study_it_was_made_from_if_asked(tmp_path):
    scan = tmp_path / "scan"
    command = ["phantom", "dicom", "--seed", "4", "--output", str(scan), *SCAN]
    assert exit_code(command) == 0
    out = tmp_path / "out"
    assert exit_code(["enhance", str(scan), "--output", str(out), "--set", "join_study=true"]) == 0
    one = pydicom.dcmread(next(scan.glob("*.dcm")))
    two = pydicom.dcmread(next((out / "dicom").glob("*.dcm")))
    for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert two[keyword].value == one[keyword].value
    assert two.SeriesInstanceUID != one.SeriesInstanceUID
    assert two.SourceImageSequence
