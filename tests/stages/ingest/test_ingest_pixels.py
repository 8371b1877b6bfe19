"""Pixels: stored values become HU, whatever their encoding, and doubtful ones are refused."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from ct_series import Series, hu_at, set_pixels
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from pipeline.core.errors import InputError
from stages.ingest.settings import IngestSettings
from stages.ingest.stage import read_scan

DEFAULTS = IngestSettings()
GDCM_SYNTAXES = {
    "JPEG lossless": "1.2.840.10008.1.2.4.70",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
}


def reading_of(tmp_path, **changes):
    return read_scan(Series(**changes).write(tmp_path / "s"), DEFAULTS)


def test_slope_and_intercept_are_applied_per_slice(tmp_path):
    def rescale(dataset, k):
        hu = np.rint(hu_at(Series().world(k)))
        set_pixels(dataset, hu, slope=0.5 + 0.1 * (k % 3), intercept=-1024 - k)

    plain = reading_of(tmp_path / "a")
    scaled = reading_of(tmp_path / "b", change=rescale)
    # Half a quantum of the largest slope.
    np.testing.assert_allclose(scaled.volume.values, plain.volume.values, atol=0.35 + 1e-3)


@pytest.mark.parametrize("signed", [True, False])
def test_signed_and_unsigned_pixels_agree(tmp_path, signed):
    def store(dataset, k):
        hu = np.rint(hu_at(Series().world(k)))
        set_pixels(dataset, hu, intercept=0.0 if signed else -2000.0, signed=signed, stored=16)

    plain = reading_of(tmp_path / "a").volume.values
    assert np.array_equal(reading_of(tmp_path / "b", change=store).volume.values, plain)


def test_bits_above_the_stored_ones_are_dropped_and_the_sign_extended(tmp_path):
    def overlay(dataset, k):
        hu = np.rint(hu_at(Series().world(k)))
        set_pixels(dataset, hu, intercept=0.0, signed=True, stored=12)
        values = np.frombuffer(dataset.PixelData, np.uint16) & 0x0FFF
        dataset.PixelData = (values | 0x5000).tobytes()

    plain = reading_of(tmp_path / "a").volume.values
    assert np.array_equal(reading_of(tmp_path / "b", change=overlay).volume.values, plain)


def test_padding_and_values_below_the_scale_become_minus_1024(tmp_path):
    def pad(dataset, k):
        hu = np.rint(hu_at(Series().world(k)))
        hu[:3], hu[3] = -2000, -1500
        set_pixels(dataset, hu, intercept=0.0, signed=True, stored=16)
        dataset.add_new("PixelPaddingValue", "SS", -2000)

    reading = reading_of(tmp_path, change=pad)
    assert np.all(reading.volume.values[:, :4] == -1024)
    assert reading.properties["padded_voxels"] == 16 * 3 * 24
    assert reading.properties["clipped_voxels"] == 16 * 24
    assert reading.properties["minimum_hu"] == -1024


def test_a_padding_value_in_the_wrong_sign_is_still_found(tmp_path):
    def pad(dataset, k):
        hu = np.rint(hu_at(Series().world(k)))
        hu[:3] = -2000
        set_pixels(dataset, hu, intercept=0.0, signed=True, stored=16)
        dataset.add_new("PixelPaddingValue", "US", 65536 - 2000)

    assert reading_of(tmp_path, change=pad).properties["padded_voxels"] == 16 * 3 * 24


def test_water_is_kept_although_the_header_calls_zero_padding(tmp_path):
    def pad(dataset, k):
        hu = np.rint(hu_at(Series().world(k)))
        hu[8:12, 8:12] = 0
        set_pixels(dataset, hu, intercept=0.0, signed=True, stored=16)
        dataset.add_new("PixelPaddingValue", "SS", 0)

    reading = reading_of(tmp_path, change=pad)
    assert np.all(reading.volume.values[:, 8:12, 8:12] == 0)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_native_encodings_give_the_same_volume(tmp_path, syntax):
    plain = reading_of(tmp_path / "a").volume.values
    folder = tmp_path / "b"
    folder.mkdir()
    for name, dataset in Series().slices():
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(
            folder / name,
            dataset,
            implicit_vr=syntax == ImplicitVRLittleEndian,
            little_endian=syntax != ExplicitVRBigEndian,
        )
    assert np.array_equal(read_scan(folder, DEFAULTS).volume.values, plain)


def test_run_length_encoding_gives_the_same_volume(tmp_path):
    plain = reading_of(tmp_path / "a").volume.values
    packed = reading_of(tmp_path / "b", change=lambda dataset, _: dataset.compress(RLELossless))
    assert np.array_equal(packed.volume.values, plain)


@pytest.mark.parametrize("name", GDCM_SYNTAXES)
def test_lossless_jpeg_encodings_give_the_same_volume(tmp_path, name):
    gdcm = pytest.importorskip("gdcm")
    plain_folder = Series().write(tmp_path / "a")
    packed = tmp_path / "b"
    packed.mkdir()
    for path in sorted(plain_folder.iterdir()):
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        syntax = gdcm.TransferSyntax.GetTSType(GDCM_SYNTAXES[name])
        change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(packed / path.name))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
    assert UID(GDCM_SYNTAXES[name]).is_compressed
    plain = read_scan(plain_folder, DEFAULTS).volume.values
    assert np.array_equal(read_scan(packed, DEFAULTS).volume.values, plain)


def test_a_constant_volume_is_refused(tmp_path):
    flat = Series(hu=lambda world: np.zeros(world.shape[:2]))
    with pytest.raises(InputError, match="Every voxel has the value 0"):
        read_scan(flat.write(tmp_path / "s"), DEFAULTS)


def test_values_without_rescaling_are_refused_as_no_hu(tmp_path):
    def forget(dataset, k):
        del dataset.RescaleIntercept

    with pytest.raises(InputError, match="a CT in HU holds air near -1000"):
        reading_of(tmp_path, change=forget)


def test_a_slice_cut_short_is_refused_by_its_name(tmp_path):
    folder = Series().write(tmp_path / "s")
    victim = folder / "IM0005"
    victim.write_bytes(victim.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"IM0005: is cut short: 860 bytes .*needed: 960"):
        read_scan(folder, DEFAULTS)


def test_nothing_is_allocated_for_a_size_that_the_file_cannot_hold(tmp_path):
    def claim(dataset, k):
        dataset.Rows = dataset.Columns = 16000

    with pytest.raises(InputError, match="files that are cut short"):
        reading_of(tmp_path, change=claim)
