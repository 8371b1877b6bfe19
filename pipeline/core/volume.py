"""A CT volume: Hounsfield units on a voxel grid, and its NIfTI file."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import nibabel
import numpy as np
from jaxtyping import Shaped
from nibabel.filebasedimages import ImageFileError

from pipeline.core.errors import InputError
from pipeline.core.geometry import VoxelGrid

_NIFTI_DATA = 352
"""Bytes before the voxels: the header and four bytes that announce no extension."""
_GZIP_LEVEL = 1
"""CT noise does not compress: level 1 is within 3 % of level 9 and five times faster."""


@dataclass(frozen=True)
class Volume:
    """Hold an image together with the grid that places it in the patient.

    Parameters
    ----------
    values
        Array (z, y, x); HU for CT, uint8 for masks.
    grid
        Geometry of the same shape.

    Raises
    ------
    ValueError
        If the shapes differ.
    """

    values: Shaped[np.ndarray, "z y x"]
    grid: VoxelGrid

    def __post_init__(self) -> None:
        """Refuse values that do not fit the grid."""
        if self.values.shape != self.grid.shape:
            raise ValueError(f"Values {self.values.shape} do not fit grid {self.grid.shape}.")

    def with_values(self, values: Shaped[np.ndarray, "z y x"]) -> Volume:
        """Return other values on the same grid."""
        return replace(self, values=values)


def read_volume(path: Path) -> Volume:
    """Read a NIfTI volume; integers stay integers, everything else is float32.

    Raises
    ------
    InputError
        If the file is missing, no NIfTI, not three-dimensional or without a usable geometry.
    """
    if not path.is_file():
        raise InputError(f"{path.name}: no such file; give a NIfTI volume.", path=path)
    try:
        image = nibabel.load(path)
        array = np.asanyarray(image.dataobj)
    except (ImageFileError, OSError, EOFError, ValueError) as error:
        raise InputError(
            f"{path.name}: cannot be read as NIfTI ({type(error).__name__}); export it again "
            "or run 'ct2flow ingest' on the original.",
            path=path,
        ) from error
    if array.ndim != 3:
        raise InputError(
            f"{path.name}: has {array.ndim} dimensions, needed are 3; extract one volume.",
            path=path,
        )
    values = np.ascontiguousarray(array.T)
    if values.dtype.kind not in "iu":
        values = values.astype(np.float32)
    try:
        grid = VoxelGrid.from_affine_ras(values.shape, image.affine)
    except ValueError as error:
        raise InputError(f"{path.name}: unusable geometry: {error}", path=path) from error
    return Volume(values, grid)


def write_volume(path: Path, volume: Volume) -> None:
    """Write a volume as .nii or .nii.gz with bytes that depend on nothing but the volume.

    Float values that are all integers within int16 are stored as int16 without loss.
    """
    values = _compact(volume.values)
    image = nibabel.Nifti1Image(values.T, volume.grid.affine_ras())
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.grid.affine_ras(), code=1)
    image.set_qform(volume.grid.affine_ras(), code=1)
    if path.name.endswith(".gz"):
        with path.open("wb") as raw, gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=0) as file:
            _write_nifti(file, image.header, values)
    else:
        with path.open("wb") as file:
            _write_nifti(file, image.header, values)


def _write_nifti(
    file: BinaryIO | gzip.GzipFile,
    header: nibabel.Nifti1Header,
    values: Shaped[np.ndarray, "z y x"],
) -> None:
    """Write header and voxels slice by slice: nibabel itself would hold another two copies."""
    header["magic"], header["vox_offset"] = b"n+1", _NIFTI_DATA
    header.set_slope_inter(1.0, 0.0)
    file.write(header.binaryblock)
    file.write(bytes(_NIFTI_DATA - len(header.binaryblock)))
    # (z, y, x) in C order is NIfTI's (x, y, z) in Fortran order.
    little = values.dtype.newbyteorder("<")
    file.writelines(np.ascontiguousarray(part, dtype=little).tobytes() for part in values)


def _compact(values: Shaped[np.ndarray, "z y x"]) -> Shaped[np.ndarray, "z y x"]:
    if values.dtype == bool:
        return values.astype(np.uint8)
    if values.dtype.kind in "iu":
        return values if values.dtype.itemsize <= 2 else values.astype(np.int32)
    limits = np.iinfo(np.int16)
    small: Shaped[np.ndarray, "z y x"] = np.empty(values.shape, dtype=np.int16)
    for target, part in zip(small, values, strict=True):
        whole = np.rint(part)
        fits = whole.min() >= limits.min and whole.max() <= limits.max
        if not fits or not np.array_equal(part, whole):
            return values.astype(np.float32)
        target[:] = whole
    return small
