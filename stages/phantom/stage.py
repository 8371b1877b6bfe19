"""Write phantom patients: DICOM series, volumes, and the truth about their airways."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int16

from pipeline.core.artefacts import check_writable, publish, write_json
from pipeline.core.geometry import VoxelGrid
from pipeline.core.planes import write_planes
from pipeline.core.progress import Progress
from pipeline.core.volume import Volume, write_volume
from stages.phantom.anatomy import Variant, draw_anatomy
from stages.phantom.dicom import SeriesLabel, slice_dataset
from stages.phantom.scanner import Optics, scan
from stages.phantom.settings import ScanSettings, TruthSettings
from stages.phantom.stl import binary_stl
from stages.phantom.tissues import Patient, build_patient
from stages.phantom.truth import (
    lumen_grid,
    lumen_shares,
    lumen_surface,
    measures,
    true_planes,
)


def patient_of(seed: int, variant: Variant) -> Patient:
    """Return the patient of a seed."""
    return build_patient(draw_anatomy(np.random.default_rng(seed), variant))


def scan_grid(settings: ScanSettings, patient: Patient) -> VoxelGrid:
    """Return the scanner's grid around a patient."""
    matrix, pixel, spacing = settings.matrix, settings.pixel_mm, settings.slice_spacing_mm
    count = round((settings.below_mm + settings.above_mm) / spacing) + 1
    half = (matrix - 1) / 2 * pixel
    # Rounded to 0.01 mm as scanners do, so that DICOM's decimal strings hold it exactly.
    bottom = round(patient.anatomy.shift_mm[2] - settings.below_mm, 2)
    origin = (-half, settings.centre_y_mm - half, bottom)
    return VoxelGrid((count, matrix, matrix), (spacing, pixel, pixel), origin)


def run_volume(output: Path, settings: ScanSettings, *, overwrite: bool = False) -> None:
    """Scan a patient and write the volume, HU.

    Raises
    ------
    UsageError
        If the output exists and may not be overwritten.
    """
    check_writable(output, overwrite=overwrite)
    patient = patient_of(settings.seed, settings.variant)
    grid = scan_grid(settings, patient)
    with publish(
        output,
        kind="volume",
        stage="phantom",
        settings=settings,
        seed=settings.seed,
        overwrite=overwrite,
    ) as pending:
        write_volume(pending.path, Volume(np.stack(list(_slices(settings, patient, grid))), grid))
        pending.properties |= {"thickness_mm": _thickness_mm(settings), "modality": "CT"}


def run_dicom(output: Path, settings: ScanSettings, *, overwrite: bool = False) -> None:
    """Scan a patient and write a DICOM series, one file per slice.

    Raises
    ------
    UsageError
        If the output exists and may not be overwritten.
    """
    check_writable(output, overwrite=overwrite)
    patient = patient_of(settings.seed, settings.variant)
    grid = scan_grid(settings, patient)
    label = _label(settings)
    with publish(
        output,
        kind="dicom-series",
        stage="phantom",
        settings=settings,
        seed=settings.seed,
        overwrite=overwrite,
        folder=True,
    ) as pending:
        for k, hu in enumerate(_slices(settings, patient, grid)):
            dataset = slice_dataset(hu, grid, k, label)
            name = f"IM{int(dataset.InstanceNumber):04d}.dcm"
            dataset.save_as(pending.path / name, enforce_file_format=True)
        pending.properties |= {"slices": grid.shape[0], "thickness_mm": label.thickness_mm}


def run_truth(output: Path, settings: TruthSettings, *, overwrite: bool = False) -> None:
    """Write truth.json, planes.json, airway.stl and lumen.nii.gz of a patient.

    Raises
    ------
    UsageError
        If the output exists and may not be overwritten.
    """
    check_writable(output, overwrite=overwrite)
    patient = patient_of(settings.seed, settings.variant)
    grid = lumen_grid(patient, settings.spacing_mm)
    shares = lumen_shares(patient, grid)
    surface = lumen_surface(patient, settings.spacing_mm)
    with publish(
        output,
        kind="phantom-truth",
        stage="phantom",
        settings=settings,
        seed=settings.seed,
        overwrite=overwrite,
        folder=True,
    ) as pending:
        facts = measures(patient, shares, grid, surface)
        write_json(pending.path / "truth.json", {"format": 1, "seed": settings.seed, **facts})
        write_planes(pending.path / "planes.json", true_planes(patient).values())
        (pending.path / "airway.stl").write_bytes(binary_stl(surface))
        lumen = Volume((shares >= 0.5).astype(np.uint8), grid)
        write_volume(pending.path / "lumen.nii.gz", lumen)
        pending.properties |= {"volume_ml": facts["volume_ml"]}


def _slices(
    settings: ScanSettings, patient: Patient, grid: VoxelGrid
) -> Iterator[Int16[np.ndarray, "y x"]]:
    optics = Optics(
        _thickness_mm(settings),
        settings.blur_mm,
        settings.noise_hu,
        settings.seed,
        settings.slice_profile,
        settings.sharpness,
    )
    with Progress("scan the phantom", grid.shape[0], "slices") as progress:
        for slab in scan(patient, grid, optics):
            yield from slab
            progress.advance(slab.shape[0])


def _thickness_mm(settings: ScanSettings) -> float:
    thickness = settings.slice_thickness_mm
    return settings.slice_spacing_mm if thickness is None else thickness


def _label(settings: ScanSettings) -> SeriesLabel:
    identity = hashlib.sha256(settings.model_dump_json().encode()).hexdigest()
    return SeriesLabel(
        settings.seed, settings.variant, identity, _thickness_mm(settings), settings.blur_mm
    )
