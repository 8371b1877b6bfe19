"""Make small CT series whose every voxel is known from its place in the patient."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SECRETS = {
    "PatientName": "Mustermann^Erika",
    "PatientID": "SECRET-ID-4711",
    "PatientBirthDate": "19640812",
    "StudyDate": "20231117",
    "AccessionNumber": "ACC99887",
    "InstitutionName": "Klinik Geheim",
    "ReferringPhysicianName": "Doctor^Quiet",
    "StudyDescription": "Head of Erika",
    "SeriesDescription": "Erika thin",
    "StationName": "CTROOM7",
    "DeviceSerialNumber": "SN-55512",
    "ImageComments": "call Erika",
}


def hu_at(world_mm):
    """Return a smooth head-like HU field: tissue around (3, -2, 1) mm in air, no symmetry."""
    x, y, z = np.moveaxis(np.asarray(world_mm, dtype=np.float64), -1, 0)
    r2 = ((x - 3) / 9) ** 2 + ((y + 2) / 11) ** 2 + ((z - 1) / 13) ** 2
    return -1000 + (1060 + 9 * x + 5 * y - 7 * z) * np.exp(-r2)


@contextmanager
def at_most(size_bytes):
    """Fail if the body ever holds more memory than this."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < size_bytes


def unchanged(dataset, k):
    """Leave a slice as it is."""


def numbered(k):
    return f"IM{k:04d}"


@dataclass
class Series:
    """Describe a series; `change(dataset, k)` alters slice k before it is written."""

    count: int = 16
    spacing_mm: float = 1.5
    rows: int = 20
    columns: int = 24
    pixel_mm: tuple[float, float] = (1.3, 1.1)
    orientation: tuple[float, ...] = IDENTITY
    centre_mm: tuple[float, float, float] = (2.0, 1.0, -1.0)
    shift_mm: tuple[float, float] = (0.0, 0.0)
    offsets_mm: list[float] | None = None
    hu: Callable = hu_at
    change: Callable = unchanged
    name: Callable = numbered
    uid: str = "1.2.3.4.5"

    def position(self, k):
        row, column = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        normal = np.cross(row, column)
        middle = (self.count - 1) / 2
        along = self.offsets_mm[k] if self.offsets_mm else (k - middle) * self.spacing_mm
        corner = np.array(self.centre_mm) + along * normal
        corner = corner - row * self.pixel_mm[1] * (self.columns - 1) / 2
        corner = corner - column * self.pixel_mm[0] * (self.rows - 1) / 2
        return corner + (k - middle) * (column * self.shift_mm[0] + row * self.shift_mm[1])

    def world(self, k):
        row, column = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        i, j = np.mgrid[: self.rows, : self.columns]
        down, along = i[..., None] * self.pixel_mm[0], j[..., None] * self.pixel_mm[1]
        return self.position(k) + down * column + along * row

    def slices(self):
        count = len(self.offsets_mm) if self.offsets_mm else self.count
        for k in range(count):
            dataset = make_slice(self, k, np.rint(self.hu(self.world(k))))
            self.change(dataset, k)
            yield self.name(k), dataset

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, dataset in self.slices():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            dataset.save_as(path, enforce_file_format=True)
        return folder


def make_slice(series, k, hu, *, slope=1.0, intercept=-1024.0):
    """Return one slice as an unsigned 12-bit CT image."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[series.uid, str(k)])
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3.4", series.uid
    ds.SeriesNumber, ds.Modality, ds.InstanceNumber, ds.AcquisitionNumber = 3, "CT", k + 1, 1
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    for keyword, value in SECRETS.items():
        setattr(ds, keyword, value)
    ds.ImagePositionPatient = [decimal(v) for v in series.position(k)]
    ds.ImageOrientationPatient = [decimal(v) for v in series.orientation]
    ds.PixelSpacing = [decimal(v) for v in series.pixel_mm]
    ds.SliceThickness, ds.KVP, ds.ConvolutionKernel = decimal(series.spacing_mm), "120", "H60s"
    ds.BodyPartExamined, ds.ManufacturerModelName = "HEAD", "Model X"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    set_pixels(ds, hu, slope=slope, intercept=intercept)
    return ds


def set_pixels(ds, hu, *, slope=1.0, intercept=-1024.0, signed=False, stored=12):
    """Store HU as 16-bit pixels."""
    ds.Rows, ds.Columns = hu.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, stored, stored - 1
    ds.PixelRepresentation = int(signed)
    ds.RescaleSlope, ds.RescaleIntercept = decimal(slope), decimal(intercept)
    values = np.rint((hu - intercept) / slope)
    kind = np.int16 if signed else np.uint16
    ds.PixelData = values.astype(kind).tobytes()
    ds["PixelData"].VR = "OW"


def decimal(value):
    """Write a DICOM decimal string of at most 16 characters."""
    return pydicom.valuerep.DSfloat(float(value), auto_format=True)
