"""A file in the making: what is here of it, and of which version of the file it is a part."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.fetching.remote_file import RemoteFile

PARTIAL_PREFIX = ".partial."


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
