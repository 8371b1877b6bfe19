"""A network fitted to a patient's thin-slice region restores the rest of the patient better."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sr_volumes import make_head

from pipeline.core.artefacts import read_json, read_sidecar
from pipeline.core.errors import InputError, UsageError
from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume, read_volume, write_volume
from stages.super_resolution.baselines import thin_grid
from stages.super_resolution.checkpoint import CheckpointFolder
from stages.super_resolution.cli import train_app
from stages.super_resolution.degradation import degrade, profile_taps
from stages.super_resolution.layout import Layout
from stages.super_resolution.model import Normalisation
from stages.super_resolution.model_io import load_model, new_model, save_model
from stages.super_resolution.on_the_fly_stage import train_on_the_fly
from stages.super_resolution.region import judge_agreement, place_region
from stages.super_resolution.settings import OnTheFlySettings, RestorationSettings
from stages.super_resolution.stage import restore

BOX = Layout(3, 3, "box")
BUILT = {"width": 4, "depth": 2}
TINY = OnTheFlySettings(
    steps=6,
    validation_interval=2,
    batch_size=2,
    patch=16,
    precision="float32",
    device="cpu",
    threads=1,
)


def thick_of(thin: Volume, profile: str = "box") -> Volume:
    """Scan a patient with thick slices of a profile."""
    values = degrade(thin.values, profile_taps(profile, 3), 3)
    z, y, x = thin.grid.spacing_mm
    middle = thin.grid.to_world_mm(np.array([1.0, 0.0, 0.0]))
    grid = VoxelGrid(values.shape, (3 * z, y, x), tuple(map(float, middle)), thin.grid.axes)
    return Volume(values, grid)


def part_of(thin: Volume, z: slice, y: slice = slice(0, 48), x: slice = slice(0, 48)) -> Volume:
    """Scan a part of a patient with thin slices."""
    start = np.array([z.start, y.start, x.start], dtype=float)
    values = thin.values[z, y, x]
    origin = tuple(map(float, thin.grid.to_world_mm(start)))
    return Volume(values, replace(thin.grid, shape=values.shape, origin_mm=origin))


def moved(volume: Volume, *, z_mm: float = 0.0, x_mm: float = 0.0) -> Volume:
    x, y, z = volume.grid.origin_mm
    return replace(volume, grid=replace(volume.grid, origin_mm=(x + x_mm, y, z + z_mm)))


def placed(thin: Volume, part: Volume):
    whole = thick_of(thin)
    return place_region(whole, thin_grid(whole.grid, 3), part, 3)


@pytest.fixture
def patient():
    return make_head(3, shape=(48, 48, 48))


@pytest.fixture
def scans(patient, tmp_path):
    """Write a patient's thick slices, a thin-slice region, and a model that has learnt nothing."""
    write_volume(tmp_path / "thick.nii.gz", thick_of(patient))
    write_volume(tmp_path / "thin.nii.gz", part_of(patient, slice(4, 34)))
    write_untrained(tmp_path / "base")
    return tmp_path


def write_untrained(folder, layout=BOX):
    """Write a model whose restoration is the histospline."""
    folder.mkdir()
    model = new_model("unet", BUILT, layout, Normalisation(-200.0, 500.0), seed=0)
    record = {"training": {}, "metrics": {"step": 0, "validation": {}}}
    record["provenance"] = {"cases": [], "command": "none"}
    save_model(folder, model, BUILT, record)


def fit(folder, output="fitted", settings=TINY, **changes):
    arguments = {"region": folder / "thin.nii.gz", "model": str(folder / "base"), **changes}
    train_on_the_fly(folder / "thick.nii.gz", folder / output, settings, **arguments)
    return read_json(folder / output / "model.json")


def test_region_on_the_same_grid_is_taken_as_it_is(patient):
    """Slices 4 and 5 are of a thick slice that the region covers in part: it begins with 6."""
    region = placed(patient, part_of(patient, slice(4, 34), slice(8, 44), slice(2, 47)))
    assert region.first == 2
    assert np.array_equal(region.thin, patient.values[6:33, 8:44, 2:47])
    assert np.array_equal(region.thick, thick_of(patient).values[:, 8:44, 2:47])
    assert region.outside_mm == 0.0
    simulated = degrade(region.thin, BOX.profile_taps, 3)
    assert np.array_equal(simulated, region.thick[2:11])


def test_region_of_other_pixels_and_positions_keeps_what_varies_linearly():
    """Means over voxels of what is linear in space are its values at their centres."""
    thin = make_head(0, shape=(48, 48, 48))
    grid = replace(
        thin.grid, shape=(60, 70, 70), spacing_mm=(0.7, 0.5, 0.45), origin_mm=(-8.3, 11.1, 42.2)
    )

    def linear(grid):
        points = grid.to_world_mm(np.moveaxis(np.indices(grid.shape), 0, -1))
        return points @ np.array([1.0, -2.0, 3.0])

    whole = thick_of(thin)
    target = thin_grid(whole.grid, 3)
    region = place_region(whole, target, Volume(linear(grid), grid), 3)
    truth = linear(target)[3 * region.first : 3 * region.first + len(region.thin), 5:48, 6:44]
    # the region begins 4.0 and 4.375 mm, 5.0 and 5.5 pixels, behind the grid's first faces
    assert_allclose(region.thin, truth, atol=1e-3)  # float32 sums of 70 values to 200


