"""Download a file: resumed where it stopped, never longer than announced, whole or not at all.

References
----------
RFC 9110, HTTP Semantics, 2022: 13.1.5 (If-Range), 14.2 (Range), 15.3.7 (206 Partial Content).
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import IO

from pipeline.core.errors import InputError
from pipeline.core.progress import Progress
from pipeline.fetching.https import (
    NoSuchRangeError,
    Patience,
    Stopped,
    TransientError,
    host_of,
    open_url,
    read_some,
    with_patience,
)

PARTIAL_PREFIX = ".partial."
_CHUNK_BYTES = 1 << 17
_MEGABYTE = 1_000_000
_LAST_WORDS_S = 2.0
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True)
class RemoteFile:
    """Describe a file on a server by what is known of it before it is fetched.

    Parameters
    ----------
    url
        Address.
    name
        Plain name to give it here.
    size_bytes
        Announced size; None if unknown.
    etag
        Entity tag that a listing gave; it must be the file's own.
    sha256
        Digest that the content must have; empty if unknown.
    """

    url: str
    name: str
    size_bytes: int | None = None
    etag: str = ""
    sha256: str = ""

    @property
    def md5(self) -> str:
        """Return the MD5 digest that the entity tag is, or nothing.

        Notes
        -----
        The ETag of an object of S3 is its MD5 if it was uploaded in one part and is not encrypted
        under a key of the customer's, which no anonymous reader could read. That of an upload in
        parts holds a dash.
        """
        found = _MD5.fullmatch(self.etag)
        return found[1] if found else ""

    def is_content_of(self, path: Path) -> bool:
        """Say whether a local file is this one, as far as anything is known of it."""
        if not path.is_file() or self.size_bytes not in {None, path.stat().st_size}:
            return False
        return not self.mismatch(path)

    def mismatch(self, path: Path) -> str:
        """Say which digest a local file does not have, found and needed; nothing if it has all."""
        wanted = {"sha256": self.sha256, "md5": self.md5}
        for kind, value in wanted.items():
            found = file_digest(path, kind) if value else ""
            if found != value:
                return f"{kind} {found}, needed is {value}"
        return ""


def file_digest(path: Path, kind: str) -> str:
    """Return the digest of a file's bytes, hexadecimal; MD5 only guards against accidents."""
    with path.open("rb") as file:
        make = hashlib.sha256 if kind == "sha256" else _md5
        return hashlib.file_digest(file, make).hexdigest()


def _md5() -> hashlib._Hash:
    return hashlib.md5(usedforsecurity=False)


def download(
    file: RemoteFile,
    folder: Path,
    *,
    patience: Patience,
    stop: Event,
    report: Callable[[int], None],
) -> None:
    """Fetch a file into a folder: it has its name there only when it is whole and verified.

    Parameters
    ----------
    file
        What to fetch.
    folder
        Existing folder.
    patience
        Time-outs and attempts.
    stop
        Set by the caller to interrupt.
    report
        Receives the number of new bytes, or a negative one when bytes are thrown away.

    Raises
    ------
    InputError
        If the server refuses, sends something else than announced, or gives up.
    Stopped
        If `stop` was set.
    """
    partial = Partial(folder / f"{PARTIAL_PREFIX}{file.name}")
    kept = partial.length()
    _fetch(file, partial, patience, stop, report)
    problem = file.mismatch(partial.path)
    if problem and kept:
        # What an earlier run left may have been damaged since: one fresh start is fair.
        report(-partial.length())
        partial.discard()
        _fetch(file, partial, patience, stop, report)
        problem = file.mismatch(partial.path)
    if problem:
        report(-partial.length())
        partial.discard()
        raise InputError(
            f"{file.name} from {host_of(file.url)}: has {problem}; it was thrown away. Run the same "
            "command again, and if it stays so, report it to the archive.",
            file=file.name,
        )
    partial.publish(folder / file.name)


@dataclass(frozen=True)
class Partial:
    """A file in the making, and beside it the entity tag and size of what it is a part of."""

    path: Path

    @property
    def record(self) -> Path:
        """Return where the entity tag and the size are kept."""
        return self.path.with_name(self.path.name + ".json")

    def length(self) -> int:
        """Return the number of bytes that are here."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def resumable(self, file: RemoteFile) -> tuple[int, str, int]:
        """Return bytes here, entity tag and size of a start that belongs to the file; else zeros.

        A start is of use only with a strong entity tag: without one, a changed file would be glued
        to it unnoticed.
        """
        try:
            record = json.loads(self.record.read_text())
            etag, size = str(record["etag"]), int(record["size_bytes"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0, "", 0
        fits = file.size_bytes in {None, size} and file.etag in {"", etag}
        if not fits or not etag.startswith('"') or self.length() > size:
            return 0, "", 0
        return self.length(), etag, size

    def begin(self, etag: str, size_bytes: int) -> None:
        """Start from nothing; the old bytes go before the new entity tag comes."""
        self.path.write_bytes(b"")
        draft = self.record.with_name(self.record.name + ".new")
        draft.write_text(json.dumps({"etag": etag, "size_bytes": size_bytes}))
        draft.replace(self.record)

    def publish(self, target: Path) -> None:
        """Give the whole file its name."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(target)
        self.record.unlink(missing_ok=True)

    def discard(self) -> None:
        """Throw it away."""
        self.path.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)


def _fetch(
    file: RemoteFile,
    partial: Partial,
    patience: Patience,
    stop: Event,
    report: Callable[[int], None],
) -> None:
    def attempt() -> None:
        _continue(file, partial, patience, stop, report)

    with_patience(attempt, partial.length, file.url, patience, stop)


