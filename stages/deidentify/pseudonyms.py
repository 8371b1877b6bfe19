"""Replace UIDs, patients and dates by what only the project's secret links to them.

Notes
-----
Everything follows from HMAC-SHA256 (RFC 2104) with the secret as its key: equal inputs become equal
outputs in every file, sequence and run of a project, nothing has to be stored, and without the
secret nobody can tell which input belongs to an output, not even by trying all of them.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from datetime import date, timedelta

from pydicom.uid import UID

LEAST_SECRET_BYTES = 16
"""A shorter secret could be found by trying."""
_STANDARD = re.compile(r"1\.2\.840\.10008(\.(0|[1-9]\d{0,9})){1,12}")
_VERSION, _VARIANT = 8, 0b10
"""Marks of a UUID of its maker's own making (RFC 9562, 5.8)."""
_DATE = re.compile(r"(\d{4})\.?(\d{2})\.?(\d{2})")
_DATE_TIME = re.compile(r"(\d{8})((?:\d{2}){0,2}|\d{6}(?:\.\d{1,6})?)([+-]\d{4})?")
_AGE = re.compile(r"(\d{3})([DWMY])")
OLDEST_YEARS = 90


@dataclass(frozen=True)
class Pseudonyms:
    """Turn identities into pseudonyms.

    Parameters
    ----------
    secret
        Key of the project; at least `LEAST_SECRET_BYTES` random bytes.
    largest_shift_days
        Dates move back by 1 to this many days; 0 leaves them.
    """

    secret: bytes
    largest_shift_days: int

    def __repr__(self) -> str:
        """Show nothing: representations end up in logs."""
        return "Pseudonyms(...)"

    def uid(self, original: str) -> UID:
        """Return the UID that stands for another; UIDs of the standard itself stay.

        Notes
        -----
        The first 128 bits of the HMAC, marked as a UUID, under the root 2.25 (PS3.5, B.2).
        """
        known = original.strip(" \0")
        if is_registered(known):
            return UID(known)
        bits = int.from_bytes(self._digest("uid", known)[:16], "big")
        bits = bits & ~(0xF << 76) | _VERSION << 76
        bits = bits & ~(0b11 << 62) | _VARIANT << 62
        return UID(f"2.25.{bits}")

    def patient(self, identity: str) -> str:
        """Return the name and number of a patient, 16 hex digits."""
        return f"CT2FLOW-{self._digest('patient', identity).hex()[:16].upper()}"

    def word(self, original: str) -> str:
        """Return a short code (CS) for a term that is not known to be harmless."""
        return f"X{self._digest('word', original).hex()[:12].upper()}"

    def check(self) -> str:
        """Return eight digits that tell whether two runs had the same secret."""
        return self._digest("check", "").hex()[:8]

    def shift_days(self, identity: str) -> int:
        """Return by how many days a patient's dates move, 0 or below."""
        if self.largest_shift_days == 0:
            return 0
        number = int.from_bytes(self._digest("days", identity)[:16], "big")
        return -1 - number % self.largest_shift_days

    def _digest(self, purpose: str, text: str) -> bytes:
        return hmac.digest(self.secret, f"{purpose}\0{text}".encode(), "sha256")


def is_registered(uid: str) -> bool:
    """Say whether a UID is the standard's own: a class, a syntax, a well-known frame."""
    return re.fullmatch(_STANDARD, uid) is not None and UID(uid).name != uid


def shift_date(text: str, days: int) -> str | None:
    """Return a date (DA, also the old form with points) moved by whole days, or None.

    Examples
    --------
    >>> shift_date("20240301", -1)
    '20240229'
    """
    found = _DATE.fullmatch(text.strip(" \0"))
    if not found:
        return None
    year, month, day = (int(part) for part in found.groups())
    try:
        return f"{date(year, month, day) + timedelta(days):%Y%m%d}".zfill(8)
    except (ValueError, OverflowError):
        return None


def shift_date_time(text: str, days: int) -> str | None:
    """Return a date and time (DT) moved by whole days, or None.

    Time and offset from UTC stay, so that intervals do, across a change of clocks too. A DT that
    names no day cannot be moved by days and is dropped.
    """
    found = _DATE_TIME.fullmatch(text.strip(" \0"))
    day = shift_date(found[1], days) if found else None
    return None if found is None or day is None else f"{day}{found[2]}{found[3] or ''}"


def cap_age(text: str) -> str | None:
    """Return an age (AS); above 89 years it is 90 years, or None if it is no age."""
    found = _AGE.fullmatch(text.strip(" \0"))
    if not found:
        return None
    years = int(found[1]) / {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}[found[2]]
    return f"{OLDEST_YEARS:03d}Y" if years >= OLDEST_YEARS else found[0]
