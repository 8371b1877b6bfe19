"""Read an HR volume, simulate thick slices and write both with the table that links them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from pipeline.core.artefacts import publish, read_json, read_sidecar, write_json
from pipeline.core.errors import InputError
from pipeline.core.volume import Volume, read_volume, write_volume
from stages.triplets.degradation import (
    SlicePlan,
    degrade,
    plan_slices,
    profile_taps,
    thick_grid,
    thin_grid,
)
from stages.triplets.settings import PROFILES, TripletsSettings

_LOG = logging.getLogger("ct2flow.triplets")
TRIPLETS_FORMAT = 1
FITTED_FORMAT = 1
SAME_SPACING = 0.02
"""Relative difference of slice spacings up to which fitted taps are used as they are."""
MOST_TAPS = 255


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
        pending.warnings += _warnings(source)
        pending.properties |= {k: v for k, v in record.items() if k not in ("format", "hr_start")}
    _LOG.info("%d thick slices from %d of %d", plan.count, plan.thin_count, len(volume.values))


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
        If the file is unusable or was fitted at another slice spacing.
    """
    if settings.profile in PROFILES:
        return profile_taps(settings.profile, settings.factor)
    path = Path(settings.profile)
    content = read_json(path)
    try:
        taps = np.array(content["taps"], dtype=np.float64)
        fitted_mm = float(content["spacing_mm"])
        usable = content["format"] == FITTED_FORMAT and taps.ndim == 1 and fitted_mm > 0
        usable = usable and len(taps) % 2 == 1 and len(taps) <= MOST_TAPS
        usable = usable and bool(np.isfinite(taps).all()) and abs(taps.sum() - 1.0) <= 0.01
    except (KeyError, TypeError, ValueError, OverflowError):
        usable = False
    if not usable:
        raise InputError(
            f'{path.name}: is no fitted profile; needed is {{"format": 1, "taps": [an odd number '
            'of weights that sum to 1], "spacing_mm": distance of the taps}.',
            path=path,
        )
    if abs(fitted_mm - spacing_mm) > SAME_SPACING * spacing_mm:
        raise InputError(
            f"{path.name}: was fitted at {fitted_mm:g} mm, but the slices lie {spacing_mm:g} mm "
            "apart; fit the profile on slices of this spacing.",
            found_mm=fitted_mm,
            needed_mm=spacing_mm,
        )
    normalised: Float[np.ndarray, " tap"] = taps / taps.sum()
    return normalised


def _warnings(source: Path) -> list[str]:
    """Pass on the caveats of the scan, which hold for all that is made of it."""
    found = read_sidecar(source).get("warnings", [])
    return [str(warning) for warning in found] if isinstance(found, list) else []
