"""One command trains networks at an equal budget and judges them beside the training-free methods."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from pipeline.core.artefacts import read_json
from pipeline.core.errors import InputError, UsageError
from pipeline.core.manifests import Case
from pipeline.core.volume import Volume, read_volume, write_volume
from pipeline.network_comparison import budget, cases, comparison, judging, plan
from pipeline.network_comparison.budget import planned, seconds_per_step, steps_of
from pipeline.network_comparison.cases import prepare_case
from pipeline.network_comparison.comparison import compare_networks, shared_patients
from pipeline.network_comparison.judging import judge_volume
from pipeline.network_comparison.settings import NetworkComparisonSettings
from stages.airway.settings import AirwaySettings
from stages.super_resolution.networks import NETWORKS
from stages.super_resolution.settings import TrainingSettings
from stages.surface.settings import SurfaceSettings

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "stages" / "airway"), str(TESTS / "stages" / "super_resolution")]

from airway_phantom import make_head as make_nose  # noqa: E402
from sr_volumes import make_head  # noqa: E402

TINY = TrainingSettings(
    steps=4,
    batch_size=1,
    patch=16,
    validation_slices=1,
    precision="float32",
    device="cpu",
    threads=1,
)
FEW = NetworkComparisonSettings(networks=("espcn", "srcnn"), models=(), margin_mm=4.0)
COST_S = {"espcn": 0.02, "srcnn": 0.05}


def write_manifest(folder, roles=("train", "validation", "test"), *, nose=False):
    lines = ["case,patient,role,source,path"]
    for seed, role in enumerate(roles):
        volume = make_nose(spacing_mm=1.6) if nose and role == "test" else make_head(seed)
        write_volume(folder / f"head-{seed}.nii.gz", volume)
        lines.append(f"head-{seed},patient-{seed},{role},volume,head-{seed}.nii.gz")
    path = folder / "manifest.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def known_costs(monkeypatch):
    """Take the time of a step from a table: how long it takes here is nobody's claim."""
    monkeypatch.setattr(plan, "seconds_per_step", lambda s, *_: COST_S[s.network])


def table_of(folder):
    """Return what a report says about methods, without what the machine's mood decides."""
    entries = read_json(folder / "report.json")["methods"]
    return [{k: v for k, v in e.items() if not k.startswith("restoration_s")} for e in entries]


# --- budget ---------------------------------------------------------------------------------


@given(st.floats(0.5, 1e4), st.floats(1e-3, 0.5))
def test_equal_time_becomes_steps_of_that_time_within_half_a_step(seconds, each):
    assert abs(steps_of(seconds, each) * each - seconds) <= each / 2 * (1 + 1e-9)


def test_a_budget_shorter_than_a_step_still_trains_one():
    assert steps_of(0.1, 30.0) == 1


@given(st.integers(1, 100_000), st.integers(1, 40), st.integers(1, 20))
def test_every_training_reports_and_validates_as_often_whatever_its_steps(steps, reports, times):
    asked = TINY.model_copy(update={"steps": steps})
    found = planned(asked, reports=reports, validations=times)
    # Settings check themselves only when they are built.
    again = TrainingSettings.model_validate(found.model_dump())
    assert again.steps == steps
    assert steps // again.report_interval >= min(reports, steps)
    assert steps // again.validation_interval <= 2 * times


def test_without_seconds_every_network_sees_the_same_number_of_samples(tmp_path, known_costs):
    manifest = write_manifest(tmp_path)
    made = plan.make_plan(manifest, tmp_path / "out", FEW, TINY, data_root=tmp_path)
    assert {settings.steps for settings in made.training.values()} == {TINY.steps}


def test_with_seconds_every_network_gets_that_time_and_the_steps_are_kept(
    tmp_path, known_costs, monkeypatch
):
    manifest = write_manifest(tmp_path)
    settings = FEW.model_copy(update={"seconds": 2.0})
    made = plan.make_plan(manifest, tmp_path / "out", settings, TINY, data_root=tmp_path)
    for name, own in made.training.items():
        assert_allclose(own.steps * COST_S[name], 2.0, atol=COST_S[name] / 2)
    # Another machine, another day: what was recorded counts.
    monkeypatch.setattr(plan, "seconds_per_step", lambda *_: 1e-3)
    again = plan.make_plan(manifest, tmp_path / "out", settings, TINY, data_root=tmp_path)
    assert again == made


def test_a_step_of_twice_the_patches_takes_longer(tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "_LEAST_S", 0.2)
    write_volume(tmp_path / "head.nii.gz", make_head())
    case = Case(case="h", patient="h", role="train", source="volume", path="head.nii.gz")
    few, many = (
        seconds_per_step(
            TINY.model_copy(update={"network": "espcn", "batch_size": size, "patch": 32}),
            case,
            tmp_path,
        )
        for size in (1, 8)
    )
    assert 0 < 2 * few < many


# --- what is compared -----------------------------------------------------------------------


