"""List the files of one series in a public bucket, by the ListObjectsV2 call of Amazon S3.

References
----------
Amazon Simple Storage Service API Reference, ListObjectsV2 and Object (what an ETag is).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote, urlencode
from xml.etree import ElementTree as ET

from pipeline.core.artefacts import FOLDER_SIDECAR
from pipeline.core.errors import InputError
from pipeline.fetching.remote_file import RemoteFile

PUBLIC_ENDPOINT = "https://{bucket}.s3.amazonaws.com"
PAGE_BYTES = 8_000_000
"""A page lists at most 1000 keys of at most 1024 bytes each, so a larger answer is no listing."""
_PAGES = 100
_LOCATION = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<prefix>[A-Za-z0-9._/-]+?)/?\*?"
)
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True)
class Series:
    """Say where the files of one series lie: below a prefix of a bucket, reached at an endpoint."""

    endpoint: str
    prefix: str

    def url(self, name: str) -> str:
        """Return the address of one file."""
        return f"{self.endpoint}/{quote(self.prefix + name)}"


def is_bucket_url(url: str) -> bool:
    """Say whether an address is ``s3://BUCKET/PREFIX/``."""
    return url.startswith("s3://")


def parse_series(url: str, endpoint: str = PUBLIC_ENDPOINT) -> Series:
    """Split ``s3://BUCKET/PREFIX/``; ``{bucket}`` in the endpoint stands for the bucket's name.

    Raises
    ------
    InputError
        If the address is no folder of a bucket.
    """
    found = _LOCATION.fullmatch(url)
    prefix = found["prefix"].strip("/") if found else ""
    if found is None or not prefix or ".." in prefix.split("/"):
        raise InputError(f"'{url}' is no folder of a bucket; needed is s3://BUCKET/FOLDER/.")
    return Series(endpoint.replace("{bucket}", found["bucket"]).rstrip("/"), prefix + "/")


def list_files(series: Series, read: Callable[[str], bytes]) -> tuple[RemoteFile, ...]:
    """List the files of a series, page after page, in the order of their names.

    Parameters
    ----------
    series
        Where they lie.
    read
        Returns the body of an address.

    Raises
    ------
    InputError
        If an answer is no listing, goes on for ever, or names a file that would leave its folder.
    """
    found = [file for page in _pages(series, read) for file in _files(page, series)]
    names = [file.name.casefold() for file in found]
    if len(set(names)) != len(names):
        raise InputError(
            f"{series.endpoint}: lists two files of one name in {series.prefix}; report it to the "
            "archive.",
            prefix=series.prefix,
        )
    return tuple(sorted(found, key=lambda file: file.name))


def _pages(series: Series, read: Callable[[str], bytes]) -> Iterator[ET.Element]:
    query = {"list-type": "2", "prefix": series.prefix}
    for _ in range(_PAGES):
        page = _parse(read(f"{series.endpoint}/?{urlencode(query)}"), series)
        yield page
        if _text(page, "IsTruncated") != "true":
            return
        token = _text(page, "NextContinuationToken")
        if not token or token == query.get("continuation-token"):
            break
        query["continuation-token"] = token
    raise InputError(
        f"{series.endpoint}: its listing of {series.prefix} does not end; run the command again "
        "later or report it to the archive.",
        prefix=series.prefix,
    )


def _parse(body: bytes, series: Series) -> ET.Element:
    """Parse a page; a document type, which could define entities, is refused unread."""
    try:
        text = body.decode("utf-8")
        # Without a declaration there is no document type, and so no entity to attack with.
        root = ET.fromstring("" if "<!" in text else text)  # noqa: S314
    except (ValueError, ET.ParseError) as error:
        raise _no_listing(series) from error
    if _local(root) != "ListBucketResult":
        raise _no_listing(series)
    return root


def _no_listing(series: Series) -> InputError:
    return InputError(
        f"{series.endpoint}: answers with something else than the list of files in "
        f"{series.prefix}; check --base-url, and whether a proxy or a login page is in between.",
        prefix=series.prefix,
    )


def _files(page: ET.Element, series: Series) -> Iterator[RemoteFile]:
    for item in page:
        key = _text(item, "Key") if _local(item) == "Contents" else series.prefix
        if key == series.prefix:
            continue
        name = key.removeprefix(series.prefix)
        if name in {key, FOLDER_SIDECAR} or not _FILE_NAME.fullmatch(name):
            raise InputError(
                f"{series.endpoint}: lists the file {key[:200]!r}, which may not be written; "
                f"needed are plain file names below {series.prefix}. Report it to the archive.",
                key=key,
            )
        size = _text(item, "Size")
        if not size.isascii() or not size.isdigit():
            raise _no_listing(series)
        yield RemoteFile(series.url(name), name, size_bytes=int(size), etag=_text(item, "ETag"))


def _text(parent: ET.Element, name: str) -> str:
    """Return the text of a child, whatever the namespace, which mirrors differ in."""
    return next((child.text or "" for child in parent if _local(child) == name), "")


def _local(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]
