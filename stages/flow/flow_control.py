"""Drive the flow rate to its target: what the openings aim at in the next steps."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from stages.flow.openings import OpeningState

_SPEED_CORRECTION = 0.1
"""Share of a velocity inlet's flux error that is corrected at each correction of the target."""
_BEFORE_CORRECTION = 0.2
"""Share of the rise before which fluxes are too small to be corrected."""


def risen(time_s: float, ramp_s: float) -> float:
    """Return how far the rise of the flow rate has come, 0 to 1."""
    return 1.0 if ramp_s <= 0 else min(time_s / ramp_s, 1.0)


def smooth_share(rise: float) -> float:
    """Return the share of the flow rate: half a cosine, so that no wave is started."""
    return float(0.5 * (1 - np.cos(np.pi * rise)))


def aim_outlets(control: OpeningState, target: float, base_rate: float) -> None:
    """Set the outlets' target flux and the rate of their integral, lattice units.

    The integral is faster by the airway's resistance over the outlets' impedance. The resistance of a flow
    that loses its pressure to inertia is twice pressure over flux.
    """
    control.outlet[3] = target
    level, impedance = (float(v) for v in control.outlet[:2])
    flux = max(float(control.outlet[4]), 0.2 * target, 1e-30)
    control.outlet[2] = base_rate * (1.0 + min(2.0 * abs(level) / (impedance * flux), 20.0))


def corrected_speeds(
    control: OpeningState,
    wanted: Float[np.ndarray, "opening"],
    correction: Float[np.ndarray, "opening"],
    rise: float,
) -> Float[np.ndarray, "opening"]:
    """Return the factors on the velocity inlets' speeds that bring their fluxes to `wanted`."""
    if rise < _BEFORE_CORRECTION:
        return np.ones(len(wanted))
    error = np.clip((wanted - control.flux) / np.maximum(wanted, 1e-30), -0.5, 0.5)
    return np.asarray(np.clip(correction * (1 + _SPEED_CORRECTION * error), 0.5, 2.0))
