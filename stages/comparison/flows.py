"""Deviations of pressure losses from a baseline, with the discretisation error that they carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.core.grid_convergence import lattice_error
from stages.comparison.flow_record import FlowRecord

COMPARISON_FORMAT = 1
Flows = Mapping[str, FlowRecord]
CoarseFlows = Mapping[str, Sequence[FlowRecord]]
NO_ERROR: Mapping[str, Any] = {
    "discretisation_percent": None,
    "discretisation_method": None,
    "observed_order": None,
    "coarser": (),
    "deviation_error_percent": None,
    "resolved": None,
}


def deviation_percent(value: float, baseline: float) -> float | None:
    """Return (value - baseline) / |baseline| in percent, signed; None for a baseline of zero."""
    return None if baseline == 0 else 100.0 * (value - baseline) / abs(baseline)


def compare_flows(flows: Flows, baseline: str, coarse: CoarseFlows) -> dict[str, dict[str, Any]]:
    """Compare every flow with the baseline.

    Parameters
    ----------
    flows
        Flows by variant.
    baseline
        Name of the baseline among them.
    coarse
        The same variants on coarser lattices, the least coarse first; may be empty.

    Returns
    -------
    dict
        By variant: losses, Pa, flow rates, ml/s, and resistances, Pa s/ml, per side; deviation from
        the baseline and discretisation error, percent; whether the deviation is resolved.
    """
    entries = {name: _losses(flow, flows[baseline]) for name, flow in flows.items()}
    for name, entry in entries.items():
        entry.update(_lattice_errors(name, flows, coarse))
    for name, entry in entries.items():
        entry.update(_deviation_error(name, flows, baseline, coarse, entry["coarser"]))
        entry["resolved"] = None if name == baseline else _is_resolved(entry, entries[baseline])
    return entries


def members_spread(members: Flows) -> dict[str, Any]:
    """Return how far the networks of an ensemble differ in their total pressure losses, Pa.

    The standard deviation is that of a sample (n - 1): a few networks stand for all that the
    training could have given. It is none for one member.
    """
    losses_pa = [flow.pressure_loss.total_pa for flow in members.values()]
    return {
        "model_std_pa": float(np.std(losses_pa, ddof=1)) if len(losses_pa) > 1 else None,
        "members": {name: flow.pressure_loss.total_pa for name, flow in members.items()},
        "members_converged": all(flow.convergence.settled for flow in members.values()),
    }


def _losses(flow: FlowRecord, baseline: FlowRecord) -> dict[str, Any]:
    total = flow.pressure_loss.total_pa
    flux = sum(opening.flow_rate_ml_s for opening in flow.inlets.values())
    return {
        "static_pa": flow.pressure_loss.static_pa,
        "total_pa": total,
        "deviation_from_hr_percent": deviation_percent(total, baseline.pressure_loss.total_pa),
        "static_deviation_from_hr_percent": deviation_percent(
            flow.pressure_loss.static_pa, baseline.pressure_loss.static_pa
        ),
        "paths": path_measures(flow, baseline),
        "resistance_pa_s_ml": total / flux if flux > 0 else None,
        "peak_velocity_m_s": flow.numbers.peak_velocity_m_s,
        "spacing_mm": flow.lattice.spacing_mm,
        "converged": flow.convergence.reached,
        "statistically_steady": flow.convergence.statistically_steady,
        "unsettled_percent": flow.convergence.unsettled_percent,
        "std_in_time_pa": flow.pressure_loss.standard_deviation_in_time_pa,
        **NO_ERROR,
    }


def path_measures(flow: FlowRecord, baseline: FlowRecord) -> dict[str, dict[str, float | None]]:
    """Return flow rate, ml/s, and resistance, Pa s/ml, of each inlet's path to the outlets.

    A side without inflow has no resistance. Deviations are from the same side of the baseline.
    """
    paths: dict[str, dict[str, float | None]] = {}
    for side, opening in flow.inlets.items():
        same = baseline.inlets.get(side)
        own = _resistance(flow, side)
        reference = None if same is None else _resistance(baseline, side)
        paths[side] = {
            "flow_rate_ml_s": opening.flow_rate_ml_s,
            "resistance_pa_s_ml": own,
            "flow_rate_deviation_percent": None
            if same is None
            else deviation_percent(opening.flow_rate_ml_s, same.flow_rate_ml_s),
            "resistance_deviation_percent": None
            if own is None or reference is None
            else deviation_percent(own, reference),
        }
    return paths


def _resistance(flow: FlowRecord, side: str) -> float | None:
    opening = flow.inlets[side]
    if opening.flow_rate_ml_s <= 0:
        return None
    return (opening.total_pressure_pa - flow.outlet_total_pressure_pa) / opening.flow_rate_ml_s


def _lattice_errors(name: str, flows: Flows, coarse: CoarseFlows) -> dict[str, Any]:
    rough = coarse.get(name, ())
    if not rough:
        return {}
    ladder = [flows[name], *rough]
    values = [flow.pressure_loss.total_pa for flow in ladder]
    found = lattice_error([flow.lattice.spacing_mm for flow in ladder], values)
    return {
        "discretisation_percent": 100.0 * found.error / abs(values[0]) if values[0] else None,
        "discretisation_method": found.method,
        "observed_order": found.observed,
        "coarser": [
            {"spacing_mm": flow.lattice.spacing_mm, "total_pa": flow.pressure_loss.total_pa}
            for flow in rough
        ],
        "coarse_converged": all(flow.convergence.settled for flow in rough),
    }


def _deviation_error(
    name: str, flows: Flows, baseline: str, coarse: CoarseFlows, coarser: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Return the deviations on the coarser lattices and the error of the deviation itself.

    Errors that both flows share cancel in the deviation, so that it may be known better, or, when
    passages close at different spacings, worse than the losses.
    """
    own, reference = coarse.get(name, ()), coarse.get(baseline, ())
    ladder = [(flows[name], flows[baseline]), *zip(own, reference, strict=False)]
    pairs = [
        (
            a.lattice.spacing_mm,
            deviation_percent(a.pressure_loss.total_pa, b.pressure_loss.total_pa),
        )
        for a, b in ladder
        if a.lattice.spacing_mm == b.lattice.spacing_mm
    ]
    known = [(spacing, value) for spacing, value in pairs if value is not None]
    if len(known) < 2:
        return {}
    found = lattice_error([spacing for spacing, _ in known], [value for _, value in known])
    deviations = dict(known)
    return {
        "coarser": [c | {"deviation_percent": deviations.get(c["spacing_mm"])} for c in coarser],
        "deviation_error_percent": found.error,
    }


