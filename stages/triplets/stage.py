"""Read an HR volume, simulate thick slices and write both with the table that links them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from pipeline.core.artefacts import (
    check_writable,
    digest,
    publish,
    read_json,
    read_sidecar,
    write_json,
)
from pipeline.core.errors import InputError, UsageError
from pipeline.core.volume import Volume, read_volume, write_volume
from stages.triplets.degradation import (
    SlicePlan,
    degrade,
    plan_slices,
    profile_taps,
    thick_grid,
    thin_grid,
)
from stages.triplets.profile_fit import ProfileFit, fit_profile
from stages.triplets.profile_pair import place_supports
from stages.triplets.profile_shapes import resample_taps, width_at_half_maximum
from stages.triplets.profile_sums import accumulate
from stages.triplets.settings import PROFILES, ProfileFitSettings, TripletsSettings

_LOG = logging.getLogger("ct2flow.triplets")
TRIPLETS_FORMAT = 1
FITTED_FORMAT = 1
SAME_SPACING = 0.02
"""Relative difference of slice spacings up to which fitted taps are used as they are."""
MOST_TAPS = 255
SAME_WIDTH = 0.25
"""Relative difference of the factor and a fitted profile's width that goes without a caveat."""
CENTRED_TAPS = 0.5
"""Thin slices by which a fitted profile may lie beside the thick slice without a caveat."""
WELL_EXPLAINED = 0.9
WELL_KNOWN = 0.1
"""Largest standard error of a tap, in parts of the highest tap, that goes without a caveat."""


def run(
    source: Path, output: Path, settings: TripletsSettings, *, overwrite: bool = False
) -> None:
    """Simulate thick slices from a volume of thin ones.

    Parameters
    ----------
    source
        HR volume in HU.
    output
        Folder to write.
    settings
        Slice profile and distance of the thick slices.
    overwrite
        Replace an existing output.

    Raises
    ------
    InputError
        If the volume or the fitted profile is unusable, or there are too few slices.
    """
    volume = read_volume(source)
    taps = read_taps(settings, volume.grid.spacing_mm[0])
    plan = plan_slices(len(volume.values), len(taps), settings.stride)
    fitted = [] if settings.profile in PROFILES else [Path(settings.profile)]
    # A path is no fact about the result and may name a patient; the digest of the file is one.
    recorded = settings.model_copy(update={"profile": Path(settings.profile).name})
    with publish(
        output,
        kind="triplets",
        stage="triplets",
        settings=recorded,
        inputs=[source, *fitted],
        overwrite=overwrite,
        folder=True,
    ) as pending:
        lr = Volume(degrade(volume.values, taps, plan), thick_grid(volume.grid, plan))
        last = plan.first + plan.thin_count
        hr = Volume(volume.values[plan.first : last], thin_grid(volume.grid, plan))
        write_volume(pending.path / "lr.nii.gz", lr)
        write_volume(pending.path / "hr.nii.gz", hr)
        record = describe(recorded, taps, plan, volume)
        write_json(pending.path / "triplets.json", record)
        pending.warnings += [*_warnings(source), *_width_warnings(settings, taps)]
        pending.properties |= {k: v for k, v in record.items() if k not in ("format", "hr_start")}
    _LOG.info("%d thick slices from %d of %d", plan.count, plan.thin_count, len(volume.values))
    for warning in _width_warnings(settings, taps):
        _LOG.warning("%s", warning)


def describe(
    settings: TripletsSettings, taps: Float[np.ndarray, " tap"], plan: SlicePlan, volume: Volume
) -> dict[str, Any]:
    """Return triplets.json: the operator and which thin slices belong to each thick one.

    `hr_start[j]` is the first of the `stride` slices in hr.nii.gz that belong to slice j of
    lr.nii.gz; `dropped_before` and `dropped_after` count slices of the source left out.
    """
    spacing = volume.grid.spacing_mm[0]
    return {
        "format": TRIPLETS_FORMAT,
        "factor": settings.factor,
        "stride": plan.stride,
        "profile": settings.profile,
        "taps": [float(w) for w in taps],
        "hr_spacing_mm": spacing,
        "lr_spacing_mm": spacing * plan.stride,
        "lr_thickness_mm": spacing * settings.factor,
        "hr_slices": plan.thin_count,
        "lr_slices": plan.count,
        "dropped_before": plan.first,
        "dropped_after": len(volume.values) - plan.first - plan.thin_count,
        "hr_start": [j * plan.stride for j in range(plan.count)],
    }


