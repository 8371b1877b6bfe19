"""Progress of long work: sentences on stderr for people, JSON lines for machines."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

_LOG = logging.getLogger("ct2flow.progress")
_INTERVAL_S = 5.0
"""A line every five seconds tells a person that work goes on without flooding a log."""

progress_file: ContextVar[Path | None] = ContextVar("progress_file", default=None)
"""File that receives one JSON line per report; set by the command line from --progress-file."""

Item = TypeVar("Item")


class Progress:
    """Report how far a piece of work is and how long it may still take.

    Parameters
    ----------
    description
        What is being done, such as ``simulate``.
    total
        Number of units of work.
    unit
        Name of one unit, such as ``steps``.
    """

    def __init__(self, description: str, total: int, unit: str = "steps") -> None:
        self._description = description
        self._total = max(total, 1)
        self._unit = unit
        self._done = 0
        self._start = time.monotonic()
        self._reported = self._start

    def __enter__(self) -> Self:
        """Start the clock."""
        self._start = self._reported = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Report the end, unless the work failed."""
        if kind is None:
            self._report({})

    def advance(self, count: int = 1, **numbers: float) -> None:
        """Count finished units; numbers (such as the loss) are shown beside them."""
        self._done += count
        now = time.monotonic()
        if now - self._reported >= _INTERVAL_S:
            self._reported = now
            self._report(numbers)

    def _report(self, numbers: dict[str, float]) -> None:
        elapsed = time.monotonic() - self._start
        left = elapsed / max(self._done, 1) * max(self._total - self._done, 0)
        shown = "".join(f", {name} {value:.4g}" for name, value in numbers.items())
        _LOG.info(
            "%s: %d of %d %s, %.0f s, about %.0f s left%s",
            *(self._description, self._done, self._total, self._unit, elapsed, left, shown),
        )
        path = progress_file.get()
        if path is not None:
            line = {
                "task": self._description,
                "done": self._done,
                "total": self._total,
                "seconds_left": round(left, 1),
                **numbers,
            }
            with path.open("a") as file:
                file.write(json.dumps(line) + "\n")


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items and report progress after each."""
    known = list(items) if total is None else items
    count = len(known) if isinstance(known, list) else (total or 0)
    with Progress(description, count, "items") as progress:
        for item in known:
            yield item
            progress.advance()
