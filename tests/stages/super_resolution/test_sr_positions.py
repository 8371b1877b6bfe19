"""Thick slices count where they lie and as thick as they are, at any wanted spacing."""

from __future__ import annotations

import shlex

import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from pydantic import ValidationError
from sr_networks import make_small, wake

from pipeline.config import flags
from pipeline.core.artefacts import publish, read_sidecar
from pipeline.core.errors import UsageError
from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume, read_volume, write_volume
from stages.super_resolution.baselines import BASELINES, apply_operator, thin_grid
from stages.super_resolution.cli import restore_app
from stages.super_resolution.layout import Layout
from stages.super_resolution.model import Model, Normalisation
from stages.super_resolution.model_io import load_model, save_model
from stages.super_resolution.positions import (
    ThickSlices,
    measurement_operator,
    resampling_operator,
    target_grid,
)
from stages.super_resolution.restoration import Arithmetic
from stages.super_resolution.settings import RestorationSettings
from stages.super_resolution.stage import SHIPPED_FOLDER, restore
from stages.super_resolution.volume_restoration import Restorer, restore_at_spacing, restore_stack

NORMALISATION = Normalisation(0.0, 500.0)
SPACINGS = st.tuples(
    st.integers(4, 24), st.floats(1.0, 6.0), st.floats(0.3, 1.9), st.floats(0.15, 1.0)
)
"""Count, spacing D, thickness over D, wanted spacing over D."""
SCANS = [(3.0, 3.0), (3.0, 5.0), (5.0, 3.0)]
"""Spacing and thickness, mm: touching, overlapping, with gaps."""


def network(**changes):
    layout = Layout(3, 3, "box", **changes)
    return Model("unet", wake(make_small("unet", 6, layout.out_channels)), layout, NORMALISATION)


def untrained():
    return Model("unet", make_small("unet").eval(), Layout(3, 3, "box"), NORMALISATION)


def at_spacing(values, places, restorer, spacing_mm, **choices):
    count = int(places.count * places.spacing_mm / spacing_mm * (1 + 1e-6))
    found = restore_at_spacing(
        values, places, restorer, spacing_mm=spacing_mm, count=count, **choices
    )
    return found.values


def oblique_edges(starts_mm, ends_mm, columns=64):
    """Return the exact means over intervals of z of smooth oblique air-tissue edges, HU."""
    y, x = np.meshgrid(np.arange(columns), np.arange(columns), indexing="ij")
    values = np.full((len(starts_mm), columns, columns), -1000.0)
    width, edges = (
        0.6,
        [(14.0, 0.15, 0.1), (22.0, -0.1, 0.2), (31.0, 0.1, -0.15), (40.0, 0.2, 0.1)],
    )
    for sign, (place, down, across) in zip((1, -1, 1, -1), edges, strict=True):
        surface = place + down * (y - columns / 2) + across * (x - columns / 2)
        # The integral of tanh(u) is ln cosh(u) = |u| + ln(1 + exp(-2|u|)) - ln 2.
        upper, lower = (
            np.logaddexp(u, -u) * width
            for u in ((z[:, None, None] - surface) / width for z in (ends_mm, starts_mm))
        )
        values += sign * 520.0 * (upper - lower) / (ends_mm - starts_mm)[:, None, None]
    return values.astype(np.float32)


def scan_of(spacing_mm, thickness_mm, extent_mm=54.0):
    places = ThickSlices(int(extent_mm / spacing_mm), spacing_mm, thickness_mm)
    half = thickness_mm / 2
    return places, oblique_edges(places.centres_mm - half, places.centres_mm + half)


def truth_of(places, spacing_mm):
    faces = np.arange(int(places.count * places.spacing_mm / spacing_mm * (1 + 1e-6)) + 1)
    return oblique_edges(faces[:-1] * spacing_mm, faces[1:] * spacing_mm)