def read_taps(settings: TripletsSettings, spacing_mm: float) -> Float[np.ndarray, " tap"]:
    """Return the taps of the chosen profile; a fitted one is read from its JSON file.

    Raises
    ------
    InputError
        If the file is unusable or its profile narrower than one slice.
    """
    if settings.profile in PROFILES:
        return profile_taps(settings.profile, settings.factor)
    path = Path(settings.profile)
    taps, fitted_mm = _read_fitted(path)
    if abs(fitted_mm - spacing_mm) <= SAME_SPACING * spacing_mm:
        return taps
    if len(taps) * fitted_mm > MOST_TAPS * spacing_mm:
        raise InputError(
            f"{path.name}: its profile of {len(taps)} taps {fitted_mm:g} mm apart covers more than "
            f"{MOST_TAPS} slices of {spacing_mm:g} mm; give a scan of thicker slices or a profile "
            "of fewer taps.",
            spacing_mm=spacing_mm,
        )
    taps = resample_taps(taps, spacing_mm / fitted_mm)
    if len(taps) == 1:
        raise InputError(
            f"{path.name}: its profile is narrower than one slice of {spacing_mm:g} mm; give a "
            "scan of thinner slices.",
            spacing_mm=spacing_mm,
        )
    return taps


def _read_fitted(path: Path) -> tuple[Float[np.ndarray, " tap"], float]:
    """Return the taps of a fitted profile, of sum 1, and their distance, mm."""
    content = read_json(path)
    try:
        taps = np.array(content["taps"], dtype=np.float64)
        fitted_mm = float(content["spacing_mm"])
        usable = content["format"] == FITTED_FORMAT and taps.ndim == 1
        usable = usable and np.isfinite(fitted_mm) and fitted_mm > 0
        usable = usable and len(taps) % 2 == 1 and 1 < len(taps) <= MOST_TAPS
        usable = usable and bool(np.isfinite(taps).all()) and abs(taps.sum() - 1.0) <= 0.01
    except (KeyError, TypeError, ValueError, OverflowError):
        usable = False
    if not usable:
        raise InputError(
            f'{path.name}: is no fitted profile; needed is {{"format": 1, "taps": [an odd number '
            'of weights that sum to 1], "spacing_mm": distance of the taps}.',
            path=path,
        )
    return taps / taps.sum(), fitted_mm


def run_fit_profile(
    thin: Path,
    thick: Path,
    output: Path,
    settings: ProfileFitSettings,
    *,
    overwrite: bool = False,
) -> None:
    """Fit a slice profile and write its JSON file.

    Parameters
    ----------
    thin, thick
        Volumes in HU of one scan.
    output
        File to write, .json.
    settings
        Nominal width of the thick slices.
    overwrite
        Replace an existing output.

    Raises
    ------
    UsageError
        If the output is no .json name or exists.
    InputError
        If the volumes are no pair.
    """
    if output.suffix != ".json":
        raise UsageError(
            f"{output.name}: the name must end in .json, as that of 'ct2flow triplets --profile'; "
            "rename it.",
            path=output,
        )
    check_writable(output, overwrite=overwrite)
    first, second = _read_series(thin, "thin"), _read_series(thick, "thick")
    width_mm = settings.thickness_mm or _thickness_mm(thick, second.grid.spacing_mm[0])
    spacing_mm = first.grid.spacing_mm[0]
    try:
        supports = place_supports(first.grid, second.grid, width_mm)
        fit = fit_profile(accumulate(first.values, second.values, supports), width_mm / spacing_mm)
    except InputError as error:
        raise InputError(f"{thin.name} and {thick.name}: {error}", **error.facts) from error
    # Digests by role: two files of one name stay two, and a path may name a patient.
    inputs = {"thin": digest(thin), "thick": digest(thick)}
    record = describe_fit(fit, spacing_mm, width_mm) | {"inputs": inputs}
    with publish(
        output,
        kind="slice-profile",
        stage="triplets",
        settings=settings,
        inputs=inputs,
        overwrite=overwrite,
    ) as pending:
        write_json(pending.path, record)
        pending.warnings += _fit_warnings(fit, spacing_mm)
        pending.properties |= {
            k: v for k, v in record.items() if k not in ("format", "taps", "inputs")
        }
    errors = ", ".join(f"{name} {rms:.1f}" for name, rms in fit.rms_hu.items())
    _LOG.info("error on held-out thick slices, HU RMS: %s", errors)
    for warning in pending.warnings:
        _LOG.warning("%s", warning)


