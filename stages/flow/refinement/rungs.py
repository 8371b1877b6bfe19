"""Read flows of the same surface on coarser lattices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from pipeline.core.artefacts import digest, read_json, read_sidecar
from pipeline.core.errors import InputError
from stages.flow.refinement.ladder import Record, spacing
from stages.flow.settings import FlowSettings


@dataclass(frozen=True)
class Rung:
    """Hold one flow folder and its flow.json."""

    folder: Path
    record: Record


def read_ladder(
    folders: Sequence[Path], surface_folder: Path, settings: FlowSettings
) -> list[Rung]:
    """Read flow folders that a run on a finer lattice is compared with, the least coarse first.

    Raises
    ------
    InputError
        If a folder holds no flow, one of another surface, or one that is not coarser than the next.
    """
    ladder = sorted((_read(f, surface_folder) for f in folders), key=lambda r: spacing(r.record))
    spacings = [settings.spacing_mm, *(spacing(rung.record) for rung in ladder)]
    if any(coarse <= fine for fine, coarse in pairwise(spacings)):
        raise InputError(
            f"--coarser: lattices of {', '.join(f'{s:g}' for s in spacings)} mm do not become coarser; give "
            f"flows on lattices above {settings.spacing_mm:g} mm, no two alike.",
            spacings_mm=spacings,
        )
    return ladder


def _read(folder: Path, surface_folder: Path) -> Rung:
    if not (folder / "flow.json").is_file():
        raise InputError(
            f"--coarser {folder.name}: holds no flow.json; give a folder that ct2flow simulate wrote."
        )
    record = read_json(folder / "flow.json")
    try:
        spacing(record)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"--coarser {folder.name}: its flow.json tells no lattice; give a folder that ct2flow simulate "
            "wrote."
        ) from error
    known = read_sidecar(folder).get("inputs", {})
    if known and digest(surface_folder) not in known.values():
        raise InputError(
            f"--coarser {folder.name}: is the flow of another surface than {surface_folder.name}; simulate "
            "this one on the coarser lattice first."
        )
    return Rung(folder, record)
