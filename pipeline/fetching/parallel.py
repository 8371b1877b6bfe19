"""Download files several at a time: the first failure stops all, and progress is reported once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread

from pipeline.core.errors import Ct2FlowError
from pipeline.core.progress import Progress
from pipeline.fetching.download import download
from pipeline.fetching.https import Patience, Stopped
from pipeline.fetching.remote_file import RemoteFile

_MEGABYTE = 1_000_000
_LAST_WORDS_S = 2.0


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
    OSError
        If a file cannot be written.
    RuntimeError
        If a download broke by an error of our own; its traceback was printed.
    """
    to_do: SimpleQueue[RemoteFile] = SimpleQueue()
    news: SimpleQueue[int | Exception | None] = SimpleQueue()
    for file in files:
        to_do.put(file)

    def work() -> None:
        # What is not foreseen below goes on to the thread's hook, which shows where it was raised.
        end: Exception | None = RuntimeError("a download ended by an error of our own")
        try:
            while not stop.is_set():
                file = to_do.get_nowait()
                download(file, folder, patience=patience, stop=stop, report=news.put)
            end = None
        except (Empty, Stopped):
            end = None
        except (Ct2FlowError, OSError) as error:
            end = error
        finally:
            news.put(end)

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
    news: SimpleQueue[int | Exception | None], working: int, description: str, total_bytes: int
) -> None:
    """Report the bytes that the workers bring, until all are done or one fails."""
    done = shown = 0
    with Progress(description, -(-total_bytes // _MEGABYTE), "MB") as progress:
        while working:
            item = news.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                working -= 1
                continue
            done += item
            progress.advance(done // _MEGABYTE - shown)
            shown = done // _MEGABYTE
        progress.advance(-(-done // _MEGABYTE) - shown)
