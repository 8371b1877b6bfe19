"""Artefacts: what a stage leaves on disk, whole or not at all, with the record of its making."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipeline.core.errors import InputError, UsageError
from pipeline.core.provenance import code_digest, commit, library_versions, package_version

SIDECAR_FORMAT = 1
FOLDER_SIDECAR = "artefact.json"


@dataclass
class Pending:
    """An artefact in the making: where to write it and what to note beside it.

    Parameters
    ----------
    path
        Temporary file or folder to write to; it has the final name's suffixes.
    warnings
        Caveats of a result that stands; they appear in the sidecar and in the report.
    properties
        Facts about the result, JSON values with units in their names.
    """

    path: Path
    warnings: list[str] = field(default_factory=list)
    properties: dict[str, Any] = field(default_factory=dict)


@contextmanager
def publish(
    output: Path,
    *,
    kind: str,
    stage: str,
    settings: BaseModel | Mapping[str, Any],
    inputs: Sequence[Path] | Mapping[str, str] = (),
    seed: int | None = None,
    device: str = "cpu",
    tolerance: str | None = None,
    overwrite: bool = False,
    folder: bool = False,
) -> Iterator[Pending]:
    """Let the body write an artefact under a temporary name, then rename it with its sidecar.

    Parameters
    ----------
    output
        Final file or folder.
    kind
        What it is: ``volume``, ``surface``, ``flow``, ...
    stage
        Name of the room that makes it.
    settings
        Every setting that shaped it.
    inputs
        Files or artefact folders it was made from, or their digests by a harmless name.
    seed
        Seed of everything random, if any.
    device
        Device that computed it.
    tolerance
        How far a second run may differ; None promises equal bytes.
    overwrite
        Replace an artefact that exists.
    folder
        The artefact is a folder.

    Raises
    ------
    UsageError
        If the output exists and may not be overwritten, or its folder cannot be made.
    """
    check_writable(output, overwrite=overwrite)
    temporary = output.parent / f".partial.{output.name}"
    _remove(temporary)
    if folder:
        temporary.mkdir()
    pending = Pending(temporary)
    try:
        yield pending
        record = _record(pending, kind, stage, settings, inputs, folder=folder)
        record |= {"seed": seed, "device": device, "tolerance": tolerance}
        _finish(pending.path, output, record, folder=folder)
    finally:
        _remove(temporary)


def check_writable(output: Path, *, overwrite: bool) -> None:
    """Make the output's folder and refuse to overwrite unless told to.

    Raises
    ------
    UsageError
        If the output exists and may not be overwritten, or its folder cannot be made.
    """
    if output.exists() and not overwrite and not _is_empty_folder(output):
        raise UsageError(f"{output}: exists; choose another name or add --overwrite.", path=output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{output.parent}: cannot be made a folder ({error.strerror}); choose another output.",
            path=output,
        ) from error


def sidecar_path(artefact: Path) -> Path:
    """Return where the sidecar of a file or folder artefact lies."""
    if artefact.is_dir():
        return artefact / FOLDER_SIDECAR
    return artefact.with_name(artefact.name + ".json")


def read_sidecar(artefact: Path) -> dict[str, Any]:
    """Read the sidecar of an artefact; an artefact of the user's own making has none: empty."""
    path = sidecar_path(artefact)
    if not path.is_file():
        return {}
    return read_json(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    InputError
        If the file is missing or holds no JSON object.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file.", path=path) from error
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: is not readable as JSON.", path=path) from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no JSON object.", path=path)
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON with fixed layout; NaN and infinities are refused."""
    path.write_text(json.dumps(content, indent=2, allow_nan=False, sort_keys=False) + "\n")


def digest(path: Path) -> str:
    """Return the sha256 of a file, or of a folder's files by name (its sidecar left out)."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    total = hashlib.sha256()
    for name, value in _file_digests(path).items():
        total.update(f"{name}\0{value}\n".encode())
    return total.hexdigest()


def _file_digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and _is_content(p))
    return {p.relative_to(folder).as_posix(): digest(p) for p in files}


def _is_content(path: Path) -> bool:
    """Leave out the sidecar and hidden files, such as a workflow engine's time stamp."""
    return path.name != FOLDER_SIDECAR and not path.name.startswith(".")


def _record(
    pending: Pending,
    kind: str,
    stage: str,
    settings: BaseModel | Mapping[str, Any],
    inputs: Sequence[Path] | Mapping[str, str],
    *,
    folder: bool,
) -> dict[str, Any]:
    by_name = dict(inputs) if isinstance(inputs, Mapping) else {p.name: digest(p) for p in inputs}
    plain = settings.model_dump(mode="json") if isinstance(settings, BaseModel) else dict(settings)
    return {
        "format": SIDECAR_FORMAT,
        "kind": kind,
        "sha256": digest(pending.path),
        **({"files": _file_digests(pending.path)} if folder else {}),
        "stage": stage,
        "settings": plain,
        "inputs": by_name,
        "code": {"version": package_version(), "commit": commit(), "digest": code_digest(stage)},
        "libraries": library_versions(),
        "warnings": list(pending.warnings),
        "properties": dict(pending.properties),
    }


def _finish(temporary: Path, output: Path, record: Mapping[str, Any], *, folder: bool) -> None:
    if folder:
        write_json(temporary / FOLDER_SIDECAR, record)
        _remove(output)
        temporary.rename(output)
        return
    sidecar = output.with_name(output.name + ".json")
    sidecar.unlink(missing_ok=True)
    temporary.replace(output)
    draft = output.with_name(f".partial.{sidecar.name}")
    write_json(draft, record)
    draft.replace(sidecar)


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()
