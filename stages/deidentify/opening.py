"""Open one DICOM file without a word about it, and say whether it is an image that is kept."""

from __future__ import annotations

import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pydicom
from pydicom import config
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from pipeline.core.scan_files import UNREADABLE, BoundedReader, Entry
from stages.deidentify.keep_list import KEPT_CLASSES, LEFT_OUT, SCREENS

DAMAGED = (*UNREADABLE, BytesLengthException, InvalidDicomError)
"""What pydicom raises on damaged files."""

NOT_DICOM = "not DICOM"
DAMAGED_FILE = "damaged"
_MAX_INFLATED = 2**30
_DICM = b"DICM"
_OLD_START = re.compile(rb"\x08\x00[\x00-\x2a]\x00", re.DOTALL)
_OVERLAY_GROUPS = range(0x6000, 0x6020, 2)


class LeftOutError(Exception):
    """Say that a file is left out; the message is the reason, in words without any identity."""


@contextmanager
def quiet_decoding() -> Iterator[None]:
    """Keep pydicom from warning and logging: its sentences quote the values of patients' tags."""
    settings, silent = config.settings, config.logger.disabled
    modes = settings.reading_validation_mode, settings.writing_validation_mode
    settings.reading_validation_mode = settings.writing_validation_mode = config.IGNORE
    config.logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        settings.reading_validation_mode, settings.writing_validation_mode = modes
        config.logger.disabled = silent


def read_image(entry: Entry) -> FileDataset:
    """Read a file whole, if it is an image that is kept.

    Raises
    ------
    LeftOutError
        If it is not, with the reason.
    """
    with entry.open() as file:
        start = file.read(132)
        if start[128:] != _DICM and not _OLD_START.match(start):
            raise LeftOutError(NOT_DICOM)
        file.seek(0)
        _refuse_bomb(file, entry.size)
        dataset = pydicom.dcmread(file, force=True)
    reason = why_left_out(dataset)
    if reason:
        raise LeftOutError(reason)
    return dataset


def _refuse_bomb(file: BoundedReader, size: int) -> None:
    """Refuse a deflated file that would unpack without bound; pydicom itself sets none."""
    data = file.read(size)
    file.seek(0)
    if DeflatedExplicitVRLittleEndian.encode() not in data[:1024]:
        return
    body = data[144 + int.from_bytes(data[140:144], "little") :]
    if len(zlib.decompressobj(-zlib.MAX_WBITS).decompress(body, _MAX_INFLATED)) >= _MAX_INFLATED:
        raise LeftOutError(DAMAGED_FILE)


def why_left_out(dataset: FileDataset) -> str:
    """Return why an object is left out, or nothing if it is an image that is kept."""
    kind = str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    if kind not in KEPT_CLASSES:
        found = (name for start, name in LEFT_OUT.items() if kind.startswith(start))
        return next(found, "other objects that are no CT images" if kind else NOT_DICOM)
    if "PixelData" not in dataset or not dataset.get("Rows"):
        return "images without pixels"
    if not transfer_syntax(dataset).is_transfer_syntax:
        return "images in an unknown encoding"
    words = set(re.split(r"[^A-Z0-9]+", str(dataset.get("ImageType", "")).upper()))
    if words & SCREENS or (dataset.get("SamplesPerPixel") or 1) != 1:
        return "pages of text"
    if "ImagePositionPatient" not in dataset and not dataset.get(
        "PerFrameFunctionalGroupsSequence"
    ):
        return "images without a place in the patient"
    return "images with graphics in the pixels' unused bits" if _hides_overlay(dataset) else ""


def _hides_overlay(dataset: Dataset) -> bool:
    """Say whether an overlay lies in bits of the pixel data itself (retired, PS3.5, 8.1.2)."""
    return any(
        (group, 0x0010) in dataset and (group, 0x3000) not in dataset for group in _OVERLAY_GROUPS
    )


def transfer_syntax(dataset: FileDataset) -> UID:
    """Return how a file is encoded; a file without a head says so by how it could be read."""
    named = dataset.file_meta.get("TransferSyntaxUID")
    if named:
        return UID(str(named))
    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian
