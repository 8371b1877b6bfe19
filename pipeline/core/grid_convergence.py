"""Discretisation error of a quantity from two or more lattices.

References
----------
.. [1] Roache (1994), J. Fluids Eng. 116, 405, doi:10.1115/1.2910291: the grid convergence index.
.. [2] Celik, Ghia, Roache & Freitas (2008), J. Fluids Eng. 130, 078001, doi:10.1115/1.2960953.
.. [3] Eca & Hoekstra (2014), J. Comput. Phys. 262, 104, doi:10.1016/j.jcp.2014.01.006: three times
   the data range where the lattices show no order.
.. [4] Stern, Wilson, Coleman & Paterson (2001), J. Fluids Eng. 123, 793, doi:10.1115/1.1412235: half the
   data range where values oscillate with a shrinking amplitude.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Method = Literal[
    "two lattices, first order assumed", "observed order", "half the data range", "data range"
]

ASSUMED_ORDER = 1.0
"""Order assumed where two lattices cannot show it: the lowest that walls can give."""
FORMAL_ORDER = 2.0
"""Order of the bulk scheme; a higher observed one is not trusted."""
HIGHEST_ORDER = 2.1
"""Beyond it values fall together faster than the scheme allows: the coarsest lattice is too coarse to tell
an order, and the safety factor is that of no order [3]_."""
LOWEST_ORDER = 0.5
"""Below it the lattices are not in the asymptotic range [3]_."""
THREE_LATTICE_FACTOR = 1.25
"""Safety factor where the order is observed [2]_."""
RANGE_FACTOR = 3.0
"""Safety factor where no order is observed: on the data range, or on the change at second order [3]_."""
HALF_RANGE = 0.5
"""Share of the data range carried by values that swing with a shrinking amplitude or meet too early [4]_."""
_ORDER_RANGE = (0.01, 20.0)
_HALVINGS = 60
"""Bisections of the range of orders: to the last digit."""


@dataclass(frozen=True)
class LatticeError:
    """Hold the error of the value on the finest lattice.

    Parameters
    ----------
    error
        Magnitude, in the unit of the value.
    order
        Order of convergence used; None if a share of the data range was taken.
    method
        How the error was found.
    observed
        Order that three lattices show, before it is limited; None if they show none.
    """

    error: float
    order: float | None
    method: Method
    observed: float | None = None

    @property
    def asymptotic(self) -> bool:
        """Whether the values change as an order of the scheme lets them, so that they have a limit."""
        if self.method == "observed order":
            return self.observed is not None and self.observed <= HIGHEST_ORDER
        return self.order is not None


def lattice_error(spacings_mm: Sequence[float], values: Sequence[float]) -> LatticeError:
    """Estimate the discretisation error of the value on the finest lattice.

    Parameters
    ----------
    spacings_mm
        Two or more spacings, finest first, mm.
    values
        The quantity on each lattice.

    Raises
    ------
    ValueError
        If there are fewer than two lattices or they do not become coarser.

    Notes
    -----
    Two lattices: |f2 - f1| / (r^p - 1) with p = 1 [1]_. For r = 1.4 this is 2.5 times the observed
    change, close to the safety factor 3 at second order, 3 / (r^2 - 1) = 3.1. Three: the observed
    order p of [2]_, limited to 2, and 1.25 |f2 - f1| / (r^p - 1), or 3 instead of 1.25 where p is above 2.1;
    if p is below 0.5 or the values swing ever wider, three times their range [3]_. Where they swing with a
    shrinking amplitude, half their range [4]_. The two finest may then agree by chance, as they may where p
    is above 2.1: the error is never below the larger of half the range and 3 |f2 - f1| / (r^2 - 1).
    """
    rising = all(a < b for a, b in pairwise(spacings_mm))
    if len(spacings_mm) < 2 or len(spacings_mm) != len(values) or not rising:
        raise ValueError("needed are two or more lattices, each coarser than the one before")
    ratio = spacings_mm[1] / spacings_mm[0]
    change = abs(values[1] - values[0])
    if len(values) == 2:
        error = change / (ratio**ASSUMED_ORDER - 1.0)
        return LatticeError(error, ASSUMED_ORDER, "two lattices, first order assumed")
    return _three_lattices(values, change, ratio, observed_order(spacings_mm, values))


def _three_lattices(
    values: Sequence[float], change: float, ratio: float, order: float | None
) -> LatticeError:
    spread = max(values[:3]) - min(values[:3])
    swings = (values[1] - values[0]) * (values[2] - values[1]) <= 0
    cautious = max(HALF_RANGE * spread, RANGE_FACTOR * change / (ratio**FORMAL_ORDER - 1.0))
    if swings and change < abs(values[2] - values[1]):
        return LatticeError(cautious, None, "half the data range")
    if order is None or order < LOWEST_ORDER:
        return LatticeError(RANGE_FACTOR * spread, None, "data range", order)
    if order > HIGHEST_ORDER:
        return LatticeError(cautious, FORMAL_ORDER, "observed order", order)
    used = min(order, FORMAL_ORDER)
    error = THREE_LATTICE_FACTOR * change / (ratio**used - 1.0)
    return LatticeError(error, used, "observed order", order)


def observed_order(spacings_mm: Sequence[float], values: Sequence[float]) -> float | None:
    """Return the order of convergence of the three finest lattices, eq. 3 of [2]_.

    None if the values oscillate, stand still or change as no order from 0.01 on lets them; 20 stands for all
    above it.
    """
    h1, h2, h3 = spacings_mm[:3]
    fine, coarse = values[1] - values[0], values[2] - values[1]
    if fine * coarse <= 0:
        return None
    r21, r32 = h2 / h1, h3 / h2
    target = math.log(coarse / fine)

    def mismatch(order: float) -> float:
        growth = math.log((r32**order - 1.0) / (r21**order - 1.0))
        return order * math.log(r21) + growth - target

    lowest, highest = _ORDER_RANGE
    if mismatch(highest) < 0:
        return highest
    return _root(mismatch, lowest, highest) if mismatch(lowest) < 0 else None


def extrapolated(
    spacings_mm: Sequence[float], values: Sequence[float], order: float | None
) -> float | None:
    """Return the value at spacing zero by Richardson's extrapolation of the two finest lattices.

    None without an order: values in no order have no limit that could be told.
    """
    if order is None:
        return None
    growth = float((spacings_mm[1] / spacings_mm[0]) ** order)
    return values[0] + (values[0] - values[1]) / (growth - 1.0)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function that changes its sign once between two places is zero."""
    rising = function(low) < 0
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        if (function(middle) < 0) == rising:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)
