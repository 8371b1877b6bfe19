"""What the comparison of restorations by their pressure loss reckons with, on numbers by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from pressure_of_restorations import (
    BUMPS_MM,
    COLUMNS,
    judged,
    level_of,
    mean_rows,
    narrow,
    off,
    patient_rows,
    resistances,
    swollen,
    thin_air_lost,
    volume_of,
)

from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume, write_volume
from stages.phantom.anatomy import Anatomy
from stages.phantom.tissues import build_patient


def make_figures(**changes):
    return dict.fromkeys(COLUMNS, 0.0) | changes


def write_flow(folder, left_ml_s, right_ml_s, loss_pa):
    """Write what is read of a flow: 10 Pa at the outlet, the given loss from both nostrils to it."""
    flows = {"inlet-left": left_ml_s, "inlet-right": right_ml_s}
    inlets = {
        name: {"flow_rate_ml_s": rate, "total_pressure_pa": 10.0 + loss_pa}
        for name, rate in flows.items()
    }
    record = {
        "openings": {**inlets, "outlet-pharynx": {"total_pressure_pa": 10.0}},
        "pressure_loss": {"total_pa": loss_pa},
    }
    (folder / "flow").mkdir(parents=True)
    (folder / "flow" / "flow.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("method", "place", "level_hu"),
    [
        ("hr", "triplets/hr.nii.gz", -400.0),
        ("lr@-300", "triplets/lr.nii.gz", -300.0),
        ("shipped@-370", "shipped.nii.gz", -370.0),
        ("models/mine", "mine.nii.gz", -400.0),
    ],
)
def test_method_names_its_volume_and_its_level(method, place, level_hu):
    assert volume_of(Path("root"), method) == Path("root") / place
    assert level_of(method) == level_hu


@pytest.mark.parametrize(("found", "percent"), [(11.0, 10.0), (10.0, 0.0), (5.0, -50.0)])
def test_deviation_is_signed_and_of_the_true_value(found, percent):
    assert off(found, 10.0) == pytest.approx(percent, abs=1e-12)


def test_resistance_of_a_side_is_its_own_pressure_loss_over_its_own_flow(tmp_path):
    write_flow(tmp_path, 80.0, 20.0, 8.0)
    assert resistances(tmp_path) == pytest.approx({"left": 0.1, "right": 0.4})


def test_narrow_nose_has_narrower_cavities_and_nothing_else_changed():
    before = Anatomy()
    after = narrow(before, 0.5)
    for old, new in ((before.left, after.left), (before.right, after.right)):
        assert new.cavity_width_mm == 0.5 * old.cavity_width_mm
        assert new.valve_width_mm == old.valve_width_mm
    assert narrow(after, 2.0) == before


def test_swelling_brings_the_walls_of_the_cavities_nearer_by_its_mean_and_leaves_the_valve():
    patient = build_patient(Anatomy())
    thick = swollen(patient, 1, 0.75)
    before, after = patient.tissues[-1], thick.tissues[-1]
    points = np.random.default_rng(0).uniform(-6 * BUMPS_MM[1], 6 * BUMPS_MM[1], (3, 20000))
    x, y, z = points.astype(np.float32)
    nearer = after.distance(x, y, z) - before.distance(x, y, z)
    _, along, _ = patient.frame.to_anatomy(x, y, z)
    inside, outside = (along > -54) & (along < -12), (along > 2) | (along < -64)
    assert_allclose(nearer[outside], 0.0, atol=0)
    # float32 distances of up to 100 mm are good to 1e-5 mm; bumps are cut at 0 and twice the mean
    assert nearer[inside].min() >= -1e-4
    assert nearer[inside].max() <= 1.5 + 1e-4
    assert nearer[inside].mean() == pytest.approx(0.75, rel=0.03)
    assert nearer[inside].std() == pytest.approx(0.375, rel=0.15)


def test_swelling_lies_between_the_old_wall_and_the_new_one():
    patient = build_patient(Anatomy())
    *others, mucosa, lumen = swollen(patient, 1, 0.75).tissues
    assert tuple(others) == patient.tissues[:-1]
    assert mucosa.distance is patient.tissues[-1].distance
    assert mucosa.material != lumen.material == patient.tissues[-1].material


def write_gaps(folder, restored):
    """Write a lumen whose thin slices hold a gap of one slice and a wide one, and a restoration."""
    grid = VoxelGrid((18, 6, 6), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    true = np.full(grid.shape, 40, dtype=np.int16)
    true[4] = -1000
    true[9:15] = -1000
    for place in ("triplets", "hr/airway"):
        (folder / place).mkdir(parents=True)
    write_volume(folder / "triplets" / "hr.nii.gz", Volume(true, grid))
    lumen = Volume((true < 0).astype(np.uint8), grid)
    write_volume(folder / "hr" / "airway" / "lumen.nii.gz", lumen)
    write_volume(folder / "spline.nii.gz", Volume(restored(true.copy()), grid))


def closed_by_half(values):
    values[4, :3] = -100
    return values


def closed_where_it_is_wide(values):
    values[10] = 40
    return values


@pytest.mark.parametrize(
    ("restored", "method", "lost_percent"),
    [
        (lambda values: values, "spline", 0.0),
        (closed_by_half, "spline", 50.0),
        (closed_by_half, "spline@-50", 0.0),
        (closed_where_it_is_wide, "spline", 0.0),
    ],
    ids=["none", "half the gap", "half at a level that opens it", "wide air alone"],
)
def test_air_of_runs_of_one_slice_that_becomes_tissue_is_lost(
    tmp_path, restored, method, lost_percent
):
    write_gaps(tmp_path, restored)
    assert thin_air_lost(tmp_path, method) == lost_percent


def test_figures_of_a_method_are_its_deviations_from_the_thin_slices(tmp_path, monkeypatch):
    folders = {name: tmp_path / name for name in ("hr", "spline")}
    write_gaps(tmp_path, closed_by_half)
    write_flow(folders["hr"], 50.0, 50.0, 10.0)
    write_flow(folders["spline"], 60.0, 40.0, 12.0)
    areas = {"hr": (40.0, 50.0), "spline": (44.0, 40.0)}
    measures = {
        name: {
            "minimal_area_mm2": {"left": left, "right": right},
            "volume_deviation_percent": 3.0,
            "mean_distance_mm": 0.2,
        }
        for name, (left, right) in areas.items()
    }

    def compare(output, *_words):
        output.write_text(json.dumps({"surfaces": measures}))

    monkeypatch.setattr("pressure_of_restorations.ct2flow", compare)
    found = judged(folders)["spline"]
    assert found == pytest.approx(
        {
            "loss_pa": 12.0,
            "loss": 20.0,
            "left": 0.0,  # 12 Pa over 60 ml/s are 10 Pa over 50
            "right": 50.0,
            "volume": 3.0,
            "distance_mm": 0.2,
            "area": 15.0,  # 10 % too large on one side, 20 % too small on the other
            "thin": 50.0,
        }
    )
    assert list(found) == list(COLUMNS)


def test_rows_of_a_patient_follow_the_columns():
    figures = make_figures(loss_pa=12.345, loss=-2.0, distance_mm=0.1234)
    (row,) = patient_rows(401, {"spline": figures})
    assert row.startswith("| 401 | spline | +12.35 | -2.00 | ")
    assert "| 0.123 |" in row
    assert row.count("|") == len(COLUMNS) + 3


def test_mean_over_patients_is_of_sizes_with_its_standard_error_and_the_loss_also_signed():
    cases = [
        {"hr": make_figures(), "lr": make_figures(loss=loss, left=left, right=right)}
        for loss, left, right in ((10.0, 4.0, -8.0), (-20.0, -3.0, 1.0))
    ]
    (row,) = mean_rows(cases)  # hr, which the others are compared with, has none
    # standard error of two values: half their difference
    assert row.startswith("| lr | -5 ±15 | 15 ±5 | 4 ±2 | 0 ±0 |")


def test_one_patient_has_no_standard_error():
    (row,) = mean_rows([{"hr": make_figures(), "spline": make_figures(loss=4.0)}])
    assert row.startswith("| spline | 4 ±nan | 4 ±nan |")


def test_means_are_over_the_patients_whose_airway_a_method_left_open():
    """Thick slices that close a nose have no flow: the other patients' mean stands."""
    cases = [
        {"hr": make_figures(), "lr": make_figures(loss=40.0), "spline": make_figures(loss=10.0)},
        {"hr": make_figures(), "spline": make_figures(loss=20.0)},
    ]
    rows = {row.split("|")[1].strip(): row.split("|")[3].split("±")[0] for row in mean_rows(cases)}
    assert {name: float(value) for name, value in rows.items()} == {"lr": 40.0, "spline": 15.0}
