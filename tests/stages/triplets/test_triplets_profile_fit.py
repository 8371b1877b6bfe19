"""Fitting a slice profile: known taps come back, errors are honest, wrong pairs are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.signal import lfilter

from pipeline.cli import exit_code
from pipeline.core.artefacts import read_sidecar
from pipeline.core.errors import InputError
from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume, read_volume, write_volume
from stages.triplets.profile_fit import fit_profile
from stages.triplets.profile_pair import place_supports
from stages.triplets.profile_sums import accumulate

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data"
TRUE = np.array([0.02, 0.08, 0.15, 0.22, 0.2, 0.17, 0.1, 0.06, 0.0])
"""A lopsided profile of nine taps, 4.6 slices wide."""
CENTROID = TRUE @ np.arange(-4, 5)
EXACT = 1e-5
"""float32 voxels of 1000 HU err by 6e-5 HU, in 250 HU of contrast over 5000 pixels by 1e-8; the rest
is the condition of the normal equations, below 1e3 here."""


def thin_volume(count=120, seed=0):
    """Return slices that share some of their detail with the next, 250 HU RMS, within +-1000."""
    noise = np.random.default_rng(seed).normal(0, 200, (count, 16, 14))
    values = np.clip(lfilter([1.0], [1.0, -0.6], noise, axis=0), -1000, 1000)
    grid = VoxelGrid(values.shape, (1.0, 0.5, 0.4), (3.0, -7.0, 11.0))
    return Volume(values.astype(np.float32), grid)


def thick_volume(thin, taps=TRUE, *, step=5.0, start=10.0, noise_hu=0.0, seed=1):
    """Return slices whose profile has these taps, at fractional places if step or start say so."""
    reach = len(taps) // 2
    centres = np.arange(start, thin.grid.shape[0] - reach - 1, step)
    flat = thin.values.reshape(len(thin.values), -1).astype(np.float64)
    rows = []
    for centre in centres:
        at = centre + np.arange(-reach, reach + 1)
        whole = np.floor(at).astype(int)
        part = (at - whole)[:, None]
        rows.append(taps @ ((1 - part) * flat[whole] + part * flat[whole + 1]))
    values = np.array(rows).reshape(-1, *thin.grid.shape[1:])
    values = values + np.random.default_rng(seed).normal(0, noise_hu, values.shape)
    return on_thick_grid(thin, values, step, start)


def on_thick_grid(thin, values, step, start):
    x, y, z = (float(v) for v in thin.grid.to_world_mm(np.array([start, 0, 0])))
    grid = replace(
        thin.grid,
        shape=values.shape,
        spacing_mm=(step * thin.grid.spacing_mm[0], *thin.grid.spacing_mm[1:]),
        origin_mm=(x, y, z),
    )
    return Volume(values.astype(np.float32), grid)


def upside_down(volume):
    """Return the same image with its slices stored in the opposite order."""
    x, y, z = (float(v) for v in volume.grid.to_world_mm(np.array([len(volume.values) - 1, 0, 0])))
    first, *others = volume.grid.axes
    axes = (tuple(-v for v in first), *others)
    return Volume(volume.values[::-1], replace(volume.grid, origin_mm=(x, y, z), axes=axes))


def with_grid(volume, **changes):
    return Volume(volume.values, replace(volume.grid, **changes))


def fitted(thin, thick, width=5.0):
    supports = place_supports(thin.grid, thick.grid, width)
    return fit_profile(accumulate(thin.values, thick.values, supports), width)


def padded(taps, length):
    return np.pad(taps, (length - len(taps)) // 2)


# Known taps.


@pytest.mark.parametrize(
    ("step", "start"), [(5.0, 10.0), (5.0, 10.25), (3.7, 9.6), (2.5, 10.5), (5.0, -3.5)]
)
def test_known_taps_come_back_from_a_pair_without_noise(step, start):
    thin = thin_volume()
    thick = thick_volume(thin, step=step, start=max(start, 4.0 + start % 1.0))
    fit = fitted(thin, thick)
    assert_allclose(fit.taps, padded(TRUE, len(fit.taps)), atol=EXACT)
    assert fit.taps.min() >= 0.0
    assert len(fit.taps) % 2 == 1
    assert fit.taps.sum() == pytest.approx(1.0, abs=1e-12)
    assert fit.rms_hu["fitted"] < 0.01
    assert min(rms for name, rms in fit.rms_hu.items() if name != "fitted") > 1.0
    assert fit.width == pytest.approx(4.6, abs=0.3)
    assert fit.offset == pytest.approx(CENTROID, abs=1e-3)


def test_an_oblique_pair_and_one_upside_down_give_the_same_taps():
    turn = np.array([[0, 0.6, 0.8], [0, 0.8, -0.6], [1, 0, 0]])
    thin = with_grid(thin_volume(), axes=tuple(tuple(row) for row in turn))
    thick = thick_volume(thin)
    assert_allclose(fitted(thin, thick).taps[4:13], TRUE, atol=EXACT)
    assert_allclose(fitted(thin, upside_down(thick)).taps[4:13], TRUE, atol=EXACT)
    assert_allclose(fitted(upside_down(thin), thick).taps[4:13], TRUE[::-1], atol=EXACT)


def test_a_part_of_the_scan_in_common_is_enough():
    thin = thin_volume()
    thick = thick_volume(thin)
    x, y, _ = thin.grid.origin_mm
    part = Volume(
        thin.values[40:], replace(thin.grid, shape=(80, 16, 14), origin_mm=(x, y, 11.0 + 40.0))
    )
    fit = fitted(part, thick)
    assert fit.thick_slices < thick.grid.shape[0]
    assert_allclose(fit.taps[4:13], TRUE, atol=EXACT)


def test_under_noise_the_errors_of_the_taps_are_those_stated():
    deviations, offsets = [], []
    for seed in range(12):
        thin = thin_volume(200, seed)
        fit = fitted(thin, thick_volume(thin, noise_hu=40.0, seed=100 + seed))
        free = fit.standard_errors > 1e-6
        error = fit.taps - padded(TRUE, len(fit.taps))
        deviations.append((error / np.maximum(fit.standard_errors, 1e-6))[free])
        offsets.append((fit.offset - CENTROID) / fit.offset_error)
        assert fit.rms_hu["fitted"] == pytest.approx(40.0, rel=0.05)
    # Chi-squared per degree of freedom is 1 for honest errors; non-negativity makes them smaller.
    assert 0.3 < np.mean(np.concatenate(deviations) ** 2) < 2.5
    # Twelve values of a t distribution with 6 degrees of freedom (variance 1.5).
    assert 0.3 < np.mean(np.square(offsets)) < 4.5


def test_smoothing_is_chosen_by_noise_and_never_spoils_the_held_out_error():
    thin = thin_volume(200)
    bell = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)
    quiet, loud = (
        fitted(thin, thick_volume(thin, bell / bell.sum(), noise_hu=hu)) for hu in (0.0, 100.0)
    )
    assert quiet.smoothing < loud.smoothing
    for fit in (quiet, loud):
        assert fit.rms_by_smoothing[fit.smoothing] == min(fit.rms_by_smoothing.values())


def test_a_wrong_place_in_the_header_is_found_as_a_shift_of_the_taps():
    thin = thin_volume()
    thick = thick_volume(thin, noise_hu=5.0)
    x, y, z = thick.grid.origin_mm
    fit = fitted(thin, with_grid(thick, origin_mm=(x, y, z + 0.75)))
    # Moving taps by a fraction of a slice on the lattice of slices blurs them but keeps the centroid.
    assert fit.offset == pytest.approx(CENTROID - 0.75, abs=0.05)


def test_noise_that_the_series_do_not_share_widens_the_taps():
    # The limit that the documentation states: both series must come from the same raw data.
    thin = thin_volume(200)
    noise = np.random.default_rng(7).normal(0, 150, thin.values.shape)
    bell = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)
    thick = thick_volume(thin, bell / bell.sum())
    noisy = thin.with_values(np.clip(thin.values + noise, -1023, 3000).astype(np.float32))
    assert fitted(noisy, thick).width > fitted(thin, thick).width + 0.05


# What is compared and how.


@pytest.mark.parametrize(("step", "start", "width"), [(5.0, 10.0, 5.0), (4.3, 10.35, 4.6)])
def test_a_box_scanner_is_a_box_wherever_its_slices_lie(step, start, width):
    thin = thin_volume()
    centres = np.arange(start, 110, step)
    # The integral of slices that are constant over their own place, from an independent formula.
    integral = np.concatenate([[np.zeros((16, 14))], np.cumsum(thin.values, axis=0, dtype=float)])
    at = np.arange(121) - 0.5
    ends = [[np.abs(at - e).argmin() for e in (c - width / 2, c + width / 2)] for c in centres]
    rest = [[c - width / 2 - at[a], c + width / 2 - at[b]] for c, (a, b) in zip(centres, ends)]  # noqa: B905

    def upto(k, r):
        return integral[k] + r * thin.values[k if r > 0 else k - 1]

    values = np.array(
        [(upto(b, rb) - upto(a, ra)) / width for (a, b), (ra, rb) in zip(ends, rest, strict=True)]
    )
    fit = fitted(thin, on_thick_grid(thin, values, step, start), width)
    assert fit.rms_hu["box"] < 1e-3
    assert min(fit.rms_hu["triangle"], fit.rms_hu["gaussian"]) > 5.0


def test_every_thick_slice_is_held_out_once_and_the_blocks_add_up():
    thin = thin_volume()
    fit = fitted(thin, thick_volume(thin, noise_hu=20.0))
    held = [j for b in fit.blocks for j in range(b.first_thick, b.last_thick + 1)]
    assert held == sorted(set(held))
    assert len(held) == fit.thick_slices
    squares = [b.rms_hu["fitted"] ** 2 * (b.last_thick + 1 - b.first_thick) for b in fit.blocks]
    assert np.sqrt(sum(squares) / len(held)) == pytest.approx(fit.rms_hu["fitted"], rel=1e-9)


def test_a_symmetric_scanner_is_no_worse_with_symmetric_taps():
    thin = thin_volume()
    taps = 0.5 * (TRUE[:-1] + TRUE[-2::-1])
    even = np.array([0.0, *taps[1:4], 0.22, *taps[1:4][::-1], 0.0])
    fit = fitted(thin, thick_volume(thin, even / even.sum(), noise_hu=20.0))
    assert fit.rms_hu["symmetric"] == pytest.approx(fit.rms_hu["fitted"], rel=0.01)


@pytest.mark.parametrize("value", [-1024.0, -2000.0, 3071.0, np.nan])
def test_padding_and_air_that_is_cut_off_change_nothing(value):
    thin = thin_volume()
    thick = thick_volume(thin, noise_hu=20.0)
    alone = fitted(thin, thick)
    wide = []
    for volume, fill in ((thin, value), (thick, -1024.0)):
        count = len(volume.values)
        values = np.full((count, 40, 40), fill, dtype=np.float32)
        values[:, :16, :14] = volume.values
        wide.append(Volume(values, replace(volume.grid, shape=values.shape)))
    framed = fitted(*wide)
    assert_allclose(framed.taps, alone.taps, atol=1e-9)
    assert framed.rms_hu["fitted"] == pytest.approx(alone.rms_hu["fitted"], rel=1e-9)


def test_what_the_scale_cuts_off_does_not_bend_the_taps():
    thin = thin_volume()
    low = Volume(thin.values - 700.0, thin.grid)
    thick = thick_volume(low)
    cut = [Volume(np.maximum(v.values, -1024.0), v.grid) for v in (low, thick)]
    assert (cut[0].values == -1024.0).mean() > 0.05
    assert_allclose(fitted(*cut).taps[4:13], TRUE, atol=EXACT)


# What is no pair.


def test_series_that_are_no_pair_are_refused_with_both_values():
    thin = thin_volume()
    thick = thick_volume(thin)
    with pytest.raises(InputError, match=r"thin 16 x 14 pixels of 0\.5000 x 0\.4000 mm, thick 16"):
        fitted(thin, with_grid(thick, spacing_mm=(5.0, 0.6, 0.4)))
    with pytest.raises(InputError, match=r"corners 3\.00 pixels apart"):
        fitted(thin, with_grid(thick, origin_mm=(3.0, -5.5, 21.0)))
    c, s = np.cos(np.radians(2.0)), np.sin(np.radians(2.0))
    tilted = ((0.0, -s, c), (0.0, c, s), (1.0, 0.0, 0.0))
    with pytest.raises(InputError, match=r"turned by 2\.0 degrees"):
        fitted(thin, with_grid(thick, axes=tilted))
    mirrored = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0))
    with pytest.raises(InputError, match=r"turned by 180\.0 degrees"):
        fitted(thin, with_grid(thick, axes=mirrored))


def test_too_little_in_common_is_refused():
    thin = thin_volume()
    thick = thick_volume(thin)
    with pytest.raises(InputError, match=r"^0 of 21 thick slices lie with their whole profile"):
        fitted(thin, with_grid(thick, origin_mm=(3.0, -7.0, 900.0)))
    few = Volume(thick.values[:7], replace(thick.grid, shape=(7, 16, 14)))
    with pytest.raises(InputError, match=r"^7 of 7 thick slices .* \(needed: 8\)"):
        fitted(thin, few)


def test_thin_and_thick_the_wrong_way_round_are_refused():
    thin = thin_volume()
    with pytest.raises(InputError, match="the thin series as --thin"):
        fitted(thick_volume(thin), thin, width=1.0)


def test_unrelated_volumes_are_refused():
    thin, other = thin_volume(), thick_volume(thin_volume(seed=9))
    with pytest.raises(InputError, match="two reconstructions of one scan"):
        fitted(thin, other)


def test_another_object_of_the_same_outline_is_refused():
    # In-plane contrast that both share would explain 99 % of the plain variance.
    outline = np.where(np.hypot(*np.mgrid[-8:8, -7:7]) < 6.0, 40.0, -900.0)
    thin, other = (
        Volume((0.1 * v.values + outline).astype(np.float32), v.grid)
        for v in (thin_volume(), thick_volume(thin_volume(seed=9)))
    )
    with pytest.raises(InputError, match="do not explain the thick ones"):
        fitted(thin, other)


@pytest.mark.parametrize("contrast_hu", [0.0, 300.0])
def test_an_object_that_is_the_same_in_every_slice_tells_nothing(contrast_hu):
    plane = np.random.default_rng(0).normal(0, contrast_hu, (16, 14))
    thin, thick = (
        Volume(np.broadcast_to(plane.clip(-900, 900), v.grid.shape).astype(np.float32), v.grid)
        for v in (thin_volume(), thick_volume(thin_volume()))
    )
    with pytest.raises(InputError, match=r"change by .* along the axis"):
        fitted(thin, thick)


def test_series_with_no_usable_pixel_are_refused():
    thin, thick = thin_volume(), thick_volume(thin_volume())
    empty = Volume(np.full_like(thin.values, -1024.0), thin.grid)
    with pytest.raises(InputError, match="in 0 usable pixels"):
        fitted(empty, thick)


def test_a_profile_wider_than_its_nominal_width_is_refused_not_cut_off():
    thin = thin_volume()
    bell = np.exp(-0.5 * (np.arange(-14, 15) / 4.0) ** 2)
    thick = thick_volume(thin, bell / bell.sum(), step=4.0, start=20.0)
    with pytest.raises(
        InputError, match=r"at the end of the 15 taps .* give its width as --thick"
    ):
        fitted(thin, thick, width=4.0)
    assert fitted(thin, thick, width=9.4).width == pytest.approx(9.42, abs=0.1)


# The command.


@pytest.fixture
def pair(tmp_path):
    thin = thin_volume()
    thick = thick_volume(thin, start=13.0)
    paths = []
    for name, volume in (("thin", thin), ("thick", thick)):
        (tmp_path / name).mkdir()
        paths.append(tmp_path / name / "head.nii.gz")
        write_volume(paths[-1], volume)
    return paths


def fit_command(pair, output, *more):
    command = ["triplets", "fit-profile", "--thin", str(pair[0]), "--thick", str(pair[1])]
    return exit_code([*command, "--output", str(output), *more])


def test_the_file_holds_profile_errors_comparison_and_the_digests_of_both_series(tmp_path, pair):
    out = tmp_path / "fitted.json"
    assert fit_command(pair, out) == 0
    record = json.loads(out.read_text())
    assert record["format"] == 1
    assert len(record["taps"]) == len(record["standard_errors"]) == 17
    assert record["spacing_mm"] == pytest.approx(1.0)
    assert record["fwhm_mm"] == pytest.approx(4.6, abs=0.3)
    assert record["centre_offset_mm"] == pytest.approx(CENTROID, abs=1e-3)
    assert set(record["held_out_rms_hu"]) == {
        *("fitted", "symmetric", "box", "triangle", "gaussian")
    }
    assert len(record["cross_validation"]["blocks"]) == 7
    digests = [sha256(path.read_bytes()).hexdigest() for path in pair]
    assert record["inputs"] == dict(zip(("thin", "thick"), digests, strict=True))
    sidecar = read_sidecar(out)
    assert sidecar["inputs"] == record["inputs"]
    assert sidecar["sha256"] == sha256(out.read_bytes()).hexdigest()


def test_a_second_run_gives_the_same_bytes_and_overwrites_only_if_told(tmp_path, pair):
    out = tmp_path / "fitted.json"
    assert fit_command(pair, out) == 0
    first = out.read_bytes()
    assert fit_command(pair, out) == 2
    assert fit_command(pair, out, "--overwrite") == 0
    assert out.read_bytes() == first


def test_the_fitted_profile_gives_the_thick_slices_back(tmp_path, pair):
    out, made_dir = tmp_path / "fitted.json", tmp_path / "t"
    assert fit_command(pair, out) == 0
    run = ["triplets", str(pair[0]), "--output", str(made_dir), "--profile", str(out)]
    assert exit_code([*run, "--factor", "5", "--stride", "5"]) == 0
    made, thick = read_volume(made_dir / "lr.nii.gz"), read_volume(pair[1])
    # The plan starts at the first whole profile: eight taps on either side, centres 8, 13, 18 ...
    skipped = thick.grid.origin_mm[2] - made.grid.origin_mm[2]
    assert skipped == pytest.approx(5.0)
    count = len(made.values) - 1
    assert count >= 10
    # 17 taps that are wrong by up to EXACT, of 1000 HU, with either sign.
    assert_allclose(made.values[1:], thick.values[:count], atol=0.1)


def test_the_recorded_slice_thickness_is_the_nominal_width(tmp_path, pair):
    properties = {"properties": {"slice_thickness_mm": 6.0}}
    pair[1].with_name("head.nii.gz.json").write_text(json.dumps(properties))
    assert fit_command(pair, tmp_path / "a.json") == 0
    assert json.loads((tmp_path / "a.json").read_text())["nominal_width_mm"] == 6.0
    assert fit_command(pair, tmp_path / "b.json", "--thickness-mm", "4.5") == 0
    assert json.loads((tmp_path / "b.json").read_text())["nominal_width_mm"] == 4.5


def test_caveats_are_said_and_kept(tmp_path, capsys):
    thin = thin_volume()
    thick = thick_volume(thin, noise_hu=150.0)
    x, y, z = thick.grid.origin_mm
    paths = tmp_path / "thin.nii.gz", tmp_path / "thick.nii.gz"
    write_volume(paths[0], thin)
    write_volume(paths[1], with_grid(thick, origin_mm=(x, y, z + 1.5)))
    assert fit_command(paths, tmp_path / "fitted.json") == 0
    warnings = read_sidecar(tmp_path / "fitted.json")["warnings"]
    assert any("from where the headers put the thick slices" in w for w in warnings)
    assert any("% of the squared error of a flat one" in w for w in warnings)
    stderr = said(capsys)
    assert all(f"WARNING ct2flow.triplets: {w}" in stderr for w in warnings)


def test_a_factor_that_contradicts_the_fitted_width_is_a_caveat_of_the_triplets(tmp_path, pair):
    out = tmp_path / "fitted.json"
    assert fit_command(pair, out) == 0
    run = ["triplets", str(pair[0]), "--profile", str(out)]
    assert exit_code([*run, "--output", str(tmp_path / "t3")]) == 0
    (warning,) = read_sidecar(tmp_path / "t3")["warnings"]
    assert "slices wide, the factor is 3" in warning
    assert exit_code([*run, "--factor", "5", "--output", str(tmp_path / "t5")]) == 0
    assert read_sidecar(tmp_path / "t5")["warnings"] == []


def test_errors_name_the_files_and_what_to_do(tmp_path, pair, capsys):
    out = tmp_path / "fitted.json"
    assert fit_command((pair[0].parent, pair[1]), out) == 3
    assert "thin: is a folder, needed is a volume; run 'ct2flow ingest thin" in said(capsys)
    assert fit_command((pair[1], pair[0]), out) == 3
    assert "head.nii.gz and head.nii.gz: The thick slices are 1 mm wide" in said(capsys)
    assert fit_command((pair[0], tmp_path / "none.nii.gz"), out) == 3
    assert "none.nii.gz: no such file" in said(capsys)
    assert fit_command(pair, tmp_path / "fitted.txt") == 2
    assert "fitted.txt: the name must end in .json" in said(capsys)
    assert not out.exists()


def said(capsys):
    sentence = capsys.readouterr().err
    assert "Traceback" not in sentence
    return sentence


@pytest.mark.skipif(
    not (DATA / "philips-skull-phantom-5mm").is_dir(),
    reason="needs the development scans, which are not in the repository",
)
def test_the_philips_scanner_has_a_bell_of_4_9_mm_not_a_box(tmp_path):
    for mm in (1, 5):
        scan = str(DATA / f"philips-skull-phantom-{mm}mm")
        assert exit_code(["ingest", scan, "--output", str(tmp_path / f"{mm}.nii.gz")]) == 0
    out = tmp_path / "fitted.json"
    assert fit_command((tmp_path / "1.nii.gz", tmp_path / "5.nii.gz"), out) == 0
    record = json.loads(out.read_text())
    assert record["fwhm_mm"] == pytest.approx(4.9, abs=0.1)
    assert record["held_out_rms_hu"]["fitted"] < 3.5
    assert 18.0 < record["held_out_rms_hu"]["box"] < 22.0
    assert sum(tap > 5e-3 for tap in record["taps"]) == 9
    assert abs(record["centre_offset_mm"]) < 0.05
    assert read_sidecar(out)["warnings"] == []
