"""Slice profiles as shapes: weight, symmetry, width; another spacing of the taps keeps them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from pipeline.core.errors import InputError
from stages.triplets.profile_shapes import (
    NAMED,
    centre_offset,
    profile_weights,
    resample_taps,
    width_at_half_maximum,
)
from stages.triplets.settings import TripletsSettings
from stages.triplets.stage import read_taps

CELLS = np.arange(-20.5, 21.0)


@settings(max_examples=40)
@given(width=st.floats(1.5, 9.0), profile=st.sampled_from(NAMED))
def test_named_profiles_have_weight_one_symmetry_and_their_width(width, profile):
    taps = profile_weights(profile, width, CELLS)
    assert taps.sum() == pytest.approx(1.0)
    assert_allclose(taps, taps[::-1], atol=1e-12)
    variance = {"box": 1 / 12, "triangle": 1 / 6, "gaussian": 1 / (8 * np.log(2))}[profile]
    # Averaging over a tap's own place adds the variance of a box of one slice,
    # to within what edges that cut a tap in two add or take.
    assert taps @ np.arange(-20, 21) ** 2 == pytest.approx(variance * width**2 + 1 / 12, abs=0.13)


@given(shift=st.floats(-1.0, 1.0), profile=st.sampled_from(NAMED))
def test_a_profile_that_is_moved_by_part_of_a_slice_has_its_centroid_there(shift, profile):
    taps = profile_weights(profile, 6.0, CELLS - shift)
    # A cell that an edge cuts counts as lying in its own middle: at most half a cell of 1/6 weight.
    assert centre_offset(taps) == pytest.approx(shift, abs=1 / 12)


def test_an_unknown_profile_is_refused():
    with pytest.raises(ValueError, match="No slice profile is called 'sinc'"):
        profile_weights("sinc", 3.0, CELLS)


@given(ratio=st.floats(0.4, 2.5))
def test_resampled_taps_keep_weight_centroid_and_width(ratio):
    taps = profile_weights("gaussian", 6.0, np.arange(-12.5, 13.0))
    moved = resample_taps(taps, ratio)
    assert moved.sum() == pytest.approx(1.0)
    assert moved.min() >= 0.0
    assert len(moved) % 2 == 1
    assert width_at_half_maximum(moved) * ratio == pytest.approx(6.0, rel=0.12)
    assert centre_offset(moved) == pytest.approx(0.0, abs=0.05)
    assert_allclose(resample_taps(taps, 1.0), taps, atol=1e-12)


def test_slices_three_times_as_thick_have_the_sum_of_three_taps():
    taps = np.array([0.05, 0.1, 0.1, 0.1, 0.3, 0.1, 0.1, 0.1, 0.05])
    assert_allclose(resample_taps(taps, 3.0), [0.25, 0.5, 0.25], atol=1e-12)


def fitted_file(tmp_path, **changes):
    path = tmp_path / "fitted.json"
    content = {"format": 1, "taps": [0.25, 0.5, 0.25], "spacing_mm": 1.0} | changes
    path.write_text(json.dumps(content))
    return TripletsSettings(profile=str(path))


def test_a_fitted_profile_is_used_as_it_is_at_its_own_spacing_and_by_area_at_another(tmp_path):
    chosen = fitted_file(tmp_path)
    assert_allclose(read_taps(chosen, 1.015), [0.25, 0.5, 0.25])
    half = read_taps(chosen, 0.5)
    assert_allclose(half, [0.0625, 0.125, 0.1875, 0.25, 0.1875, 0.125, 0.0625], atol=1e-12)
    assert half.sum() == pytest.approx(1.0)


def test_a_fitted_profile_that_fits_no_slice_spacing_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"narrower than one slice of 5 mm; give a scan of thinner"
    ):
        read_taps(fitted_file(tmp_path), 5.0)
    with pytest.raises(InputError, match=r"3 taps 1e\+06 mm apart covers more than 255 slices"):
        read_taps(fitted_file(tmp_path, spacing_mm=1e6), 1.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"spacing_mm": float("inf")},
        {"spacing_mm": 0.0},
        {"spacing_mm": None},
        {"taps": [1.0]},
        {"taps": [0.5, 0.5]},
        {"taps": [0.2, 0.5, 0.2]},
        {"taps": [0.25, float("nan"), 0.25]},
        {"taps": {"a": 1}},
        {"format": 2},
    ],
)
def test_a_file_that_is_no_fitted_profile_is_refused(tmp_path, changes):
    with pytest.raises(InputError, match=r"fitted\.json: is no fitted profile; needed is"):
        read_taps(fitted_file(tmp_path, **changes), 1.0)