@given(SPACINGS, st.floats(-1, 1), st.floats(-1, 1))
def test_first_thin_slice_lies_half_of_itself_behind_the_first_face(case, tilt, turn):
    count, spacing, _, share = case
    axes = np.linalg.qr(np.array([[tilt, turn, 1.0], [0, 1, turn], [1, 0, tilt]]) + np.eye(3))[0]
    axes = tuple(tuple(float(v) for v in row) for row in axes)
    grid = VoxelGrid((count, 4, 4), (spacing, 0.5, 0.5), (-12.0, 7.0, 33.0), axes)
    wanted = share * spacing
    thin = target_grid(grid, wanted)
    first_face = np.array(grid.origin_mm) - 0.5 * spacing * np.array(axes[0])
    found = np.array(thin.origin_mm) - 0.5 * wanted * np.array(axes[0])
    assert_allclose(found, first_face, atol=1e-9)
    assert thin.spacing_mm == (wanted, 0.5, 0.5)
    rest = count * spacing - thin.shape[0] * wanted
    assert -1e-5 * spacing * count <= rest < wanted


@pytest.mark.parametrize("factor", [3, 5, 7])
def test_a_whole_ratio_gives_the_grid_of_the_factor(factor):
    grid = VoxelGrid((9, 4, 4), (3.0, 0.5, 0.5), (-12.0, 7.0, 33.0))
    assert target_grid(grid, 3.0 / factor).matches(thin_grid(grid, factor))


@given(SPACINGS, st.sampled_from([*BASELINES, "network"]))
def test_a_ramp_is_restored_exactly(case, method):
    """Its mean over any slice is its value at the centre: touching, overlapping or with gaps."""
    count, spacing, ratio, share = case
    places = ThickSlices(count, spacing, ratio * spacing)
    slope_hu_mm = 300.0 / (count * spacing)
    ramp = (slope_hu_mm * places.centres_mm)[:, None, None] * np.ones((1, 16, 16))
    model = untrained() if method == "network" else None
    thin = at_spacing(ramp, places, Restorer(method, 3, model), share * spacing)
    centres = (np.arange(len(thin)) + 0.5) * share * spacing
    # float32 at 300 HU, through operators whose rows sum in magnitude to ten at most
    assert_allclose(thin[:, 3, 3], slope_hu_mm * centres, atol=2e-3)


@given(SPACINGS)
def test_the_measurement_of_a_parabola_is_exact(case):
    """The spline of a parabola's cumulative sum is a cubic: its means over any interval hold."""
    count, spacing, ratio, share = case
    places = ThickSlices(count, spacing, ratio * spacing)
    wanted, width = share * spacing, places.ratio * spacing
    number = int(count / share * (1 + 1e-6))
    matrix, inside = measurement_operator(places, np.ones(5) / 5, wanted, number, factor=5)
    faces, scale = np.arange(number + 1) * wanted, (count * spacing) ** 2
    thin = np.diff(faces**3) / (3 * wanted * scale)
    expected = (places.centres_mm**2 + width**2 / 12) / scale
    assert_allclose(matrix @ thin, expected[inside], atol=1e-9)
    assert inside.sum() >= count - 2 * np.ceil(ratio) - 2


@given(st.integers(2, 40), st.integers(2, 90))
def test_resampling_keeps_the_total(count, wanted):
    operator = resampling_operator(count, 1.0, count / wanted, wanted)
    assert_allclose(operator.sum(axis=0) * count / wanted, 1.0, atol=1e-9)


@pytest.mark.parametrize("method", [*BASELINES, "network"])
def test_a_whole_ratio_gives_what_the_factor_gives(method):
    places, thick = scan_of(3.0, 3.0)
    model = network() if method == "network" else None
    restorer = Restorer(method, 3, model)
    found = at_spacing(thick, places, restorer, 1.0)
    # float32 at 1000 HU; the network's own slices vary by thousands of HU
    assert_allclose(found, restore_stack(thick, restorer).values, atol=0.01)


@pytest.mark.parametrize(("spacing", "thickness"), [(3.0, 3.0), (5.0, 3.0), (4.0, 1.5)])
@pytest.mark.parametrize("wanted", [1.25, 0.9])
def test_slices_that_share_nothing_bind_exactly(spacing, thickness, wanted):
    """Whatever a network makes, measuring it again gives the scan."""
    places, thick = scan_of(spacing, thickness)
    thin = at_spacing(thick, places, Restorer("network", 3, network()), wanted)
    free = at_spacing(thick, places, Restorer("network", 3, network(), consistent=False), wanted)
    again, inside = measurement_operator(places, np.ones(3) / 3, wanted, len(thin), factor=3)
    assert inside.sum() >= places.count - 1
    assert np.abs(apply_operator(again, free) - thick[inside]).max() > 10.0
    assert_allclose(apply_operator(again, thin), thick[inside], atol=0.02)