def _continue(
    file: RemoteFile,
    partial: Partial,
    patience: Patience,
    stop: Event,
    report: Callable[[int], None],
) -> None:
    """Ask once for what is missing and append it."""
    offset, etag, size = partial.resumable(file)
    if offset and offset == size:
        return
    headers = {"Range": f"bytes={offset}-", "If-Range": etag} if offset else {}
    try:
        # A digest known beforehand makes it harmless that another host sends the bytes.
        response = open_url(file.url, headers, patience, any_host=bool(file.sha256))
        with response:
            _append(response, file, partial, (offset, etag, size), stop, report)
    except NoSuchRangeError:
        report(-partial.length())
        partial.discard()
        raise


def _append(
    response: http.client.HTTPResponse,
    file: RemoteFile,
    partial: Partial,
    start: tuple[int, str, int],
    stop: Event,
    report: Callable[[int], None],
) -> None:
    begin, total = _announced(file, response, *start)
    if begin == 0:
        report(-partial.length())
        partial.begin(response.headers.get("ETag", file.etag), total)
    with partial.path.open("ab", buffering=0) as target:
        _copy(response, target, total - begin, stop, report)
    # A server that announces a length is cut there; one that does not may go on.
    if response.headers.get("Content-Length") is None and read_some(response, 1):
        report(-partial.length())
        partial.discard()
        raise _more_than_announced(file, total)


def _announced(
    file: RemoteFile, response: http.client.HTTPResponse, offset: int, etag: str, size: int
) -> tuple[int, int]:
    """Return where the answer starts and how long the whole file is, bytes."""
    sent_etag = response.headers.get("ETag", "")
    if file.etag and sent_etag and sent_etag != file.etag:
        raise InputError(
            f"{file.url}: changed on the server since it was listed (entity tag {sent_etag}, listed "
            f"was {file.etag}); run the same command again.",
            url=file.url,
        )
    if response.status == http.client.PARTIAL_CONTENT:
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        sent = (int(found[1]), int(found[3])) if found else None
        if sent != (offset, size) or sent_etag not in {"", etag}:
            raise NoSuchRangeError("the server answers with other bytes than it was asked for")
        return offset, size
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isascii() and length.isdigit() else file.size_bytes
    if total is None:
        raise InputError(
            f"{file.url}: the server does not say how long it is; give size_bytes in the manifest.",
            url=file.url,
        )
    if file.size_bytes not in {None, total}:
        raise _other_length(file, total)
    return 0, total


def _other_length(file: RemoteFile, total: int) -> InputError:
    return InputError(
        f"{file.url}: holds {total} bytes, announced were {file.size_bytes}; the file is another "
        "than the manifest or the list says. Nothing of it was kept.",
        url=file.url,
    )


def _more_than_announced(file: RemoteFile, total: int) -> InputError:
    return InputError(
        f"{file.url}: the server sends more than the {total} bytes announced; the file was cut and "
        "thrown away. Report it to the archive.",
        url=file.url,
    )


def _copy(
    response: http.client.HTTPResponse,
    target: IO[bytes],
    left: int,
    stop: Event,
    report: Callable[[int], None],
) -> None:
    while left > 0:
        if stop.is_set():
            raise Stopped
        chunk = read_some(response, min(left, _CHUNK_BYTES))
        if not chunk:
            raise TransientError("the connection ended early")
        target.write(chunk)
        left -= len(chunk)
        report(len(chunk))


def download_all(
    files: Sequence[RemoteFile],
    folder: Path,
    *,
    jobs: int,
    patience: Patience,
    stop: Event,
    description: str,
    total_bytes: int,
) -> None:
    """Fetch files several at a time; the first failure or an interruption stops all.

    Parameters
    ----------
    files, folder
        What to fetch, and the existing folder to put it in.
    jobs
        Files at the same time.
    patience, stop
        As `download`; `stop` is set here on the first failure.
    description, total_bytes
        Name of the work in the reports of progress, and how many bytes are to come.

    Raises
    ------
    InputError
        As `download`.
    """
    to_do: SimpleQueue[RemoteFile] = SimpleQueue()
    news: SimpleQueue[int | BaseException | None] = SimpleQueue()
    for file in files:
        to_do.put(file)

    def work() -> None:
        try:
            while not stop.is_set():
                file = to_do.get_nowait()
                download(file, folder, patience=patience, stop=stop, report=news.put)
        except (Empty, Stopped):
            pass
        except BaseException as error:  # noqa: BLE001 -- raised again in the main thread
            news.put(error)
        news.put(None)

    # Daemons: one that waits for a silent server must not hold up an interrupted run.
    workers = [Thread(target=work, daemon=True) for _ in range(min(jobs, len(files)))]
    for worker in workers:
        worker.start()
    try:
        _follow(news, len(workers), description, total_bytes)
    finally:
        stop.set()
        for worker in workers:
            worker.join(_LAST_WORDS_S)
    stop.clear()


def _follow(
    news: SimpleQueue[int | BaseException | None], working: int, description: str, total_bytes: int
) -> None:
    """Report the bytes that the workers bring, until all are done or one fails."""
    done = shown = 0
    with Progress(description, -(-total_bytes // _MEGABYTE), "MB") as progress:
        while working:
            item = news.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                working -= 1
                continue
            done += item
            progress.advance(done // _MEGABYTE - shown)
            shown = done // _MEGABYTE
        progress.advance(-(-done // _MEGABYTE) - shown)
