"""What a derived series says of the series that it was made from."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
)

from pipeline.core.errors import InputError
from pipeline.core.geometry import Triple
from pipeline.core.scan_files import UNREADABLE, Entry, open_entries

INHERITED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge"),
    *("StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "StudyDescription"),
    *("AccessionNumber", "ReferringPhysicianName", "SpecificCharacterSet"),
    *("FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition"),
    *("BodyPartExamined", "Laterality", "KVP", "ConvolutionKernel"),
)
"""What a derived series shares with the one that it was made from (PS3.3, C.7.6.1.1.2)."""
EQUIPMENT = ("Manufacturer", "ManufacturerModelName", "SoftwareVersions")
"""What is told of the scanner; what names the clinic or the one device is not."""
_PLACE = ("ImagePositionPatient", "ImageOrientationPatient")
_READ = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "ImageType", *_PLACE)
_CT = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
_NOT_DICOM = (*UNREADABLE, BytesLengthException, InvalidDicomError)
MAX_UNPACKED_GIB = 8.0


@dataclass(frozen=True)
class SourceImage:
    """Point to one image of the original series.

    Parameters
    ----------
    sop_class, sop_instance
        Its UIDs.
    position_mm
        Centre of its first pixel, LPS; None if it has many frames or no place.
    """

    sop_class: UID
    sop_instance: UID
    position_mm: Triple | None


@dataclass(frozen=True)
class Original:
    """Hold the original series: one of its headers, and all of its images."""

    header: Dataset
    images: tuple[SourceImage, ...]

    def near(self, point_mm: Sequence[float], normal: Sequence[float]) -> list[SourceImage]:
        """Return the images that a slice through a point was made from.

        These are the ones whose planes lie nearer than 1.5 times the distance between planes,
        the slice's own thick one and its neighbours; images without a place belong to all.
        """
        placed = [image for image in self.images if image.position_mm is not None]
        heights = np.array([np.dot(image.position_mm or (0, 0, 0), normal) for image in placed])
        steps = np.diff(np.unique(np.round(heights, 3)))
        reach = 1.5 * float(np.median(steps)) if len(steps) else np.inf
        away = np.abs(heights - float(np.dot(point_mm, normal)))
        chosen = [image for image, far in zip(placed, away, strict=True) if far < reach]
        return [*chosen, *(image for image in self.images if image.position_mm is None)]


def read_original(like: Path) -> Original:
    """Return the series of most CT images in a folder, zip or DICOMDIR, or one file's image.

    Raises
    ------
    InputError
        If there is no CT image.
    """
    if not like.exists():
        raise InputError(f"--like: {like.name} does not exist; give the original DICOM series.")
    with open_entries(like, max_unpacked_gib=MAX_UNPACKED_GIB) as files:
        found = [header for header in map(_read_ct, files) if header is not None]
    if not found:
        raise InputError(
            f"--like: no CT image among {len(files)} files; give the original DICOM series.",
            files=len(files),
        )
    series = Counter(str(header.get("SeriesInstanceUID", "")) for header in found)
    most = max(series, key=lambda uid: (series[uid], uid))
    own = [header for header in found if str(header.get("SeriesInstanceUID", "")) == most]
    return Original(own[0], tuple(_source_image(header) for header in own))


def _read_ct(entry: Entry) -> Dataset | None:
    tags = [*_READ, *INHERITED, *EQUIPMENT]
    try:
        with warnings.catch_warnings(), entry.open() as file:
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=tags)
            usable = header.get("SOPClassUID") in _CT and bool(header.get("SOPInstanceUID"))
            localizer = "LOCALIZER" in (header.get("ImageType") or [])
    except _NOT_DICOM:
        return None
    return header if usable and not localizer else None


def _source_image(header: Dataset) -> SourceImage:
    position = header.get("ImagePositionPatient")
    if position is None or len(position) != 3:
        return SourceImage(header.SOPClassUID, header.SOPInstanceUID, None)
    x, y, z = (float(v) for v in position)
    return SourceImage(header.SOPClassUID, header.SOPInstanceUID, (x, y, z))
