"""Run one flow on several lattices, the coarsest first, and write what they say together."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.core.artefacts import publish, read_json, read_sidecar, write_json
from pipeline.core.errors import UsageError
from stages.flow.refinement.ladder import checked_spacings, ladder_record, peak_ratio
from stages.flow.restart import case_digest
from stages.flow.settings import FlowSettings
from stages.flow.stage import input_digests, run

_LOG = logging.getLogger("ct2flow.flow")
RECORD = "refinement.json"


def refine(
    surface_folder: Path,
    output: Path,
    settings: FlowSettings,
    *,
    spacings_mm: Sequence[float],
    probes: Path | None = None,
    planes: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Simulate a surface on several lattices; those that are done are kept.

    Parameters
    ----------
    surface_folder
        Folder with wall.stl, inlet*.stl and outlet*.stl, lengths in mm.
    output
        Folder to write: a flow folder for each spacing and refinement.json.
    settings
        Everything but the spacing.
    spacings_mm
        Two or more spacings.
    probes, planes
        As for a single flow; every lattice measures them.
    overwrite
        Replace flow folders of other settings.

    Raises
    ------
    UsageError
        If the spacings make no ladder or a flow folder of other settings is in the way.
    InputError, NumericalError
        As for a single flow.
    """
    done: list[Path] = []
    ladder = [
        FlowSettings.model_validate(settings.model_dump() | {"spacing_mm": spacing_mm})
        for spacing_mm in checked_spacings(spacings_mm)
    ]
    for chosen in ladder:
        folder = output / f"{chosen.spacing_mm:g}mm"
        initial = done[0] / "field.vti" if done else None
        sources = input_digests(surface_folder, (probes, planes, initial), done)
        ratio = peak_ratio(read_json(done[0] / "flow.json"), settings) if done else None
        case = case_digest(surface_folder, chosen, initial, ratio)
        if _is_done(folder, case, sources, overwrite=overwrite):
            _LOG.info("%s: is done and kept", folder.name)
        else:
            run(
                *(surface_folder, folder, chosen),
                probes=probes,
                planes=planes,
                overwrite=True,
                initial=initial,
                coarser=done,
            )
        done.insert(0, folder)
    _write(output / RECORD, settings, done)


def _write(path: Path, settings: FlowSettings, done: Sequence[Path]) -> None:
    record = ladder_record([read_json(folder / "flow.json") for folder in done])
    for warning in record["warnings"]:
        _LOG.warning("%s", warning)
    with publish(
        path,
        kind="refinement",
        stage="flow",
        settings={**settings.model_dump(mode="json"), "spacing_mm": record["spacings_mm"]},
        inputs=done,
        tolerance="as its flows; seconds are measured",
        overwrite=True,
    ) as pending:
        pending.warnings += record["warnings"]
        write_json(pending.path, record)


def _is_done(folder: Path, case: str, sources: Mapping[str, str], *, overwrite: bool) -> bool:
    """Return whether a folder holds the flow of a case, made from the same files, already."""
    if not folder.exists():
        return False
    sidecar = read_sidecar(folder)
    same_files = sidecar.get("inputs") == sources
    if same_files and sidecar.get("properties", {}).get("case") == case:
        return True
    if not overwrite:
        raise UsageError(
            f"{folder.name}: holds a flow of another surface, other settings or another version; choose "
            "another --output or add --overwrite.",
            path=folder,
        )
    return False