def _read_series(path: Path, option: str) -> Volume:
    if path.is_dir():
        raise InputError(
            f"{path.name}: is a folder, needed is a volume; run 'ct2flow ingest {path.name} "
            f"--output {option}.nii.gz' and give --{option} {option}.nii.gz.",
            path=path,
        )
    return read_volume(path)


def describe_fit(fit: ProfileFit, spacing_mm: float, width_mm: float) -> dict[str, Any]:
    """Return the content of a fitted profile's file; lengths in mm, errors in HU."""
    return {
        "format": FITTED_FORMAT,
        "taps": [float(w) for w in fit.taps],
        "spacing_mm": spacing_mm,
        "standard_errors": [round(float(e), 6) for e in fit.standard_errors],
        "fwhm_mm": round(fit.width * spacing_mm, 4),
        "fwhm_standard_error_mm": round(fit.width_error * spacing_mm, 4),
        "centre_offset_mm": round(fit.offset * spacing_mm, 4),
        "centre_offset_standard_error_mm": round(fit.offset_error * spacing_mm, 4),
        "nominal_width_mm": width_mm,
        "thick_slices": fit.thick_slices,
        "held_out_rms_hu": _rounded(fit.rms_hu),
        "held_out_rms_tissue_hu": _rounded(fit.rms_tissue_hu),
        "explained": round(fit.explained, 6),
        "smoothing": fit.smoothing,
        "cross_validation": {
            "blocks": [
                {
                    "thick_slices": [block.first_thick, block.last_thick],
                    "smoothing": block.smoothing,
                    "rms_hu": _rounded(block.rms_hu),
                }
                for block in fit.blocks
            ],
            "smoothing": [
                {"smoothing": smoothing, "rms_hu": round(rms, 4)}
                for smoothing, rms in fit.rms_by_smoothing.items()
            ],
        },
    }


def _rounded(rms_hu: dict[str, float]) -> dict[str, float]:
    return {name: round(rms, 4) for name, rms in rms_hu.items()}


def _fit_warnings(fit: ProfileFit, spacing_mm: float) -> list[str]:
    """Return the caveats of a fit that stands."""
    found = []
    if fit.explained < WELL_EXPLAINED:
        found.append(
            f"the profile removes only {100 * fit.explained:.0f} % of the squared error of a flat "
            "one; if the series do not share their raw data, its width is too large"
        )
    if abs(fit.offset) > CENTRED_TAPS:
        found.append(
            f"the centre of the profile lies {fit.offset * spacing_mm:+.2f} mm from where the "
            "headers put the thick slices; the taps contain this shift"
        )
    share = float(fit.standard_errors.max() / fit.taps.max())
    if share > WELL_KNOWN:
        found.append(
            f"the taps are known to {100 * share:.0f} % of the highest only; a pair of more slices "
            "or of an object with finer detail would tell more"
        )
    return found


def _width_warnings(settings: TripletsSettings, taps: Float[np.ndarray, " tap"]) -> list[str]:
    """Say if a fitted profile is of another width than the factor tells everyone."""
    width = width_at_half_maximum(taps)
    if settings.profile in PROFILES or abs(width / settings.factor - 1.0) <= SAME_WIDTH:
        return []
    return [
        f"the fitted slice profile is {width:.1f} slices wide, the factor is {settings.factor}; "
        "choose the odd factor next to the width unless this is meant"
    ]


def _thickness_mm(path: Path, spacing_mm: float) -> float:
    """Return the recorded slice thickness of a volume, else its spacing."""
    facts = read_sidecar(path).get("properties", {})
    found = facts.get("slice_thickness_mm", facts.get("thickness_mm"))
    return float(found) if isinstance(found, (int, float)) and found > 0 else spacing_mm


def _warnings(source: Path) -> list[str]:
    """Pass on the caveats of the scan, which hold for all that is made of it."""
    found = read_sidecar(source).get("warnings", [])
    return [str(warning) for warning in found] if isinstance(found, list) else []