def test_overlapping_slices_bind_up_to_the_damping():
    places, thick = scan_of(3.0, 5.0)
    missed = []
    for consistent in (False, True):
        restorer = Restorer("histospline", 3, consistent=consistent)
        thin = at_spacing(thick, places, restorer, 1.25)
        again, inside = measurement_operator(places, np.ones(3) / 3, 1.25, len(thin), factor=3)
        missed.append(np.square(apply_operator(again, thin) - thick[inside]).mean() ** 0.5)
    assert missed[0] > 20.0
    assert missed[1] < 0.15 * missed[0]


def test_slices_twice_as_thick_as_their_spacing_are_restored_without_overflow():
    """Their agreement has no answer at the finest detail; the damping keeps the rest."""
    places, thick = scan_of(3.0, 6.0)
    noisy = thick + np.random.default_rng(0).normal(0, 10, thick.shape).astype(np.float32)
    for values, worst in ((thick, 1.0), (noisy, 1.0)):
        base = at_spacing(values, places, Restorer("linear", 3), 1.0)
        thin = at_spacing(values, places, Restorer("histospline", 3), 1.0)
        truth = truth_of(places, 1.0)
        assert np.square(thin - truth).mean() < worst * np.square(base - truth).mean()


@pytest.mark.parametrize(
    ("method", "spacing", "thickness"),
    # What a gap hides no baseline knows: there the histospline is no better than a line.
    [("histospline", *SCANS[0]), ("histospline", *SCANS[1]), *[("shipped", *s) for s in SCANS]],
)
def test_error_on_an_object_known_exactly_is_below_the_linear_one(spacing, thickness, method):
    places, thick = scan_of(spacing, thickness)
    truth = truth_of(places, 1.25)
    model = load_model(SHIPPED_FOLDER) if method == "shipped" else None
    error, linear = (
        np.square(at_spacing(thick, places, restorer, 1.25) - truth).mean()
        for restorer in (Restorer(method, 3, model), Restorer("linear", 3))
    )
    assert error < 0.9 * linear


@pytest.mark.parametrize(("spacing", "thickness"), [(3.0, 5.0), (5.0, 3.0)])
def test_knowing_the_thickness_is_better_than_not(spacing, thickness):
    places, thick = scan_of(spacing, thickness)
    touching = ThickSlices(places.count, spacing, spacing)
    truth = truth_of(places, 1.25)
    known, unknown = (
        np.square(at_spacing(thick, where, Restorer("histospline", 3), 1.25) - truth).mean()
        for where in (places, touching)
    )
    assert known < unknown


def test_mirrored_slices_are_restored_mirrored():
    places, thick = scan_of(3.0, 5.0)
    restorer = Restorer("histospline", 3)
    thin, mirrored = (at_spacing(v, places, restorer, 1.2) for v in (thick, thick[::-1]))
    assert_allclose(mirrored, thin[::-1], atol=1e-2)


@pytest.fixture
def scan(tmp_path):
    """Slices of 5 mm every 3 mm, with the record that ingest would write."""
    _, values = scan_of(3.0, 5.0)
    grid = VoxelGrid(values.shape, (3.0, 0.6, 0.6), (-20.0, 10.0, 5.0))
    with publish(tmp_path / "lr.nii.gz", kind="volume", stage="ingest", settings={}) as pending:
        write_volume(pending.path, Volume(values, grid))
        pending.properties["slice_thickness_mm"] = 5.0
    return tmp_path / "lr.nii.gz"


def run(scan, name, **settings):
    chosen = RestorationSettings(precision="float32", device="cpu", threads=1, **settings)
    restore(scan, scan.parent / name, chosen, model="histospline")
    return read_volume(scan.parent / name), read_sidecar(scan.parent / name)


