"""Other readers find in the phantom's DICOM series what was written."""

import numpy as np
import pydicom
import pytest
import SimpleITK
from numpy.testing import assert_allclose, assert_array_equal

from pipeline.core.artefacts import digest, read_json, read_sidecar
from pipeline.core.planes import read_planes
from pipeline.core.volume import read_volume
from stages.phantom.settings import ScanSettings, TruthSettings
from stages.phantom.stage import run_dicom, run_truth, run_volume

TINY = {"matrix": 64, "pixel_mm": 3.6, "slice_spacing_mm": 6.0, "below_mm": 30.0, "above_mm": 48.0}


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    settings = ScanSettings(seed=3, **TINY)
    run_dicom(folder / "dicom", settings)
    run_volume(folder / "volume.nii.gz", settings)
    return folder


def test_simpleitk_reads_the_same_hu_and_geometry(series):
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series / "dicom")))
    image = reader.Execute()
    volume = read_volume(series / "volume.nii.gz")
    assert_array_equal(SimpleITK.GetArrayFromImage(image), volume.values)
    assert_allclose(image.GetOrigin(), volume.grid.origin_mm, atol=1e-4)
    assert_allclose(image.GetSpacing()[::-1], volume.grid.spacing_mm, rtol=1e-6)
    assert_allclose(image.GetDirection(), np.eye(3).ravel(), atol=1e-9)


def test_headers_are_a_ct_series_of_nobody(series):
    datasets = [pydicom.dcmread(p) for p in sorted((series / "dicom").glob("*.dcm"))]
    assert len(datasets) == 14
    assert len({d.SOPInstanceUID for d in datasets}) == 14
    for name in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert len({d[name].value for d in datasets}) == 1
    first = datasets[0]
    assert str(first.PatientName) == "PHANTOM^SEED 3"
    assert first.Modality == "CT"
    assert first.BodyPartExamined == "HEAD"
    assert first.RescaleIntercept == -1024
    assert first.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    heights = [d.ImagePositionPatient[2] for d in datasets]
    assert heights == sorted(heights, reverse=True)


def test_series_bytes_repeat_and_other_scans_are_other_series(series, tmp_path):
    settings = ScanSettings(seed=3, **TINY)
    run_dicom(tmp_path / "again", settings)
    assert digest(tmp_path / "again") == digest(series / "dicom")
    assert read_sidecar(tmp_path / "again") == read_sidecar(series / "dicom")
    run_dicom(tmp_path / "other", settings.model_copy(update={"noise_hu": 0.0}))
    ours, theirs = (
        pydicom.dcmread(folder / "IM0001.dcm") for folder in (series / "dicom", tmp_path / "other")
    )
    assert ours.SeriesInstanceUID != theirs.SeriesInstanceUID
    assert ours.StudyInstanceUID == theirs.StudyInstanceUID
    assert ours.FrameOfReferenceUID == theirs.FrameOfReferenceUID


def test_truth_folder_holds_what_the_chain_is_compared_with(tmp_path):
    run_truth(tmp_path / "truth", TruthSettings(seed=3, spacing_mm=0.8))
    facts = read_json(tmp_path / "truth" / "truth.json")
    planes = read_planes(tmp_path / "truth" / "planes.json")
    lumen = read_volume(tmp_path / "truth" / "lumen.nii.gz")
    assert set(planes) == {"nostril-left", "nostril-right", "pharynx"}
    assert facts["open"] == {"left": True, "right": True}
    voxels_ml = lumen.values.sum() * lumen.grid.voxel_volume_mm3 / 1000
    assert_allclose(voxels_ml, facts["volume_ml"], rtol=0.03)
    assert (tmp_path / "truth" / "airway.stl").stat().st_size > 84
