"""Data manifests: which scans, from where, under which licence, for which use, by patient."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pipeline.core.artefacts import FOLDER_SIDECAR, digest
from pipeline.core.errors import InputError

Role = Literal["train", "validation", "test"]
Source = Literal["dicom", "volume", "phantom"]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SHA256 = r"^([0-9a-f]{64})?$"
_UID = r"^([0-9.]{1,64})?$"


class Case(BaseModel):
    """Describe one scan: one row of a manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str = Field(description="Harmless name, unique in the manifest; names files.")
    patient: str = Field(description="Harmless name of the person or phantom; never shared roles.")
    role: Role = Field(description="Use of the scan: train, validation or test.")
    source: Source = Field(description="Kind: DICOM folder or zip, volume file, or phantom.")
    path: str = Field(description="Relative to the data root; for a phantom its settings.")
    files: int = Field(default=0, ge=0, description="Number of files; 0 for a phantom.")
    sha256: str = Field(default="", pattern=_SHA256, description="Digest; empty for a phantom.")
    licence: str = Field(default="", description="Licence, SPDX where there is one.")
    url: str = Field(default="", description="Where the data come from.")
    notes: str = Field(default="", description="Anything worth knowing.")
    size_bytes: int = Field(default=0, ge=0, description="Sum of the files' sizes; 0 if unknown.")
    series_uid: str = Field(default="", pattern=_UID, description="DICOM SeriesInstanceUID.")
    doi: str = Field(default="", description="DOI to cite whoever uses the scan.")

    @field_validator("case", "patient")
    @classmethod
    def _harmless(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError("needed is a name of letters, digits, '-' and '_'")
        return value

    @field_validator("path")
    @classmethod
    def _inside(cls, value: str) -> str:
        path = PurePosixPath(value)
        if not value or path.is_absolute() or ".." in path.parts:
            raise ValueError("needed is a path relative to the data root, without '..'")
        return value

    def phantom_settings(self) -> dict[str, str]:
        """Return the settings of a phantom, such as ``{"seed": "7", "matrix": "256"}``.

        Raises
        ------
        InputError
            If the path is no list of ``name=value``.
        """
        pairs = [part.strip().partition("=") for part in self.path.split(",")]
        if not all(name and separator and value for name, separator, value in pairs):
            raise InputError(
                f"{self.case}: '{self.path}' is no list of phantom settings; needed is "
                "name=value, such as seed=7,matrix=256.",
                case=self.case,
            )
        return {name.strip(): value.strip() for name, _, value in pairs}


COLUMNS = tuple(Case.model_fields)
_REQUIRED = tuple(name for name, field in Case.model_fields.items() if field.is_required())


@dataclass(frozen=True)
class Manifest:
    """Hold the cases of a study; each patient has one role."""

    cases: tuple[Case, ...]

    def with_role(self, role: Role) -> tuple[Case, ...]:
        """Return the cases of one role."""
        return tuple(case for case in self.cases if case.role == role)


@dataclass(frozen=True)
class CaseCheck:
    """Say what is wrong with the data of a case; an empty problem means nothing."""

    case: Case
    problem: str


def read_manifest(path: Path) -> Manifest:
    """Read a manifest and refuse one whose split leaks.

    Raises
    ------
    InputError
        If the file is missing or no manifest, a row is unusable, a case appears twice or a
        patient has two roles.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path.name}: no such file; give a manifest.", path=path) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name}: is not readable as text; give a CSV file.") from error
    return parse_manifest(text, path.name)


def parse_manifest(text: str, name: str) -> Manifest:
    """Parse the text of a manifest; `name` appears in error sentences.

    Raises
    ------
    InputError
        As `read_manifest`.
    """
    try:
        reader = csv.DictReader(io.StringIO(text), strict=True)
        rows = list(reader)
    except csv.Error as error:
        raise InputError(f"{name}: is no CSV file ({error}); correct it.") from error
    found = reader.fieldnames or []
    unknown = [column for column in found if column not in COLUMNS]
    missing = [column for column in _REQUIRED if column not in found]
    if missing or unknown:
        raise InputError(
            f"{name}: has the columns {','.join(found) or 'none'}; needed are "
            f"{','.join(COLUMNS)}. Correct the first line.",
            missing=missing,
            unknown=unknown,
        )
    cases = tuple(_case(name, i, row) for i, row in enumerate(rows, start=2))
    if not cases:
        raise InputError(f"{name}: lists no case; add one line per scan.")
    _refuse_duplicates(name, cases)
    _refuse_leaks(name, cases)
    return Manifest(cases)


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a manifest as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(case.model_dump() for case in manifest.cases)
    path.write_text(text.getvalue(), encoding="utf-8")


def check_manifest(manifest: Manifest, root: Path) -> tuple[CaseCheck, ...]:
    """Compare the data below a root folder with a manifest: presence, count and digest."""
    return tuple(CaseCheck(case, _problem(case, root)) for case in manifest.cases)


def count_files(path: Path) -> int:
    """Return the number of files that `digest` covers: 1 for a file."""
    if path.is_file():
        return 1
    files = (p for p in path.rglob("*") if p.is_file())
    return sum(1 for p in files if p.name != FOLDER_SIDECAR and not p.name.startswith("."))


def _problem(case: Case, root: Path) -> str:
    if case.source == "phantom":
        case.phantom_settings()
        return ""
    path = root / case.path
    if not path.exists():
        return f"{case.path}: is not below the data root"
    count = count_files(path)
    if case.files and count != case.files:
        return f"{case.path}: holds {count} files, the manifest says {case.files}"
    if case.sha256 and digest(path) != case.sha256:
        return f"{case.path}: has another content than the manifest's sha256 says"
    return ""


def _case(name: str, line: int, row: Mapping[str | None, Any]) -> Case:
    if None in row or None in row.values():
        raise InputError(
            f"{name}, line {line}: has another number of fields than the first line; quote "
            "fields that hold commas.",
            line=line,
        )
    filled = {str(k): v.strip() for k, v in row.items() if v.strip()}
    try:
        return Case.model_validate(filled)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{name}, line {line}: {field}: {first['msg']}; correct it.", line=line, field=field
        ) from error


def _refuse_duplicates(name: str, cases: Iterable[Case]) -> None:
    seen: set[str] = set()
    for case in cases:
        if case.case in seen:
            raise InputError(
                f"{name}: lists the case {case.case} twice; give each its own name.",
                case=case.case,
            )
        seen.add(case.case)


def _refuse_leaks(name: str, cases: Iterable[Case]) -> None:
    roles: dict[str, Role] = {}
    for case in cases:
        known = roles.setdefault(case.patient, case.role)
        if known != case.role:
            raise InputError(
                f"{name}: patient {case.patient} is in {known} and in {case.role}; one patient "
                f"has one role ({', '.join(get_args(Role))}), or the test sees what it learnt.",
                patient=case.patient,
            )