def _is_resolved(entry: Mapping[str, Any], baseline: Mapping[str, Any]) -> bool | None:
    """Say whether the deviation exceeds every error that it carries; None if none is known."""
    errors = (
        entry["discretisation_percent"],
        baseline["discretisation_percent"],
        entry["deviation_error_percent"],
    )
    in_time = (entry["unsettled_percent"], baseline["unsettled_percent"])
    deviation = entry["deviation_from_hr_percent"]
    if deviation is None or any(error is None for error in errors):
        return None
    if any(open_ended is None for open_ended in in_time):
        return False
    return bool(abs(deviation) > max(*errors, sum(in_time)))


def mean_absolute_deviation(deviations_percent: Sequence[float]) -> dict[str, float | int | None]:
    """Return the mean and the sample standard deviation of |deviation| over cases, percent.

    The measure that the reference study compares methods by; n stands beside it, and one
    case has no spread.

    Raises
    ------
    ValueError
        If there is no case.
    """
    values = np.abs(np.asarray(deviations_percent, dtype=np.float64))
    if len(values) == 0:
        raise ValueError("a mean over cases needs at least one case")
    spread = float(values.std(ddof=1)) if len(values) > 1 else None
    return {"mean_percent": float(values.mean()), "std_percent": spread, "cases": len(values)}


def flow_comparison(entries: dict[str, dict[str, Any]], baseline: str) -> dict[str, Any]:
    """Return the content of the comparison of one case."""
    return {
        "format": COMPARISON_FORMAT,
        "baseline": baseline,
        "definition": {
            "deviation_percent": "100 (variant - baseline) / |baseline|, total pressure loss",
            "discretisation_percent": "error of the finest lattice's total pressure loss",
            "model_std_pa": "standard deviation of the total pressure losses of single networks",
            "unsettled_percent": "two standard errors of the mean over time of an unsteady flow; change of "
            "the loss within the last windows of one that had not settled; 0 if converged; null if the run "
            "ended before it had one",
            "resolved": "the deviation exceeds its own lattice error, those of both losses, and what "
            "the state in time leaves open",
        },
        "pressure_loss": entries,
    }


def flow_warnings(entries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what must be said wherever these losses are shown."""
    found = []
    open_ended = {name: entry for name, entry in entries.items() if not entry["converged"]}
    unsteady = [name for name, entry in open_ended.items() if entry["statistically_steady"]]
    unsettled = [name for name in open_ended if name not in unsteady]
    rough = [name for name, entry in entries.items() if entry.get("coarse_converged") is False]
    found += [
        f"{name}: the flow of a single network has not converged; its mean over time is part of "
        "the spread of the networks."
        for name, entry in entries.items()
        if entry.get("members_converged") is False
    ]
    if unsteady:
        found.append(
            f"{', '.join(unsteady)}: the flow is unsteady; its mean over time is compared."
        )
    if unsettled:
        found.append(
            f"{', '.join(unsettled)}: the flow has not converged; its last mean over time is compared."
        )
    if rough:
        found.append(
            f"{', '.join(rough)}: a coarser run has not converged; the discretisation error is a "
            "guess."
        )
    return found + [
        f"{name}: the deviation of {entry['deviation_from_hr_percent']:+.1f} % is not resolved: "
        f"smaller than its error (lattice: loss {entry['discretisation_percent']:.1f} %, "
        f"deviation {entry['deviation_error_percent']:.1f} %; in time {_share(entry['unsettled_percent'])})."
        for name, entry in entries.items()
        if entry["resolved"] is False
    ]


def _share(percent: float | None) -> str:
    return "unknown" if percent is None else f"{percent:.1f} %"
