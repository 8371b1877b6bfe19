"""Order slices by their place in the patient and find the regular grid that they lie on.

A stack is regular if its positions along the slice normal are p(k) = p0 + k s. The grid is
estimated from the longest run of even steps and refined by least squares over all slices on it;
slices off the grid (re-scanned ones) do not move it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from pipeline.core.errors import InputError
from pipeline.core.geometry import Triple

MIN_SLICES = 3
"""Fewer slices have no spacing that could be checked."""
SAME_PLACE_MM = 1e-2
"""Two slices nearer than this lie at one place; positions are written to 1e-2 mm or better."""
RUN_TOLERANCE = 0.12
"""Steps within a run may differ by this fraction: 0.625 mm written to 0.1 mm gives 0.6 and 0.7,
which lies 12 % from their mean."""
MAX_OFF_GRID = 0.25
"""Largest fraction of slices off the grid that a re-scan explains; more is an uneven stack."""
MAX_MISSING = 0.2
"""Largest fraction of missing places that is called a gap; more is an uneven stack."""
_ROUNDED = 0.2
"""Rounding moves a slice by no more than this fraction of the spacing, or nothing is known."""
_WRITTEN = 1e-3
"""Positions this near to a number of few digits were written with as few."""
_LISTED = 6
_CANDIDATES = 12


@dataclass(frozen=True)
class Stack:
    """Describe a regular stack of slices.

    Parameters
    ----------
    members
        Indices of the slices used, in the order of increasing position.
    first_mm, spacing_mm
        Position of the first slice along the normal and distance between slices, mm.
    repeated
        Pairs (used, left out) of slices at one place; the one acquired later is used.
    off_grid
        Slices left out because they lie between the places of the grid.
    cropped
        Slices left out because a gap separates them from the longest part.
    deviation_mm
        Largest distance of a used slice from its place on the grid, mm.
    """

    members: tuple[int, ...]
    first_mm: float
    spacing_mm: float
    repeated: tuple[tuple[int, int], ...]
    off_grid: tuple[int, ...]
    cropped: tuple[int, ...]
    deviation_mm: float


def slice_normal(row: Triple, column: Triple) -> Float[np.ndarray, 3]:
    """Return the unit normal of the slices; its largest component is positive.

    For axial slices positions along it grow towards the head.
    """
    normal = np.cross(row, column)
    normal = normal / np.linalg.norm(normal)
    result: Float[np.ndarray, 3] = normal * np.sign(normal[np.argmax(np.abs(normal))])
    return result


def stack_slices(
    positions_mm: Sequence[float],
    order: Sequence[tuple[float, ...]],
    *,
    tolerance: float,
    crop_gaps: bool,
) -> Stack:
    """Find the regular grid of a series and the slices on it.

    Parameters
    ----------
    positions_mm
        Position of each slice along the normal, mm.
    order
        Sorts slices of one place by time of acquisition, the last one wins.
    tolerance
        Distance from the grid as a fraction of its spacing up to which a slice lies on it.
    crop_gaps
        Keep the longest part without a gap instead of refusing a stack with missing slices.

    Raises
    ------
    InputError
        If there are too few slices, their spacing is uneven, or some are missing.
    """
    places, repeated = _latest_at_each_place(positions_mm, order)
    positions = np.array([positions_mm[i] for i in places])
    if len(places) < MIN_SLICES:
        raise InputError(
            f"The series has {len(places)} slices at different places (needed: at least "
            f"{MIN_SLICES}); give the complete series.",
            slices=len(places),
        )
    first, spacing, on_grid = fit_grid(positions, tolerance)
    _refuse_uneven(positions, on_grid, first, spacing)
    index = np.rint((positions[on_grid] - first) / spacing).astype(int)
    keep = _longest_part(index) if crop_gaps else np.ones(len(index), dtype=bool)
    _refuse_gaps(index[keep], first, spacing)
    used = np.flatnonzero(on_grid)[keep]
    deviation = np.abs(positions[used] - first - index[keep] * spacing)
    members = tuple(places[i] for i in used)
    return Stack(
        members=members,
        first_mm=float(first + index[keep][0] * spacing),
        spacing_mm=float(spacing),
        repeated=tuple(pair for pair in repeated if pair[0] in members),
        off_grid=tuple(places[i] for i in np.flatnonzero(~on_grid)),
        cropped=tuple(places[i] for i in np.flatnonzero(on_grid)[~keep]),
        deviation_mm=float(deviation.max()),
    )


def fit_grid(
    positions_mm: Float[np.ndarray, " slice"], tolerance: float
) -> tuple[float, float, Bool[np.ndarray, " slice"]]:
    """Fit p0 + k s to the majority of sorted positions; return p0, s and who lies on the grid.

    Each run of even steps proposes a grid. The one with the most slices on it, less the places
    it leaves empty, wins: half the true spacing would catch re-scanned slices as well, but leave
    nearly half of its places empty.
    """
    runs = sorted(_runs(np.diff(positions_mm)), key=lambda run: run[0] - run[1])
    rounding = _rounding_mm(positions_mm)
    fits = [_refine(positions_mm, run, tolerance, rounding) for run in runs[:_CANDIDATES]]
    return max(fits, key=lambda fit: _merit(positions_mm, *fit))


def _refine(
    positions_mm: Float[np.ndarray, " slice"],
    run: tuple[int, int],
    tolerance: float,
    rounding_mm: float,
) -> tuple[float, float, Bool[np.ndarray, " slice"]]:
    start, stop = run
    spacing = (positions_mm[stop] - positions_mm[start]) / (stop - start)
    first = positions_mm[start]
    on_grid = np.zeros(len(positions_mm), dtype=bool)
    # Each pass refines the spacing over a longer stretch; two suffice, eight is a bound.
    for _ in range(8):
        index = np.rint((positions_mm - first) / spacing)
        distance = np.abs(positions_mm - first - index * spacing)
        now = _one_per_place(index, distance) & (
            distance <= max(tolerance * spacing, min(rounding_mm, _ROUNDED * spacing))
        )
        if np.count_nonzero(now) < 2 or np.array_equal(now, on_grid):
            break
        on_grid = now
        spacing, first = np.polyfit(index[on_grid], positions_mm[on_grid], 1)
    first += spacing * np.rint((positions_mm[on_grid].min() - first) / spacing)
    return float(first), float(spacing), on_grid


def _rounding_mm(positions_mm: Float[np.ndarray, " slice"]) -> float:
    """Return how far rounding moves slices apart, if all positions are written to 0.1 mm."""
    tenths = positions_mm * 10.0
    rounded = bool(np.abs(tenths - np.rint(tenths)).max() <= _WRITTEN)
    return 0.1 + _WRITTEN if rounded else 0.0


def _merit(
    positions_mm: Float[np.ndarray, " slice"],
    first: float,
    spacing: float,
    on_grid: Bool[np.ndarray, " slice"],
) -> float:
    used = int(np.count_nonzero(on_grid))
    places = round((float(positions_mm[on_grid].max()) - first) / spacing) + 1
    return float(used - (places - used))


def _runs(steps: Float[np.ndarray, " step"]) -> list[tuple[int, int]]:
    """Return the bounds (slice indices) of every longest stretch of even steps."""
    runs = []
    start = 0
    while start < len(steps):
        stop = start + 1
        while stop < len(steps) and _even(steps[start : stop + 1]):
            stop += 1
        runs.append((start, stop))
        start = stop
    return runs


def _even(steps: Float[np.ndarray, " step"]) -> bool:
    middle = float(steps.mean())
    return bool(np.abs(steps - middle).max() <= RUN_TOLERANCE * middle)


def _one_per_place(
    index: Float[np.ndarray, " slice"], distance: Float[np.ndarray, " slice"]
) -> Bool[np.ndarray, " slice"]:
    nearest = np.zeros(len(index), dtype=bool)
    ranked = np.lexsort((distance, index))
    _, first = np.unique(index[ranked], return_index=True)
    nearest[ranked[first]] = True
    return nearest


def _latest_at_each_place(
    positions_mm: Sequence[float], order: Sequence[tuple[float, ...]]
) -> tuple[list[int], list[tuple[int, int]]]:
    ranked = sorted(range(len(positions_mm)), key=lambda i: (positions_mm[i], order[i]))
    groups: list[list[int]] = []
    for i in ranked:
        if groups and positions_mm[i] - positions_mm[groups[-1][0]] <= SAME_PLACE_MM:
            groups[-1].append(i)
        else:
            groups.append([i])
    latest = [max(group, key=lambda i: order[i]) for group in groups]
    pairs = zip(latest, groups, strict=True)
    return latest, [(one, other) for one, group in pairs for other in group if other != one]


def _longest_part(index: Int[np.ndarray, " slice"]) -> Bool[np.ndarray, " slice"]:
    part = np.cumsum(np.diff(index, prepend=index[0]) > 1)
    result: Bool[np.ndarray, " slice"] = part == np.argmax(np.bincount(part))
    return result


def _refuse_uneven(
    positions: Float[np.ndarray, " slice"],
    on_grid: Bool[np.ndarray, " slice"],
    first: float,
    spacing: float,
) -> None:
    span = np.rint((positions[on_grid].max() - first) / spacing) + 1
    missing = 1 - np.count_nonzero(on_grid) / span
    off_grid = 1 - np.count_nonzero(on_grid) / len(positions)
    if off_grid <= MAX_OFF_GRID and missing <= MAX_MISSING:
        return
    steps = np.diff(positions)
    raise InputError(
        f"The spacing of the slices varies from {steps.min():.2f} to {steps.max():.2f} mm "
        f"({np.count_nonzero(on_grid)} of {len(positions)} slices lie on a regular grid of "
        f"{spacing:.3f} mm; needed: one spacing). Export the series with even spacing, or "
        "choose another one with --series.",
        smallest_mm=float(steps.min()),
        largest_mm=float(steps.max()),
    )


def _refuse_gaps(index: Int[np.ndarray, " slice"], first: float, spacing: float) -> None:
    wanted = np.arange(index[0], index[-1] + 1)
    missing = np.setdiff1d(wanted, index)
    if not len(missing):
        return
    raise InputError(
        f"{len(missing)} of {len(wanted)} slices are missing, near "
        f"{list_places(first + missing * spacing)} (spacing {spacing:.3f} mm). Export the "
        "complete series, or keep its longest part with --missing-slices crop.",
        missing_mm=[float(first + k * spacing) for k in missing],
    )


def list_places(positions_mm: Sequence[float] | Float[np.ndarray, " slice"]) -> str:
    """Name positions along the normal, mm; long lists are cut."""
    shown = ", ".join(f"{p:.2f}" for p in list(positions_mm)[:_LISTED])
    return shown + (", ..." if len(positions_mm) > _LISTED else "") + " mm"
