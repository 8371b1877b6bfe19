"""The FDA's nozzle at throat Reynolds number 500: laboratories' velocities, a converged solution."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from stages.flow.validation.flows import Bench, Solved
from stages.flow.validation.pipes import SIDES, goal_at
from stages.flow.validation.references import FDA_NOZZLE
from stages.flow.validation.rows import Curve, Outcome, Row, at_most, inside, near
from stages.flow.validation.shapes import revolve

_START_MM, _END_MM = -96.0, 96.0
"""The inlet's profile is parabolic, so that half a diameter before the first station is enough; behind
the last station the jet still has its core, and the outlet stands 1.3 diameters further."""
_PROFILE_MM = np.array([
    *((_START_MM, 6.0), (-62.685, 6.0), (-40.0, 2.0), (0.0, 2.0), (0.0, 6.0), (_END_MM, 6.0)),
])  # fmt: skip
_LABORATORIES = "five laboratories, doi:10.1115/1.4003440, data doi:10.17917/C78G69"
_PRESSURE_GOAL = 0.02
_DIAMETER_MM = 4.0
_CELLS = (6, 8, 12)
"""Lattices, in cells across the throat."""


def fda_nozzle(bench: Bench) -> Outcome:
    """Compare velocities on the axis and the pressure drop on three lattices."""
    spacings = [_DIAMETER_MM / cells for cells in (_CELLS[:1] if bench.quick else _CELLS)]
    flows = {spacing: _flow(bench, spacing) for spacing in spacings}
    drops = {spacing: _drop_pa(solved) for spacing, solved in flows.items()}
    finest = min(spacings)
    solved = flows[finest]
    places = np.array(list(FDA_NOZZLE.velocity_m_s))
    found = _axis_velocity(solved, places)
    error = _lattice_error(drops)
    rows = [
        near(
            "pressure drop from -90.32 to +32 mm",
            *(drops[finest], FDA_NOZZLE.loss_pa, _PRESSURE_GOAL),
            unit="Pa",
            source="axisymmetric finite elements, Q2/Q1, two meshes within 0.02 %",
            note="; ".join(
                f"{_DIAMETER_MM / h:.3g} cells in the throat: {p:.1f} Pa" for h, p in drops.items()
            )
            + (f"; error by Richardson {100 * error:+.1f} %" if np.isfinite(error) else ""),
            numbers=solved.numbers(),
        ),
        *(
            inside(
                f"velocity on the axis at {place:g} mm",
                *(float(velocity), FDA_NOZZLE.velocity_m_s[place]),
                unit="m/s",
                source=_LABORATORIES,
                numbers=solved.numbers(),
            )
            for place, velocity in zip(places.tolist(), found, strict=True)
        ),
        *(_beside_converged(solved, places) for solved in flows.values()),
        at_most(
            "inflow over outflow minus one",
            *(max(s.imbalance() for s in flows.values()), 1e-3),
            unit="1",
            source="mass conservation with interpolated walls",
        ),
    ]
    return Outcome(rows, [_curve(flows)])


def _beside_converged(solved: Solved, places: Float[np.ndarray, "place"]) -> Row:
    """Compare the velocity on the axis with the converged one, at the place where it is off most."""
    cells = _DIAMETER_MM / solved.lattice.spacing_mm
    exact = np.array([FDA_NOZZLE.converged_m_s[place] for place in places.tolist()])
    ratio = _axis_velocity(solved, places) / exact
    worst = int(np.argmax(np.abs(ratio - 1.0)))
    others = ", ".join(
        f"{z:g}: {100 * (r - 1):+.1f} %" for z, r in zip(places, ratio, strict=True)
    )
    return near(
        f"velocity on the axis over the converged one, {cells:.3g} cells in the throat",
        *(float(ratio[worst]), 1.0, goal_at(round(cells))),
        unit="1",
        source="axisymmetric finite elements, Q2/Q1; the goal is that of pipes of as many cells",
        note=f"the worst of ten places, mm: {others}",
        numbers=solved.numbers(),
    )


def _flow(bench: Bench, spacing_mm: float) -> Solved:
    """Compute the nozzle; its slow eddy behind the expansion decides when it is steady."""
    return bench.solve(
        *(revolve(_PROFILE_MM, SIDES), spacing_mm, FDA_NOZZLE.flow_rate_m3_s * 1e6),
        density_kg_m3=FDA_NOZZLE.density_kg_m3,
        kinematic_viscosity_m2_s=FDA_NOZZLE.dynamic_viscosity_pa_s / FDA_NOZZLE.density_kg_m3,
        tolerance=1e-4,
        flow_throughs=1.0,
        max_steps=6000 if bench.quick else None,
    )


def _axis_velocity(
    solved: Solved, places: Float[np.ndarray, "place"]
) -> Float[np.ndarray, "place"]:
    points = np.column_stack([np.zeros((len(places), 2)), places])
    return np.asarray(solved.sampled(points)[1][2])


def _drop_pa(solved: Solved) -> float:
    along, pressure = solved.lattice.centres_mm[:, 2], solved.result.pressure_pa
    levels = []
    for place in FDA_NOZZLE.loss_places_mm:
        close = np.abs(along - place) < 1.5 * solved.lattice.spacing_mm
        levels.append(float(np.polyfit(along[close] - place, pressure[close], 1)[1]))
    return levels[0] - levels[1]


def _lattice_error(drops: dict[float, float]) -> float:
    """Return Richardson's estimate of the finer drop's relative error, for second order."""
    if len(drops) < 2:
        return float("nan")
    fine, coarse = sorted(drops)[:2]
    ratio = (coarse / fine) ** 2
    return (drops[coarse] - drops[fine]) / (1.0 - ratio) / -drops[fine]


def _curve(flows: dict[float, Solved]) -> Curve:
    places = np.linspace(-90.0, 90.0, 181)
    lines = {}
    for spacing, solved in flows.items():
        velocity = _axis_velocity(solved, places)
        lines[f"{_DIAMETER_MM / spacing:.3g} cells in the throat"] = list(
            zip(places.tolist(), velocity.tolist(), strict=True)
        )
    bars = [(place, low, high) for place, (low, high) in FDA_NOZZLE.velocity_m_s.items()]
    words = ("FDA nozzle, throat Re 500", "place on the axis, mm", "velocity, m/s")
    return Curve(*words, {}, lines, {"five laboratories": bars})
