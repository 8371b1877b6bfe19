"""Make the DICOM data sets of a derived CT series."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import DSfloat

from pipeline.core.errors import InputError
from pipeline.core.geometry import VoxelGrid
from stages.dicom_export.original import EQUIPMENT, INHERITED, Original, SourceImage

INTERCEPTS_HU = (-1024, -8192)
"""Stored value 0 in HU: the scanners' own, and one low enough for every reconstruction."""
LARGEST_STORED = 65535
_STEPS_HU = (0.0625, 0.125, 0.25, 0.5, 1.0)
DEVIATION_STEP_HU = 0.01
LARGEST_12_BIT = 4095
RESEARCH = "RESEARCH USE ONLY"
_EMPTY = (
    *("PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator", "KVP"),
    *("PatientPosition", "Laterality"),
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
    scale
        How stored values become the volume's.
    study
        Identity of the first series of the study: what is made together stays together.
    """

    identity: str
    description: str
    derivation: str
    number: int
    thickness_mm: float
    version: str
    scale: Scale
    study: str


@dataclass(frozen=True)
class Scale:
    """Say how 16-bit stored values become the volume's: slope times value plus intercept.

    Parameters
    ----------
    slope, intercept
        HU.
    bits
        Bits stored.
    kind
        Rescale type: HU, or what the values are instead.
    """

    slope: float
    intercept: float
    bits: int
    kind: str


def choose_scale(values: Shaped[np.ndarray, "z y x"]) -> Scale:
    """Return the scale that keeps a volume in HU in 16 bits: whole values exactly.

    A volume with fractions gets the finest step, a power of two down to 1/16 HU, that holds
    its range; it is exact to half a step.

    Raises
    ------
    InputError
        If the values reach beyond what 16 bits hold in whole HU.
    """
    low, high = float(np.floor(values.min())), float(np.ceil(values.max()))
    whole = bool(np.array_equal(values, np.rint(values)))
    for step in (1.0,) if whole else _STEPS_HU:
        for intercept in INTERCEPTS_HU:
            if low >= intercept and high - intercept <= step * LARGEST_STORED:
                small = whole and high - intercept <= LARGEST_12_BIT
                return Scale(step, float(intercept), 12 if small else 16, "HU")
    raise InputError(
        f"Values lie between {low:g} and {high:g} HU; DICOM CT holds {INTERCEPTS_HU[-1]} to "
        f"{INTERCEPTS_HU[-1] + LARGEST_STORED}. Is this a CT in HU?",
        minimum=low,
        maximum=high,
    )


def choose_deviation_scale(values: Shaped[np.ndarray, "z y x"]) -> Scale:
    """Return the scale of a standard deviation: steps of 0.01 HU, up to 655.35 HU.

    Raises
    ------
    InputError
        If a value is negative or larger.
    """
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > DEVIATION_STEP_HU * LARGEST_STORED:
        raise InputError(
            f"Standard deviations lie between {low:g} and {high:g} HU (needed: 0 to "
            f"{DEVIATION_STEP_HU * LARGEST_STORED:g}); give the standard deviation in HU.",
            minimum=low,
            maximum=high,
        )
    return Scale(DEVIATION_STEP_HU, 0.0, 16, "HU_SD")


def series_template(grid: VoxelGrid, label: SeriesLabel, original: Original | None) -> Dataset:
    """Return what all slices share; patient and study are those of the original, if given."""
    template = Dataset()
    for keyword in _EMPTY:
        setattr(template, keyword, None)
    template.PatientID = f"ct2flow-{label.study[:12]}"
    template.StudyInstanceUID = _uid(label.study, "study")
    template.FrameOfReferenceUID = _uid(label.study, "frame of reference")
    if original is not None:
        _inherit(template, original.header)
    template.SOPClassUID = CTImageStorage
    template.Modality, template.Manufacturer = "CT", "ct2flow"
    template.ManufacturerModelName, template.SoftwareVersions = "ct2flow", label.version
    template.SeriesInstanceUID = _uid(label.identity, "series")
    template.SeriesNumber, template.AcquisitionNumber = label.number, None
    template.SeriesDescription = label.description
    template.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    template.DerivationDescription = label.derivation
    template.DerivationCodeSequence = Sequence([_code(codes.DCM.SpatialResampling)])
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
    values: Shaped[np.ndarray, "y x"],
    *,
    index: int,
    grid: VoxelGrid,
    label: SeriesLabel,
    original: Original | None,
) -> FileDataset:
    """Return one slice: values are rounded to the scale's steps, positions are the grid's."""
    uid = _uid(label.identity, f"slice {index}")
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, uid
    dataset = FileDataset("", template, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPInstanceUID, dataset.InstanceNumber = uid, index + 1
    position = grid.to_world_mm(np.array([index, 0, 0]))
    dataset.ImagePositionPatient = [_decimal(v) for v in position]
    if original is not None:
        near = original.near([float(v) for v in position], grid.axes[0])
        dataset.SourceImageSequence = Sequence([_reference(image) for image in near])
    scale = label.scale
    dataset.Rows, dataset.Columns = values.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, scale.bits, scale.bits - 1
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept = _decimal(scale.intercept)
    dataset.RescaleSlope, dataset.RescaleType = _decimal(scale.slope), scale.kind
    stored = np.rint((values.astype(np.float64) - scale.intercept) / scale.slope)
    dataset.PixelData = stored.astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def _inherit(template: Dataset, header: Dataset) -> None:
    for keyword in INHERITED:
        if keyword in header:
            template[keyword] = header[keyword]
    scanner = Dataset()
    scanner.Manufacturer = None
    for keyword in EQUIPMENT:
        if header.get(keyword):
            scanner[keyword] = header[keyword]
    scanner.PurposeOfReferenceCodeSequence = Sequence([_code(codes.DCM.AcquisitionEquipment)])
    # A scanner without a name would be an invalid item (Manufacturer is type 1 here).
    if scanner.Manufacturer:
        template.ContributingEquipmentSequence = Sequence([scanner])


def _reference(image: SourceImage) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = image.sop_class
    item.ReferencedSOPInstanceUID = image.sop_instance
    purpose = codes.DCM.SourceImageForImageProcessingOperation
    item.PurposeOfReferenceCodeSequence = Sequence([_code(purpose)])
    return item


def _uid(identity: str, name: str) -> UID:
    return generate_uid(entropy_srcs=["ct2flow", identity, name])


def _decimal(value: float) -> DSfloat:
    """Write a decimal string of at most 16 characters."""
    return DSfloat(float(value), auto_format=True)


def _code(concept: object) -> Dataset:
    item = Dataset()
    item.CodeValue = str(getattr(concept, "value", ""))
    item.CodingSchemeDesignator = str(getattr(concept, "scheme_designator", ""))
    item.CodeMeaning = str(getattr(concept, "meaning", ""))
    return item
