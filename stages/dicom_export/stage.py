"""Read a volume in HU and write it as a derived DICOM series."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import numpy as np
import pydicom
from jaxtyping import Shaped
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import CTImageStorage

from pipeline.core.artefacts import digest, publish
from pipeline.core.errors import InputError
from pipeline.core.progress import track
from pipeline.core.provenance import package_version
from pipeline.core.volume import read_volume
from stages.dicom_export.settings import DicomExportSettings
from stages.dicom_export.slices import (
    INHERITED,
    LARGEST_12_BIT,
    RESEARCH,
    SeriesLabel,
    choose_intercept,
    series_template,
    slice_dataset,
)

_NOT_DICOM = (
    BytesLengthException,
    InvalidDicomError,
    AttributeError,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    TypeError,
    ValueError,
)


def run(
    source: Path,
    output: Path,
    settings: DicomExportSettings,
    *,
    like: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Write a volume as a derived CT series.

    Parameters
    ----------
    source
        Volume in HU.
    output
        Folder to write, one file per slice.
    settings
        Labels of the series.
    like
        Folder or file of the original DICOM series, or None to name nobody.
    overwrite
        Replace an existing output.

    Raises
    ------
    InputError
        If the volume cannot be a CT or `like` holds no CT image.
    """
    volume = read_volume(source)
    _refuse_non_finite(source.name, volume.values)
    original = None if like is None else read_original(like)
    intercept = choose_intercept(volume.values)
    largest = int(np.rint(volume.values.max())) - intercept
    label = _label(source, settings, volume.grid.spacing_mm[0], original)
    template = series_template(volume.grid, label, original)
    with publish(
        output,
        kind="dicom",
        stage="dicom_export",
        settings=settings,
        inputs=[source],
        overwrite=overwrite,
        folder=True,
    ) as pending:
        for index, hu in enumerate(track(list(volume.values), "write slices")):
            dataset = slice_dataset(
                template,
                hu,
                index=index,
                grid=volume.grid,
                label=label,
                intercept=intercept,
                bits=12 if largest <= LARGEST_12_BIT else 16,
            )
            name = f"slice{index + 1:04d}.dcm"
            dataset.save_as(pending.path / name, enforce_file_format=True)
        pending.properties |= {
            "slices": len(volume.values),
            "rescale_intercept_hu": intercept,
            "names_patient": original is not None,
        }


def read_original(like: Path) -> Dataset:
    """Return the shared facts of the first CT image of a folder, or of a file.

    Raises
    ------
    InputError
        If there is no CT image.
    """
    files = [like] if like.is_file() else sorted(p for p in like.rglob("*") if p.is_file())
    for path in files:
        found = _read_ct(path)
        if found is not None:
            return found
    raise InputError(
        f"--like: no CT image among {len(files)} files; give the original DICOM series.",
        files=len(files),
    )


def _read_ct(path: Path) -> Dataset | None:
    tags = ["SOPClassUID", "ImageType", *INHERITED]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
            is_slice = dataset.get("SOPClassUID") == CTImageStorage
            localizer = "LOCALIZER" in (dataset.get("ImageType") or [])
    except _NOT_DICOM:
        return None
    return dataset if is_slice and not localizer else None


def _label(
    source: Path, settings: DicomExportSettings, spacing_mm: float, original: Dataset | None
) -> SeriesLabel:
    study = "" if original is None else str(original.get("StudyInstanceUID", ""))
    parts = (digest(source), settings.model_dump_json(), study)
    version = package_version()
    return SeriesLabel(
        identity=hashlib.sha256("\n".join(parts).encode()).hexdigest(),
        description=f"{settings.label} {RESEARCH}",
        derivation=f"Through-plane resampling by ct2flow {version}. {RESEARCH}.",
        number=settings.series_number,
        thickness_mm=settings.slice_thickness_mm or spacing_mm,
        version=version,
    )


def _refuse_non_finite(name: str, values: Shaped[np.ndarray, "z y x"]) -> None:
    if not np.isfinite(values).all():
        raise InputError(f"{name}: holds NaN or infinite values; DICOM CT needs HU everywhere.")
