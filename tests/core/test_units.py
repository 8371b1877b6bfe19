"""The constants of air follow from the ideal gas and Sutherland's law."""

import numpy as np

from pipeline.core import units

BODY_TEMPERATURE_K = 310.15


def test_density_is_that_of_an_ideal_gas():
    expected = 101_325 / (287.05 * BODY_TEMPERATURE_K)
    np.testing.assert_allclose(units.AIR_DENSITY_37C_KG_M3, expected, rtol=0.005)


def test_viscosity_follows_sutherland():
    dynamic = 1.458e-6 * BODY_TEMPERATURE_K**1.5 / (BODY_TEMPERATURE_K + 110.4)
    expected = dynamic / (101_325 / (287.05 * BODY_TEMPERATURE_K))
    np.testing.assert_allclose(units.AIR_KINEMATIC_VISCOSITY_37C_M2_S, expected, rtol=0.01)


def test_flow_rates_convert_back():
    np.testing.assert_allclose(units.m3_s_to_ml_s(units.ml_s_to_m3_s(250.0)), 250.0, rtol=1e-15)
