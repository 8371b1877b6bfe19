"""Physical constants and unit conversions, each once and with its reference.

References
----------
.. [1] U.S. Standard Atmosphere (1976), NOAA-S/T 76-1562: ideal gas with
   R = 287.05 J/(kg K), eq. 33,
   and Sutherland's law, eq. 51, at 310.15 K and 101 325 Pa.
"""

from __future__ import annotations

AIR_DENSITY_37C_KG_M3 = 1.14
"""Density of dry air at 37 degrees C, kg/m3 [1]_."""

AIR_KINEMATIC_VISCOSITY_37C_M2_S = 1.65e-5
"""Kinematic viscosity of dry air at 37 degrees C, m2/s, within 1 % [1]_."""

AIR_HU = -1000.0
"""Hounsfield units of air, by definition of the scale."""

PADDING_HU = -1024.0
"""Value given to voxels outside the scanner's field of view, HU."""

MM_PER_M = 1.0e3
MM3_PER_ML = 1.0e3
ML_PER_M3 = 1.0e6


def ml_s_to_m3_s(flow_rate_ml_s: float) -> float:
    """Convert a flow rate from ml/s to m3/s."""
    return flow_rate_ml_s / ML_PER_M3


def m3_s_to_ml_s(flow_rate_m3_s: float) -> float:
    """Convert a flow rate from m3/s to ml/s."""
    return flow_rate_m3_s * ML_PER_M3
