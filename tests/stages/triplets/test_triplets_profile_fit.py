"""Fitting a slice profile: known taps come back, errors are honest, wrong pairs are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from pipeline.cli import exit_code
from pipeline.core.errors import InputError
from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume, read_volume, write_volume
from stages.triplets.profile_fit import (
    accumulate,
    fit_profile,
    named_taps,
    place_supports,
    resample_taps,
    width_at_half_maximum,
)

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data"
TRUE = np.array([0.02, 0.08, 0.15, 0.22, 0.2, 0.17, 0.1, 0.06])
TRUE = np.append(TRUE, 0.0) / TRUE.sum()
"""A lopsided profile of nine taps."""


def thin_volume(count=120, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 300, (count, 16, 14)).cumsum(axis=0) * 0.3
    grid = VoxelGrid(values.shape, (1.0, 0.5, 0.4), (3.0, -7.0, 11.0))
    return Volume(values.astype(np.float32), grid)


def thick_volume(thin, taps, *, step=5.0, start=10.0, noise_hu=0.0, seed=1):
    """Return slices whose profile has these taps, at fractional places if step or start say so."""
    reach = len(taps) // 2
    centres = np.arange(start, thin.grid.shape[0] - reach - 1, step)
    index = np.arange(thin.grid.shape[0])
    flat = thin.values.reshape(len(index), -1).astype(np.float64)
    rows = []
    for centre in centres:
        at = centre + np.arange(-reach, reach + 1)
        whole = np.floor(at).astype(int)
        part = (at - whole)[:, None]
        rows.append(taps @ ((1 - part) * flat[whole] + part * flat[whole + 1]))
    values = np.array(rows).reshape(-1, *thin.grid.shape[1:])
    values = values + np.random.default_rng(seed).normal(0, noise_hu, values.shape)
    x, y, z = thin.grid.origin_mm
    grid = replace(
        thin.grid,
        shape=values.shape,
        spacing_mm=(step, *thin.grid.spacing_mm[1:]),
        origin_mm=(x, y, z + start),
    )
    return Volume(values.astype(np.float32), grid)


def fitted(thin, thick, width=5.0):
    supports = place_supports(thin.grid, thick.grid, width)
    return fit_profile(accumulate(thin.values, thick.values, supports), width)


def padded(taps, length):
    extra = (length - len(taps)) // 2
    return np.pad(taps, extra)


@pytest.mark.parametrize(("step", "start"), [(5.0, 10.0), (5.0, 10.25), (3.7, 9.6), (2.5, 10.5)])
def test_known_taps_come_back_from_a_pair_without_noise(step, start):
    thin = thin_volume()
    fit = fitted(thin, thick_volume(thin, TRUE, step=step, start=start))
    assert_allclose(fit.taps, padded(TRUE, len(fit.taps)), atol=2e-4)
    assert fit.taps.sum() == pytest.approx(1.0, abs=1e-12)
    assert fit.rms_hu["fitted"] < 0.05 < min(fit.rms_hu[n] for n in ("box", "triangle"))


def test_under_noise_the_errors_of_the_taps_are_those_stated():
    deviations = []
    for seed in range(12):
        thin = thin_volume(200, seed)
        fit = fitted(thin, thick_volume(thin, TRUE, noise_hu=40.0, seed=100 + seed))
        free = fit.standard_errors > 1e-6
        error = fit.taps - padded(TRUE, len(fit.taps))
        deviations.append((error / np.maximum(fit.standard_errors, 1e-6))[free])
        assert fit.rms_hu["fitted"] == pytest.approx(40.0, rel=0.05)
    # Chi-squared per degree of freedom is 1 for honest errors; non-negativity makes them smaller.
    assert 0.3 < np.mean(np.concatenate(deviations) ** 2) < 2.5


@settings(max_examples=40)
@given(width=st.floats(1.5, 9.0), profile=st.sampled_from(["box", "triangle", "gaussian"]))
def test_named_taps_have_weight_one_symmetry_and_their_width(width, profile):
    taps = named_taps(profile, width, 20)
    assert taps.sum() == pytest.approx(1.0)
    assert_allclose(taps, taps[::-1], atol=1e-12)
    offsets = np.arange(-20, 21)
    variance = {"box": 1 / 12, "triangle": 1 / 6, "gaussian": 1 / (8 * np.log(2))}[profile]
    # Averaging over a tap's own place adds the variance of a box of one slice,
    # to within what edges that cut a tap in two add or take.
    assert taps @ offsets**2 == pytest.approx(variance * width**2 + 1 / 12, abs=0.13)


@given(ratio=st.floats(0.4, 2.5))
def test_resampled_taps_keep_weight_and_width(ratio):
    taps = named_taps("gaussian", 6.0, 12)
    moved = resample_taps(taps, ratio)
    assert moved.sum() == pytest.approx(1.0)
    assert len(moved) % 2 == 1
    assert width_at_half_maximum(moved) * ratio == pytest.approx(6.0, rel=0.12)
    assert np.arange(len(moved)) @ moved == pytest.approx(len(moved) // 2, abs=0.05)
    assert_allclose(resample_taps(taps, 1.0), taps, atol=1e-12)


def shifted(volume, **changes):
    return Volume(volume.values, replace(volume.grid, **changes))


def test_what_is_no_pair_is_refused_with_its_reason():
    thin = thin_volume()
    thick = thick_volume(thin, TRUE)
    with pytest.raises(InputError, match=r"differ in-plane: 16 x 14 pixels of 0\.5000 mm and"):
        fitted(thin, shifted(thick, spacing_mm=(5.0, 0.6, 0.4)))
    with pytest.raises(InputError, match=r"corners 3\.00 pixels apart"):
        fitted(thin, shifted(thick, origin_mm=(3.0, -5.5, 21.0)))
    with pytest.raises(InputError, match="0 of 21 thick slices lie with their whole profile"):
        fitted(thin, shifted(thick, origin_mm=(3.0, -7.0, 900.0)))
    with pytest.raises(InputError, match="the thin series as --thin"):
        fitted(thick, thin, width=1.0)
    other = thick_volume(thin_volume(seed=9), TRUE)
    with pytest.raises(InputError, match="two reconstructions of one scan"):
        fitted(thin, other)


def test_the_command_writes_a_profile_that_gives_the_thick_slices_back(tmp_path):
    thin = thin_volume()
    thick = thick_volume(thin, TRUE, start=13.0)
    paths = tmp_path / "thin.nii.gz", tmp_path / "thick.nii.gz"
    for path, volume in zip(paths, (thin, thick), strict=True):
        write_volume(path, volume)
    out = tmp_path / "fitted.json"
    command = ["triplets", "fit-profile", "--thin", str(paths[0]), "--thick", str(paths[1])]
    assert exit_code([*command, "--output", str(out)]) == 0
    first = out.read_bytes()
    assert exit_code([*command, "--output", str(out), "--overwrite"]) == 0
    assert out.read_bytes() == first
    assert exit_code([*command, "--output", str(out)]) == 2
    record = json.loads(first)
    assert record["fwhm_mm"] == pytest.approx(4.6, abs=0.3)
    run = ["triplets", str(paths[0]), "--output", str(tmp_path / "t"), "--profile", str(out)]
    assert exit_code([*run, "--factor", "5", "--stride", "5"]) == 0
    made = read_volume(tmp_path / "t" / "lr.nii.gz")
    # The plan starts at the first whole profile: eight taps on either side, centres 8, 13, 18 ...
    first_mm = made.grid.origin_mm[2] - thin.grid.origin_mm[2]
    skipped = round((13.0 - first_mm) / 5.0)
    assert first_mm + 5.0 * skipped == pytest.approx(13.0)
    count = min(len(made.values) - skipped, len(thick.values))
    assert count >= 10
    assert_allclose(made.values[skipped : skipped + count], thick.values[:count], atol=0.3)


@pytest.mark.skipif(
    not (DATA / "philips-skull-phantom-5mm").is_dir(),
    reason="needs the development scans, which are not in the repository",
)
def test_the_philips_scanner_has_a_bell_of_4_9_mm_not_a_box(tmp_path):
    for mm in (1, 5):
        scan = str(DATA / f"philips-skull-phantom-{mm}mm")
        assert exit_code(["ingest", scan, "--output", str(tmp_path / f"{mm}.nii.gz")]) == 0
    thin, thick = (read_volume(tmp_path / f"{mm}.nii.gz") for mm in (1, 5))
    fit = fitted(thin, thick)
    assert width_at_half_maximum(fit.taps) == pytest.approx(4.9, abs=0.1)
    assert fit.rms_hu["fitted"] < 3.5
    assert 18.0 < fit.rms_hu["box"] < 22.0
    assert fit.taps[fit.taps > 5e-3].size == 9
