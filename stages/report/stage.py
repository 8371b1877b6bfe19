"""Read the artefacts of one case, make the report and write it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyvista
import trimesh
from jaxtyping import Float

from pipeline.core.artefacts import check_writable, publish, read_json, read_sidecar, write_json
from pipeline.core.errors import InputError
from pipeline.core.progress import track
from pipeline.core.volume import read_volume
from stages.report import parts, repeat, sections
from stages.report.content import Content, Part, answer, facts, numbered, subtitle
from stages.report.methods import methods
from stages.report.page import html
from stages.report.pdf import pdf
from stages.report.record import METHODS, RESOLUTIONS, CaseRecords, results
from stages.report.settings import ReportSettings

FIELD_FILES = ("field.vti", "field.vtu")
_COMPARED = ("images", "surfaces", "flows")
_SOURCES = {
    "flow": "surface",
    "comparison/images": "restored",
    "comparison/surfaces": "surface",
    "comparison/flows": "flow",
}
"""Of which artefacts a record's inputs of the same names are."""


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
        """Return a resolution's folder of a kind: airway, surface, flow or flow-coarse and so on."""
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
    """Write report.html, report.pdf, results.json and settings.yaml of one case.

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
    UsageError
        If the output exists and may not be overwritten.
    """
    check_writable(output, overwrite=overwrite)
    paths = CasePaths(folder, case, interpolation)
    records = read_records(paths)
    summary = results(records)
    with publish(
        output,
        kind="report",
        stage="report",
        settings=settings,
        inputs={name: str(s.get("sha256")) for name, s in records.sidecars.items()},
        tolerance="pictures of surfaces depend on the machine's OpenGL",
        overwrite=overwrite,
        folder=True,
    ) as pending:
        made = numbered(list(make_parts(paths, records, summary, settings, pending.warnings)))
        summary["warnings"] += [f"report: {text}" for text in pending.warnings]
        plan = repeat.settings_yaml(summary, interpolation, settings.model_dump(mode="json"))
        content = _content(summary, made, interpolation, command or repeat.command(case), plan)
        write_json(pending.path / "results.json", summary)
        (pending.path / repeat.SETTINGS_FILE).write_text(plan, encoding="utf-8")
        (pending.path / "report.html").write_text(html(content), encoding="utf-8")
        (pending.path / "report.pdf").write_bytes(pdf(content))


def _content(
    summary: Mapping[str, Any], made: tuple[Part, ...], interpolation: str, command: str, plan: str
) -> Content:
    texts, references = methods(summary, interpolation)
    return Content(
        case=summary["case"],
        patent=summary["airway"]["patent"],
        subtitle=subtitle(summary),
        answer=answer(summary),
        parts=made,
        warnings=tuple(summary["warnings"]),
        methods=tuple(texts),
        references=tuple(references),
        facts=facts(summary),
        digests=tuple((name, str(v)) for name, v in summary["provenance"]["artefacts"].items()),
        command=command,
        settings=plan,
    )


def make_parts(
    paths: CasePaths,
    records: CaseRecords,
    summary: Mapping[str, Any],
    settings: ReportSettings,
    warnings: list[str],
) -> Iterator[Part]:
    """Yield every section that the case's artefacts allow, reading what it needs."""
    yield parts.pressure_part(summary)
    volumes = {
        name: read_volume(paths.volume(name))
        for name in track(list(RESOLUTIONS), "report: volumes")
        if name == "hr" or paths.volume(name).is_file()
    }
    lumen = paths.folder("airway", "hr") / "lumen.nii.gz"
    known = read_volume(lumen) if lumen.is_file() else None
    yield parts.image_part(summary, volumes, known, settings)
    if records.surfaces:
        walls = {
            name: read_triangles(paths.folder("surface", name) / "wall.stl")
            for name in track([n for n in RESOLUTIONS if n in summary["surface"]], "report: walls")
        }
        yield parts.surface_part(summary, walls, warnings)
    if records.flow_records:
        fields = {name: read_field(paths.folder("flow", name)) for name in records.flow_records}
        yield parts.flow_part(records, fields)


def read_records(paths: CasePaths) -> CaseRecords:
    """Read every record of a case.

    Raises
    ------
    InputError
        If the thin-slice volume, its airway or the image comparison is missing, or a comparison or flow was
        made from other data than those that stand beside it.
    """
    sidecars = _sidecars(paths)
    _refuse_outdated(sidecars)
    airways = {
        name: read_json(paths.folder("airway", name) / "airway.json")
        for name in RESOLUTIONS
        if name == "hr" or paths.folder("airway", name).is_dir()
    }
    grid = read_volume(paths.volume("hr")).grid
    return CaseRecords(
        case=paths.case,
        sidecars=sidecars,
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
        flow_records=_flow_records(paths, "flow"),
        coarse_records=[_flow_records(paths, kind) for kind in _coarse_kinds(paths)],
    )


