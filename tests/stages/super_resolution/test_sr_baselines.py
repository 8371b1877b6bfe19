"""The baselines are the operators they claim to be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sr_volumes import make_head

from pipeline.core.errors import UsageError
from pipeline.core.geometry import VoxelGrid
from stages.super_resolution.baselines import (
    BASELINES,
    apply_operator,
    histospline_operator,
    linear_operator,
    restore_baseline,
    spline_operator,
    thin_grid,
)
from stages.super_resolution.degradation import degrade, profile_taps

ROUNDING = 1e-9
"""Splines of unit data: float64 epsilon times the condition of a tridiagonal solve."""

counts = st.integers(1, 40)
factors = st.sampled_from([3, 5, 7])


def cell_means(power: int, count: int, factor: int) -> np.ndarray:
    """Return the mean of t^power over each cell of length 1/factor."""
    faces = np.arange(count * factor + 1) / factor
    return np.diff(faces ** (power + 1)) / (power + 1) * factor


def centre_values(power: int, count: int, factor: int) -> np.ndarray:
    return ((np.arange(count * factor) + 0.5) / factor) ** power


@given(count=counts, factor=factors)
@settings(deadline=None)
def test_histospline_slices_average_to_the_thick_slice(count, factor):
    mean = np.kron(np.eye(count), np.full((1, factor), 1 / factor))
    assert_allclose(mean @ histospline_operator(count, factor), np.eye(count), atol=ROUNDING)


@pytest.mark.parametrize("power", [0, 1, 2])
@pytest.mark.parametrize("factor", [3, 5])
def test_histospline_reproduces_cell_means_of_quadratics(power, factor):
    thick = cell_means(power, 9, 1)
    thin = histospline_operator(9, factor) @ thick
    assert_allclose(thin, cell_means(power, 9, factor), rtol=ROUNDING, atol=ROUNDING)


def test_histospline_does_not_reproduce_cubics_exactly():
    thin = histospline_operator(9, 3) @ cell_means(3, 9, 1)
    assert np.abs(thin - cell_means(3, 9, 3)).max() > 1e-3


@pytest.mark.parametrize("power", [0, 1, 2, 3])
def test_spline_reproduces_cubics(power):
    thin = spline_operator(8, 3) @ centre_values(power, 8, 1)
    assert_allclose(thin, centre_values(power, 8, 3), rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("power", [0, 1])
def test_linear_reproduces_ramps_to_the_ends(power):
    thin = linear_operator(8, 3) @ centre_values(power, 8, 1)
    assert_allclose(thin, centre_values(power, 8, 3), rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("method", ["linear", "spline"])
@given(count=counts, factor=factors)
@settings(deadline=None)
def test_interpolation_returns_the_thick_slice_in_the_middle(method, count, factor):
    middle = BASELINES[method](count, factor)[(factor - 1) // 2 :: factor]
    assert_allclose(middle, np.eye(count), atol=ROUNDING)


@pytest.mark.parametrize("method", BASELINES)
@given(count=counts, factor=factors)
@settings(deadline=None)
def test_baselines_keep_constants_and_commute_with_turning_the_stack(method, count, factor):
    matrix = BASELINES[method](count, factor)
    assert_allclose(matrix.sum(axis=1), 1.0, atol=ROUNDING)
    assert_allclose(matrix[::-1, ::-1], matrix, atol=ROUNDING)


def test_histospline_is_closer_than_the_spline_which_is_closer_than_linear():
    head = make_head(3, shape=(60, 48, 48)).values.astype(np.float32)
    thick = degrade(head, profile_taps("box", 3), 3)
    errors = [
        np.square(restore_baseline(thick, method, factor=3) - head).mean()
        for method in ("histospline", "spline", "linear")
    ]
    assert errors == sorted(errors)


def test_operator_in_blocks_equals_one_product():
    thick = np.random.default_rng(5).normal(size=(6, 130, 7))
    matrix = histospline_operator(6, 3)
    whole = np.einsum("ij,jyx->iyx", matrix, thick)
    # float32 rounding of the result
    assert_allclose(apply_operator(matrix, thick), whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("factor", [3, 5])
def test_thick_slice_is_centred_on_the_middle_thin_slice(factor):
    axes = ((0.0, 0.6, 0.8), (0.0, 0.8, -0.6), (-1.0, 0.0, 0.0))
    thick = VoxelGrid((4, 5, 6), (3.75, 0.5, 0.7), (1.0, -2.0, 3.0), axes)
    thin = thin_grid(thick, factor)
    of_thick = np.array([[j, 2.0, 3.0] for j in range(4)])
    of_thin = np.array([[factor * j + (factor - 1) // 2, 2.0, 3.0] for j in range(4)])
    assert_allclose(thin.to_world_mm(of_thin), thick.to_world_mm(of_thick), atol=1e-12)
    assert_allclose(thin.extent_mm, thick.extent_mm, rtol=1e-14)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_even_factors_and_one_are_refused(factor):
    with pytest.raises(UsageError, match="odd number"):
        thin_grid(VoxelGrid((2, 2, 2), (1.0, 1.0, 1.0)), factor)


@pytest.mark.parametrize("profile", ["box", "triangle", "gaussian"])
@pytest.mark.parametrize("factor", [3, 5])
def test_profiles_keep_constants_and_have_the_thick_slice_as_width(profile, factor):
    taps = profile_taps(profile, factor)
    assert_allclose(taps.sum(), 1.0, rtol=1e-15)
    assert_allclose(taps, taps[::-1], rtol=1e-15)
    half = np.interp(factor / 2, np.arange(len(taps) // 2 + 2), [*taps[len(taps) // 2 :], 0.0])
    assert_allclose(half / taps.max(), 0.5, atol=0.04)  # linear between samples of a Gaussian


def test_box_degradation_is_the_mean_of_the_thin_slices():
    thin = np.random.default_rng(0).normal(size=(11, 3, 4)).astype(np.float32)
    mean = thin[:9].reshape(3, 3, 3, 4).mean(axis=1)
    assert_allclose(degrade(thin, profile_taps("box", 3), 3), mean, atol=1e-6)


@pytest.mark.parametrize("profile", ["triangle", "gaussian"])
def test_degradation_of_a_ramp_is_the_ramp_at_the_centres_of_thick_slices(profile):
    thin = np.arange(30.0, dtype=np.float32)[:, None, None]
    thick = degrade(thin, profile_taps(profile, 3), 3)[:, 0, 0]
    inner = slice(2, -2)  # the ends repeat their outermost slice
    assert_allclose(thick[inner], (3 * np.arange(10) + 1)[inner], rtol=1e-5)
