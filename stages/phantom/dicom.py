"""One slice of the phantom as a DICOM CT image; deterministic, uncompressed, nobody's data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int16
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import PYDICOM_ROOT_UID, UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from pipeline.core.geometry import VoxelGrid

INTERCEPT_HU = -1024
"""Stored value 0 is -1024 HU: twelve unsigned bits reach to 3071 HU."""

_DATE, _TIME = "20250101", "120000"
"""Fixed, so that the bytes depend on nothing but the seed and the settings."""


@dataclass(frozen=True)
class SeriesLabel:
    """Hold what all slices of a series share.

    Parameters
    ----------
    seed
        Seed of the patient.
    variant
        Such as ``open``.
    identity
        Digest of all settings: another scan of the same patient is another series.
    thickness_mm
        Slice thickness.
    blur_mm, noise_hu
        For the series description and the kernel's name.
    """

    seed: int
    variant: str
    identity: str
    thickness_mm: float
    blur_mm: float


def slice_dataset(
    hu: Int16[np.ndarray, "y x"], grid: VoxelGrid, slice_index: int, label: SeriesLabel
) -> FileDataset:
    """Return one slice with its headers; slices are numbered from the top of the head."""
    number = grid.shape[0] - slice_index
    dataset = _with_meta(_uid(label, "instance", str(number)))
    _describe_patient(dataset, label)
    _describe_series(dataset, label, grid)
    _place(dataset, grid, slice_index, number)
    _set_pixels(dataset, hu)
    return dataset


def _uid(label: SeriesLabel, *names: str) -> str:
    sources = ["ct2flow phantom", str(label.seed), *names]
    if names[0] in {"series", "instance"}:
        sources += [label.variant, label.identity]
    return str(generate_uid(prefix=PYDICOM_ROOT_UID, entropy_srcs=sources))


def _with_meta(instance_uid: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = UID(instance_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(PYDICOM_ROOT_UID + "1")
    meta.ImplementationVersionName = "CT2FLOW"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = instance_uid
    return dataset


def _describe_patient(dataset: FileDataset, label: SeriesLabel) -> None:
    dataset.PatientName = f"PHANTOM^SEED {label.seed}"
    dataset.PatientID = f"PHANTOM-{label.seed}"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "O"
    dataset.StudyInstanceUID = _uid(label, "study")
    dataset.StudyID = str(label.seed)
    dataset.StudyDescription = "ct2flow head phantom"
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    for name in ("Study", "Series", "Acquisition", "Content"):
        setattr(dataset, f"{name}Date", _DATE)
        setattr(dataset, f"{name}Time", _TIME)


def _describe_series(dataset: FileDataset, label: SeriesLabel, grid: VoxelGrid) -> None:
    dataset.Modality = "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Manufacturer = "ct2flow"
    dataset.ManufacturerModelName = "Analytic head phantom"
    dataset.SoftwareVersions = "1"
    dataset.SeriesInstanceUID = _uid(label, "series")
    dataset.SeriesNumber = 2
    dataset.SeriesDescription = f"Head {label.thickness_mm:g} mm {label.variant}"
    dataset.ProtocolName = "Head"
    dataset.BodyPartExamined = "HEAD"
    dataset.PatientPosition = "HFS"
    dataset.FrameOfReferenceUID = _uid(label, "frame of reference")
    dataset.PositionReferenceIndicator = ""
    dataset.KVP = 120
    dataset.XRayTubeCurrent = 200
    dataset.ExposureTime = 1000
    dataset.ConvolutionKernel = f"GAUSS{label.blur_mm:.2f}"
    dataset.GantryDetectorTilt = 0
    dataset.SliceThickness = _decimal(label.thickness_mm)
    dataset.SpacingBetweenSlices = _decimal(grid.spacing_mm[0])
    width = min(grid.shape[1] * grid.spacing_mm[1], grid.shape[2] * grid.spacing_mm[2])
    dataset.ReconstructionDiameter = _decimal(width)


def _place(dataset: FileDataset, grid: VoxelGrid, slice_index: int, number: int) -> None:
    x, y, z = grid.to_world_mm(np.array([slice_index, 0, 0]))
    dataset.AcquisitionNumber = 1
    dataset.InstanceNumber = number
    dataset.ImagePositionPatient = [_decimal(v) for v in (x, y, z)]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.SliceLocation = _decimal(z)
    dataset.PixelSpacing = [_decimal(s) for s in grid.spacing_mm[1:]]


def _set_pixels(dataset: FileDataset, hu: Int16[np.ndarray, "y x"]) -> None:
    stored = np.clip(hu.astype(np.int32) - INTERCEPT_HU, 0, 4095).astype("<u2")
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.WindowCenter, dataset.WindowWidth = 40, 400
    dataset.RescaleIntercept, dataset.RescaleSlope = INTERCEPT_HU, 1
    dataset.RescaleType = "HU"
    dataset.PixelData = stored.tobytes()


def _decimal(value: float) -> str:
    """Format a decimal string: at most 16 characters, rounded to 1e-6 mm."""
    return f"{float(value):.6f}".rstrip("0").rstrip(".")
