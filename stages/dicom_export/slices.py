"""Make the DICOM data sets of a derived CT series."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import DSfloat

from pipeline.core.errors import InputError
from pipeline.core.geometry import VoxelGrid

INTERCEPTS_HU = (-1024, -8192)
"""Stored value 0 in HU: the scanners' own, and one low enough for every reconstruction."""
LARGEST_STORED = 65535
LARGEST_12_BIT = 4095
RESEARCH = "RESEARCH USE ONLY"
INHERITED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge"),
    *("StudyInstanceUID", "StudyID", "StudyDate", "StudyTime", "StudyDescription"),
    *("AccessionNumber", "ReferringPhysicianName", "SpecificCharacterSet"),
    *("FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition"),
    *("BodyPartExamined", "KVP", "ConvolutionKernel"),
)
"""What a derived series shares with the one that it was made from (PS3.3, C.7.6.1.1.2)."""
_EMPTY = (
    *("PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator", "KVP"),
)
"""Type 2 elements: present, possibly without a value."""


@dataclass(frozen=True)
class SeriesLabel:
    """Hold what all slices of the series share.

    Parameters
    ----------
    identity
        Digest of everything that the series is made from; its UIDs follow from it, so that two
        runs give equal bytes and two different volumes never share a UID.
    description, derivation
        Sentences for people.
    number
        Series number.
    thickness_mm
        Slice thickness.
    version
        Version of ct2flow.
    """

    identity: str
    description: str
    derivation: str
    number: int
    thickness_mm: float
    version: str


def choose_intercept(values: Shaped[np.ndarray, "z y x"]) -> int:
    """Return the rescale intercept, HU, with which every rounded value fits in 16 bits.

    Raises
    ------
    InputError
        If the values reach beyond what 16 bits hold.
    """
    low, high = float(np.rint(values.min())), float(np.rint(values.max()))
    for intercept in INTERCEPTS_HU:
        if low >= intercept and high - intercept <= LARGEST_STORED:
            return intercept
    raise InputError(
        f"Values lie between {low:g} and {high:g} HU; DICOM CT holds {INTERCEPTS_HU[-1]} to "
        f"{INTERCEPTS_HU[-1] + LARGEST_STORED}. Is this a CT in HU?",
        minimum=low,
        maximum=high,
    )


def series_template(grid: VoxelGrid, label: SeriesLabel, like: Dataset | None) -> Dataset:
    """Return what all slices share; patient and study come from `like`, if given."""
    template = Dataset()
    for keyword in _EMPTY:
        setattr(template, keyword, None)
    template.PatientID = f"ct2flow-{label.identity[:12]}"
    template.StudyInstanceUID = _uid(label, "study")
    template.FrameOfReferenceUID = _uid(label, "frame of reference")
    for keyword in INHERITED if like is not None else ():
        if like is not None and keyword in like:
            template[keyword] = like[keyword]
    template.SOPClassUID = CTImageStorage
    template.Modality, template.Manufacturer = "CT", "ct2flow"
    template.ManufacturerModelName, template.SoftwareVersions = "ct2flow", label.version
    template.SeriesInstanceUID = _uid(label, "series")
    template.SeriesNumber, template.AcquisitionNumber = label.number, None
    template.SeriesDescription = label.description
    template.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    template.DerivationDescription = label.derivation
    template.DerivationCodeSequence = [_code(codes.DCM.SpatialResampling)]
    template.BurnedInAnnotation, template.LossyImageCompression = "NO", "00"
    _, down, across = grid.spacing_mm
    template.PixelSpacing = [_decimal(down), _decimal(across)]
    template.SliceThickness = _decimal(label.thickness_mm)
    template.SpacingBetweenSlices = _decimal(grid.spacing_mm[0])
    directions = (*grid.axes[2], *grid.axes[1])
    template.ImageOrientationPatient = [_decimal(v) for v in directions]
    template.SamplesPerPixel, template.PhotometricInterpretation = 1, "MONOCHROME2"
    template.WindowCenter, template.WindowWidth = "40", "400"
    return template


def slice_dataset(
    template: Dataset,
    hu: Shaped[np.ndarray, "y x"],
    *,
    index: int,
    grid: VoxelGrid,
    label: SeriesLabel,
    intercept: int,
    bits: int,
) -> FileDataset:
    """Return one slice: values are rounded to whole HU, positions are those of the grid."""
    uid = _uid(label, f"slice {index}")
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, uid
    dataset = FileDataset("", template, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPInstanceUID, dataset.InstanceNumber = uid, index + 1
    position = grid.to_world_mm(np.array([index, 0, 0]))
    dataset.ImagePositionPatient = [_decimal(v) for v in position]
    dataset.Rows, dataset.Columns = hu.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept, dataset.RescaleSlope = str(intercept), "1"
    dataset.RescaleType = "HU"
    stored = np.rint(hu).astype(np.int64) - intercept
    dataset.PixelData = stored.astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def _uid(label: SeriesLabel, name: str) -> UID:
    return generate_uid(entropy_srcs=["ct2flow", label.identity, name])


def _decimal(value: float) -> DSfloat:
    """Write a decimal string of at most 16 characters."""
    return DSfloat(float(value), auto_format=True)


def _code(concept: object) -> Dataset:
    item = Dataset()
    item.CodeValue = str(getattr(concept, "value", ""))
    item.CodingSchemeDesignator = str(getattr(concept, "scheme_designator", ""))
    item.CodeMeaning = str(getattr(concept, "meaning", ""))
    return item
