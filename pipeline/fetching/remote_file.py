"""What is known of a file on a server before it is fetched, and whether a local one is it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

_MD5 = re.compile(r'"?([0-9a-f]{32})"?')


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
