"""A smooth throat, along the lattice and oblique to it: boundary layers of one to three cells."""

from __future__ import annotations

from typing import Any

import numpy as np

from stages.flow.validation.flows import NU_M2_S, Bench, Solved
from stages.flow.validation.pipes import ALIGNED, OBLIQUE, SIDES
from stages.flow.validation.rows import Outcome, near
from stages.flow.validation.shapes import revolve, rotation

_REYNOLDS = 200.0
_GOAL = 0.02
"""Largest share of the loss that may depend on the lattice's axes: the goal of the real nose."""


def throat_flow(
    bench: Bench, cells: int, angles: tuple[float, float, float], **settings: Any
) -> Solved:
    """Compute a pipe of 8 mm with a smooth throat of 4 mm at throat Reynolds number 200."""
    z = np.linspace(-8.0, 8.0, 33)
    throat = np.column_stack([z, 3.0 - np.cos(np.pi * z / 8.0)])
    profile = np.concatenate([[(-24.0, 4.0)], throat, [(40.0, 4.0)]])
    flow = _REYNOLDS * NU_M2_S * np.pi * 4e-3 / 4 * 1e6
    return bench.solve(revolve(profile, SIDES, rotation(*angles)), 4.0 / cells, flow, **settings)


def throat(bench: Bench) -> Outcome:
    """Compare the loss of a throat oblique to the lattice with that of one along it.

    Pipes do not show this: their flow is developed. In the throat the boundary layer is a tenth of the
    diameter, as in a nasal valve, and friction and separation follow from it.
    """
    rows = []
    for cells in (6,) if bench.quick else (6, 12):
        aligned, oblique = (throat_flow(bench, cells, a) for a in (ALIGNED, OBLIQUE))
        rows.append(
            near(
                f"total pressure loss of an oblique throat, {cells} cells across",
                *(oblique.result.means.loss_pa[1], aligned.result.means.loss_pa[1], _GOAL),
                unit="Pa",
                source="the same throat along an axis of the lattice: a flow knows no axes",
                note="throat Re 200",
                numbers=oblique.numbers(),
            )
        )
    return Outcome(rows)
