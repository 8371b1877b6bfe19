"""Download a file: resumed where it stopped, never longer than announced, whole or not at all.

References
----------
RFC 9110, HTTP Semantics, 2022: 13.1.5 (If-Range), 14.2 (Range), 15.3.7 (206 Partial Content).
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import IO

from pipeline.core.errors import InputError
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
from pipeline.fetching.partial import PARTIAL_PREFIX, Partial
from pipeline.fetching.remote_file import RemoteFile

_CHUNK_BYTES = 1 << 17
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


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
