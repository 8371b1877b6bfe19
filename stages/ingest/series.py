"""Group images into series that can be stacked, say which are suitable, and choose one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.core.errors import InputError, UsageError
from stages.ingest.headers import SliceHeader
from stages.ingest.stacking import SAME_PLACE_MM, slice_normal

SAME_DIRECTION = 1e-3
SAME_THICKNESS_MM = 1e-2
AXIAL_COSINE = 0.8
"""Smallest z component of the normal of axial slices; head scans tilt up to 30 degrees."""
HEAD_EXTENT_MM = 60.0
"""A stack this long can hold a nose from nostril to pharynx; shorter ones are chosen last."""
_HEAD = ("HEAD", "SINUS", "SKULL", "BRAIN", "NECK", "NOSE", "FACE")


@dataclass(frozen=True)
class Group:
    """Hold the images of one series that share orientation, thickness, matrix and kernel.

    Parameters
    ----------
    number
        Position in the list that the user sees, from 1.
    trouble
        Why it is unsuitable, or empty.
    """

    number: int
    headers: tuple[SliceHeader, ...]
    trouble: str

    @property
    def example(self) -> SliceHeader:
        """Return one image that speaks for the group."""
        return self.headers[0]

    @property
    def positions_mm(self) -> list[float]:
        """Return the position of each image along the slice normal, mm."""
        normal = slice_normal(self.example.row_direction, self.example.column_direction)
        return [float(np.dot(header.position_mm, normal)) for header in self.headers]

    @property
    def spacing_mm(self) -> float:
        """Return the median distance between neighbours, mm; 0 if there are none."""
        steps = np.diff(sorted(self.positions_mm))
        steps = steps[steps > SAME_PLACE_MM]
        return float(np.median(steps)) if len(steps) else 0.0

    @property
    def extent_mm(self) -> float:
        """Return the distance between the first and the last image, mm."""
        return float(np.ptp(self.positions_mm))

    @property
    def is_axial(self) -> bool:
        """Say whether the slices are transverse to the body's axis."""
        normal = slice_normal(self.example.row_direction, self.example.column_direction)
        return bool(abs(normal[2]) >= AXIAL_COSINE)


def group_series(headers: Iterable[SliceHeader], minimum_slices: int) -> list[Group]:
    """Group images by series, kind, matrix, kernel, voltage, thickness and orientation.

    A series that was scanned twice at the same places (without and with contrast agent) is
    split by acquisition.
    """
    clusters: dict[tuple[object, ...], list[list[SliceHeader]]] = defaultdict(list)
    for header in headers:
        candidates = clusters[_key(header)]
        fitting = (c for c in candidates if _same_stack(c[0], header))
        found = next(fitting, None)
        if found is None:
            candidates.append([header])
        else:
            found.append(header)
    stacks = [part for cs in clusters.values() for c in cs for part in _acquisitions(c)]
    stacks.sort(key=_list_order)
    return [
        Group(i, tuple(s), _unsuitable(s, minimum_slices)) for i, s in enumerate(stacks, start=1)
    ]


def choose(groups: Sequence[Group], series: str | None) -> Group:
    """Return the series that the user names, else the most suitable one.

    Suitable comes first what is axial, shows the head, is original and long enough for a nose;
    then the thinnest spacing, then the most slices, then the first in the list.

    Raises
    ------
    UsageError
        If the user names a series that is not there.
    InputError
        If no series, or not the named one, is suitable.
    """
    if series is not None:
        return _named(groups, series)
    suitable = [group for group in groups if not group.trouble]
    if suitable:
        return min(suitable, key=_preference)
    reasons = Counter(group.trouble for group in groups)
    listed = "; ".join(reason for reason, _ in reasons.most_common(4))
    raise InputError(
        f"No CT series can be stacked ({len(groups)} found: {listed}); give an axial CT series "
        "of thin slices, see 'ct2flow ingest list'.",
        series=len(groups),
    )


