"""Make from a data set one that holds nothing but what the keep-list names.

The result is built up from nothing; no element of the original is ever passed on unread.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.valuerep import DSfloat

from stages.deidentify.keep_list import CODES, RULES, Form, Rule
from stages.deidentify.opening import DAMAGED
from stages.deidentify.pseudonyms import Pseudonyms, shift_date, shift_date_time

LARGEST_NUMBER = 1e7
"""Numbers of eight digits can be dates or registers; no length, dose or count of a CT is as large."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")
_TIME = re.compile(r"(\d{2}:?){0,2}\d{2}|(\d{2}:?){2}\d{2}\.\d{1,6}")
_DECIMAL_LENGTH = 16
_INTEGER_RANGES = {
    "US": (0, 2**16 - 1),
    "SS": (-(2**15), 2**15 - 1),
    "UL": (0, 2**32 - 1),
    "SL": (-(2**31), 2**31 - 1),
    "IS": (-(2**31), 2**31 - 1),
}
_BINARY = ("US", "SS", "UL", "SL", "FL", "FD", "AT")
_MOST_BINARY = 8
_DIGITS = 9
"""Kept of a binary fraction, more than any of them means: its 8 bytes could be 8 letters."""
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
RULE_OF = {tag_for_keyword(keyword): rule for rule in RULES for keyword in rule.keywords}
"""The rule of each kept tag."""


@dataclass(frozen=True)
class Cleaner:
    """Clean data sets of one patient.

    Parameters
    ----------
    pseudonyms
        The project's.
    days
        By how many days dates move.
    is_signed
        Whether pixels are signed: decides between US and SS where the standard leaves both.
    """

    pseudonyms: Pseudonyms
    days: int
    is_signed: bool
    _forms: dict[Form, Callable[[Rule, str, list[Any]], list[Any]]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """List how each form of value is cleaned."""
        forms = {
            Form.UID: self._uids,
            Form.NUMBER: self._numbers,
            Form.TERM: self._terms,
            Form.KNOWN: self._known,
            Form.TAG: self._tags,
            Form.DATE: self._dates,
            Form.TIME: self._times,
            Form.DATE_TIME: self._date_times,
            Form.ITEMS: self._items,
            Form.CODES: self._codes,
        }
        object.__setattr__(self, "_forms", forms)

    def clean(self, dataset: Dataset) -> Dataset:
        """Return the kept elements, cleaned; pixels are left to the caller."""
        cleaned = Dataset()
        for tag in sorted(dataset.keys() & RULE_OF.keys()):
            rule = RULE_OF[tag]
            values, vr = _read(dataset, BaseTag(tag), is_signed=self.is_signed)
            kept = self._forms[rule.form](rule, vr, values)
            if not kept:
                continue
            whole = Sequence(kept) if vr == "SQ" else (kept if len(kept) > 1 else kept[0])
            cleaned.add(DataElement(tag, vr, whole))
        return cleaned

    def _uids(self, _: Rule, vr: str, values: list[Any]) -> list[Any]:
        return [self.pseudonyms.uid(text) for text in _texts(values)] if vr == "UI" else []

    def _numbers(self, _: Rule, vr: str, values: list[Any]) -> list[Any]:
        """Keep all numbers or none: a vector without one of its values would be another vector."""
        kept = [_number(vr, text) for text in _texts(values)]
        return [] if any(value is None for value in kept) else kept

    def _terms(self, rule: Rule, _: str, values: list[Any]) -> list[Any]:
        return [
            text if rule.knows(text) else self.pseudonyms.word(text) for text in _texts(values)
        ]

    def _known(self, rule: Rule, vr: str, values: list[Any]) -> list[Any]:
        texts = [text.upper() if vr == "CS" else text for text in _texts(values)]
        return texts if all(rule.knows(text) for text in texts) else []

    def _tags(self, _: Rule, vr: str, values: list[Any]) -> list[Any]:
        known = all(isinstance(v, int) and keyword_for_tag(v) for v in values)
        return values if vr == "AT" and known else []

    def _dates(self, _: Rule, __: str, values: list[Any]) -> list[Any]:
        moved = [shift_date(text, self.days) for text in _texts(values)]
        return [text for text in moved if text]

    def _times(self, _: Rule, __: str, values: list[Any]) -> list[Any]:
        return [t.replace(":", "") for t in _texts(values) if _TIME.fullmatch(t)]

    def _date_times(self, _: Rule, __: str, values: list[Any]) -> list[Any]:
        moved = [shift_date_time(text, self.days) for text in _texts(values)]
        return [text for text in moved if text]

    def _items(self, rule: Rule, _: str, values: list[Any]) -> list[Any]:
        cleaned = [self.clean(item) for item in values if isinstance(item, Dataset)]
        # The functional groups of frame k are item k, also if nothing of them is kept.
        return cleaned if _GROUPS[0] in rule.keywords else [item for item in cleaned if item]

    def _codes(self, _: Rule, __: str, values: list[Any]) -> list[Any]:
        found = (_code(item) for item in values if isinstance(item, Dataset))
        return [item for item in found if item is not None]


def _read(dataset: Dataset, tag: BaseTag, *, is_signed: bool) -> tuple[list[Any], str]:
    """Return an element's values as a list, and the VR that the standard gives it."""
    vr = dictionary_VR(tag)
    try:
        element = dataset[tag]
        value = element.value
    except DAMAGED:
        return [], vr
    if _most_values(tag, vr) < element.VM:
        return [], vr
    if vr == "US or SS":
        vr = element.VR if element.VR in _INTEGER_RANGES else ("SS" if is_signed else "US")
    if (vr == "SQ") != isinstance(value, Sequence):
        return [], vr
    if isinstance(value, (MultiValue, Sequence, list, tuple)):
        return list(value), vr
    return ([] if value is None or value == "" else [value]), vr


def _most_values(tag: BaseTag, vr: str) -> float:
    """Return how many values an element may have; binary ones never so many that they hold text."""
    most = re.fullmatch(r"(?:\d+-)?(\d*)(n?)", re.sub(r"\d+n", "n", dictionary_VM(tag)))
    if most and most[1] and not most[2]:
        return int(most[1])
    return _MOST_BINARY if vr in _BINARY else math.inf


def _texts(values: list[Any]) -> list[str]:
    """Return values as text; raw bytes are text of nobody knows what and become empty."""
    return ["" if isinstance(v, bytes) or v is None else str(v).strip(" \0") for v in values]


def _number(vr: str, text: str) -> int | float | str | None:
    """Return a number in the type of its VR, in the original's digits if it is a decimal string."""
    if not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    if not math.isfinite(number) or abs(number) >= LARGEST_NUMBER:
        return None
    if vr in _INTEGER_RANGES:
        low, high = _INTEGER_RANGES[vr]
        return int(number) if low <= number <= high else None
    if vr == "DS":
        fits = len(text) <= _DECIMAL_LENGTH
        return text if fits else str(DSfloat(number, auto_format=True))
    return float(f"{number:.{_DIGITS}g}")


def _code(item: Dataset) -> Dataset | None:
    try:
        key = (str(item.get("CodeValue", "")), str(item.get("CodingSchemeDesignator", "")))
    except DAMAGED:
        return None
    if key not in CODES:
        return None
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator = key
    code.CodeMeaning = CODES[key]
    return code
