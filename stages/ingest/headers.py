"""Read from a DICOM header the few facts that may pass: geometry, acquisition and rescaling.

This keep-list is the de-identification: whatever is not named here never enters the program.
"""

from __future__ import annotations

import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pydicom
from pydicom import config
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from pipeline.core.geometry import ORTHONORMAL_TOLERANCE, Triple
from pipeline.core.scan_files import UNREADABLE, BoundedReader, Entry
from stages.ingest import frames

KEPT_TAGS = (
    *("SOPClassUID", "SeriesInstanceUID", "SeriesNumber", "Modality", "ImageType"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PixelSpacing"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("ImagePositionPatient", "ImageOrientationPatient", "SliceThickness"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("ConvolutionKernel", "KVP", "BodyPartExamined", "ManufacturerModelName"),
    *("AcquisitionNumber", "AcquisitionTime", "InstanceNumber", "BurnedInAnnotation"),
    *(frames.SHARED, frames.PER_FRAME),
)
"""Everything that is read of a header. UIDs, numbers and times only group and order slices; of
the functional groups of multi-frame images only what `frames.TAKEN` names is used."""

DAMAGED = (*UNREADABLE, BytesLengthException, InvalidDicomError)
"""What pydicom raises on damaged files."""

HU_TYPES = ("", "HU", "HU_MOD", "US")
"""Rescale types that can be HU (PS3.3, C.11.1.1.2); US is unspecified, written by old scanners."""
LARGEST_SLICE = 16384
"""Pixels along an edge above which a header is taken to be damaged; CT has 256 to 4096."""
_MAX_INFLATED = 2**30
_TEXT_LENGTH = 64
_DICM = b"DICM"
_PIXELS = b"\xe0\x7f\x10\x00"
_OLD_START = re.compile(rb"\x08\x00[\x00-\x2a]\x00", re.DOTALL)


@dataclass(frozen=True)
class SliceHeader:
    """Hold the facts of one DICOM image.

    Parameters
    ----------
    spacing_mm
        Distance between rows and between columns.
    position_mm, row_direction, column_direction
        Centre of the first pixel, and the directions in which the column and the row index
        grow, LPS.
    order
        Acquisition number, acquisition time and instance number: tells which of two images of
        one place is the later.
    trouble
        Why this image cannot be a slice of a stack, or empty.
    frame
        Index of the frame in a multi-frame file; None in a file of one slice.
    plain
        Where the pixels lie, if they are plain 16-bit numbers: they need no second look at the
        header then. None for every other encoding.
    """

    entry: Entry
    series_uid: str
    series_number: int | None
    modality: str
    image_type: tuple[str, ...]
    rows: int
    columns: int
    spacing_mm: tuple[float, float]
    position_mm: Triple
    row_direction: Triple
    column_direction: Triple
    thickness_mm: float | None
    kernel: str
    kvp: float | None
    body_part: str
    model: str
    order: tuple[float, float, float]
    burnt_in: bool
    trouble: str
    frame: int | None = None
    plain: PlainPixels | None = None


@dataclass(frozen=True)
class PlainPixels:
    """Say where uncompressed little-endian 16-bit pixels of one slice begin.

    Parameters
    ----------
    offset, size
        Bytes from the start of the file, and their number.
    kept
        The kept tags, among them the rescaling.
    """

    offset: int
    size: int
    kept: Dataset


class NotDicomError(Exception):
    """Say that a file is not a DICOM image, which is no fault of a scan."""


def read_headers(entry: Entry) -> list[SliceHeader]:
    """Read the kept facts of one file: one slice, or every frame of a multi-frame image.

    Raises
    ------
    NotDicomError
        If the file is not DICOM, holds no image, or is too damaged to tell.
    """
    try:
        with quiet_decoding():
            dataset, plain = _read_kept(entry)
            if not frames.count_described(dataset):
                return [summarise(entry, dataset, plain=plain)]
            flat = frames.flat_frames(dataset)
            return [summarise(entry, one, of=dataset, frame=k) for k, one in enumerate(flat)]
    except DAMAGED as error:
        raise NotDicomError(entry.name) from error


@contextmanager
def quiet_decoding() -> Iterator[None]:
    """Keep pydicom from warning and logging: its sentences quote the values of patients' tags."""
    mode, silent = config.settings.reading_validation_mode, config.logger.disabled
    config.settings.reading_validation_mode, config.logger.disabled = config.IGNORE, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        config.settings.reading_validation_mode, config.logger.disabled = mode, silent


def read_dataset(entry: Entry) -> FileDataset:
    """Parse a file with its pixels.

    Raises
    ------
    NotDicomError
        If it is not DICOM.
    """
    with _opened(entry) as source, quiet_decoding():
        return pydicom.dcmread(source, force=True)


def _read_kept(entry: Entry) -> tuple[FileDataset, PlainPixels | None]:
    with _opened(entry) as source, quiet_decoding():
        tags = [*KEPT_TAGS]
        dataset = pydicom.dcmread(source, stop_before_pixels=True, specific_tags=tags, force=True)
        return dataset, _plain_pixels(source, dataset)


@contextmanager
def _opened(entry: Entry) -> Iterator[BoundedReader]:
    with entry.open() as file:
        start = file.read(132)
        if start[128:] != _DICM and not _OLD_START.match(start):
            raise NotDicomError(entry.name)
        file.seek(0)
        yield _inflated(file, entry.size)


def _plain_pixels(source: BoundedReader, dataset: FileDataset) -> PlainPixels | None:
    """Look at the element behind the header, where the parser stopped."""
    meta = getattr(dataset, "file_meta", None)
    syntax = "" if meta is None else str(meta.get("TransferSyntaxUID", ""))
    explicit = syntax == ExplicitVRLittleEndian
    if not explicit and syntax != ImplicitVRLittleEndian:
        return None
    at = source.tell()
    head = source.read(12)
    width = 12 if explicit else 8
    is_word = head[4:6] in (b"OW", b"OB") if explicit else True
    if head[:4] != _PIXELS or len(head) < width or not is_word:
        return None
    size = int.from_bytes(head[width - 4 : width], "little")
    needed = 2 * (_integer(dataset, "Rows") or 0) * (_integer(dataset, "Columns") or 0)
    facts = [_integer(dataset, name) or 1 for name in ("SamplesPerPixel", "NumberOfFrames")]
    plain = _integer(dataset, "BitsAllocated") == 16 and facts == [1, 1] and needed > 0
    if not plain or not needed <= size <= needed + 1:
        return None
    return PlainPixels(at + width, needed, dataset)


def _inflated(file: BoundedReader, size: int) -> BoundedReader:
    """Refuse a deflated file that would unpack without bound; pydicom itself sets none."""
    head = file.read(1024)
    file.seek(0)
    if DeflatedExplicitVRLittleEndian.encode() not in head:
        return file
    file.seek(140)
    body = 144 + int.from_bytes(file.read(4), "little")
    file.seek(0)
    data = file.read(size)[body:]
    if len(zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, _MAX_INFLATED)) >= _MAX_INFLATED:
        raise NotDicomError("deflated file unpacks to more than 1 GiB")
    file.seek(0)
    return file


