"""The time step of a run: from a guess of the peak velocity first, then from the velocity itself."""

from __future__ import annotations

import numpy as np

from pipeline.core.units import ml_s_to_m3_s
from stages.flow.openings import Opening
from stages.flow.scales import Scales
from stages.flow.settings import FlowSettings

_LARGEST_RELAXATION_TIME = 0.8
"""The wall's viscous terms are small corrections below it."""
_PEAK_MARGIN = (0.5, 1.15)
"""Peak velocities within this range of the target leave the time step as it is."""
_USUAL_RATIO = 0.95
"""Peak velocity over the target after a change of the time step."""
_SETTLED_MARGIN = 0.1
"""A run that began with another flow comes this close to the ratio that is asked of it, once it has settled:
lattices that are to be compared shall have nearly one Mach number."""
_LARGEST_RATIO = 3.0
"""A peak beyond this share of the target is never let stand."""
_GUESSED_PEAK = 3.0
"""First guess of the peak velocity over the mean velocity in the smaller side's openings."""
_RAMPING, DEVELOPING = 1.2, 2.0
"""Windows until which the flow rate is raised (and what was late), and the flow develops."""
_SETTLED = (0.4, 0.7)
"""Windows between which a run that began with another flow is on its own lattice, before samples count."""
_LEAST_CHANGE = 0.02
"""A smaller change of the time step is not worth the disturbance."""


def usual_ratio(ratio: float | None) -> float:
    """Return the peak velocity over its target that is asked for, the usual one if none is."""
    return _USUAL_RATIO if ratio is None else ratio


def first_scales(settings: FlowSettings, peak_m_s: float) -> Scales:
    """Return the scales whose time step lets the peak velocity meet the target."""
    spacing_m = settings.spacing_mm * 1e-3
    scales = Scales(
        spacing_m,
        settings.lattice_velocity * spacing_m / peak_m_s,
        settings.density_kg_m3,
        settings.kinematic_viscosity_m2_s,
    )
    longest = scales.time_step_of(_LARGEST_RELAXATION_TIME)
    return scales.with_time_step(min(scales.time_step_s, longest))


def guessed_peak_m_s(openings: tuple[Opening, ...], settings: FlowSettings) -> float:
    """Return a guess of the peak velocity from the openings of the smaller side."""
    area_mm2 = min(sum(o.area_mm2 for o in openings if o.inlet == side) for side in (True, False))
    return _GUESSED_PEAK * ml_s_to_m3_s(settings.flow_rate_ml_s) / (area_mm2 * 1e-6)


def fitted_time_step_s(
    scales: Scales, ratio: float, window: float, *, asked: float | None
) -> float | None:
    """Return the time step that suits the peak velocity; None if the present one does.

    Parameters
    ----------
    scales
        Present scales.
    ratio
        Peak velocity over the one aimed at.
    window
        Time since the start in averaging windows.
    asked
        The ratio that a run which began with another flow shall have; None for a flow raised from rest.
    """
    low, high = _margin(window, asked)
    if low <= ratio <= high:
        return None
    factor = float(np.clip((asked or _USUAL_RATIO) / ratio, 0.4, 2.0))
    longest = scales.time_step_of(_LARGEST_RELAXATION_TIME)
    step = min(scales.time_step_s * factor, longest)
    return None if abs(step / scales.time_step_s - 1.0) < _LEAST_CHANGE else step


def _margin(window: float, asked: float | None) -> tuple[float, float]:
    """Return the range of the peak's ratio that is left alone at some time of the run."""
    if asked is not None:
        if _SETTLED[0] <= window < _SETTLED[1]:
            return asked * (1.0 - _SETTLED_MARGIN), asked * (1.0 + _SETTLED_MARGIN)
        return 0.0, _LARGEST_RATIO
    if window < _RAMPING:
        return 0.0, _PEAK_MARGIN[1]
    return _PEAK_MARGIN if window < DEVELOPING else (0.0, _LARGEST_RATIO)
