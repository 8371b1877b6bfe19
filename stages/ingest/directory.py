"""Compare a DICOMDIR, the disc's own list of its files, with the files that are there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pydicom
from pydicom.dataset import Dataset

from pipeline.core.scan_files import Entry
from stages.ingest.headers import DAMAGED, quiet_decoding

DIRECTORY_NAME = "DICOMDIR"


def count_lost(entries: Sequence[Entry]) -> tuple[int, int]:
    """Return how many files the scan's DICOMDIRs name that are not there, and how many in all.

    Discs are written in capitals and copied in any case; only the letters count.
    """
    there = {tuple(_plain(part) for part in entry.path) for entry in entries}
    named = set()
    for entry in entries:
        if entry.name.upper() == DIRECTORY_NAME:
            folder = tuple(_plain(part) for part in entry.path[:-1])
            named |= {folder + reference for reference in _references(entry)}
    return len(named - there), len(named)


def _references(entry: Entry) -> list[tuple[str, ...]]:
    try:
        with entry.open() as file, quiet_decoding():
            dataset = pydicom.dcmread(file, specific_tags=["DirectoryRecordSequence"])
            return list(_file_ids(dataset))
    except DAMAGED:
        return []


def _file_ids(dataset: Dataset) -> Iterator[tuple[str, ...]]:
    for record in dataset.get("DirectoryRecordSequence", []):
        parts = record.get("ReferencedFileID")
        if parts:
            listed = [parts] if isinstance(parts, str) else parts
            yield tuple(_plain(str(part)) for part in listed)


def _plain(name: str) -> str:
    """Drop case, and the version that ISO 9660 appends to names."""
    return name.upper().split(";")[0].rstrip(".")
