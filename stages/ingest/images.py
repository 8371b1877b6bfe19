"""Read volume files (NIfTI, NRRD, MetaImage) with SimpleITK, whose world is LPS like ours."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import SimpleITK

from pipeline.core.errors import InputError
from pipeline.core.geometry import Axes, Triple, VoxelGrid
from pipeline.core.volume import Volume

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")
_DEFLATE_BOUND = 1032
"""Largest ratio that deflate reaches; a header claiming more voxels than that is damaged."""
_DETACHED = re.compile(
    rb"^\s*(?:data ?file\s*:|ElementDataFile\s*=)\s*(.+?)\s*$", re.MULTILINE | re.IGNORECASE
)
_HEADER_BYTES = 65536


def is_volume_file(path: Path) -> bool:
    """Say whether the name has a suffix of a volume file."""
    return path.name.lower().endswith(SUFFIXES)


def read_image(path: Path) -> Volume:
    """Read a volume in HU, float32, with its geometry.

    Raises
    ------
    InputError
        If the file is damaged, shorter than it claims, not three-dimensional, of several
        channels, or without a usable geometry.
    """
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    _refuse_foreign_data(path)
    warning_display = SimpleITK.ProcessObject.GetGlobalWarningDisplay()
    SimpleITK.ProcessObject.GlobalWarningDisplayOff()
    try:
        reader.ReadImageInformation()
        _check_claims(path, reader)
        reader.SetOutputPixelType(SimpleITK.sitkFloat32)
        image = reader.Execute()
    except (RuntimeError, ValueError, OverflowError, MemoryError) as error:
        raise InputError(
            f"{path.name}: cannot be read; the file is damaged or no volume. Export it again.",
            path=path,
        ) from error
    finally:
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(warning_display)
    values = SimpleITK.GetArrayFromImage(image)
    values = values[0] if values.ndim == 4 else values
    if not np.isfinite(values).all():
        raise InputError(
            f"{path.name}: holds NaN or infinite values; needed are HU everywhere. Export it "
            "again, with -1024 outside the field of view.",
            path=path,
        )
    return Volume(values, _grid(path.name, image, values.shape))


def _refuse_foreign_data(path: Path) -> None:
    """Refuse a header that names data in another folder: an upload must not reach other files."""
    if path.name.lower().endswith((".nii", ".nii.gz")):
        return
    with path.open("rb") as file:
        found = _DETACHED.findall(file.read(_HEADER_BYTES))
    for name in found:
        if b"/" in name or b"\\" in name or b"%" in name or name.upper().startswith(b"LIST"):
            raise InputError(
                f"{path.name}: keeps its voxels in files elsewhere; needed is one file, or one "
                "beside it. Save the volume as .nii.gz or .mha.",
                path=path,
            )


def _check_claims(path: Path, reader: SimpleITK.ImageFileReader) -> None:
    size = reader.GetSize()
    if reader.GetNumberOfComponents() != 1:
        raise InputError(
            f"{path.name}: has {reader.GetNumberOfComponents()} channels (needed: 1); give a CT "
            "volume in HU.",
            path=path,
        )
    if len(size) not in (3, 4) or (len(size) == 4 and size[3] != 1) or min(size) < 2 > len(size):
        raise InputError(
            f"{path.name}: has size {' x '.join(map(str, size))} (needed: one volume of three "
            "dimensions); extract one volume.",
            path=path,
        )
    voxels = math.prod(size)
    available = sum(p.stat().st_size for p in _data_files(path)) * _DEFLATE_BOUND
    if voxels > available:
        raise InputError(
            f"{path.name}: claims {voxels} voxels, more than its size can hold; the file is "
            "damaged. Export it again.",
            voxels=voxels,
        )


def _data_files(path: Path) -> list[Path]:
    if not path.name.lower().endswith((".mhd", ".nrrd")):
        return [path]
    with path.open("rb") as file:
        found = _DETACHED.findall(file.read(_HEADER_BYTES))
    named = [path.with_name(name.decode("latin-1")) for name in found]
    return [path, *(p for p in named if p.is_file())]


def _grid(name: str, image: SimpleITK.Image, shape: tuple[int, ...]) -> VoxelGrid:
    count = image.GetDimension()
    direction = np.array(image.GetDirection()).reshape(count, count)[:3, :3]
    try:
        return VoxelGrid(
            (shape[0], shape[1], shape[2]),
            _triple(image.GetSpacing()[:3][::-1]),
            _triple(image.GetOrigin()[:3]),
            _axes(direction.T[::-1]),
        )
    except ValueError as error:
        raise InputError(f"{name}: unusable geometry: {error}") from error


def _triple(values: object) -> Triple:
    a, b, c = (float(v) for v in np.asarray(values))
    return (a, b, c)


def _axes(rows: np.ndarray) -> Axes:
    return (_triple(rows[0]), _triple(rows[1]), _triple(rows[2]))
