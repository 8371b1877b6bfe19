"""Discretisation error of a quantity from two or more lattices.

References
----------
.. [1] Roache (1994), J. Fluids Eng. 116, 405, doi:10.1115/1.2910291: the grid convergence index.
.. [2] Celik, Ghia, Roache & Freitas (2008), J. Fluids Eng. 130, 078001, doi:10.1115/1.2960953.
.. [3] Eca & Hoekstra (2014), J. Comput. Phys. 262, 104, doi:10.1016/j.jcp.2014.01.006: three times
   the data range where the lattices show no order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from scipy.optimize import brentq

Method = Literal["two lattices, first order assumed", "observed order", "data range"]

ASSUMED_ORDER = 1.0
"""Order assumed where two lattices cannot show it: the lowest that walls can give."""
FORMAL_ORDER = 2.0
"""Order of the bulk scheme; a higher observed one is not trusted."""
LOWEST_ORDER = 0.5
"""Below it the lattices are not in the asymptotic range [3]_."""
THREE_LATTICE_FACTOR = 1.25
"""Safety factor where the order is observed [2]_."""
RANGE_FACTOR = 3.0
"""Safety factor on the data range where no order is observed [3]_."""
_ORDER_RANGE = (0.01, 20.0)


@dataclass(frozen=True)
class LatticeError:
    """Hold the error of the value on the finest lattice.

    Parameters
    ----------
    error
        Magnitude, in the unit of the value.
    order
        Order of convergence used; None if the data range was taken.
    method
        How the error was found.
    """

    error: float
    order: float | None
    method: Method


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
    order p of [2]_, limited to 2, and 1.25 |f2 - f1| / (r^p - 1); if the values
    oscillate or p is below 0.5, three times their range [3]_.
    """
    rising = all(a < b for a, b in pairwise(spacings_mm))
    if len(spacings_mm) < 2 or len(spacings_mm) != len(values) or not rising:
        raise ValueError("needed are two or more lattices, each coarser than the one before")
    ratio = spacings_mm[1] / spacings_mm[0]
    change = abs(values[1] - values[0])
    if len(values) == 2:
        error = change / (ratio**ASSUMED_ORDER - 1.0)
        return LatticeError(error, ASSUMED_ORDER, "two lattices, first order assumed")
    order = observed_order(spacings_mm, values)
    if order is None or order < LOWEST_ORDER:
        spread = max(values[:3]) - min(values[:3])
        return LatticeError(RANGE_FACTOR * spread, None, "data range")
    used = min(order, FORMAL_ORDER)
    error = THREE_LATTICE_FACTOR * change / (ratio**used - 1.0)
    return LatticeError(error, used, "observed order")


def observed_order(spacings_mm: Sequence[float], values: Sequence[float]) -> float | None:
    """Return the order of convergence of the three finest lattices, eq. 3 of [2]_.

    None if the values oscillate, stand still or change as no order from 0.01 to 20 lets them.
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

    if mismatch(_ORDER_RANGE[0]) * mismatch(_ORDER_RANGE[1]) > 0:
        return None
    return float(brentq(mismatch, *_ORDER_RANGE))