def summarise(
    entry: Entry,
    dataset: Dataset,
    *,
    of: Dataset | None = None,
    frame: int | None = None,
    plain: PlainPixels | None = None,
) -> SliceHeader:
    """Take the kept facts out of the data set of a slice, or of a frame of a multi-frame one.

    Raises
    ------
    NotDicomError
        If it is no image.
    """
    if "Rows" not in dataset or "SOPClassUID" not in dataset:
        raise NotDicomError(entry.name)
    spacing = _numbers(dataset, "PixelSpacing", 2)
    position = _numbers(dataset, "ImagePositionPatient", 3)
    orientation = _numbers(dataset, "ImageOrientationPatient", 6)
    row, column = _directions(orientation)
    return SliceHeader(
        entry=entry,
        series_uid=_text(dataset, "SeriesInstanceUID"),
        series_number=_integer(dataset, "SeriesNumber"),
        modality=_text(dataset, "Modality").upper(),
        image_type=tuple(part.upper() for part in _text(dataset, "ImageType").split("/") if part),
        rows=_integer(dataset, "Rows") or 0,
        columns=_integer(dataset, "Columns") or 0,
        spacing_mm=(spacing[0], spacing[1]) if spacing else (0.0, 0.0),
        position_mm=(position[0], position[1], position[2]) if position else (0.0, 0.0, 0.0),
        row_direction=row,
        column_direction=column,
        thickness_mm=_number(dataset, "SliceThickness"),
        kernel=_text(dataset, "ConvolutionKernel"),
        kvp=_number(dataset, "KVP"),
        body_part=_text(dataset, "BodyPartExamined").upper(),
        model=_text(dataset, "ManufacturerModelName"),
        order=(
            _number(dataset, "AcquisitionNumber") or 0.0,
            _number(dataset, "AcquisitionTime") or 0.0,
            _number(dataset, "InstanceNumber") or 0.0,
        ),
        burnt_in=_text(dataset, "BurnedInAnnotation").upper() == "YES",
        trouble=_trouble(
            entry, dataset, dataset if of is None else of, spacing, position, orientation
        ),
        frame=frame,
        plain=plain,
    )


