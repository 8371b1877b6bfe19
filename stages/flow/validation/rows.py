"""One figure of the validation: what was found, what it should be, and whether it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """Compare one figure with its reference.

    Parameters
    ----------
    quantity
        What was measured, with the place and the lattice.
    value, unit
        The figure.
    reference
        What it should be: a number, or the lowest and the highest.
    error
        Deviation that the goal bounds, as a share of the reference; None for ranges and bounds.
    goal
        The goal in words.
    tolerance
        Largest error allowed, or None for ranges and bounds.
    source
        Where the reference, and the goal, come from.
    passed
        Whether the goal is met.
    note
        What a reader must know to judge the figure.
    numbers
        Facts of the run: cells, relaxation time, steps.
    """

    quantity: str
    value: float
    unit: str
    reference: float | tuple[float, float]
    error: float | None
    goal: str
    tolerance: float | None
    source: str
    passed: bool
    note: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Curve:
    """Hold one plot: computed points beside a reference.

    Parameters
    ----------
    title, x_label, y_label
        Words with units.
    points
        Computed (x, y) by label.
    lines
        Reference (x, y) by label.
    bars
        Reference ranges (x, low, high) by label.
    logarithmic
        Both axes.
    """

    title: str
    x_label: str
    y_label: str
    points: Mapping[str, list[tuple[float, float]]]
    lines: Mapping[str, list[tuple[float, float]]] = field(default_factory=dict)
    bars: Mapping[str, list[tuple[float, float, float]]] = field(default_factory=dict)
    logarithmic: bool = False


@dataclass(frozen=True)
class Outcome:
    """Hold what one case gave in one precision."""

    rows: list[Row]
    curves: list[Curve] = field(default_factory=list)


def near(
    quantity: str,
    value: float,
    reference: float,
    tolerance: float,
    *,
    unit: str,
    source: str,
    **more: Any,
) -> Row:
    """Judge a figure by its relative deviation from a reference."""
    error = value / reference - 1.0
    goal = f"within {100 * tolerance:.3g} %"
    passed = abs(error) <= tolerance
    return Row(quantity, value, unit, reference, error, goal, tolerance, source, passed, **more)


def inside(
    quantity: str,
    value: float,
    bounds: tuple[float, float],
    *,
    unit: str,
    source: str,
    **more: Any,
) -> Row:
    """Judge a figure by a range."""
    low, high = bounds
    goal = f"{low:g} to {high:g}"
    return Row(
        *(quantity, value, unit, bounds, None, goal, None, source, low <= value <= high), **more
    )


def at_least(
    quantity: str, value: float, bound: float, *, unit: str, source: str, **more: Any
) -> Row:
    """Judge a figure by a lower bound."""
    return Row(
        *(quantity, value, unit, bound, None, f"at least {bound:g}", None, source, value >= bound),
        **more,
    )


def at_most(
    quantity: str, value: float, bound: float, *, unit: str, source: str, **more: Any
) -> Row:
    """Judge the size of a figure by an upper bound."""
    passed = abs(value) <= bound
    return Row(
        *(quantity, value, unit, bound, None, f"at most {bound:g}", None, source, passed), **more
    )
