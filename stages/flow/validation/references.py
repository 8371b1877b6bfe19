"""Closed forms and published figures that flows are compared with.

References
----------
.. [1] Shah & London (1978), Laminar Flow Forced Convection in Ducts, chs. V to VII.
.. [2] Shah (1978), J. Fluids Eng. 100, 177, doi:10.1115/1.3448626.
.. [3] White (1929), Proc. R. Soc. A 123, 645, doi:10.1098/rspa.1929.0089.
.. [4] Sampson (1891), Phil. Trans. R. Soc. A 182, 449, doi:10.1098/rsta.1891.0012; Dagan, Weinbaum &
   Pfeffer (1982), J. Fluid Mech. 115, 505, doi:10.1017/S0022112082000883, for the plate's thickness.
.. [5] Hariharan et al. (2011), J. Biomech. Eng. 133, 041002, doi:10.1115/1.4003440; data:
   doi:10.17917/C78G69.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_TERMS = 199
"""Odd terms of the series for ducts up to this one; the rest is below 1e-11."""


def poiseuille_gradient(
    flow_rate_m3_s: float, diameter_m: float, dynamic_viscosity_pa_s: float
) -> float:
    """Return the fall of pressure per length of a round pipe, 128 mu Q / (pi D^4), Pa/m."""
    return 128 * dynamic_viscosity_pa_s * flow_rate_m3_s / (np.pi * diameter_m**4)


def rectangle_conductance(width: float, height: float) -> float:
    """Return flux per gradient over viscosity of a rectangular duct, length^4 [1]_.

    Notes
    -----
    K = w h^3 / 12 (1 - 192 h / (pi^5 w) sum_{n odd} tanh(n pi w / 2h) / n^5).
    """
    n = np.arange(1, _TERMS + 1, 2)
    sides = np.sum(np.tanh(n * np.pi * width / (2 * height)) / n**5)
    return float(width * height**3 / 12 * (1 - 192 * height / (np.pi**5 * width) * sides))


def rectangle_friction_reynolds(width: float, height: float) -> float:
    """Return Darcy's friction factor times the Reynolds number of the hydraulic diameter."""
    area = width * height
    hydraulic = 2 * area / (width + height)
    return 2 * hydraulic**2 * area / rectangle_conductance(width, height)


def shah_pressure_drop(place: float) -> float:
    """Return (p_inlet - p) / (rho U^2 / 2) in a pipe entered at uniform velocity [2]_.

    Parameters
    ----------
    place
        x+ = (distance over diameter) over Reynolds number.

    Notes
    -----
    A fit to numerical solutions of the boundary layer, accurate to 2.4 %.
    """
    root = 13.74 * np.sqrt(place)
    return float(root + (1.25 + 64 * place - root) / (1 + 0.00021 / place**2))


def white_friction_ratio(dean: float) -> float:
    """Return the friction of a curved pipe over that of a straight one, 11.6 < De < 2000 [3]_."""
    if not 11.6 < dean < 2000:
        raise ValueError(f"De = {dean}: White's correlation holds between 11.6 and 2000.")
    return float(1.0 / (1.0 - (1.0 - (11.6 / dean) ** 0.45) ** 2.2))


def thickness_resistance(thickness: float) -> float:
    """Return what a plate's thickness, in radii of the hole, adds to dp a^3 / (mu Q) = 3 [4]_.

    Notes
    -----
    8 t / (pi a): hole and pipe in series, within 1 %.
    """
    return 8.0 * thickness / np.pi


@dataclass(frozen=True)
class Nozzle:
    """Hold the FDA's nozzle at throat Reynolds number 500, in the direction of the expansion [5]_.

    Parameters
    ----------
    flow_rate_m3_s, density_kg_m3, dynamic_viscosity_pa_s
        Flow and fluid.
    velocity_m_s
        Lowest and highest velocity of five laboratories by place on the axis, mm from the expansion.
    converged_m_s
        Velocity there of an axisymmetric finite-element solution, `benchmarks/fda_nozzle_reference.py`.
    loss_pa
        Fall of pressure between `loss_places_mm` of an axisymmetric finite-element solution (Q2/Q1, two
        meshes within 0.02 %): the laboratories' pressures scatter from 230 to 413 Pa.
    """

    flow_rate_m3_s: float
    density_kg_m3: float
    dynamic_viscosity_pa_s: float
    velocity_m_s: dict[float, tuple[float, float]]
    converged_m_s: dict[float, float]
    loss_pa: float
    loss_places_mm: tuple[float, float]


FDA_NOZZLE = Nozzle(
    flow_rate_m3_s=5.20624e-6,
    density_kg_m3=1056.0,
    dynamic_viscosity_pa_s=0.0035,
    velocity_m_s={
        -88.0: (0.083, 0.093),
        -48.0: (0.189, 0.236),
        -20.0: (0.658, 0.715),
        -8.0: (0.702, 0.768),
        0.0: (0.709, 0.753),
        8.0: (0.693, 0.740),
        16.0: (0.671, 0.721),
        32.0: (0.628, 0.654),
        60.0: (0.444, 0.587),
        80.0: (0.417, 0.513),
    },
    converged_m_s={
        -88.0: 0.0921,
        -48.0: 0.1882,
        -20.0: 0.6758,
        -8.0: 0.7270,
        0.0: 0.7485,
        8.0: 0.7333,
        16.0: 0.7140,
        32.0: 0.6655,
        60.0: 0.5699,
        80.0: 0.5049,
    },
    loss_pa=308.4,
    loss_places_mm=(-90.32, 32.0),
)


def observed_order(spacings: list[float], errors: list[float]) -> float:
    """Return the slope of the least-squares line of log error over log spacing."""
    return float(np.polyfit(np.log(spacings), np.log(np.abs(errors)), 1)[0])