def test_recorded_thickness_is_used_and_a_given_one_goes_before(scan):
    recorded, record = run(scan, "a.nii.gz", spacing_mm=1.25)
    given, _ = run(scan, "b.nii.gz", spacing_mm=1.25, thickness_mm=5.0)
    other, _ = run(scan, "c.nii.gz", spacing_mm=1.25, thickness_mm=3.0)
    assert np.array_equal(recorded.values, given.values)
    assert np.abs(recorded.values - other.values).max() > 10
    properties = record["properties"]
    assert properties["thick_slice_thickness_mm"] == 5.0
    assert properties["slice_thickness_mm"] == 1.25
    assert record["warnings"] == []


def test_slices_that_do_not_touch_are_not_taken_to_in_silence(scan):
    _, record = run(scan, "a.nii.gz")
    assert "give --spacing-mm" in record["warnings"][0]


def test_linear_restoration_agrees_with_simpleitk_in_patient_space(scan):
    """An independent resampling onto the written grid: places and values."""
    settings = RestorationSettings(spacing_mm=1.25, whole_hu=False)
    restore(scan, scan.parent / "linear.nii.gz", settings, model="linear")
    thick, thin = (
        SimpleITK.ReadImage(str(path), SimpleITK.sitkFloat32)
        for path in (scan, scan.parent / "linear.nii.gz")
    )
    expected = SimpleITK.GetArrayFromImage(
        SimpleITK.Resample(thick, thin, SimpleITK.Transform(), SimpleITK.sitkLinear)
    )
    found = SimpleITK.GetArrayFromImage(thin)
    assert_allclose(found[2:-2], expected[2:-2], atol=0.01)


@pytest.mark.parametrize("predicts", [False, True])
def test_sigma_lies_on_the_wanted_grid(scan, tmp_path, predicts):
    model = network(predicts_variance=True)
    folder = tmp_path / "model"
    folder.mkdir()
    record = {
        "training": {},
        "metrics": {"step": 0, "validation": {}},
        "provenance": {"cases": [], "command": "none"},
    }
    save_model(folder, model, {"width": 4, "depth": 3}, record)
    settings = RestorationSettings(spacing_mm=1.25, precision="float32", device="cpu", threads=1)
    sigma = tmp_path / "sigma.nii.gz" if predicts else None
    restore(scan, tmp_path / "sr.nii.gz", settings, model=str(folder), sigma=sigma)
    thin = read_volume(tmp_path / "sr.nii.gz")
    assert thin.grid.matches(target_grid(read_volume(scan).grid, 1.25))
    if sigma:
        found = read_volume(sigma)
        assert found.grid.matches(thin.grid)
        assert (found.values > 0).all()


def test_finer_slices_than_the_model_makes_are_said_to_be_interpolated(scan, tmp_path):
    settings = RestorationSettings(spacing_mm=0.5, precision="float32", device="cpu", threads=1)
    restore(scan, tmp_path / "sr.nii.gz", settings, model="shipped")
    (warning,) = read_sidecar(tmp_path / "sr.nii.gz")["warnings"]
    assert warning.startswith("the model makes slices of 1 mm")


def test_coarser_slices_than_the_scan_are_refused(scan):
    with pytest.raises(UsageError, match="lie 3 mm apart; give less"):
        run(scan, "a.nii.gz", spacing_mm=3.5)
    assert not (scan.parent / "a.nii.gz").exists()


def test_a_thickness_alone_is_refused():
    with pytest.raises(ValidationError, match="needs spacing_mm"):
        RestorationSettings(thickness_mm=5.0)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_slices_are_restored(count):
    thick = np.full((count, 16, 16), 40.0, dtype=np.float32)
    for places in (ThickSlices(count, 3.0, t) for t in (1.5, 3.0, 5.0)):
        for model in (None, untrained()):
            restorer = Restorer("histospline", 3, model, Arithmetic())
            assert_allclose(at_spacing(thick, places, restorer, 1.25), 40.0, atol=1e-3)


def test_flags_that_the_workflow_writes_are_the_settings():
    """`--set restoration.spacing_mm=1.25` of 'ct2flow enhance' reaches the command as it was given."""
    settings = RestorationSettings(spacing_mm=1.25, thickness_mm=5.0)
    words = ["lr.nii.gz", "--model", "m", "--output", "o", *shlex.split(flags(settings))]
    _, bound, _ = restore_app.parse_args(words, exit_on_error=False, print_error=False)
    assert bound.arguments["settings"] == settings
