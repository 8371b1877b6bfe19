"""Read a volume, find its airway, write the airway folder."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.artefacts import check_writable, publish, read_json, write_json
from pipeline.core.errors import InputError, UsageError
from pipeline.core.planes import read_planes, write_planes
from pipeline.core.progress import Progress
from pipeline.core.volume import Volume, read_volume, write_volume
from stages.airway.anatomy import (
    Airway,
    airway_between_planes,
    airway_of_variant,
    find_airway,
)
from stages.airway.lumen import volume_ml
from stages.airway.septum import SeptumHole
from stages.airway.settings import AirwaySettings

FORMAT = 1
_LOG = logging.getLogger("ct2flow.airway")
DECIMALS = 4


def run(
    volume: Path,
    output: Path,
    settings: AirwaySettings,
    *,
    planes: Path | None = None,
    reference: Path | None = None,
    mask: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Find the airway of a volume and write it.

    Parameters
    ----------
    volume
        CT volume, HU.
    output
        Folder to make.
    settings
        Isolevel and the rules that separate the airway.
    planes
        User's planes, used instead of found ones.
    reference
        Airway folder whose planes and region are used; the user's planes then replace its planes.
    mask
        User's mask of the airway, not with `planes` or `reference`.
    overwrite
        Replace the output.

    Raises
    ------
    InputError
        If an input is unusable.
    UsageError
        If the mask is given with planes or a reference.
    """
    if mask is not None and (planes is not None or reference is not None):
        raise UsageError("--mask: goes with neither --planes nor --reference; give one of them.")
    check_writable(output, overwrite=overwrite)
    image = read_volume(volume)
    _check_ct(volume, image)
    inputs = [path for path in (volume, planes, reference, mask) if path is not None]
    with Progress("airway", 1, "volumes") as progress:
        airway = _find(image, settings, planes, reference, mask)
        progress.advance()
    with publish(
        output,
        kind="airway",
        stage="airway",
        settings=settings,
        inputs=inputs,
        overwrite=overwrite,
        folder=True,
    ) as pending:
        record = airway_record(airway, settings)
        pending.warnings += record["warnings"]
        for sentence in record["warnings"]:
            _LOG.warning("%s", sentence)
        _write(pending.path, airway, record)


def _find(
    image: Volume,
    settings: AirwaySettings,
    planes: Path | None,
    reference: Path | None,
    mask: Path | None,
) -> Airway:
    if reference is not None:
        return _variant(image, settings, planes, reference)
    if planes is not None:
        return airway_between_planes(image, read_planes(planes), settings)
    return find_airway(image, settings, None if mask is None else read_volume(mask))


def _variant(
    image: Volume, settings: AirwaySettings, planes: Path | None, reference: Path
) -> Airway:
    record = read_json(reference / "airway.json")
    if not record.get("patent", False):
        # Without a reference region there is nothing to cut alike: the volume speaks for itself.
        return find_airway(image, settings)
    known = read_planes(planes or reference / "planes.json")
    return airway_of_variant(image, known, read_volume(reference / "region.nii.gz"), settings)


def _check_ct(path: Path, image: Volume) -> None:
    if not np.isfinite(image.values).all():
        raise InputError(
            f"{path.name}: holds NaN or infinite values; replace them by air (-1024 HU).",
            path=path,
        )


def airway_record(airway: Airway, settings: AirwaySettings) -> dict[str, Any]:
    """Return the content of airway.json."""
    closed = [side for side in airway.sides.values() if not side.patent]
    first = None if airway.is_patent or not closed else closed[0]
    spacing = airway.grid.spacing_mm[0]
    return {
        "format": FORMAT,
        "patent": airway.is_patent,
        "reason": first.reason if first else None,
        "place_mm": _rounded(first.place_mm) if first else None,
        "sides": {name: _rounded(asdict(side)) for name, side in sorted(airway.sides.items())},
        "lumen_volume_ml": _rounded(volume_ml(airway.lumen, spacing)),
        "sinus_volume_ml": _rounded(airway.sinus_volume_ml),
        "isolevel_hu": settings.isolevel_hu,
        "lumen_volume_at_isolevel_ml": _rounded(airway.volume_at_ml),
        "minimal_area_at_isolevel_mm2": _rounded(airway.minimal_area_at_mm2),
        "septum_holes": [_rounded(asdict(hole)) for hole in airway.septum_holes],
        "warnings": _warnings(airway),
    }


def _warnings(airway: Airway) -> list[str]:
    if not airway.is_patent:
        return [side.reason for side in list(airway.sides.values())[:1] if side.reason]
    closed = [side.reason for side in airway.sides.values() if side.reason]
    return closed + [_hole_sentence(hole) for hole in airway.septum_holes]


def _hole_sentence(hole: SeptumHole) -> str:
    x, y, z = hole.place_mm
    return (
        f"The sides are joined before the choanae by {hole.area_mm2:.1f} mm2 at ({x:.1f}, {y:.1f}, "
        f"{z:.1f}) mm: a perforated septum, or bone and mucosa too thin for this image to show."
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_rounded(item) for item in value]
    return round(value, DECIMALS) if isinstance(value, float) else value


def _write(folder: Path, airway: Airway, record: dict[str, Any]) -> None:
    write_json(folder / "airway.json", record)
    if not airway.is_patent:
        if airway.planes:
            write_planes(folder / "planes.json", airway.planes.values())
        return
    write_planes(folder / "planes.json", airway.planes.values())
    write_volume(folder / "lumen.nii.gz", Volume(airway.lumen.astype(np.uint8), airway.grid))
    write_volume(folder / "region.nii.gz", Volume(airway.region.astype(np.uint8), airway.grid))
