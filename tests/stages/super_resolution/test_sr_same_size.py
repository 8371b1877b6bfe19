"""Slice by slice on one grid: every network also learns to sharpen without making new slices."""

from __future__ import annotations

import numpy as np
import pytest
from sr_networks import SMALL
from sr_volumes import write_manifest

from pipeline.cli import exit_code
from pipeline.core.artefacts import read_json
from pipeline.core.volume import read_volume
from stages.super_resolution.networks import NETWORKS

COMMON = "--device cpu --precision float32 --threads 1"
TINY = "--context 1 --stride 1 --steps 2 --batch-size 1 --patch 16 --validation-slices 1"


def words_of(name):
    """Return the flags of a small network."""
    settings = dict(SMALL.get(name, {}))
    words = [f"--{key} {settings.pop(key)}" for key in ("width", "depth") if key in settings]
    return " ".join([*words, *(f"--network-settings {k}={v}" for k, v in settings.items())])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("same-size")
    write_manifest(folder, shape=(9, 24, 24))
    return folder


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_trained_saved_and_restores_on_the_grid_it_was_given(folder, name):
    model, restored = folder / name, folder / f"{name}.nii.gz"
    train = f"train {folder}/manifest.csv --output {model} --network {name} {words_of(name)}"
    assert exit_code(f"{train} {TINY} {COMMON} --deterministic".split()) == 0
    found = read_json(model / "model.json")
    assert (found["network"], found["layout"]["context"], found["layout"]["stride"]) == (
        name,
        1,
        1,
    )
    volume = folder / "head-3.nii.gz"
    restore = f"restore {volume} --model {model} --output {restored} {COMMON}"
    assert exit_code(restore.split()) == 0
    before, after = read_volume(volume), read_volume(restored)
    assert after.grid == before.grid
    # Two steps leave a network near the identity, yet not at it: tissue stays tissue.
    difference = np.abs(after.values.astype(float) - before.values)
    assert difference.max() > 0
    assert np.median(difference) < 100
