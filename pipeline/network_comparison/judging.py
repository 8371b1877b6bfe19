"""Judge one method on one test case: its image, its airway, its cost."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.artefacts import read_json, write_json
from pipeline.core.errors import Ct2FlowError
from pipeline.core.volume import read_volume
from pipeline.network_comparison.cases import AIRWAY, SURFACE, PreparedCase, closed_reason
from pipeline.network_comparison.pictures import write_picture
from stages.comparison.settings import ComparisonSettings
from stages.super_resolution.settings import RestorationSettings, TrainingSettings

RESULT_FORMAT = 1
LR = "lr"
"""The thick slices themselves: an airway, but no image on the thin slices' grid."""

_SURFACE_KEYS = (
    "volume_ml",
    "volume_deviation_percent",
    "mean_distance_mm",
    "hausdorff95_mm",
    "largest_distance_mm",
)


@dataclass(frozen=True)
class Method:
    """Name a method that restores: a baseline, a model, or a network trained from a seed.

    Parameters
    ----------
    name
        Name of files and rows.
    source
        What ``ct2flow restore --model`` takes.
    network
        Network trained here; None: nothing was.
    seed
        Its seed.
    """

    name: str
    source: str
    network: str | None = None
    seed: int | None = None


def judge(
    method: Method,
    case: PreparedCase,
    work: Path,
    training: TrainingSettings,
    *,
    kept: Path | None,
    picture: Path,
) -> dict[str, Any]:
    """Restore a test case and return its errors, airway and cost.

    Parameters
    ----------
    method
        What restores it.
    case
        Prepared test case.
    work
        Folder for what is made on the way; it is emptied and removed.
    training
        Says how much thinner slices become, and where to compute.
    kept
        Where the restored volume goes; None: nowhere.
    picture
        Where a slice of it goes, as PNG.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    volume, cost = case.lr, {}
    if method.name != LR:
        volume = work / f"{method.name}.nii.gz"
        cost = _restore(method, case, volume, training)
    errors = judge_volume(volume, case, work, has_image=method.name != LR)
    write_picture(picture, volume, read_json(case.airway / "airway.json"))
    if kept is not None and method.name != LR:
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(volume, kept)
    shutil.rmtree(work)
    return {
        "format": RESULT_FORMAT,
        "case": case.name,
        "phase": case.phase,
        "method": method.name,
        "network": method.network,
        "seed": method.seed,
        **errors,
        "cost": cost,
    }


def judge_volume(
    volume: Path, case: PreparedCase, work: Path, *, has_image: bool = True
) -> dict[str, Any]:
    """Return the errors of a volume's image and airway beside the thin slices'.

    Parameters
    ----------
    volume
        Volume of the test case, HU.
    case
        What it is compared with; without an open airway the image alone is.
    work
        Existing folder for what is made on the way.
    has_image
        Whether the volume lies on the thin slices' grid.
    """
    return {
        "image": _image_errors(volume, case, work) if has_image else {},
        "airway": _airway_errors(volume, case, work) if case.is_open else {},
    }


def _restore(
    method: Method, case: PreparedCase, output: Path, training: TrainingSettings
) -> dict[str, float]:
    from stages.super_resolution.model import chosen_device
    from stages.super_resolution.stage import restore

    settings = RestorationSettings(
        factor=training.factor,
        # Mirror images help every network alike, and the heavy ones would take hours.
        symmetries=1,
        precision=training.precision,
        device=training.device,
        threads=training.threads,
    )
    clock = _clock(chosen_device(training.device))
    start = clock()
    restore(case.lr, output, settings, model=method.source, overwrite=True)
    seconds = clock() - start
    voxels = read_volume(case.hr).values.size
    return {
        "restoration_s": round(seconds, 2),
        "restoration_s_per_megavoxel": seconds / voxels * 1e6,
    }


def _clock(device: str) -> Callable[[], float]:
    return time.perf_counter if device == "cuda" else time.process_time


def _image_errors(volume: Path, case: PreparedCase, work: Path) -> dict[str, Any]:
    from stages.comparison.stage import run_images

    output = work / "images.json"
    settings = ComparisonSettings(ms_ssim=True)
    run_images([volume], output, settings, reference=case.hr, airway=case.airway)
    errors: dict[str, Any] = next(iter(read_json(output)["methods"].values()))
    return errors


def _airway_errors(volume: Path, case: PreparedCase, work: Path) -> dict[str, Any]:
    """Return airway and surface beside those of the thin slices; of a closed one what is known."""
    from stages.airway.stage import run as find_airway
    from stages.comparison.stage import run_surfaces
    from stages.surface.stage import run as make_surface

    airway, surface = work / "airway", work / "surface"
    find_airway(volume, airway, AIRWAY, reference=case.airway)
    areas = minimal_areas(read_json(case.airway / "airway.json"))
    own = minimal_areas(read_json(airway / "airway.json"))
    found: dict[str, Any] = {
        "minimal_area_mm2": {side: own.get(side, 0.0) for side in areas},
        **area_deviations(areas, own),
        "reason": closed_reason(airway),
    }
    if found["reason"]:
        return found
    try:
        make_surface(volume, airway, surface, SURFACE)
    except Ct2FlowError as error:
        return found | {"reason": str(error)}
    output = work / "surfaces.json"
    run_surfaces([surface], output, reference=case.surface, names=["restored"])
    entry = read_json(output)["surfaces"]["restored"]
    return found | {key: entry[key] for key in _SURFACE_KEYS}


def minimal_areas(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the minimal cross-section of each open side of an airway.json, mm2."""
    sides = record.get("sides", {})
    return {
        side: float(facts["minimal_area_mm2"])
        for side, facts in sorted(sides.items())
        if facts.get("minimal_area_mm2") is not None
    }


def area_deviations(
    reference: Mapping[str, float], own: Mapping[str, float]
) -> dict[str, dict[str, float] | float]:
    """Return how far minimal areas are off, %; a side that has closed is 100 % too small.

    Returns
    -------
    dict
        ``minimal_area_deviation_percent`` of each side, signed, and
        ``minimal_area_error_percent``, the mean of their sizes.
    """
    signed = {side: 100.0 * (own.get(side, 0.0) - area) / area for side, area in reference.items()}
    mean = sum(abs(value) for value in signed.values()) / max(len(signed), 1)
    return {"minimal_area_deviation_percent": signed, "minimal_area_error_percent": mean}


def write_result(path: Path, record: Mapping[str, Any]) -> None:
    """Write a result whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".partial.{path.name}")
    write_json(draft, record)
    draft.replace(path)
