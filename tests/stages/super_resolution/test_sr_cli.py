"""The commands take what the workflow writes, and train and restore with it."""

from __future__ import annotations

import shlex

import pytest
from pydantic import ValidationError
from sr_volumes import write_manifest

from pipeline.config import flags
from pipeline.core.volume import read_volume
from stages.super_resolution.cli import restore_app, train_app
from stages.super_resolution.settings import RestorationSettings, TrainingSettings

TRAININGS = [
    TrainingSettings(),
    TrainingSettings(
        network="srgan",
        width=8,
        depth=2,
        network_settings=("kernel=5", "activation=relu"),
        loss="charbonnier+0.1*ssim",
        wall_weight=3.0,
        consistent=False,
        profile="fitted.json",
    ),
    TrainingSettings(view="upright", stride=1, factor=5, learning_rate=1e-3, kernel_change=0.5),
]


def parsed(app, words):
    _, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    return bound.arguments


@pytest.mark.parametrize("settings", TRAININGS, ids=["defaults", "srgan", "upright"])
def test_flags_that_the_workflow_writes_are_the_settings(settings):
    words = ["m.csv", "--output", "model", *shlex.split(flags(settings))]
    assert parsed(train_app, words)["settings"] == settings


@pytest.mark.parametrize(
    "settings",
    [RestorationSettings(), RestorationSettings(symmetries=8, consistent=True, whole_hu=False)],
)
def test_flags_of_a_restoration_are_its_settings(settings):
    words = ["lr.nii.gz", "--model", "m", "--output", "o", *shlex.split(flags(settings))]
    assert parsed(restore_app, words)["settings"] == settings


def test_a_model_is_trained_and_used_from_the_command_line(tmp_path):
    manifest = write_manifest(tmp_path, shape=(12, 24, 24))
    common = "--device cpu --precision float32 --threads 1"
    train = f"{manifest} --output {tmp_path}/model --network msd --depth 4 --steps 2 --patch 16"
    train += " --network-settings dilations=2 --loss nll+0.1*gradient --batch-size 2"
    train_app(f"{train} --validation-slices 1 {common}", result_action="return_value")
    restore = f"{tmp_path}/head-3.nii.gz --model {tmp_path}/model --output {tmp_path}/sr.nii.gz"
    restore += f" --sigma {tmp_path}/sd.nii.gz --symmetries 4"
    restore_app(f"{restore} {common}", result_action="return_value")
    assert read_volume(tmp_path / "sr.nii.gz").grid.shape == (36, 24, 24)
    assert read_volume(tmp_path / "sd.nii.gz").values.min() > 0


@pytest.mark.parametrize("symmetries", [0, 2, 9])
def test_number_of_mirror_images_that_is_no_group_is_refused(symmetries):
    with pytest.raises(ValidationError, match="symmetries"):
        RestorationSettings(symmetries=symmetries)
