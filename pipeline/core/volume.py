"""A CT volume: Hounsfield units on a voxel grid, and its NIfTI file."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
from jaxtyping import Shaped
from nibabel.filebasedimages import ImageFileError

from pipeline.core.errors import InputError
from pipeline.core.geometry import VoxelGrid

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
    image = nibabel.Nifti1Image(_compact(volume.values).T, volume.grid.affine_ras())
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.grid.affine_ras(), code=1)
    image.set_qform(volume.grid.affine_ras(), code=1)
    data = image.to_bytes()
    if path.name.endswith(".gz"):
        with path.open("wb") as raw, gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=0) as file:
            file.write(data)
    else:
        path.write_bytes(data)


def _compact(values: Shaped[np.ndarray, "z y x"]) -> Shaped[np.ndarray, "z y x"]:
    if values.dtype == bool:
        return values.astype(np.uint8)
    if values.dtype.kind in "iu":
        small = values.dtype.itemsize <= 2
        return values if small else values.astype(np.int32)
    limits = np.iinfo(np.int16)
    whole = bool(np.all(values == np.rint(values)))
    if whole and values.min() >= limits.min and values.max() <= limits.max:
        return values.astype(np.int16)
    return values.astype(np.float32)