def _named(groups: Sequence[Group], series: str) -> Group:
    by_number = [group for group in groups if str(group.number) == series]
    by_uid = [group for group in groups if group.example.series_uid == series]
    found = by_number or sorted(by_uid, key=lambda g: (bool(g.trouble), -len(g.headers)))
    if not found:
        raise UsageError(
            f"--series {series}: not among the {len(groups)} series of this scan; see "
            "'ct2flow ingest list'."
        )
    if found[0].trouble:
        raise InputError(
            f"Series {found[0].number} cannot be stacked: {found[0].trouble}; choose another "
            "one, see 'ct2flow ingest list'.",
            trouble=found[0].trouble,
        )
    return found[0]


def _preference(group: Group) -> tuple[object, ...]:
    example = group.example
    elsewhere = bool(example.body_part) and not any(p in example.body_part for p in _HEAD)
    return (
        not group.is_axial,
        elsewhere,
        group.extent_mm < HEAD_EXTENT_MM,
        "DERIVED" in example.image_type,
        round(group.spacing_mm, 2),
        -len(group.headers),
        group.number,
    )


def _key(header: SliceHeader) -> tuple[object, ...]:
    return (
        header.series_uid,
        header.trouble,
        header.image_type[:3],
        (header.rows, header.columns, header.spacing_mm),
        header.kernel,
        header.kvp,
    )


def _same_stack(one: SliceHeader, other: SliceHeader) -> bool:
    directions = (*one.row_direction, *one.column_direction)
    others = (*other.row_direction, *other.column_direction)
    thickness, another = one.thickness_mm or 0.0, other.thickness_mm or 0.0
    same_direction = np.abs(np.subtract(directions, others)).max() <= SAME_DIRECTION
    return bool(same_direction) and abs(thickness - another) <= SAME_THICKNESS_MM


def _acquisitions(headers: list[SliceHeader]) -> list[list[SliceHeader]]:
    by_number: dict[float, list[SliceHeader]] = defaultdict(list)
    for header in headers:
        by_number[header.order[0]].append(header)
    places = {tuple(round(p, 1) for p in header.position_mm) for header in headers}
    largest = max(len(part) for part in by_number.values())
    # Scanned twice: far fewer places than images, and one acquisition alone covers most places.
    twice = len(by_number) > 1 and len(places) * 1.5 <= len(headers)
    return list(by_number.values()) if twice and largest >= 0.8 * len(places) else [headers]


def _list_order(headers: Sequence[SliceHeader]) -> tuple[object, ...]:
    example = headers[0]
    number = example.series_number
    return (
        (number is None, number or 0, example.series_uid),
        (example.kernel, example.thickness_mm or 0.0, example.image_type),
        (example.row_direction, example.column_direction, example.rows, example.columns),
        (example.order[0], example.kvp or 0.0, example.trouble),
    )


def _unsuitable(headers: Sequence[SliceHeader], minimum_slices: int) -> str:
    if headers[0].trouble:
        return headers[0].trouble
    if len(headers) < minimum_slices:
        return f"only {len(headers)} slices of one kind (needed: {minimum_slices})"
    return ""


def format_groups(groups: Sequence[Group]) -> str:
    """Write the list of series as a table of plain text, without anything that names a patient."""
    head = ("no", "slices", "spacing_mm", "thickness_mm", "pixel_mm", "matrix", "kernel")
    rows = [(*head, "body_part", "orientation", "suitability")]
    rows += [_row(group) for group in groups]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ("  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _row(group: Group) -> tuple[str, ...]:
    example = group.example
    return (
        str(group.number),
        str(len(group.headers)),
        f"{group.spacing_mm:.3f}",
        "?" if example.thickness_mm is None else f"{example.thickness_mm:g}",
        f"{example.spacing_mm[0]:.4f}x{example.spacing_mm[1]:.4f}",
        f"{example.rows}x{example.columns}",
        example.kernel or "?",
        example.body_part or "?",
        "axial" if group.is_axial else "not axial",
        f"no: {group.trouble}" if group.trouble else "yes",
    )