def _flow_records(paths: CasePaths, kind: str) -> dict[str, dict[str, Any]]:
    files = {name: paths.folder(kind, name) / "flow.json" for name in RESOLUTIONS}
    return {name: read_json(path) for name, path in files.items() if path.is_file()}


def _coarse_kinds(paths: CasePaths) -> list[str]:
    """List the folders of coarser lattices, the least coarse first."""
    found = paths.results.glob("flow-coarse*")
    return sorted((p.name for p in found if (p / paths.case).is_dir()), key=lambda n: (len(n), n))


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _sidecars(paths: CasePaths) -> dict[str, dict[str, Any]]:
    base = paths.results
    places = {
        "volumes/hr": base / "volumes" / paths.case / "hr.nii.gz",
        "triplets": base / "triplets" / paths.case,
        "model": base / "model",
    }
    places |= {f"restored/{m}": base / "restored" / paths.case / f"{m}.nii.gz" for m in METHODS}
    kinds = ("airway", "surface", "flow", *_coarse_kinds(paths))
    places |= {f"{kind}/{r}": paths.folder(kind, r) for kind in kinds for r in RESOLUTIONS}
    places |= {f"comparison/{kind}": paths.comparison(kind) for kind in _COMPARED}
    found = {name: read_sidecar(path) for name, path in places.items() if path.exists()}
    return {name: sidecar for name, sidecar in found.items() if sidecar}


def _refuse_outdated(sidecars: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a record whose inputs have been replaced since: its numbers would be those of other data."""
    for name, sidecar in sidecars.items():
        source = _SOURCES.get(name) or _SOURCES.get(name.partition("/")[0])
        for key, digest in sidecar.get("inputs", {}).items():
            now = sidecars.get(f"{source}/{key}", {}).get("sha256", digest)
            if now != digest:
                raise InputError(
                    f"{name}: made from another {source}/{key} (sha256 {digest[:8]}) than the one beside it "
                    f"({now[:8]}); run that stage again, or the whole case with `ct2flow run`."
                )


def read_triangles(path: Path) -> Float[np.ndarray, "face 3 3"]:
    """Read the triangles of an STL file, mm.

    Raises
    ------
    InputError
        If it is missing or no STL.
    """
    try:
        mesh = trimesh.load_mesh(path, file_type="stl", process=False)
        return np.asarray(mesh.triangles, dtype=np.float64)
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path.parent.name}/{path.name}: is missing or no readable STL; run "
            "'ct2flow surface' again."
        ) from error


def read_field(folder: Path) -> sections.FlowField:
    """Read a flow folder's field; an unstructured one is sampled on its lattice's box.

    Raises
    ------
    InputError
        If the file is missing or lacks velocity or pressure.
    """
    path = next((folder / name for name in FIELD_FILES if (folder / name).is_file()), None)
    if path is None:
        raise InputError(f"{folder.name}: has no field.vti; simulate the flow again.")
    image = pyvista.read(path)
    if not isinstance(image, pyvista.ImageData):
        image = _on_box(image, read_json(folder / "flow.json")["lattice"]["spacing_mm"])
    at_points = "velocity" in image.point_data
    data = image.point_data if at_points else image.cell_data
    if "velocity" not in data or "pressure" not in data:
        raise InputError(f"{folder.name}/{path.name}: lacks velocity or pressure.")
    counts = image.dimensions if at_points else [n - 1 for n in image.dimensions]
    shape = tuple(counts)[::-1]
    spacing = float(image.spacing[0])
    fluid = np.asarray(data["fluid"]).reshape(shape) > 0 if "fluid" in data else True
    speed = np.linalg.norm(np.asarray(data["velocity"], dtype=np.float32), axis=1).reshape(shape)
    return sections.FlowField(
        np.where(fluid, speed, np.nan),
        np.where(fluid, np.asarray(data["pressure"]).reshape(shape), np.nan),
        np.array(image.origin) + (0.0 if at_points else 0.5 * spacing),
        spacing,
    )


def _on_box(mesh: pyvista.DataSet, spacing_mm: float) -> pyvista.ImageData:
    """Sample an unstructured field at the points of a regular box; outside it is no fluid."""
    low, high = np.array(mesh.bounds).reshape(3, 2).T
    counts = np.ceil((high - low) / spacing_mm).astype(int) + 1
    box = pyvista.ImageData(dimensions=counts, spacing=(spacing_mm,) * 3, origin=low)
    sampled = box.sample(mesh)
    sampled.point_data["fluid"] = sampled.point_data["vtkValidPointMask"]
    return sampled
