"""Enhanced multi-frame CT: one file, every frame with a place of its own."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
import SimpleITK
from ct_series import Series, at_most
from multiframe import enhanced, save
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless

from pipeline.core.errors import InputError
from stages.ingest.settings import IngestSettings
from stages.ingest.stage import describe, read_scan

DEFAULTS = IngestSettings()


OBLIQUE = (0.6, 0.0, 0.8, 0.0, 1.0, 0.0)


@pytest.mark.parametrize("orientation", [(1.0, 0.0, 0.0, 0.0, 1.0, 0.0), OBLIQUE])
@pytest.mark.parametrize("packed", [False, True])
def test_an_enhanced_image_gives_the_volume_of_its_slices(tmp_path, orientation, packed):
    series = Series(orientation=orientation)
    whole = enhanced(series)
    if packed:
        whole.compress(RLELossless)
    one = read_scan(save(whole, tmp_path / "enhanced"), DEFAULTS)
    many = read_scan(series.write(tmp_path / "slices"), DEFAULTS)
    assert np.array_equal(one.volume.values, many.volume.values)
    assert one.volume.grid == many.volume.grid
    kept = ("slice_thickness_mm", "slice_spacing_mm", "kernel", "kvp", "slices_used")
    assert {k: one.properties[k] for k in kept} == {k: many.properties[k] for k in kept}


def test_frames_in_any_order_and_with_their_own_rescaling_find_their_place(tmp_path):
    series = Series()
    whole = enhanced(series)
    groups = list(whole.PerFrameFunctionalGroupsSequence)
    pixels = np.frombuffer(whole.PixelData, "<u2").reshape(len(groups), -1)
    turn = np.random.default_rng(3).permutation(len(groups))
    whole.PerFrameFunctionalGroupsSequence = Sequence([groups[k] for k in turn])
    mixed = pixels[turn].copy()
    mixed[2] += 100
    scale = whole.PerFrameFunctionalGroupsSequence[2].PixelValueTransformationSequence[0]
    scale.RescaleIntercept = float(scale.RescaleIntercept) - 100
    whole.PixelData = mixed.tobytes()
    one = read_scan(save(whole, tmp_path / "enhanced"), DEFAULTS)
    many = read_scan(series.write(tmp_path / "slices"), DEFAULTS)
    assert np.array_equal(one.volume.values, many.volume.values)


def test_simpleitk_sees_the_same_voxels(tmp_path):
    folder = save(enhanced(Series()), tmp_path / "enhanced")
    ours = read_scan(folder, DEFAULTS).volume
    theirs = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(folder / "enhanced.dcm")))
    assert np.array_equal(np.sort(theirs, axis=None), np.sort(ours.values, axis=None))


def test_a_legacy_converted_image_of_an_independent_library_is_read(tmp_path):
    highdicom = pytest.importorskip("highdicom")
    series = Series()

    def complete(dataset, k):
        dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = "1.2.3.9", ""
        dataset.StudyTime, dataset.StudyID, dataset.PatientSex = "101112", "1", "F"
        dataset.Manufacturer, dataset.PatientBirthDate = "ct2flow tests", ""
        dataset.SoftwareVersions, dataset.DeviceSerialNumber = "1", "2"

    series.change = complete
    slices = [dataset for _, dataset in series.slices()]
    whole = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        slices, pydicom.uid.generate_uid(), 7, pydicom.uid.generate_uid(), 1
    )
    one = read_scan(save(whole, tmp_path / "converted"), DEFAULTS)
    many = read_scan(series.write(tmp_path / "slices"), DEFAULTS)
    assert np.array_equal(one.volume.values, many.volume.values)
    assert one.volume.grid == many.volume.grid


def test_frames_without_a_described_place_are_refused(tmp_path):
    whole = enhanced(Series())
    del whole.PerFrameFunctionalGroupsSequence
    with pytest.raises(InputError, match="without functional groups"):
        read_scan(save(whole, tmp_path / "a"), DEFAULTS)
    whole = enhanced(Series())
    whole.PerFrameFunctionalGroupsSequence = whole.PerFrameFunctionalGroupsSequence[:-1]
    with pytest.raises(InputError, match="describes 15 of 16 frames"):
        read_scan(save(whole, tmp_path / "b"), DEFAULTS)


def test_a_claimed_million_of_frames_allocates_nothing(tmp_path):
    whole = enhanced(Series())
    whole.NumberOfFrames, whole.Rows, whole.Columns = 65535, 16000, 16000
    folder = save(whole, tmp_path / "a")
    with at_most(20 * 2**20), pytest.raises(InputError):
        read_scan(folder, DEFAULTS)


def test_nothing_of_the_patient_leaves_the_functional_groups(tmp_path):
    whole = enhanced(Series())
    for group in whole.PerFrameFunctionalGroupsSequence:
        group.FrameContentSequence[0].FrameComments = "call Erika"
    folder = save(whole, tmp_path / "a")
    reading = read_scan(folder, DEFAULTS)
    said = repr(reading.properties) + repr(reading.warnings) + describe(folder, DEFAULTS)
    assert "Erika" not in said
