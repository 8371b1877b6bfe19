"""Deviations of pressure losses from a baseline, with the discretisation error that they carry.

References
----------
.. [1] Roache (1994), J. Fluids Eng. 116, 405, doi:10.1115/1.2910291: the grid convergence index.
.. [2] Celik, Ghia, Roache & Freitas (2008), J. Fluids Eng. 130, 078001, doi:10.1115/1.2960953.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

ASSUMED_ORDER = 1.0
"""Order assumed where two lattices cannot show it: the lowest that still converges."""


def deviation_percent(value: float, baseline: float) -> float:
    """Return (value - baseline) / baseline in percent."""
    return 100.0 * (value - baseline) / baseline


def discretisation_percent(
    fine: float, coarse: float, spacing_ratio: float, *, order: float = ASSUMED_ORDER
) -> float:
    """Return the estimated error of the fine value, percent, from two lattices (Richardson).

    Parameters
    ----------
    fine, coarse
        The same quantity on the fine and on the coarse lattice.
    spacing_ratio
        Coarse over fine spacing, above 1.
    order
        Assumed order of convergence.

    Raises
    ------
    ValueError
        If the ratio is not above 1.

    Notes
    -----
    |coarse - fine| / (r^p - 1) / |fine|. With p = 1 and r = 1.4 this is 2.5 times the observed
    change, close to Roache's safety factor of 3 on a second-order estimate, 3 / (r^2 - 1) = 3.1
    [1]_.
    """
    if spacing_ratio <= 1:
        raise ValueError("the coarse spacing must be larger than the fine one")
    return float(100.0 * abs(coarse - fine) / (spacing_ratio**order - 1.0) / abs(fine))


def path_measures(flow: Mapping[str, Any]) -> dict[str, Any]:
    """Return per opening its flow rate and, per inlet, the resistance to the outlets, Pa s/ml."""
    openings = flow["openings"]
    outlets = [o for name, o in openings.items() if name.startswith("outlet")]
    flux = sum(o["flow_rate_ml_s"] for o in outlets) or 1.0
    outlet_total = sum(o["flow_rate_ml_s"] * o["total_pressure_pa"] for o in outlets) / flux
    paths = {}
    for name, opening in openings.items():
        if not name.startswith("inlet"):
            continue
        rate = opening["flow_rate_ml_s"]
        loss = opening["total_pressure_pa"] - outlet_total
        paths[name.removeprefix("inlet").lstrip("-") or name] = {
            "flow_rate_ml_s": rate,
            "resistance_pa_s_ml": loss / rate if rate > 0 else None,
        }
    return paths


def compare_flows(
    flows: Mapping[str, Mapping[str, Any]],
    baseline: str,
    coarse: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, Any]]:
    """Compare every flow with the baseline.

    Parameters
    ----------
    flows
        flow.json by variant name.
    baseline
        Name of the baseline among them.
    coarse
        The same variants on a coarser lattice; may be empty.

    Returns
    -------
    dict
        By variant: losses, deviation, discretisation error, whether the deviation is resolved.
    """
    return {name: _one(name, flows, baseline, coarse) for name in flows}


def _one(
    name: str,
    flows: Mapping[str, Mapping[str, Any]],
    baseline: str,
    coarse: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    flow, reference = flows[name], flows[baseline]
    paths = path_measures(flow)
    total = flow["pressure_loss"]["total_pa"]
    entry: dict[str, Any] = {
        "static_pa": flow["pressure_loss"]["static_pa"],
        "total_pa": total,
        "deviation_from_hr_percent": deviation_percent(
            total, reference["pressure_loss"]["total_pa"]
        ),
        "discretisation_percent": None,
        "deviation_coarse_percent": None,
        "deviation_error_percent": None,
        "resolved": None,
        "paths": paths,
        "resistance_pa_s_ml": total / sum(p["flow_rate_ml_s"] for p in paths.values()),
        "peak_velocity_m_s": flow["numbers"].get("peak_velocity_m_s"),
        "spacing_mm": flow["lattice"]["spacing_mm"],
        "converged": flow["convergence"]["reached"],
        "pressure_loss_std_pa": flow["convergence"].get("pressure_loss_std_pa"),
    }
    if name in coarse and baseline in coarse:
        entry |= _lattice_error(name, flows, baseline, coarse)
    return entry


def _lattice_error(
    name: str,
    flows: Mapping[str, Mapping[str, Any]],
    baseline: str,
    coarse: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    ratio = coarse[name]["lattice"]["spacing_mm"] / flows[name]["lattice"]["spacing_mm"]
    fine, rough = (f[name]["pressure_loss"]["total_pa"] for f in (flows, coarse))
    base_fine, base_rough = (f[baseline]["pressure_loss"]["total_pa"] for f in (flows, coarse))
    error = discretisation_percent(fine, rough, ratio)
    deviation = deviation_percent(fine, base_fine)
    deviation_rough = deviation_percent(rough, base_rough)
    deviation_error = abs(deviation_rough - deviation) / (ratio**ASSUMED_ORDER - 1.0)
    return {
        "coarse_spacing_mm": coarse[name]["lattice"]["spacing_mm"],
        "coarse_total_pa": rough,
        "discretisation_percent": error,
        "deviation_coarse_percent": deviation_rough,
        "deviation_error_percent": deviation_error,
        "resolved": None if name == baseline else abs(deviation) > max(error, deviation_error),
    }


def mean_absolute_deviation(deviations_percent: Sequence[float]) -> dict[str, float | int | None]:
    """Return the mean and standard deviation of |deviation| over cases, with their number."""
    values = np.abs(np.asarray(deviations_percent, dtype=np.float64))
    spread = float(values.std(ddof=1)) if len(values) > 1 else None
    return {"mean_percent": float(values.mean()), "std_percent": spread, "cases": len(values)}