def test_every_network_there_is_takes_part_unasked():
    assert set(NetworkComparisonSettings().chosen) == set(NETWORKS)


def test_a_model_that_knows_a_test_patient_is_recognised_by_patient_name_or_volume():
    tested = tuple(
        Case(case=f"c{i}", patient=f"p{i}", role="test", source="volume", path="x.nii", sha256=s)
        for i, s in enumerate(["a" * 64, "b" * 64, "c" * 64, ""])
    )
    seen = [
        {"case": "other", "patient": "p0", "sha256": "0"},
        {"case": "c1", "patient": "x", "sha256": "0"},
        {"case": "y", "patient": "y", "sha256": "c" * 64},
        {"case": "z", "patient": "z", "sha256": ""},
    ]
    assert shared_patients({"provenance": {"cases": seen}}, tested) == ["c0", "c1", "c2"]


@pytest.fixture(scope="module")
def coarse_airways():
    """Find airways and surfaces on grids of a voxel per millimetre: what is claimed holds there."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (cases, judging):
            patch.setattr(module, "AIRWAY", AirwaySettings(grid_spacing_mm=1.0))
            patch.setattr(
                module, "SURFACE", SurfaceSettings(spacing_mm=1.0, isolevel_uncertainty_hu=0.0)
            )
        yield


@pytest.fixture(scope="module")
def nose_case(tmp_path_factory, coarse_airways):
    folder = tmp_path_factory.mktemp("nose")
    write_volume(folder / "nose.nii.gz", make_nose(spacing_mm=1.6))
    case = Case(case="nose", patient="nose", role="test", source="volume", path="nose.nii.gz")
    return prepare_case(case, folder / "nose.nii.gz", folder / "case", TINY, margin_mm=8.0)


def test_a_perfect_method_scores_perfect(nose_case, tmp_path):
    found = judge_volume(nose_case.hr, nose_case, tmp_path)
    assert found["image"]["rms_airway_wall_hu"] == 0
    assert found["image"]["psnr_db"] is None  # no error: no finite ratio
    assert_allclose(found["image"]["ssim"], 1.0, atol=1e-9)
    airway = found["airway"]
    assert airway["reason"] is None
    assert airway["minimal_area_error_percent"] == 0
    assert airway["volume_deviation_percent"] == 0
    # STL holds float32: 1e-5 mm at 100 mm from the origin
    assert airway["hausdorff95_mm"] < 1e-4


def test_a_method_that_thickens_the_walls_narrows_the_airway(nose_case, tmp_path):
    truth = read_volume(nose_case.hr)
    # Up by 150 HU: the wall at -400 HU now lies where -550 HU was, inside the air.
    raised = Volume((truth.values + np.float32(150.0)).astype(np.float32), truth.grid)
    write_volume(tmp_path / "raised.nii.gz", raised)
    airway = judge_volume(tmp_path / "raised.nii.gz", nose_case, tmp_path)["airway"]
    assert airway["volume_deviation_percent"] < 0
    assert all(v < 0 for v in airway["minimal_area_deviation_percent"].values())
    assert airway["mean_distance_mm"] > 0


def test_a_method_that_fills_the_nose_with_tissue_is_off_by_all_of_the_area(nose_case, tmp_path):
    truth = read_volume(nose_case.hr)
    filled = Volume(np.full(truth.grid.shape, 40, dtype=np.int16), truth.grid)
    write_volume(tmp_path / "filled.nii.gz", filled)
    airway = judge_volume(tmp_path / "filled.nii.gz", nose_case, tmp_path)["airway"]
    assert airway["minimal_area_error_percent"] == 100
    assert airway["reason"]
    assert "mean_distance_mm" not in airway


# --- the whole ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared(tmp_path_factory, coarse_airways):
    """Compare two networks on a nose; return the folder and its manifest."""
    folder = tmp_path_factory.mktemp("compared")
    manifest = write_manifest(folder, nose=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "seconds_per_step", lambda s, *_: COST_S[s.network])
        compare_networks(manifest, folder / "out", FEW, TINY)
    return folder / "out", manifest


@pytest.mark.slow
def test_every_method_is_judged_by_image_and_airway(compared):
    entries = {e["method"]: e for e in table_of(compared[0])}
    assert list(entries) == ["lr", "linear", "spline", "histospline", "espcn", "srcnn"]
    for name, entry in entries.items():
        assert not entry["missing"]
        assert {"mean_distance_mm", "minimal_area_error_percent"} <= set(entry["scores"])
        assert ("psnr_db" in entry["scores"]) is (name != "lr")
    for network in ("espcn", "srcnn"):
        assert entries[network]["seeds"] == [0, 1]
        assert entries[network]["samples"] == TINY.steps * TINY.batch_size


@pytest.mark.slow
def test_models_were_trained_for_the_steps_that_the_plan_says(compared):
    output, _ = compared
    steps = read_json(output / "plan.json")["networks"]
    for folder in (output / "models").glob("*-seed*"):
        model = read_json(folder / "model.json")
        assert model["training"]["steps"] == steps[model["network"]]["steps"]
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        assert json.loads(lines[-1])["step"] == steps[model["network"]]["steps"]


@pytest.mark.slow
def test_the_page_holds_the_curves_and_loads_nothing_from_elsewhere(compared):
    page = (compared[0] / "report.html").read_text()
    assert page.count("<svg") == 2
    assert page.count("src=") == page.count('src="data:image/png;base64,') == 1 + 6
    assert "<link" not in page
    assert "srcnn" in (compared[0] / "report.md").read_text()


@pytest.mark.slow
def test_killed_and_run_again_it_ends_with_the_same_table(compared, tmp_path, monkeypatch):
    output, manifest = compared
    copy = tmp_path / "out"
    shutil.copytree(output, copy)
    # As a kill leaves it: one model untrained, one result unwritten, a report of less.
    shutil.rmtree(copy / "models" / "srcnn-seed1")
    for name in ("srcnn-seed1", "espcn-seed0"):
        next((copy / "results").glob(f"*/{name}.json")).unlink()
    (copy / "report.json").unlink()
    (copy / "notes.md").write_text("What I read here.\n")
    trained = []
    real = comparison._train

    def note(run, method):
        if not Path(method.source).is_dir():
            trained.append(method.name)
        return real(run, method)

    monkeypatch.setattr(comparison, "_train", note)
    compare_networks(manifest, copy, FEW, TINY)
    assert trained == ["srcnn-seed1"]
    assert table_of(copy) == table_of(output)
    for name in ("report.md", "report.html"):
        assert "What I read here." in (copy / name).read_text()


@pytest.mark.slow
def test_further_positions_of_the_thick_slices_are_added_to_what_is_there(compared, tmp_path):
    output, manifest = compared
    copy = tmp_path / "out"
    shutil.copytree(output, copy)
    before = {path: path.read_bytes() for path in copy.glob("results/*/*.json")}
    compare_networks(manifest, copy, FEW.model_copy(update={"phases": 2}), TINY)
    assert len(list(copy.glob("results/*/*.json"))) == 2 * len(before)
    assert all(path.read_bytes() == content for path, content in before.items())
    entries = {e["method"]: e for e in table_of(copy)}
    for entry in entries.values():
        assert not entry["missing"]
        score = entry["scores"]["mean_distance_mm"]
        assert_allclose(np.mean(score["phases"]), score["mean"], rtol=1e-9)


@pytest.mark.slow
def test_another_comparison_is_not_mixed_into_a_folder(compared):
    output, manifest = compared
    with pytest.raises(UsageError, match="holds a comparison of other training"):
        compare_networks(manifest, output, FEW, TINY.model_copy(update={"noise_hu": 1.0}))


# --- mistakes -------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_manifest_without_a_needed_role_is_refused(tmp_path, missing):
    roles = [role for role in ("train", "validation", "test") if role != missing]
    manifest = write_manifest(tmp_path, roles)
    with pytest.raises(InputError, match=f"no case of role {missing}"):
        compare_networks(manifest, tmp_path / "out", FEW, TINY)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("scan,p9,test,dicom,folder", "no NIfTI volume"),
        ("scan,p9,test,volume,absent.nii.gz", "is not there"),
        ("scan,patient-0,test,volume,head-2.nii.gz", "one patient has one role"),
    ],
)
def test_a_manifest_that_cannot_be_compared_on_says_why(tmp_path, line, sentence):
    manifest = write_manifest(tmp_path)
    manifest.write_text(manifest.read_text() + line + "\n")
    with pytest.raises(InputError, match=sentence):
        compare_networks(manifest, tmp_path / "out", FEW, TINY)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"network": "unet"}, "belongs to a single network"),
        ({"width": 8}, "belongs to a single network"),
        ({"stride": 1}, "follow one another"),
        ({"factor": 3, "phases": 4}, "as many positions"),
    ],
)
def test_settings_that_do_not_suit_all_networks_are_refused(tmp_path, changes, sentence):
    manifest = write_manifest(tmp_path)
    phases = changes.pop("phases", 1)
    settings = FEW.model_copy(update={"phases": phases})
    with pytest.raises(UsageError, match=sentence):
        compare_networks(manifest, tmp_path / "out", settings, TrainingSettings(**changes))


@pytest.mark.parametrize(
    ("name", "error", "sentence"),
    [("absent", InputError, "is no MODEL_DIR"), ("espcn", UsageError, "is taken")],
)
def test_a_model_that_cannot_be_judged_says_why(tmp_path, name, error, sentence):
    manifest = write_manifest(tmp_path)
    (tmp_path / "espcn").mkdir()
    (tmp_path / "espcn" / "model.json").write_text("{}")
    settings = FEW.model_copy(update={"models": (str(tmp_path / name),)})
    with pytest.raises(error, match=sentence):
        compare_networks(manifest, tmp_path / "out", settings, TINY)


def test_a_single_seed_has_no_spread_and_is_refused():
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        NetworkComparisonSettings(seeds=1)
