"""Checkpoints of a run on disk: enough to go on bit by bit after a kill, never a pickle.

Notes
-----
The file lies beside the output under a hidden name, so that whoever removes an output that was not finished
(Snakemake does) leaves it alone. It is replaced in one step and carries the digest of its case: of another
surface, other settings or other code it is never taken. When it was written has no influence on the result,
because a run goes on from it as it would have without stopping.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np

from stages.flow.simulation import Snapshot

_LOG = logging.getLogger("ct2flow.flow")
_CASE, _SECONDS = "checkpoint.case", "checkpoint.seconds"


@dataclass(frozen=True)
class Checkpoint:
    """Name the file that holds the state of a run.

    Parameters
    ----------
    path
        File; it may not exist.
    case
        Digest of all that decides the run's result.
    """

    path: Path
    case: str

    def read(self) -> dict[str, np.ndarray] | None:
        """Return the arrays written last; None if there are none of this case."""
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as content:
                if str(content[_CASE]) != self.case:
                    _LOG.info("%s: belongs to another case; it is not used.", self.path.name)
                    return None
                return {name: content[name] for name in content.files}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            _LOG.warning("%s: is no whole checkpoint (%s); beginning anew.", self.path.name, error)
            return None

    def write(self, arrays: Mapping[str, np.ndarray], seconds: float) -> bool:
        """Replace the file in one step; return False, with a warning, where the disc refuses."""
        draft = self.path.with_name(f"{self.path.name}.partial")
        try:
            with draft.open("wb") as file:
                facts = {_CASE: np.array(self.case), _SECONDS: np.array(seconds)}
                np.savez(file, allow_pickle=False, **facts, **arrays)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            _LOG.warning("%s: not written (%s).", self.path.name, error.strerror)
            return False
        return True

    def remove(self) -> None:
        """Remove the file: the run is done."""
        for path in (self.path, self.path.with_name(f"{self.path.name}.partial")):
            path.unlink(missing_ok=True)


def checkpoint_path(output: Path) -> Path:
    """Return where the checkpoint of an output lies: beside it, hidden."""
    return output.with_name(f".checkpoint.{output.name}.npz")


class Keeper:
    """Write a checkpoint at intervals and when the run is to stop.

    Parameters
    ----------
    checkpoint
        Where to.
    interval_s
        Wall-clock time between checkpoints.
    spent_s
        Wall-clock time of the run before it was interrupted.
    clock
        Seconds that pass.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        interval_s: float,
        spent_s: float = 0.0,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._checkpoint, self._interval_s, self._clock = checkpoint, interval_s, clock
        self._written = clock()
        self._begin = self._written - spent_s
        self._stop = threading.Event()

    @property
    def seconds(self) -> float:
        """Wall-clock time of the run with what it took before it was interrupted."""
        return self._clock() - self._begin

    def stop(self) -> None:
        """Let the run end at its next chance."""
        self._stop.set()

    def __call__(self, snapshot: Snapshot) -> None:
        """Write the state if it is time.

        Raises
        ------
        KeyboardInterrupt
            If the run is to stop; its state is written then.
        """
        due = self._clock() - self._written >= self._interval_s
        if not due and not self._stop.is_set():
            return
        self._checkpoint.write(snapshot(), self.seconds)
        self._written = self._clock()
        if self._stop.is_set():
            raise KeyboardInterrupt


def spent_seconds(arrays: Mapping[str, np.ndarray]) -> float:
    """Return the wall-clock time that a run had taken when its state was written."""
    return float(arrays[_SECONDS])


@contextmanager
def stopping_on_signals(keeper: Keeper) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the run with a checkpoint; a second one ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: FrameType | None) -> None:
        keeper.stop()
        signal.signal(number, previous[number])

    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {int(n): signal.getsignal(n) for n in numbers}
    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, previous[number])