def _trouble(
    entry: Entry,
    dataset: Dataset,
    whole: Dataset,
    spacing: Sequence[float],
    position: Sequence[float],
    orientation: Sequence[float],
) -> str:
    """Return the first reason why an image is no slice of a stack, or nothing."""
    rows, columns = _integer(dataset, "Rows") or 0, _integer(dataset, "Columns") or 0
    image_type = _text(dataset, "ImageType").upper()
    modality = _text(dataset, "Modality").upper()
    unit = _text(dataset, "RescaleType").upper()
    reasons = (
        (modality != "CT", f"modality {modality or 'unknown'}, not CT"),
        *_frame_reasons(whole),
        ("LOCALIZER" in image_type or "SCOUT" in image_type, "a localizer"),
        (
            (_integer(dataset, "SamplesPerPixel") or 1) != 1,
            "colour images (dose report or screen capture)",
        ),
        (unit not in HU_TYPES, f"values in {unit}, not HU"),
        (not position or not orientation, "no position or orientation in the patient"),
        (not spacing or min(spacing) <= 0, "no pixel spacing"),
        (
            bool(orientation) and not _orthonormal(orientation),
            "an orientation that is not two orthogonal unit vectors",
        ),
        (
            not (1 < rows <= LARGEST_SLICE and 1 < columns <= LARGEST_SLICE),
            f"a claimed size of {rows} x {columns} pixels",
        ),
    )
    found = next((sentence for holds, sentence in reasons if holds), "")
    count = max(_integer(whole, "NumberOfFrames") or 1, 1)
    return found or _size_trouble(entry, whole, count * rows * columns)


def _frame_reasons(whole: Dataset) -> list[tuple[bool, str]]:
    claimed, described = _integer(whole, "NumberOfFrames") or 1, frames.count_described(whole)
    return [
        (
            claimed > 1 and not described,
            "multi-frame images without functional groups, which give no frame a place; export "
            "one file per slice",
        ),
        (
            described > 0 and described != claimed,
            f"multi-frame images whose header describes {described} of {claimed} frames",
        ),
    ]


def _size_trouble(entry: Entry, dataset: Dataset, pixels: int) -> str:
    bits = _integer(dataset, "BitsAllocated") or 0
    if bits not in (8, 16, 32):
        return f"{bits} bits per pixel (supported: 8, 16, 32)"
    meta = getattr(dataset, "file_meta", None)
    syntax = UID(str(meta.get("TransferSyntaxUID", ""))) if meta is not None else UID("")
    packed = syntax.is_transfer_syntax and (syntax.is_compressed or syntax.is_deflated)
    if not packed and entry.size < pixels * bits // 8:
        return "files that are cut short"
    # A blank slice compresses about a thousandfold at the very best (deflate's bound is 1032).
    if packed and entry.size * 2048 < pixels * bits // 8:
        return "files far too small for the size they claim"
    return ""


def _directions(orientation: Sequence[float]) -> tuple[Triple, Triple]:
    if not orientation or not _orthonormal(orientation):
        return (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
    row = np.array(orientation[:3]) / np.linalg.norm(orientation[:3])
    column = np.array(orientation[3:]) - row * np.dot(row, orientation[3:])
    column /= np.linalg.norm(column)
    a, b, c = (float(v) for v in row)
    d, e, f = (float(v) for v in column)
    return (a, b, c), (d, e, f)


def _orthonormal(orientation: Sequence[float]) -> bool:
    pair = np.array(orientation).reshape(2, 3)
    return bool(np.allclose(pair @ pair.T, np.eye(2), atol=10 * ORTHONORMAL_TOLERANCE))


def _text(dataset: Dataset, keyword: str) -> str:
    """Return a code string, printable ASCII only and short; several values joined by '/'."""
    try:
        value = dataset.get(keyword, "")
    except DAMAGED:
        return ""
    parts = value if isinstance(value, (list, tuple, pydicom.multival.MultiValue)) else [value]
    joined = "/".join("" if part is None else str(part) for part in parts)
    return "".join(c for c in joined if " " <= c <= "~")[:_TEXT_LENGTH].strip()


def _number(dataset: Dataset, keyword: str) -> float | None:
    numbers = _numbers(dataset, keyword, 1)
    return numbers[0] if numbers else None


def _integer(dataset: Dataset, keyword: str) -> int | None:
    number = _number(dataset, keyword)
    return None if number is None else int(number)


def _numbers(dataset: Dataset, keyword: str, count: int) -> list[float]:
    """Return exactly `count` finite numbers, or none."""
    try:
        value = dataset.get(keyword)
        several = isinstance(value, (list, tuple, pydicom.multival.MultiValue))
        numbers = [float(v) for v in value] if several else [float(str(value))]
    except DAMAGED:
        return []
    usable = len(numbers) == count and all(np.isfinite(v) and abs(v) < 1e9 for v in numbers)
    return numbers if usable else []
