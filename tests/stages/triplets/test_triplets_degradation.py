"""Degradation: a linear operator with unit sum whose thick slices lie where their thin ones do."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from pydantic import ValidationError
from scipy import ndimage

from pipeline.core.artefacts import read_sidecar
from pipeline.core.errors import InputError
from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume, read_volume, write_volume
from stages.triplets.degradation import (
    degrade,
    plan_slices,
    profile_taps,
    thick_grid,
    thin_grid,
)
from stages.triplets.settings import TripletsSettings
from stages.triplets.stage import run

PROFILES = ("box", "triangle", "gaussian")
FLOAT32_HU = 4096 * 2.0**-23
"""One unit in the last place of a float32 HU value."""
TILTED = ((0.0, -0.6, 0.8), (0.0, 0.8, 0.6), (1.0, 0.0, 0.0))


def noise(count, seed=0):
    return np.random.default_rng(seed).normal(0, 400, (count, 5, 4)).astype(np.float32)


def grid_of(count, axes=TILTED):
    return VoxelGrid((count, 5, 4), (1.25, 0.5, 0.4), (3.0, -7.0, 11.0), axes)


cases = st.fixed_dictionaries(
    {
        "profile": st.sampled_from(PROFILES),
        "factor": st.sampled_from([3, 5, 7]),
        "clinical": st.booleans(),
        "count": st.integers(25, 60),
        "seed": st.integers(0, 1000),
    }
)


def operator(case):
    taps = profile_taps(case["profile"], case["factor"])
    stride = case["factor"] if case["clinical"] else 1
    return taps, plan_slices(case["count"], len(taps), stride)


@given(case=cases)
def test_taps_sum_to_one_are_symmetric_and_as_wide_as_the_factor(case):
    taps, _ = operator(case)
    assert taps.sum() == pytest.approx(1, abs=1e-15)
    assert_allclose(taps, taps[::-1], rtol=0, atol=1e-16)
    offsets = np.arange(len(taps)) - len(taps) // 2
    at_half_width = np.interp(case["factor"] / 2, offsets, taps)
    if case["profile"] != "box":
        # Linear interpolation between samples of a Gaussian of this width errs below 3 %.
        assert at_half_width == pytest.approx(taps.max() / 2, rel=0.03)


@given(case=cases, value=st.floats(-1024, 3071, width=32))
def test_a_constant_volume_stays_that_constant(case, value):
    taps, plan = operator(case)
    thick = degrade(np.full((case["count"], 2, 2), value, np.float32), taps, plan)
    assert_allclose(thick, value, rtol=2e-7)


@given(case=cases)
def test_degradation_is_linear(case):
    taps, plan = operator(case)
    one, two = noise(case["count"], case["seed"]), noise(case["count"], case["seed"] + 1)
    both = degrade(2 * one - 3 * two, taps, plan)
    apart = 2 * degrade(one, taps, plan) - 3 * degrade(two, taps, plan)
    assert_allclose(both, apart, rtol=0, atol=8 * FLOAT32_HU)


@given(case=cases)
def test_degradation_commutes_with_mirroring_along_z(case):
    taps, plan = operator(case)
    used = slice(plan.centre(0) - plan.reach, plan.centre(plan.count - 1) + plan.reach + 1)
    values = noise(case["count"], case["seed"])[used]
    same = plan_slices(len(values), len(taps), plan.stride)
    mirrored = degrade(values[::-1], taps, same)[::-1]
    assert_allclose(mirrored, degrade(values, taps, same), rtol=0, atol=FLOAT32_HU)


@given(case=cases)
def test_a_ramp_keeps_its_value_at_every_thick_slice(case):
    taps, plan = operator(case)
    grid = grid_of(case["count"])
    index = np.stack(np.indices(grid.shape), axis=-1)
    direction = np.array([3.0, -2.0, 5.0])
    thick = degrade(grid.to_world_mm(index) @ direction, taps, plan)
    coarse = thick_grid(grid, plan)
    index = np.stack(np.indices(coarse.shape), axis=-1)
    assert_allclose(thick, coarse.to_world_mm(index) @ direction, atol=1e-3)


@given(case=cases)
def test_each_thick_slice_lies_at_the_centroid_of_its_thin_ones(case):
    _, plan = operator(case)
    grid = grid_of(case["count"])
    thin, thick = thin_grid(grid, plan), thick_grid(grid, plan)
    assert thin.shape[0] == thick.shape[0] * plan.stride
    for j in range(plan.count):
        own = np.array([[j * plan.stride + i, 1, 2] for i in range(plan.stride)])
        centroid = thin.to_world_mm(own).mean(axis=0)
        assert_allclose(thick.to_world_mm(np.array([j, 1, 2])), centroid, atol=1e-10)
    assert thick.extent_mm[0] == pytest.approx(thin.extent_mm[0])


@given(case=cases)
def test_as_many_thick_slices_as_fit_are_made_and_none_reaches_outside(case):
    taps, plan = operator(case)
    reach = len(taps) // 2
    own = (plan.stride - 1) // 2
    assert plan.centre(0) - reach >= 0
    assert plan.centre(plan.count - 1) + reach < case["count"]
    after_next = plan.centre(plan.count) + max(reach, own)
    assert after_next >= case["count"]


@settings(max_examples=30)
@given(count=st.integers(9, 40), factor=st.sampled_from([3, 5]))
def test_the_box_conserves_the_mean(count, factor):
    plan = plan_slices(count, factor, factor)
    values = noise(count)
    thick = degrade(values, profile_taps("box", factor), plan)
    covered = values[: plan.thin_count].astype(np.float64)
    assert thick.mean(dtype=np.float64) == pytest.approx(covered.mean(), abs=FLOAT32_HU)


@pytest.mark.parametrize("factor", [3, 5])
def test_the_box_agrees_with_simpleitk_in_values_and_geometry(factor):
    grid = grid_of(7 * factor + 1, ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)))
    image = SimpleITK.GetImageFromArray(noise(grid.shape[0]))
    image.SetSpacing(grid.spacing_mm[::-1])
    image.SetOrigin(grid.origin_mm)
    binned = SimpleITK.BinShrink(image, [1, 1, factor])
    plan = plan_slices(grid.shape[0], factor, factor)
    thick = degrade(noise(grid.shape[0]), profile_taps("box", factor), plan)
    assert_allclose(thick, SimpleITK.GetArrayFromImage(binned), rtol=0, atol=4 * FLOAT32_HU)
    assert_allclose(thick_grid(grid, plan).origin_mm, binned.GetOrigin(), atol=1e-9)
    assert_allclose(thick_grid(grid, plan).spacing_mm[::-1], binned.GetSpacing(), atol=1e-12)


@pytest.mark.parametrize("profile", PROFILES)
def test_overlapping_slices_agree_with_a_convolution(profile):
    taps = profile_taps(profile, 3)
    values = noise(30)
    plan = plan_slices(30, len(taps), 1)
    reach = len(taps) // 2
    full = ndimage.convolve1d(values.astype(np.float64), taps, axis=0)
    assert_allclose(degrade(values, taps, plan), full[reach : 30 - reach], atol=2 * FLOAT32_HU)


def test_the_operator_and_its_transpose_agree_on_inner_products():
    taps = profile_taps("triangle", 3)
    plan = plan_slices(20, len(taps), 3)
    matrix = degrade(np.eye(20)[:, :, None], taps, plan)[:, :, 0].astype(np.float64)
    x, y = noise(20)[:, 0, 0].astype(float), noise(plan.count, 1)[:, 0, 0].astype(float)
    forward = degrade(x[:, None, None], taps, plan)[:, 0, 0].astype(float)
    assert forward @ y == pytest.approx(x @ (matrix.T @ y), rel=1e-5)


def test_too_few_slices_are_refused():
    with pytest.raises(InputError, match="has 2 slices; one thick slice needs 3"):
        plan_slices(2, 3, 3)


@pytest.mark.parametrize(
    "wrong", [{"factor": 4}, {"stride": 2}, {"stride": 5}, {"profile": "hat"}, {"factor": 1}]
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValidationError):
        TripletsSettings(**wrong)


def write_case(folder, count=31):
    path = folder / "hr.nii.gz"
    write_volume(path, Volume(np.rint(noise(count)), grid_of(count)))
    return path


@pytest.mark.parametrize(("stride", "slices", "kept"), [(3, 10, 30), (1, 29, 29)])
def test_the_folder_holds_matching_thick_and_thin_slices(tmp_path, stride, slices, kept):
    source = write_case(tmp_path)
    run(source, tmp_path / "t", TripletsSettings(stride=stride))
    lr, hr = (read_volume(tmp_path / "t" / f"{name}.nii.gz") for name in ("lr", "hr"))
    table = json.loads((tmp_path / "t" / "triplets.json").read_text())
    assert (len(lr.values), len(hr.values)) == (slices, kept)
    assert table["lr_slices"] == slices
    assert table["dropped_before"] + table["hr_slices"] + table["dropped_after"] == 31
    for j, start in enumerate(table["hr_start"]):
        own = np.array([[start + i, 0, 0] for i in range(stride)])
        # Geometry is float32 in NIfTI.
        centroid = hr.grid.to_world_mm(own).mean(axis=0)
        assert_allclose(lr.grid.to_world_mm(np.array([j, 0, 0])), centroid, atol=1e-5)
        if stride == 3:
            own_mean = hr.values[start : start + 3].mean(axis=0)
            assert_allclose(lr.values[j], own_mean, atol=2 * FLOAT32_HU)


def test_two_runs_give_the_same_bytes(tmp_path):
    source = write_case(tmp_path)
    for name in ("a", "b"):
        run(source, tmp_path / name, TripletsSettings(profile="gaussian"))
    assert read_sidecar(tmp_path / "a") == read_sidecar(tmp_path / "b")


def fitted(folder, **changes):
    content = {"format": 1, "taps": [0.1, 0.2, 0.4, 0.2, 0.1], "spacing_mm": 1.25} | changes
    (folder / "fitted.json").write_text(json.dumps(content))
    return TripletsSettings(profile=str(folder / "fitted.json"))


def test_fitted_taps_are_used(tmp_path):
    source = write_case(tmp_path)
    run(source, tmp_path / "t", fitted(tmp_path))
    lr = read_volume(tmp_path / "t" / "lr.nii.gz").values
    values = read_volume(source).values.astype(np.float64)
    second = np.tensordot([0.1, 0.2, 0.4, 0.2, 0.1], values[3:8], axes=1)
    assert_allclose(lr[1], second, atol=2 * FLOAT32_HU)
    record = read_sidecar(tmp_path / "t")
    assert record["settings"]["profile"] == "fitted.json"
    assert set(record["inputs"]) == {"hr.nii.gz", "fitted.json"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"taps": [0.5, 0.5]}, "odd number"),
        ({"taps": [1, 1, 1]}, "sum to 1"),
        ({"taps": "wide"}, "no fitted profile"),
        ({"format": 2}, "no fitted profile"),
        ({"spacing_mm": 0.1}, "narrower than one slice of 1.25 mm"),
        ({"spacing_mm": None}, "no fitted profile"),
    ],
)
def test_an_unusable_fitted_profile_is_refused(tmp_path, changes, reason):
    with pytest.raises(InputError, match=reason):
        run(write_case(tmp_path), tmp_path / "t", fitted(tmp_path, **changes))


def test_caveats_of_the_scan_are_passed_on(tmp_path):
    source = write_case(tmp_path)
    (tmp_path / "hr.nii.gz.json").write_text('{"warnings": ["left out 4 slices"]}')
    run(source, tmp_path / "t", TripletsSettings())
    assert read_sidecar(tmp_path / "t")["warnings"] == ["left out 4 slices"]
