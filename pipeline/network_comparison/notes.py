"""Sentences by hand about a comparison: kept in a file of their own, so that no report loses them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

NOTES = "notes.md"
HEADING = "Reading this run"
SOURCE = (
    f"These sentences are by hand (`{NOTES}`); everything else here is written by the command."
)


def read_notes(folder: Path) -> str:
    """Return the notes in a comparison's folder; nothing if there are none."""
    path = folder / NOTES
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def note_lines(notes: str) -> list[str]:
    """Return the notes as a section of Markdown; no line if there are none."""
    text = notes.strip()
    return ["", f"## {HEADING}", "", SOURCE, "", *text.splitlines()] if text else []


def note_paragraphs(notes: str) -> list[str]:
    """Return each paragraph and each item of a list as one line, without the list's dash."""
    lines = [line.strip() for line in notes.strip().splitlines()]
    blocks = [list(block) for is_text, block in groupby(lines, key=bool) if is_text]
    return [" ".join(item) for block in blocks for item in _items(block)]


def _items(lines: Iterable[str]) -> list[list[str]]:
    """Part lines before each one that begins with a dash."""
    items: list[list[str]] = []
    for line in lines:
        if line.startswith("- ") or not items:
            items.append([])
        items[-1].append(line.removeprefix("- "))
    return items
