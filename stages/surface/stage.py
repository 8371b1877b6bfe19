"""Read a volume and its airway, write the surface; check surfaces of any origin."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.artefacts import check_writable, publish, read_json, write_json
from pipeline.core.errors import InputError
from pipeline.core.planes import Plane, read_planes, write_planes
from pipeline.core.progress import Progress
from pipeline.core.units import MM3_PER_ML
from pipeline.core.volume import read_volume
from stages.surface.build import PLAIN, AirwaySurface, Sizes, build_surface, sizes_at, sizes_of
from stages.surface.checks import check_patches
from stages.surface.mesh import Mesh, area_mm2, is_closed, join, normals_mm2, volume_mm3
from stages.surface.quality import triangle_quality
from stages.surface.repair import repair_patches
from stages.surface.settings import LEAST_LEVEL_HU, MOST_LEVEL_HU, SurfaceSettings
from stages.surface.stl import read_stl, write_stl

FORMAT = 1
PATCHES = ("wall", "inlet", "outlet")


def run(
    volume: Path,
    airway: Path,
    output: Path,
    settings: SurfaceSettings,
    *,
    overwrite: bool = False,
) -> None:
    """Make the surface of an airway.

    Parameters
    ----------
    volume
        CT volume, HU.
    airway
        Its airway folder.
    output
        SURFACE_DIR to make.
    settings
        Isolevel, spacing, smoothing.
    overwrite
        Replace the output.

    Raises
    ------
    InputError
        If the airway is not patent or an input is unusable.
    """
    check_writable(output, overwrite=overwrite)
    record = read_json(airway / "airway.json")
    planes = _open_planes(airway, record)
    image, region = read_volume(volume), read_volume(airway / "region.nii.gz")
    levels = _levels(settings)
    is_plain = settings.model_copy(update=PLAIN) == settings
    with Progress("surface", 1 + len(levels), "surfaces") as progress:
        surface = build_surface(image, region, planes, settings)
        progress.advance()
        others: dict[str, Sizes | None] = {}
        for name, level in levels.items():
            if level == settings.isolevel_hu and is_plain:
                others[name] = sizes_of(surface, level)
            else:
                others[name] = sizes_at(image, region, planes, settings, level)
            progress.advance()
    with publish(
        output,
        kind="surface",
        stage="surface",
        settings=settings,
        inputs=[volume, airway],
        overwrite=overwrite,
        folder=True,
    ) as pending:
        _write(pending.path, surface, record, {name: _sizes(s) for name, s in others.items()})
        pending.warnings += [
            f"At {levels[name]:g} HU the airway cannot be drawn between the same planes."
            for name, sizes in others.items()
            if sizes is None
        ]


def _levels(settings: SurfaceSettings) -> dict[str, float]:
    """Return the levels at which sizes are reported beside those of the surface itself."""
    level, change = settings.isolevel_hu, settings.isolevel_uncertainty_hu
    if change == 0:
        return {}
    # Clipped: what lies beyond the bounds of the setting is no wall.
    low, high = max(level - change, LEAST_LEVEL_HU), min(level + change, MOST_LEVEL_HU)
    return {"lower": low, "nominal": level, "upper": high}


def _sizes(sizes: Sizes | None) -> dict[str, float] | None:
    if sizes is None:
        return None
    return {
        "isolevel_hu": sizes.isolevel_hu,
        "volume_ml": round(sizes.volume_mm3 / MM3_PER_ML, 5),
        "wall_area_mm2": round(sizes.wall_area_mm2, 3),
    }


def _open_planes(airway: Path, record: dict[str, Any]) -> dict[str, Plane]:
    if not record.get("patent", False):
        reason = record.get("reason") or "The airway is not patent."
        place = record.get("place_mm")
        where = f" Place (x, y, z): {place} mm." if place else ""
        raise InputError(f"{airway.name}: no surface can be made. {reason}{where}", place_mm=place)
    known = read_planes(airway / "planes.json")
    sides = record.get("sides", {})
    wanted = [f"nostril-{side}" for side in ("left", "right") if sides.get(side, {}).get("patent")]
    missing = [name for name in [*wanted, "pharynx"] if name not in known]
    if missing or not wanted:
        raise InputError(
            f"{airway.name}: planes.json lacks {missing or 'a nostril'}; run 'ct2flow airway' again."
        )
    return {name: known[name] for name in [*wanted, "pharynx"]}


def _write(
    folder: Path,
    surface: AirwaySurface,
    record: dict[str, Any],
    sensitivity: dict[str, dict[str, float] | None],
) -> None:
    whole = surface.whole
    write_stl(folder / "wall.stl", surface.wall)
    for name, mesh in surface.caps.items():
        write_stl(folder / f"{name}.stl", mesh)
    write_stl(folder / "airway.stl", whole)
    if surface.inner_planes:
        write_planes(folder / "planes.json", surface.inner_planes.values())
    minimal = {
        side: facts["minimal_area_mm2"]
        for side, facts in record.get("sides", {}).items()
        if facts.get("minimal_area_mm2") is not None
    }
    quality = asdict(triangle_quality(whole))
    content = {
        "format": FORMAT,
        "volume_ml": round(volume_mm3(whole) / MM3_PER_ML, 5),
        "area_mm2": round(area_mm2(whole), 3),
        "wall_area_mm2": round(area_mm2(surface.wall), 3),
        "openings": {name: _opening(surface, name) for name in surface.caps},
        "minimal_area_mm2": minimal,
        "watertight": is_closed(whole),
        "triangles": len(whole.faces),
        "triangle_quality": {name: round(value, 4) for name, value in quality.items()},
        "smoothing_volume_change_percent": round(surface.volume_change_percent, 4),
        "isolevel_sensitivity": sensitivity,
        "minimal_area_at_isolevel_mm2": record.get("minimal_area_at_isolevel_mm2", {}),
    }
    write_json(folder / "surface.json", content)


def _opening(surface: AirwaySurface, name: str) -> dict[str, Any]:
    """Return area, centre and direction of the flow, inwards at inlets and outwards at outlets."""
    mesh = surface.caps[name]
    area = normals_mm2(mesh)
    sizes = np.linalg.norm(area, axis=1)
    centre = (mesh.points[mesh.faces].mean(axis=1) * sizes[:, None]).sum(axis=0) / sizes.sum()
    outward = area.sum(axis=0) / np.linalg.norm(area.sum(axis=0))
    plane = surface.openings[name].plane if name in surface.openings else None
    normal = plane.normal if plane else tuple(float(-v) for v in outward)
    return {
        "area_mm2": round(float(sizes.sum()), 3),
        "centre_mm": [round(float(v), 4) for v in centre],
        "normal": list(normal),
    }


def check(
    folder: Path, *, repair: Path | None = None, hole_mm: float = 6.0, overwrite: bool = False
) -> None:
    """Write one line per finding about a SURFACE_DIR to stdout; repair small defects if asked.

    Parameters
    ----------
    folder
        Folder with wall.stl, inlet*.stl and outlet*.stl.
    repair
        SURFACE_DIR to write without the small defects, or None only to look.
    hole_mm
        Longest perimeter of a hole that is closed.
    overwrite
        Replace the repaired folder.

    Raises
    ------
    InputError
        If no flow can be computed in it, after the repair if there is one.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder.name}: is no folder; needed is one with wall.stl, inlet*.stl, outlet*.stl."
        )
    paths = sorted(p for kind in PATCHES for p in folder.glob(f"{kind}*.stl"))
    patches = {path.stem: read_stl(path) for path in paths}
    if repair is None:
        _judge(folder.name, patches)
        return
    check_writable(repair, overwrite=overwrite)
    repaired = repair_patches({n: m for n, m in patches.items() if len(m.faces)}, hole_mm=hole_mm)
    for sentence in repaired.sentences or ["nothing to repair"]:
        sys.stdout.write(f"repair: {sentence}\n")
    _judge(folder.name, repaired.patches)
    with publish(
        repair,
        kind="surface",
        stage="surface",
        settings={"hole_mm": hole_mm},
        inputs=paths,
        overwrite=overwrite,
        folder=True,
    ) as pending:
        for name, mesh in repaired.patches.items():
            write_stl(pending.path / f"{name}.stl", mesh)
        write_stl(pending.path / "airway.stl", join(list(repaired.patches.values())))
        pending.warnings += repaired.sentences


def _judge(name: str, patches: dict[str, Mesh]) -> None:
    findings = check_patches(patches)
    for finding in findings:
        word = "unusable" if finding.is_fatal else "note"
        sys.stdout.write(f"{word}: {finding.sentence}\n")
    fatal = [finding.sentence for finding in findings if finding.is_fatal]
    if fatal:
        raise InputError(f"{name}: {len(fatal)} finding(s) make it unusable: {fatal[0]}.")
