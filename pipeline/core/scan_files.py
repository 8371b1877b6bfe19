"""Open the files of a folder, a DICOMDIR or a zip; reads are bounded by their real size."""

from __future__ import annotations

import io
import lzma
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pipeline.core.errors import InputError

UNREADABLE = (
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    ArithmeticError,
    AssertionError,
    EOFError,
    OSError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
)
"""What decoders raise on damaged bytes; listed, so that a bug of ours elsewhere still shows."""

MAX_RATIO = 300
"""Largest ratio of unpacked to packed size of a zip; blank CT slices reach about 100."""
RATIO_FROM_BYTES = 64 * 2**20
"""Below this unpacked size a zip harms nobody, whatever its ratio."""
_GIB = 2**30
_ENCRYPTED = 0x1
_DRIVE = re.compile("[A-Za-z]:[/\\\\]")


@dataclass(frozen=True)
class Entry:
    """Name one file of a scan and say how to read it.

    Parameters
    ----------
    path
        Names of its folders and its own, relative to the scan. Only the last is ever shown:
        folder names may carry a patient's name.
    size
        Bytes that can be read.
    opener
        Opens the file for reading.
    """

    path: tuple[str, ...]
    size: int
    opener: Callable[[], BinaryIO]

    @property
    def name(self) -> str:
        """Return the base name."""
        return self.path[-1]

    @contextmanager
    def open(self) -> Iterator[BoundedReader]:
        """Open the file; a read never asks for more bytes than there are."""
        with self.opener() as file:
            yield BoundedReader(file, self.size)


class BoundedReader(io.RawIOBase):
    """Read a file without ever allocating more than it holds, whatever length is asked for.

    A damaged DICOM element may claim a length of 4 GiB; Python's own reader would allocate it.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__()
        self._file = file
        self._size = size

    def read(self, size: int | None = -1) -> bytes:
        """Read at most `size` bytes, all if negative."""
        left = max(self._size - self._file.tell(), 0)
        return self._file.read(left if size is None or size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position, never behind the end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._file.tell(), os.SEEK_END: self._size}[whence]
        return self._file.seek(min(max(base + offset, 0), self._size))

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be moved in."""
        return True


@contextmanager
def open_entries(scan: Path, *, max_unpacked_gib: float) -> Iterator[list[Entry]]:
    """List the files of a folder (any depth), of a DICOMDIR's folder or of a zip.

    Parameters
    ----------
    scan
        Folder, zip or DICOMDIR.
    max_unpacked_gib
        Largest unpacked size of a zip, GiB.

    Raises
    ------
    InputError
        If there is no such file, or the zip is damaged, encrypted, too large when unpacked, or
        holds links or paths that leave its folder.
    """
    if scan.is_dir():
        yield _folder_entries(scan)
    elif scan.name.upper() == "DICOMDIR" and scan.is_file():
        yield _folder_entries(scan.resolve().parent)
    elif zipfile.is_zipfile(scan):
        with _open_zip(scan) as archive:
            yield _zip_entries(scan.name, archive, max_unpacked_gib)
    else:
        yield [_file_entry(scan, scan.parent)]


def _folder_entries(folder: Path) -> list[Entry]:
    root = folder.resolve()
    found = [
        Path(parent) / name
        for parent, folders, names in os.walk(root)
        if _sort_in_place(folders)
        for name in sorted(names)
    ]
    return [_file_entry(path, root) for path in found if path.is_file()]


def _sort_in_place(names: list[str]) -> bool:
    """Fix the order in which folders are visited, whatever the file system says."""
    names.sort()
    return True


def _file_entry(path: Path, root: Path) -> Entry:
    return Entry(path.relative_to(root).parts, path.stat().st_size, lambda: path.open("rb"))


@contextmanager
def _open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except UNREADABLE as error:
        raise InputError(
            f"{path.name}: is a damaged zip file; pack the series again.", path=path
        ) from error
    with archive:
        yield archive


def _zip_entries(name: str, archive: zipfile.ZipFile, max_unpacked_gib: float) -> list[Entry]:
    members = [info for info in archive.infolist() if not info.is_dir()]
    _refuse_unsafe(name, members)
    _refuse_bomb(name, members, max_unpacked_gib)
    members.sort(key=lambda info: info.filename)
    return [_member_entry(archive, info) for info in members]


def _refuse_unsafe(name: str, members: Sequence[zipfile.ZipInfo]) -> None:
    for info in members:
        path = PurePosixPath(info.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or _DRIVE.match(info.filename):
            reason = "a path that leaves its folder"
        elif stat.S_ISLNK(info.external_attr >> 16):
            reason = "a symbolic link"
        elif info.flag_bits & _ENCRYPTED:
            reason = "encrypted files"
        else:
            continue
        raise InputError(
            f"{name}: the zip holds {reason}; needed are plain files. Unpack it and give the "
            "folder, or pack it again without.",
            reason=reason,
        )


def _refuse_bomb(name: str, members: Sequence[zipfile.ZipInfo], max_unpacked_gib: float) -> None:
    unpacked = sum(info.file_size for info in members)
    packed = max(sum(info.compress_size for info in members), 1)
    largest = max((info.file_size for info in members), default=0)
    if unpacked > max_unpacked_gib * _GIB:
        raise InputError(
            f"{name}: unpacks to {unpacked / _GIB:.1f} GiB (allowed: {max_unpacked_gib:g}); give "
            "the folder of the one series instead, or raise --max-unpacked-gib.",
            unpacked_bytes=unpacked,
        )
    if largest > RATIO_FROM_BYTES and unpacked / packed > MAX_RATIO:
        raise InputError(
            f"{name}: unpacks to {unpacked / packed:.0f} times its size (allowed: {MAX_RATIO}); "
            "unpack it yourself and give the folder, if you trust it.",
            ratio=unpacked / packed,
        )


def _member_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Entry:
    def opener() -> BinaryIO:
        # The declared size bounds the read: a member that lies about it is cut, not unpacked.
        with archive.open(info) as member:
            return io.BytesIO(member.read(info.file_size))

    return Entry(PurePosixPath(info.filename).parts or ("",), info.file_size, opener)
