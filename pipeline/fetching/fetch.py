"""Fetch the scans of a manifest: resumed, verified, and locked by their digests for the next time."""

from __future__ import annotations

import logging
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import FrameType
from urllib.parse import unquote, urlsplit

from pipeline.core.errors import InputError, UsageError
from pipeline.core.manifests import Case, Manifest, read_manifest, write_manifest
from pipeline.fetching.bucket import (
    PAGE_BYTES,
    PUBLIC_ENDPOINT,
    is_bucket_url,
    list_files,
    parse_series,
)
from pipeline.fetching.https import Patience, check_reachable, check_url, host_of, read_body
from pipeline.fetching.lock import LOCK_NAME, CaseLock, lock_case, read_lock, write_lock
from pipeline.fetching.parallel import download_all
from pipeline.fetching.partial import PARTIAL_PREFIX
from pipeline.fetching.remote_file import RemoteFile

_LOG = logging.getLogger("ct2flow.fetch")
MANIFEST_NAME = "manifest.csv"
MAX_JOBS = 16
_SPARE_BYTES = 100_000_000
"""Room that is left on the disc: a full disc harms more than this run."""


@dataclass(frozen=True)
class FetchSettings:
    """Say where to fetch from, how many files at once, and how patiently.

    Parameters
    ----------
    base_url
        Server to ask instead of the manifest's own; ``{bucket}`` in it stands for a bucket's name.
    jobs
        Files at the same time.
    patience
        Time-outs and attempts.
    """

    base_url: str = ""
    jobs: int = 4
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True)
class Plan:
    """Hold what is to be fetched of one case, and what of it is here."""

    case: Case
    folder: Path
    files: tuple[RemoteFile, ...]
    missing: tuple[RemoteFile, ...]


def fetch_all(
    path: Path,
    output: Path,
    settings: FetchSettings,
    *,
    names: Sequence[str] = (),
    lock: Path | None = None,
) -> None:
    """Fetch the cases of a manifest into a folder, and write a manifest of what is there.

    Parameters
    ----------
    path
        The manifest.
    output
        Folder to write: one folder for each case, ``manifest.csv`` and ``fetched.json``.
    settings
        Server, parallel files and patience.
    names
        Cases to fetch; none means all.
    lock
        A ``fetched.json`` whose digests the files must have; None means the output's own.

    Raises
    ------
    UsageError
        If a case or the lock is unknown, the base address is none or the output is no folder.
    InputError
        If the manifest is unusable, the network or the server fails, the disc is too small, or a
        file is another than the manifest, the server's list or the lock say.
    """
    if settings.base_url and urlsplit(settings.base_url).scheme not in {"http", "https"}:
        raise UsageError(f"--base-url {settings.base_url}: needed is http://HOST or https://HOST.")
    manifest = read_manifest(path)
    cases = [case for case in _chosen(manifest, names, path) if case.source != "phantom"]
    _check_output(output, manifest)
    locks = read_lock(output / LOCK_NAME)
    wanted = locks if lock is None else _demand(lock, cases)
    stop = threading.Event()
    with _terminated_as_interrupted():
        plans = [_plan(case, output, wanted.get(case.case), settings, stop) for case in cases]
        _check_space(output, plans)
        output.mkdir(parents=True, exist_ok=True)
        for plan in plans:
            _fetch_case(plan, settings, stop)
            locks[plan.case.case] = lock_case(plan.case, plan.folder, plan.files)
            write_lock(output / LOCK_NAME, locks)
            _write_manifest(output, manifest, locks)
    _write_manifest(output, manifest, locks)


def _chosen(manifest: Manifest, names: Sequence[str], path: Path) -> list[Case]:
    known = {case.case for case in manifest.cases}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(
            f"{path.name}: lists no case '{unknown[0]}'; it has {', '.join(sorted(known))}.",
            unknown=unknown,
        )
    return [case for case in manifest.cases if not names or case.case in names]


def _check_output(output: Path, manifest: Manifest) -> None:
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output}: is no folder; choose another output.")
    earlier = output / MANIFEST_NAME
    if not earlier.exists():
        return
    foreign = {c.case for c in read_manifest(earlier).cases} - {c.case for c in manifest.cases}
    if foreign:
        raise UsageError(
            f"{output}: holds cases of another manifest ({min(foreign)}); choose another output.",
            foreign=sorted(foreign),
        )


def _demand(lock: Path, cases: Sequence[Case]) -> dict[str, CaseLock]:
    """Read the lock that the user gave; it must hold every case, and of the same place."""
    if not lock.is_file():
        raise UsageError(f"{lock}: no such file; give the {LOCK_NAME} of an earlier fetch.")
    locks = read_lock(lock)
    for case in cases:
        found = locks.get(case.case)
        if found is None or found.url != case.url:
            there = f"has it from {found.url}" if found else "does not have it"
            raise InputError(
                f"{case.case}: the manifest fetches it from {case.url}, {lock.name} {there}; give "
                "the lock of this manifest, or leave --lock out.",
                case=case.case,
            )
    return locks


def _plan(
    case: Case, output: Path, lock: CaseLock | None, settings: FetchSettings, stop: threading.Event
) -> Plan:
    """Find out what a case consists of: from its lock, else from the manifest or the server."""
    folder = output / case.case
    locked = lock if lock is not None and lock.url == case.url else None
    if is_bucket_url(case.url):
        files = _files_of_series(case, locked, settings, stop)
    else:
        files = (_single_file(case, locked, settings),)
    missing = tuple(file for file in files if not file.is_content_of(folder / file.name))
    for url in {file.url for file in missing[:1]}:
        _check_server(url, settings)
    return Plan(case, folder, files, missing)


