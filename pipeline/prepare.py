"""Prepare the data of a manifest: every case a volume in HU, made once."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from pipeline.core.artefacts import digest, read_sidecar
from pipeline.core.errors import InputError, UsageError
from pipeline.core.manifests import (
    Case,
    Manifest,
    check_manifest,
    read_manifest,
    write_manifest,
)
from pipeline.core.progress import track
from pipeline.core.provenance import code_digest

_LOG = logging.getLogger("ct2flow.prepare")
PREPARED_NAME = "manifest.csv"


def check_all(path: Path, data_root: Path, report: TextIO) -> None:
    """Check a manifest against the data and report one line per case.

    Raises
    ------
    InputError
        If the manifest is unusable or any case is missing or altered.
    """
    checks = check_manifest(read_manifest(path), data_root)
    for check in checks:
        case = check.case
        report.write(f"{case.case}  {case.role}  {case.source}  {check.problem or 'ok'}\n")
    bad = [check for check in checks if check.problem]
    if bad:
        raise InputError(
            f"{path.name}: {len(bad)} of {len(checks)} cases are not as the manifest says "
            f"(first: {bad[0].problem}); fetch the data again or correct --data-root.",
            cases=[check.case.case for check in bad],
        )


def prepare_all(path: Path, data_root: Path, output: Path) -> None:
    """Make a volume of every case, skip those already made, and write the prepared manifest.

    Raises
    ------
    InputError
        If the manifest is unusable, data are missing or altered, or a case cannot be read.
    UsageError
        If the output cannot be made a folder.
    """
    manifest = read_manifest(path)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{output}: cannot be made a folder ({error.strerror}).") from error
    cases = [_prepare(case, data_root, output) for case in track(manifest.cases, "prepare")]
    draft = output / f".partial.{PREPARED_NAME}"
    write_manifest(draft, Manifest(tuple(cases)))
    draft.replace(output / PREPARED_NAME)


def _prepare(case: Case, data_root: Path, output: Path) -> Case:
    volume = output / f"{case.case}.nii.gz"
    check = check_manifest(Manifest((case,)), data_root)[0]
    if check.problem:
        raise InputError(
            f"{case.case}: {check.problem}; fetch the data again or correct --data-root.",
            case=case.case,
        )
    if _is_done(case, data_root, volume):
        _LOG.info("%s: is there already", case.case)
    else:
        _run(case, [*_command(case, data_root), "--output", str(volume), "--overwrite"])
    update = {"source": "volume", "path": volume.name, "files": 1, "size_bytes": 0}
    update["sha256"] = digest(volume)
    return case.model_copy(update=update)


def _command(case: Case, data_root: Path) -> list[str]:
    if case.source == "phantom":
        settings = case.phantom_settings().items()
        flags = (part for name, value in settings for part in (_flag(name), value))
        return ["phantom", "volume", *flags]
    return ["ingest", str(data_root / case.path)]


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _is_done(case: Case, data_root: Path, volume: Path) -> bool:
    """Say whether the volume is whole and was made by this code of these inputs."""
    record = read_sidecar(volume) if volume.is_file() else {}
    if not record or record.get("sha256") != digest(volume):
        return False
    stage = "phantom" if case.source == "phantom" else "ingest"
    code = record.get("code")
    if not isinstance(code, dict) or code.get("digest") != code_digest(stage):
        return False
    if case.source == "phantom":
        return record.get("stage") == stage and _has_settings(record, case.phantom_settings())
    inputs = record.get("inputs")
    wanted = case.sha256 or digest(data_root / case.path)
    return isinstance(inputs, dict) and inputs.get("scan") == wanted


def _has_settings(record: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    found = {**record.get("settings", {}), "seed": record.get("seed")}
    names = {name: name.replace("-", "_") for name in wanted}
    return all(_same(found.get(names[name]), value) for name, value in wanted.items())


def _same(found: object, wanted: str) -> bool:
    try:
        return float(str(found)) == float(wanted)
    except ValueError:
        return str(found) == wanted


def _run(case: Case, arguments: Sequence[str]) -> None:
    """Run a command of ours in its own process; its progress and its error go to stderr."""
    command = [sys.executable, "-m", "pipeline.cli", *arguments]
    result = subprocess.run(command, check=False, env=dict(os.environ))  # noqa: S603 -- our own
    if result.returncode < 0 or result.returncode == 130:
        raise KeyboardInterrupt
    if result.returncode:
        raise InputError(
            f"{case.case}: could not be made into a volume (exit code {result.returncode}); the "
            "message above says why.",
            case=case.case,
        )
