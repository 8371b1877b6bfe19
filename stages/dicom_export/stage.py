"""Read a volume in HU and write it as a derived DICOM series."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.core.artefacts import digest, publish
from pipeline.core.errors import InputError
from pipeline.core.progress import track
from pipeline.core.provenance import package_version
from pipeline.core.volume import Volume, read_volume
from stages.dicom_export.original import Original, read_original
from stages.dicom_export.settings import DicomExportSettings
from stages.dicom_export.slices import (
    RESEARCH,
    Scale,
    SeriesLabel,
    choose_deviation_scale,
    choose_scale,
    series_template,
    slice_dataset,
)

UNCERTAINTY = "uncertainty"
"""Folder of the second series, inside the first one's."""


def run(
    source: Path,
    output: Path,
    settings: DicomExportSettings,
    *,
    like: Path | None = None,
    uncertainty: Path | None = None,
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
    uncertainty
        Standard deviation of the volume, HU, on its grid; becomes a second series in the
        folder `uncertainty`.
    overwrite
        Replace an existing output.

    Raises
    ------
    InputError
        If the volume cannot be a CT, the uncertainty does not fit to it, or `like` holds no CT
        image.
    """
    volume = _read_finite(source)
    original = None if like is None else read_original(like)
    scale = choose_scale(volume.values)
    thickness = settings.slice_thickness_mm or volume.grid.spacing_mm[0]
    label = _label(source, settings, thickness, original, scale)
    inputs = [source] if uncertainty is None else [source, uncertainty]
    spread = None if uncertainty is None else _read_spread(uncertainty, volume)
    with publish(
        output,
        kind="dicom",
        stage="dicom_export",
        settings=settings,
        inputs=inputs,
        overwrite=overwrite,
        folder=True,
    ) as pending:
        _write_series(pending.path, volume, label, original)
        if spread is not None and uncertainty is not None:
            second = _spread_label(uncertainty, settings, label, original, spread)
            (pending.path / UNCERTAINTY).mkdir()
            _write_series(pending.path / UNCERTAINTY, spread, second, original)
        pending.properties |= {
            "slices": len(volume.values),
            "rescale_slope_hu": scale.slope,
            "rescale_intercept_hu": scale.intercept,
            "names_patient": original is not None,
            "source_images": 0 if original is None else len(original.images),
            "uncertainty_series": spread is not None,
        }


def _write_series(
    folder: Path, volume: Volume, label: SeriesLabel, original: Original | None
) -> None:
    template = series_template(volume.grid, label, original)
    for index, values in enumerate(track(list(volume.values), "write slices")):
        dataset = slice_dataset(
            template, values, index=index, grid=volume.grid, label=label, original=original
        )
        dataset.save_as(folder / f"slice{index + 1:04d}.dcm", enforce_file_format=True)


def _read_finite(path: Path) -> Volume:
    volume = read_volume(path)
    if not np.isfinite(volume.values).all():
        raise InputError(
            f"{path.name}: holds NaN or infinite values; DICOM CT needs HU everywhere."
        )
    return volume


def _read_spread(path: Path, volume: Volume) -> Volume:
    spread = _read_finite(path)
    if not spread.grid.matches(volume.grid, tolerance_mm=1e-3):
        raise InputError(
            f"{path.name}: lies on another grid ({spread.grid.shape}, needed: "
            f"{volume.grid.shape} at the volume's place); give the uncertainty of this volume."
        )
    return spread


def _label(
    source: Path,
    settings: DicomExportSettings,
    thickness_mm: float,
    original: Original | None,
    scale: Scale,
) -> SeriesLabel:
    version = package_version()
    identity = _identity(source, settings, original)
    return SeriesLabel(
        identity=identity,
        description=f"{settings.label} {RESEARCH}",
        derivation=f"Through-plane resampling by ct2flow {version}. {RESEARCH}.",
        number=settings.series_number,
        thickness_mm=thickness_mm,
        version=version,
        scale=scale,
        study=identity,
    )


def _spread_label(
    source: Path,
    settings: DicomExportSettings,
    label: SeriesLabel,
    original: Original | None,
    spread: Volume,
) -> SeriesLabel:
    first = f"{label.identity}\n{_identity(source, settings, original)}"
    return replace(
        label,
        identity=hashlib.sha256(first.encode()).hexdigest(),
        description=f"{settings.label} SD {RESEARCH}",
        derivation=f"Standard deviation in HU of the series {settings.series_number} "
        f"restored by ct2flow {label.version}. {RESEARCH}.",
        number=settings.series_number + 1,
        scale=choose_deviation_scale(spread.values),
    )


def _identity(source: Path, settings: DicomExportSettings, original: Original | None) -> str:
    study = "" if original is None else str(original.header.get("StudyInstanceUID", ""))
    parts = (digest(source), settings.model_dump_json(), study)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
