"""Several models restore a coarse scan with the standard deviation between them."""

import numpy as np
import pytest

from pipeline.cli import exit_code
from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume, read_volume, write_volume

pytestmark = pytest.mark.slow


@pytest.fixture
def scan(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.integers(-1000, 1500, (6, 32, 32)).astype(np.int16)
    write_volume(tmp_path / "scan.nii.gz", Volume(values, VoxelGrid((6, 32, 32), (3.0, 0.8, 0.8))))
    return tmp_path / "scan.nii.gz"


def enhance(scan, output, *settings):
    words = [word for pair in settings for word in ("--set", pair)]
    assert exit_code(["enhance", str(scan), "--output", str(output), *words]) == 0
    return read_volume(output / "restored.nii.gz").values


def test_the_same_model_twice_restores_what_it_does_alone_and_is_certain(scan, tmp_path):
    output = tmp_path / "out"
    twice = enhance(scan, output, "model.members=[shipped, shipped]")
    assert not read_volume(output / "sigma.nii.gz").values.any()
    alone = enhance(scan, output)
    assert np.array_equal(alone, twice)
    assert not (output / "sigma.nii.gz").exists()
