"""Read the artefacts of one case, make the report and write it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyvista
import trimesh
from jaxtyping import Float

from pipeline.core.artefacts import publish, read_json, read_sidecar, write_json
from pipeline.core.errors import InputError
from pipeline.core.volume import Volume, read_volume
from stages.report import figures, renders, sections, slices
from stages.report.content import Content, Part, Picture, answer, facts, methods
from stages.report.page import html
from stages.report.pdf import pdf
from stages.report.record import METHODS, RESOLUTIONS, CaseRecords, results
from stages.report.settings import ReportSettings
from stages.report.tables import image_table, pressure_table, surface_table

_LOG = logging.getLogger("ct2flow.report")
_DISTANCE_COLOURS = "viridis"
_DISTANCE_QUANTILE = 0.98


@dataclass(frozen=True)
class CasePaths:
    """Say where the artefacts of one case lie below a results folder."""

    results: Path
    case: str
    interpolation: str

    def volume(self, resolution: str) -> Path:
        """Return the volume of a resolution."""
        if resolution in {"hr", "lr"}:
            return self.results / "triplets" / self.case / f"{resolution}.nii.gz"
        name = self.interpolation if resolution == "interpolated" else resolution
        return self.results / "restored" / self.case / f"{name}.nii.gz"

    def folder(self, kind: str, resolution: str) -> Path:
        """Return a resolution's folder of a kind: airway, surface, flow or flow-coarse."""
        return self.results / kind / self.case / resolution

    def comparison(self, kind: str) -> Path:
        """Return a comparison: images, surfaces or flows."""
        return self.results / "comparison" / self.case / f"{kind}.json"


def run(
    folder: Path,
    output: Path,
    settings: ReportSettings,
    *,
    case: str,
    interpolation: str = "spline",
    command: str = "",
    overwrite: bool = False,
) -> None:
    """Write report.html, report.pdf and results.json of one case.

    Parameters
    ----------
    folder
        The workflow's results folder.
    output
        Folder to write.
    settings
        Display of grey values.
    case
        Name of the case.
    interpolation
        Method that 'interpolated' names.
    command
        Command that repeats the case, shown in the report.
    overwrite
        Replace an existing output.

    Raises
    ------
    InputError
        If an artefact that every case has is missing.
    """
    paths = CasePaths(folder, case, interpolation)
    records = read_records(paths)
    summary = results(records)
    with publish(
        output,
        kind="report",
        stage="report",
        settings=settings,
        inputs={name: str(s.get("sha256")) for name, s in records.sidecars.items()},
        overwrite=overwrite,
        folder=True,
    ) as pending:
        parts = make_parts(paths, records, summary, settings, pending.warnings)
        summary["warnings"] += [f"report: {text}" for text in pending.warnings]
        content = Content(
            case=case,
            patent=records.patent,
            answer=answer(summary),
            parts=tuple(parts),
            warnings=tuple(summary["warnings"]),
            methods=methods(summary),
            facts=facts(summary),
            command=command or f"ct2flow run INPUT --output DIR --case {case}",
            settings=json.dumps(summary["provenance"]["settings"], indent=2),
        )
        write_json(pending.path / "results.json", summary)
        (pending.path / "report.html").write_text(html(content), encoding="utf-8")
        (pending.path / "report.pdf").write_bytes(pdf(content))


def read_records(paths: CasePaths) -> CaseRecords:
    """Read every record of a case.

    Raises
    ------
    InputError
        If the thin-slice volume, its airway or the image comparison is missing.
    """
    airways = {
        name: read_json(paths.folder("airway", name) / "airway.json")
        for name in RESOLUTIONS
        if name == "hr" or paths.folder("airway", name).is_dir()
    }
    flows = {
        name: read_json(paths.folder("flow", name) / "flow.json")
        for name in RESOLUTIONS
        if (paths.folder("flow", name) / "flow.json").is_file()
    }
    grid = read_volume(paths.volume("hr")).grid
    return CaseRecords(
        case=paths.case,
        sidecars=_sidecars(paths),
        geometry={
            "shape": list(grid.shape),
            "spacing_mm": list(grid.spacing_mm),
            "origin_mm": list(grid.origin_mm),
            "axes": [list(axis) for axis in grid.axes],
        },
        airways=airways,
        images=read_json(paths.comparison("images")),
        surfaces=_optional(paths.comparison("surfaces")),
        flows=_optional(paths.comparison("flows")),
        flow_records=flows,
    )


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _sidecars(paths: CasePaths) -> dict[str, dict[str, Any]]:
    base = paths.results
    places = {
        "volumes/hr": base / "volumes" / paths.case / "hr.nii.gz",
        "triplets": base / "triplets" / paths.case,
    }
    places |= {f"restored/{m}": base / "restored" / paths.case / f"{m}.nii.gz" for m in METHODS}
    kinds = ("airway", "surface", "flow", "flow-coarse")
    places |= {f"{kind}/{r}": paths.folder(kind, r) for kind in kinds for r in RESOLUTIONS}
    places |= {
        f"comparison/{kind}": paths.comparison(kind) for kind in ("images", "surfaces", "flows")
    }
    found = {name: read_sidecar(path) for name, path in places.items() if path.exists()}
    return {name: sidecar for name, sidecar in found.items() if sidecar}


