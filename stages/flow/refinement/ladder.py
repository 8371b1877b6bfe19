"""Errors and limits of what a ladder of lattices measured: losses and the flow of every opening."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from pipeline.core.errors import UsageError
from pipeline.core.grid_convergence import extrapolated, lattice_error
from stages.flow.lattice import SOUND_SPEED_SQUARED_LU
from stages.flow.mesh import is_inlet, is_outlet
from stages.flow.settings import FlowSettings

_NEARLY = (0.5, 2.0)
"""Flow rates over the one asked for that a run begins with; others are no better than rest."""
Record = Mapping[str, Any]
REFINEMENT_FORMAT = 1
LEAST_RATIO = 1.1
"""Least ratio of two spacings; below it their difference drowns in the noise of the lattice's place.
Celik et al. (2008) advise 1.3."""


def checked_spacings(spacings_mm: Sequence[float]) -> tuple[float, ...]:
    """Return the spacings of a ladder, the coarsest first.

    Raises
    ------
    UsageError
        If there are fewer than two or two of them are nearly the same.
    """
    ordered = tuple(sorted(spacings_mm, reverse=True))
    usable = len(ordered) >= 2 and all(math.isfinite(s) and s > 0 for s in ordered)
    if not usable or min(a / b for a, b in pairwise(ordered)) < LEAST_RATIO:
        raise UsageError(
            f"--spacings-mm {','.join(f'{s:g}' for s in spacings_mm)}: needed are two or more spacings above "
            f"zero, each at least {LEAST_RATIO} times the next finer one, such as 0.5,0.35,0.25.",
            spacings_mm=tuple(spacings_mm),
        )
    return ordered


def discretisation(record: Record, coarser: Sequence[Record]) -> dict[str, Any]:
    """Return the errors of a flow's pressure losses, percent, from the same flow on coarser lattices.

    Parameters
    ----------
    record
        flow.json on the finest lattice.
    coarser
        flow.json on coarser lattices, the least coarse first.
    """
    total = quantity([record, *coarser], "pressure_loss", "total_pa")
    static = quantity([record, *coarser], "pressure_loss", "static_pa")
    return {
        "total_percent": total["error_percent"],
        "static_percent": static["error_percent"],
        "method": total["method"],
        "order": total["order"],
        "spacings_mm": [spacing(r) for r in (record, *coarser)],
    }


def ladder_record(ladder: Sequence[Record]) -> dict[str, Any]:
    """Return refinement.json from the flow.json of each lattice, the finest first."""
    openings = ladder[0]["openings"]
    return {
        "format": REFINEMENT_FORMAT,
        "spacings_mm": [spacing(r) for r in ladder],
        "pressure_loss": {
            "total_pa": quantity(ladder, "pressure_loss", "total_pa"),
            "static_pa": quantity(ladder, "pressure_loss", "static_pa"),
        },
        "flow_rate_ml_s": {
            name: quantity(ladder, "openings", name, "flow_rate_ml_s")
            for name in openings
            if all(name in r["openings"] for r in ladder)
        },
        "lattices": [_lattice(r) for r in ladder],
        "seconds": round(sum(r["lattice"]["seconds"] for r in ladder), 3),
        "warnings": _caveats(ladder),
    }


def quantity(ladder: Sequence[Record], *path: str) -> dict[str, Any]:
    """Return values, limit and error of one number of flow.json, the finest lattice first.

    ``error`` is the half-width of the band around the finest value that is expected to hold the value
    at spacing zero, in the number's own unit.
    """
    values = [_number(record, path) for record in ladder]
    spacings = [spacing(r) for r in ladder]
    found = lattice_error(spacings, values)
    limit = extrapolated(spacings, values, found.order) if found.asymptotic else None
    return {
        "values": values,
        "extrapolated": limit,
        "error": found.error,
        "error_percent": 100.0 * found.error / abs(values[0]) if values[0] else None,
        "order": found.order,
        "observed_order": found.observed,
        "method": found.method,
    }


def peak_ratio(record: Record, settings: FlowSettings) -> float:
    """Return the peak velocity of a flow.json over the one that the settings aim at.

    Lattices that differ in their Mach numbers too would show the sum of two errors.
    """
    peak_lu = float(record["numbers"]["mach_max"]) * math.sqrt(SOUND_SPEED_SQUARED_LU)
    return peak_lu / settings.lattice_velocity


def carries_flow(record: Record, settings: FlowSettings) -> bool:
    """Say whether a flow is one that a finer lattice can begin with: nearly the one asked for."""
    entering = [o["flow_rate_ml_s"] for n, o in record["openings"].items() if is_inlet(n)]
    leaving = [o["flow_rate_ml_s"] for n, o in record["openings"].items() if is_outlet(n)]
    low, high = (share * settings.flow_rate_ml_s for share in _NEARLY)
    return all(low <= sum(flow) <= high for flow in (entering, leaving))


def spacing(record: Record) -> float:
    """Return the edge of a lattice cell of a flow.json, mm."""
    return float(record["lattice"]["spacing_mm"])


def _number(record: Record, path: Sequence[str]) -> float:
    value: Any = record
    for key in path:
        value = value[key]
    return float(value)


def _lattice(record: Record) -> dict[str, Any]:
    convergence, loss = record["convergence"], record["pressure_loss"]
    return {
        "spacing_mm": spacing(record),
        "fluid_cells": record["lattice"]["fluid_cells"],
        "steps": record["lattice"]["steps"],
        "seconds": record["lattice"]["seconds"],
        "converged": convergence["reached"],
        "statistically_steady": convergence["statistically_steady"],
        "standard_deviation_in_time_pa": loss["standard_deviation_in_time_pa"],
    }


def _caveats(ladder: Sequence[Record]) -> list[str]:
    unsettled = [
        f"{spacing(r):g} mm"
        for r in ladder
        if not (r["convergence"]["reached"] or r["convergence"]["statistically_steady"])
    ]
    if not unsettled:
        return []
    return [
        f"{', '.join(unsettled)}: the run has not converged, so that part of the difference between the "
        "lattices is not of the lattices; allow more --flow-throughs."
    ]