def _files_of_series(
    case: Case, lock: CaseLock | None, settings: FetchSettings, stop: threading.Event
) -> tuple[RemoteFile, ...]:
    series = parse_series(case.url, settings.base_url or PUBLIC_ENDPOINT)
    if lock is not None:
        return tuple(
            RemoteFile(series.url(file.name), file.name, file.size_bytes, sha256=file.sha256)
            for file in lock.files
        )
    _check_server(series.endpoint, settings)
    files = list_files(series, lambda url: read_body(url, PAGE_BYTES, settings.patience, stop))
    _LOG.info("%s: %d files listed", case.case, len(files))
    found = (len(files), sum(file.size_bytes or 0 for file in files))
    wanted = (case.files or found[0], case.size_bytes or found[1])
    if not files or found != wanted:
        raise InputError(
            f"{case.case}: {host_of(series.endpoint)} lists {found[0]} files of {found[1]} bytes "
            f"in {series.prefix}, the manifest says {wanted[0]} of {wanted[1]}; the series was "
            "revised or withdrawn. Make the manifest anew.",
            case=case.case,
            found=found,
            wanted=wanted,
        )
    return files


def _single_file(case: Case, lock: CaseLock | None, settings: FetchSettings) -> RemoteFile:
    """Describe the file that a row addresses; a row may name only a page about the data."""
    name = PurePosixPath(case.path).name
    parts = urlsplit(case.url)
    if PurePosixPath(unquote(parts.path)).name != name or not (case.sha256 and case.files == 1):
        raise InputError(
            f"{case.case}: cannot be fetched by itself; needed is s3://BUCKET/FOLDER/ as url, or "
            f"the address of the one file {name} with its sha256. Get it by hand from "
            f"{case.url or 'its owner'}.",
            case=case.case,
        )
    base = settings.base_url.rstrip("/")
    url = f"{base}{parts.path}" if base else case.url
    size = case.size_bytes or (lock.files[0].size_bytes if lock else None)
    return RemoteFile(url, name, size, sha256=case.sha256)


def _check_server(url: str, settings: FetchSettings) -> None:
    check_url(url, plain_http=bool(settings.base_url))
    check_reachable(url, settings.patience)


def _check_space(output: Path, plans: Sequence[Plan]) -> None:
    """Refuse before the first byte what the disc cannot hold."""
    needed = sum(_bytes_to_come(plan) for plan in plans)
    root = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    free = shutil.disk_usage(root).free
    if needed and needed + _SPARE_BYTES > free:
        raise InputError(
            f"{output}: {free / 1e9:.1f} GB are free, needed are "
            f"{(needed + _SPARE_BYTES) / 1e9:.1f} GB; choose another disc or fewer cases (--case).",
            free_bytes=free,
            needed_bytes=needed,
        )


def _bytes_to_come(plan: Plan) -> int:
    """Return the bytes of the missing files, less what earlier runs left of them."""
    return sum(
        max((file.size_bytes or 0) - _length(plan.folder / f"{PARTIAL_PREFIX}{file.name}"), 0)
        for file in plan.missing
    )


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _fetch_case(plan: Plan, settings: FetchSettings, stop: threading.Event) -> None:
    name = plan.case.case
    _refuse_strangers(plan)
    if not plan.missing:
        _LOG.info("%s: is there already, %d files verified", name, len(plan.files))
        return
    plan.folder.mkdir(exist_ok=True)
    total = _bytes_to_come(plan)
    _LOG.info("%s: fetches %d of %d files", name, len(plan.missing), len(plan.files))
    download_all(
        plan.missing,
        plan.folder,
        jobs=settings.jobs,
        patience=settings.patience,
        stop=stop,
        description=f"fetch {name}",
        total_bytes=total,
    )
    for left in plan.folder.glob(f"{PARTIAL_PREFIX}*"):
        left.unlink()


def _refuse_strangers(plan: Plan) -> None:
    """Refuse a folder with other files in it: they would be taken for slices of the scan."""
    if not plan.folder.is_dir():
        return
    names = {file.name for file in plan.files}
    strangers = sorted(
        path.name
        for path in plan.folder.iterdir()
        if path.name not in names and not path.name.startswith(".")
    )
    if strangers:
        raise InputError(
            f"{plan.folder}: holds {len(strangers)} files that are not of this scan (first: "
            f"{strangers[0]}); move them away and run the same command again.",
            strangers=strangers,
        )


def _write_manifest(output: Path, manifest: Manifest, locks: Mapping[str, CaseLock]) -> None:
    """Write the manifest of what is here: paths below the output, digests of what was fetched."""
    here = [_local(case, locks) for case in manifest.cases]
    cases = tuple(case for case in here if case is not None)
    if cases:
        draft = output / f"{PARTIAL_PREFIX}{MANIFEST_NAME}"
        write_manifest(draft, Manifest(cases))
        draft.replace(output / MANIFEST_NAME)


def _local(case: Case, locks: Mapping[str, CaseLock]) -> Case | None:
    if case.source == "phantom":
        return case
    lock = locks.get(case.case)
    if lock is None or lock.url != case.url:
        return None
    is_file = not is_bucket_url(case.url)
    update = {
        "path": f"{case.case}/{lock.files[0].name}" if is_file else case.case,
        "files": len(lock.files),
        "sha256": lock.sha256,
        "size_bytes": sum(file.size_bytes for file in lock.files),
    }
    return case.model_copy(update=update)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does; only the main thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    earlier = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)