def make_parts(
    paths: CasePaths,
    records: CaseRecords,
    summary: Mapping[str, Any],
    settings: ReportSettings,
    warnings: list[str],
) -> list[Part]:
    """Make every section that the case's artefacts allow."""
    parts = []
    if records.flows:
        table = pressure_table(summary)
        caption = "Total pressure loss; bars: lattice error, not a spread over cases (n = 1)."
        chart = Picture(figures.pressure_figure(summary), "bar chart of pressure losses", caption)
        parts.append(Part(table.title, table, (chart,)))
    parts.append(_image_part(paths, summary, settings))
    if records.surfaces:
        parts.append(_surface_part(paths, records, summary, warnings))
    if records.flow_records:
        parts.append(_flow_part(paths, records))
    return parts


def _image_part(paths: CasePaths, summary: Mapping[str, Any], settings: ReportSettings) -> Part:
    volumes = {name: read_volume(paths.volume(name)) for name in RESOLUTIONS}
    path = paths.folder("airway", "hr") / "lumen.nii.gz"
    baseline = volumes["hr"]
    empty = baseline.with_values(np.zeros(baseline.grid.shape, np.uint8))
    lumen = read_volume(path) if path.is_file() else empty
    frame = slices.frame_around(_on_baseline(lumen, baseline), settings.margin_mm)
    picture = Picture(
        figures.slices_figure(volumes, lumen, frame, settings),
        "axial, coronal and sagittal slices of every variant",
        f"Slices at one place, voxels as they are; window {settings.window_low_hu:g} to "
        f"{settings.window_high_hu:g} HU; cyan: the HR airway's lumen. Differences to HR within "
        f"± {settings.difference_hu:g} HU.",
    )
    return Part("Images", image_table(summary), (picture,))


def _on_baseline(lumen: Volume, baseline: Volume) -> Volume:
    """Return the lumen's extent as a mask on the baseline's grid, for framing."""
    if lumen.grid.matches(baseline.grid):
        return lumen
    index = np.argwhere(lumen.values > 0)
    mask = np.zeros(baseline.grid.shape, np.uint8)
    if len(index):
        places = np.rint(baseline.grid.to_index(lumen.grid.to_world_mm(index))).astype(int)
        places = np.clip(places, 0, np.array(mask.shape) - 1)
        mask[tuple(places.T)] = 1
    return baseline.with_values(mask)


def _surface_part(
    paths: CasePaths, records: CaseRecords, summary: Mapping[str, Any], warnings: list[str]
) -> Part:
    walls = {
        name: _triangles(paths.folder("surface", name) / "wall.stl")
        for name in RESOLUTIONS
        if name in records.surfaces["surfaces"]
    }
    distance = {name: renders.distances_to(wall, walls["hr"]) for name, wall in walls.items()}
    every = np.concatenate([d for name, d in distance.items() if name != "hr"] or [np.ones(1)])
    limit = max(float(np.quantile(every, _DISTANCE_QUANTILE)), 0.05)
    try:
        pictures = renders.render(walls, distance, limit, _DISTANCE_COLOURS)
    except RuntimeError:
        warnings.append("this machine draws no OpenGL; surfaces are drawn with fewer triangles.")
        pictures = renders.render_plainly(walls, distance, limit, _DISTANCE_COLOURS)
    scale = ("distance to the HR surface, mm", 0.0, limit, _DISTANCE_COLOURS)
    picture = Picture(
        figures.montage(pictures, list(renders.VIEWS), scale),
        "airway surfaces of every variant",
        "Airway surfaces from the same camera, coloured by the distance of each triangle to the HR "
        f"surface; the scale ends at the {100 * _DISTANCE_QUANTILE:.0f} % quantile.",
    )
    return Part("Surfaces", surface_table(summary), (picture,))


def _flow_part(paths: CasePaths, records: CaseRecords) -> Part:
    fields = {
        name: read_field(paths.folder("flow", name) / "field.vti") for name in records.flow_records
    }
    places = sections.common_places(fields["hr"])
    cuts = {name: sections.cut_sections(field, places) for name, field in fields.items()}
    speed = Picture(
        figures.sections_figure(cuts, "speed", "m/s", "viridis"),
        "velocity magnitude on sections",
        "Velocity magnitude on the same sections, one colour scale.",
    )
    pressure = Picture(
        figures.sections_figure(cuts, "pressure", "Pa relative to the outlet", "cividis"),
        "static pressure on sections",
        "Static pressure relative to the outlet on the same sections, one colour scale.",
    )
    return Part("Flow", None, (speed, pressure))


def _triangles(path: Path) -> Float[np.ndarray, "face 3 3"]:
    return np.asarray(trimesh.load_mesh(path, file_type="stl", process=False).triangles)


def read_field(path: Path) -> sections.FlowField:
    """Read a flow field on a regular box.

    Raises
    ------
    InputError
        If the file is missing or lacks velocity or pressure.
    """
    if not path.is_file():
        raise InputError(f"{path.parent.name}/{path.name}: no such file; simulate the flow again.")
    image = pyvista.read(path)
    data = image.point_data if "velocity" in image.point_data else image.cell_data
    if "velocity" not in data or "pressure" not in data:
        raise InputError(f"{path.parent.name}/{path.name}: lacks velocity or pressure.")
    counts = (
        image.dimensions if "velocity" in image.point_data else [n - 1 for n in image.dimensions]
    )
    shape = tuple(counts)[::-1]
    spacing = float(image.spacing[0])
    shift = 0.0 if "velocity" in image.point_data else 0.5 * spacing
    return sections.FlowField(
        np.linalg.norm(np.asarray(data["velocity"]).reshape(*shape, 3), axis=-1),
        np.asarray(data["pressure"]).reshape(shape),
        np.array(image.origin) + shift,
        spacing,
    )