@pytest.mark.parametrize("shift", [(1, 0), (-1, 0), (0, 1)])
def test_region_that_lies_beside_its_place_is_found_displaced(patient, shift):
    part = part_of(patient, slice(6, 36), slice(4, 44), slice(4, 44))
    here = judge_agreement(placed(patient, part), BOX)
    assert here.is_good
    assert here.explained == pytest.approx(1.0, abs=1e-12)
    beside = moved(part, z_mm=1.0 * shift[0], x_mm=0.8 * shift[1])
    found = judge_agreement(placed(patient, beside), BOX)
    assert not found.is_good
    assert found.displaced == (shift[0], 0, shift[1])


def test_another_patient_does_not_agree(patient):
    other = part_of(make_head(11, shape=(48, 48, 48)), slice(6, 36))
    noise = np.random.default_rng(0).normal(0, 300, other.values.shape)
    assert not judge_agreement(placed(patient, other.with_values(noise)), BOX).is_good


def turned(part):
    c, s = np.cos(0.05), np.sin(0.05)
    axes = ((0.0, -s, c), (0.0, c, s), (1.0, 0.0, 0.0))
    return replace(part, grid=replace(part.grid, axes=axes))


def coarser(part, factor):
    z, y, x = part.grid.spacing_mm
    return replace(part, grid=replace(part.grid, spacing_mm=(z * factor, y, x)))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (turned, "turned by 2.9 degrees"),
        (lambda part: coarser(part, 1.5), "slices are 1.5 mm apart; needed are 1.05 mm or less"),
        (lambda part: moved(part, z_mm=500.0), "lies outside the thick slices"),
        (lambda part: moved(part, x_mm=-500.0), "lies outside the thick slices"),
        (lambda part: part_of(part, slice(0, 12)), "covers 3 thick slices of 48 x 48 pixels"),
        (lambda part: moved(part, x_mm=20.0), "thick slices of 48 x 23 pixels whole"),
    ],
)
def test_region_that_cannot_teach_is_refused_with_the_reason(patient, spoil, sentence):
    part = spoil(part_of(patient, slice(4, 34)))
    with pytest.raises(InputError, match=sentence) as caught:
        placed(patient, part)
    assert "\n" not in str(caught.value)


def test_moved_patient_is_learnt_from_by_simulation_and_said_so(scans, patient):
    write_volume(scans / "thin.nii.gz", moved(part_of(patient, slice(4, 34)), z_mm=1.0))
    found = fit(scans)
    assert found["metrics"]["pairs"] == "simulated"
    assert found["layout"]["consistent"] is True
    assert any("may have moved" in w for w in read_sidecar(scans / "fitted")["warnings"])
    with pytest.raises(InputError, match="The patient moved or is another"):
        fit(scans, "other", TINY.model_copy(update={"pairs": "measured"}))


def test_region_beyond_the_thick_slices_is_used_where_they_are_and_said_so(scans, patient):
    whole = thick_of(patient)
    cut = replace(whole.grid, shape=(9, 48, 48))
    write_volume(scans / "thick.nii.gz", Volume(whole.values[:9], cut))
    found = fit(scans)
    held = found["metrics"]["held_out_thick_slices"]
    assert found["metrics"]["learnt_thick_slices"] + held == 7
    warnings = read_sidecar(scans / "fitted")["warnings"]
    assert any("7.0 mm of the region lie beyond" in w for w in warnings)


def test_killed_fit_goes_on_to_the_weights_of_an_uninterrupted_one(scans, monkeypatch):
    fit(scans, "whole")
    save, saves = CheckpointFolder.save, []

    def save_then_die(self, *arguments):
        save(self, *arguments)
        saves.append(0)
        if len(saves) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(CheckpointFolder, "save", save_then_die)
    with pytest.raises(KeyboardInterrupt):
        fit(scans, "killed")
    fit(scans, "killed")
    assert len(saves) == 3
    for name in ("weights.safetensors", "model.json", "metrics.jsonl", "MODEL_CARD.md"):
        assert (scans / "killed" / name).read_bytes() == (scans / "whole" / name).read_bytes()
    assert not (scans / "killed.training").exists()


