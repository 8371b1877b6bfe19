"""The lattice error has closed forms for sequences of known order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.grid_convergence import extrapolated, lattice_error, observed_order

SPACINGS = (0.2, 0.28, 0.392)


def sequence(order, limit=20.0, slope=3.0, spacings=SPACINGS):
    return [limit + slope * h**order for h in spacings]


@given(st.floats(-5, 5), st.floats(1.2, 3))
def test_two_lattices_give_the_exact_error_of_a_first_order_sequence(slope, ratio):
    found = lattice_error([1.0, ratio], [20 + slope, 20 + slope * ratio])
    np.testing.assert_allclose(found.error, abs(slope), rtol=1e-6, atol=1e-9)


@given(st.floats(0.1, 5), st.floats(1.2, 3))
def test_two_lattices_bound_the_error_of_a_second_order_sequence(slope, ratio):
    found = lattice_error([1.0, ratio], [20 + slope, 20 + slope * ratio**2])
    assert found.error >= slope


@pytest.mark.parametrize("order", [0.6, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("spacings", [SPACINGS, (0.2, 0.25, 0.4)])
def test_three_lattices_show_their_order(order, spacings):
    found = observed_order(spacings, sequence(order, spacings=spacings))
    np.testing.assert_allclose(found, order, rtol=1e-6)


@pytest.mark.parametrize("order", [1.0, 2.0])
def test_three_lattices_give_the_true_error_with_a_quarter_of_safety(order):
    values = sequence(order)
    found = lattice_error(SPACINGS, values)
    np.testing.assert_allclose(found.error, 1.25 * abs(values[0] - 20.0), rtol=1e-6)
    assert found.method == "observed order"


def test_an_order_above_the_scheme_s_is_not_trusted():
    found = lattice_error(SPACINGS, sequence(4.0))
    assert found.order == 2.0


@pytest.mark.parametrize("values", [(20.0, 21.0, 20.5), (20.0, 21.0, 21.1)])
def test_values_without_order_carry_three_times_their_range(values):
    found = lattice_error(SPACINGS, values)
    assert found.order is None
    np.testing.assert_allclose(found.error, 3 * (max(values) - min(values)))


@pytest.mark.parametrize("values", [(20.0, 20.0, 21.0), (20.1, 20.0, 21.0)])
def test_values_that_swing_ever_less_carry_half_their_range(values):
    found = lattice_error(SPACINGS, values)
    assert found.method == "half the data range"
    assert not found.asymptotic
    np.testing.assert_allclose(found.error, 0.5 * (max(values) - min(values)))


@given(st.floats(-1e-6, 1e-6))
def test_two_lattices_that_agree_by_chance_do_not_hide_the_error(change):
    error = lattice_error(SPACINGS, (20.0 + change, 20.0, 21.0)).error
    np.testing.assert_allclose(error, 0.5, rtol=1e-5)


def test_a_swing_is_not_told_to_be_nearer_than_second_order():
    found = lattice_error(SPACINGS, (20.0, 20.9, 20.0 - 0.1))
    np.testing.assert_allclose(found.error, 3 * 0.9 / 0.96, rtol=1e-12)


@pytest.mark.parametrize("spacings", [(1.0, 1.0), (1.0, 0.5), (1.0,)])
def test_a_coarse_lattice_must_be_coarser(spacings):
    with pytest.raises(ValueError, match="coarser"):
        lattice_error(spacings, [1.0] * len(spacings))


@pytest.mark.parametrize("order", [0.7, 1.0, 2.0])
def test_extrapolation_finds_the_limit_of_a_sequence_of_known_order(order):
    found = extrapolated(SPACINGS, sequence(order, limit=20.0), order)
    np.testing.assert_allclose(found, 20.0, rtol=1e-12)


def test_values_without_an_order_have_no_limit():
    assert extrapolated(SPACINGS, (1.0, 2.0, 1.5), None) is None


def test_values_that_fall_together_too_fast_get_the_safety_factor_of_no_order():
    # Observed order about 4.4: second order and a factor of 3, |f2 - f1| / (1.4^2 - 1).
    found = lattice_error(SPACINGS, (20.0, 20.1, 20.54))
    assert found.order == 2.0
    assert found.observed > 4
    assert not found.asymptotic
    np.testing.assert_allclose(found.error, 3 * 0.1 / 0.96, rtol=1e-12)
