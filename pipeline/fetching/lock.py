"""Remember what was fetched, file by file, so that it can be verified for ever after."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.core.artefacts import read_json, write_json
from pipeline.core.errors import InputError
from pipeline.core.manifests import Case
from pipeline.fetching.bucket import is_bucket_url
from pipeline.fetching.partial import PARTIAL_PREFIX
from pipeline.fetching.remote_file import RemoteFile, file_digest

LOCK_NAME = "fetched.json"
_FORMAT = 1
_SHA256 = r"^[0-9a-f]{64}$"


class FileLock(BaseModel):
    """Hold the name, size and digest of one file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$", description="Plain name.")
    size_bytes: int = Field(ge=0, description="Size, bytes.")
    sha256: str = Field(pattern=_SHA256, description="Digest of the content.")


class CaseLock(BaseModel):
    """Hold the files of one case, in the order of their names, and where they came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(description="Address of the manifest.")
    sha256: str = Field(pattern=_SHA256, description="Digest as in a manifest.")
    files: tuple[FileLock, ...] = Field(min_length=1, description="The files.")


class Lock(BaseModel):
    """Hold all that was fetched into one folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(ge=_FORMAT, le=_FORMAT, description="Version of this format.")
    cases: dict[str, CaseLock] = Field(description="What was fetched, by case.")


def read_lock(path: Path) -> dict[str, CaseLock]:
    """Read a lock; one that is not there holds nothing.

    Raises
    ------
    InputError
        If the file is no lock.
    """
    if not path.exists():
        return {}
    try:
        return Lock.model_validate(read_json(path)).cases
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{path}: is no list of fetched files ({field}: {first['msg']}); delete it and fetch "
            "again, or restore it.",
            path=path,
        ) from error


def write_lock(path: Path, cases: Mapping[str, CaseLock]) -> None:
    """Write a lock, by atomic rename."""
    draft = path.with_name(PARTIAL_PREFIX + path.name)
    write_json(draft, Lock(format=_FORMAT, cases=dict(cases)).model_dump(mode="json"))
    draft.replace(path)


def lock_case(case: Case, folder: Path, files: Iterable[RemoteFile]) -> CaseLock:
    """Take the digests of a fetched case, and compare them with the manifest's.

    Raises
    ------
    InputError
        If the manifest states another digest for the whole.
    """
    locks = tuple(
        FileLock(
            name=file.name,
            size_bytes=(folder / file.name).stat().st_size,
            sha256=file_digest(folder / file.name, "sha256"),
        )
        for file in files
    )
    sha256 = _sum(locks) if is_bucket_url(case.url) else locks[0].sha256
    if case.sha256 not in {"", sha256}:
        raise InputError(
            f"{case.case}: the {len(locks)} files have the sha256 {sha256}, the manifest says "
            f"{case.sha256}; the archive changed them. Make the manifest anew.",
            case=case.case,
        )
    return CaseLock(url=case.url, sha256=sha256, files=locks)


def _sum(files: Iterable[FileLock]) -> str:
    """Return the digest of a folder of these files, as `pipeline.core.artefacts.digest` does."""
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.name}\0{file.sha256}\n".encode())
    return total.hexdigest()