def test_fit_that_does_not_help_keeps_the_model_before(scans):
    """A rate far too large spoils the weights; the held-out slices say so."""
    spoilt = TINY.model_copy(update={"learning_rate": 1.0, "validation_interval": 6})
    found = fit(scans, settings=spoilt)
    scores = found["metrics"]["validation"]["region"]
    assert scores["psnr_db"] < scores["before_psnr_db"]
    assert found["metrics"]["kept"] == "before"
    kept, base = (load_model(scans / name).network.state_dict() for name in ("fitted", "base"))
    assert all(np.array_equal(kept[name], base[name]) for name in base)
    assert any("was kept" in w for w in read_sidecar(scans / "fitted")["warnings"])


def test_model_that_sees_upright_planes_is_refused(scans):
    write_untrained(scans / "upright", Layout(3, 3, "box", view="upright"))
    with pytest.raises(UsageError, match="give a model trained with --view axial"):
        fit(scans, model=str(scans / "upright"))


def test_overlapping_slices_are_fitted_too(scans, patient):
    """A model of stride 1 restores slices that overlap: as many thin ones as thick ones."""
    layout = Layout(3, 3, "box", stride=1)
    write_untrained(scans / "overlapping", layout)
    values = degrade(patient.values, layout.profile_taps, 1)
    write_volume(scans / "thick.nii.gz", patient.with_values(values))
    found = fit(scans, model=str(scans / "overlapping"), restored=scans / "sr.nii.gz")
    assert found["metrics"]["pairs"] == "measured"
    assert found["metrics"]["agreement_explained"] > 0.99
    assert read_volume(scans / "sr.nii.gz").grid.shape == patient.grid.shape


def test_command_fits_and_restores_the_whole(scans):
    words = f"on-the-fly {scans}/thick.nii.gz --region {scans}/thin.nii.gz --model {scans}/base"
    words += f" --output {scans}/fitted --restored {scans}/sr.nii.gz --steps 2 --patch 16"
    words += " --batch-size 2 --validation-interval 1 --device cpu --precision float32 --threads 1"
    train_app(words, result_action="return_value")
    found = json.loads((scans / "fitted" / "model.json").read_text())
    assert found["metrics"]["pairs"] == "measured"
    assert found["layout"]["consistent"] is False
    settings = RestorationSettings(precision="float32", device="cpu", threads=1)
    restore(scans / "thick.nii.gz", scans / "again.nii.gz", settings, model=f"{scans}/fitted")
    found, again = (read_volume(scans / name) for name in ("sr.nii.gz", "again.nii.gz"))
    assert found.grid.shape == (48, 48, 48)
    assert np.array_equal(found.values, again.values)
    with pytest.raises(UsageError, match=r"sr\.nii\.gz"):
        train_app(words.replace("/fitted", "/other"), result_action="return_value")


def make_stripes(shape):
    """Return bone and air in stripes that slope either way: what lies between slices shows in them."""
    grid = VoxelGrid(shape, (1.0, 0.8, 0.8))
    z, y, x = np.indices(shape)
    slope = np.where(np.sin(y / 6.0) > 0, 0.7, -0.7)
    values = 1000.0 * np.tanh(4.0 * np.sin(2.0 * np.pi * (0.8 * x + slope * z) / 8.0))
    return Volume(np.rint(values).astype(np.int16), grid)


@pytest.mark.slow
def test_rest_of_the_patient_is_restored_better_than_by_the_model_before(tmp_path):
    """The scanner's profile is wider than the model's; measured pairs teach it, simulated do not.

    The region is the lower part; what is scored is the upper one, which no fit has seen.
    """
    patient = make_stripes((60, 40, 40))
    write_volume(tmp_path / "thick.nii.gz", thick_of(patient, "gaussian"))
    write_volume(tmp_path / "thin.nii.gz", part_of(patient, slice(0, 36)))
    write_untrained(tmp_path / "base")
    settings = TINY.model_copy(
        update={"steps": 200, "learning_rate": 1e-2, "patch": 32, "validation_interval": 50}
    )
    errors = {"before": rest_error_hu(tmp_path, patient, "base")}
    for pairs in ("measured", "simulated"):
        chosen = settings.model_copy(update={"pairs": pairs})
        found = fit(tmp_path, pairs, chosen)["metrics"]
        assert found["pairs"] == pairs
        errors[pairs] = rest_error_hu(tmp_path, patient, pairs)
    assert errors["measured"] < 0.85 * errors["before"]
    assert errors["measured"] < errors["simulated"]


def rest_error_hu(folder, patient, model):
    """Return the RMS error of a restoration beyond the region, HU."""
    output = folder / f"{model}.nii.gz"
    settings = RestorationSettings(precision="float32", device="cpu", threads=1)
    restore(folder / "thick.nii.gz", output, settings, model=str(folder / model))
    difference = read_volume(output).values[39:] - patient.values[39:].astype(np.float64)
    return float(np.sqrt(np.square(difference).mean()))


def test_agreement_is_given_in_hu(patient):
    part = part_of(patient, slice(6, 36))
    louder = part.with_values(part.values + np.int16(40))
    found = judge_agreement(placed(patient, louder), BOX)
    assert_allclose(found.rms_hu, 40.0, rtol=1e-6)
