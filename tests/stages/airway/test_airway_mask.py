"""An airway mask that the user made elsewhere: it decides what belongs, grey values where walls are."""

from __future__ import annotations

import numpy as np
import pytest
from airway_phantom import make_head

from pipeline.cli import exit_code
from pipeline.core.errors import InputError
from pipeline.core.volume import Volume, write_volume
from stages.airway.anatomy import find_airway
from stages.airway.settings import AirwaySettings

COARSE = AirwaySettings(grid_spacing_mm=1.0)


@pytest.fixture(scope="module")
def head():
    return make_head()


@pytest.fixture(scope="module")
def alone(head):
    return find_airway(head, COARSE)


def mask_of(airway, keep=None):
    values = airway.lumen if keep is None else airway.lumen & keep
    return Volume(values.astype(np.uint8), airway.grid)


def test_the_mask_of_a_found_airway_gives_it_again_without_pruning(head, alone):
    again = find_airway(head, COARSE, mask_of(alone))
    both = (again.lumen & alone.lumen).sum() if again.grid == alone.grid else None
    assert again.sinus_volume_ml == 0.0
    volumes = [float(a.lumen.sum()) for a in (alone, again)]
    assert volumes[1] == pytest.approx(volumes[0], rel=0.03)
    assert both is None or 2 * both / sum(volumes) > 0.97
    for name, plane in alone.planes.items():
        np.testing.assert_allclose(again.planes[name].centre_mm, plane.centre_mm, atol=1.5)


def test_a_side_that_the_mask_leaves_out_is_blocked(head, alone):
    x = alone.grid.to_world_mm(
        np.stack(
            [np.zeros((alone.grid.shape[2], 2)).T[0]] * 2 + [np.arange(alone.grid.shape[2])], 1
        )
    )[:, 0]
    y = alone.grid.origin_mm[1] + np.arange(alone.grid.shape[1])
    right = np.broadcast_to((x < 0)[None, None] | (y > -45)[None, :, None], alone.lumen.shape)
    half = find_airway(head, COARSE, mask_of(alone, right))
    assert half.sides["right"].patent
    assert not half.sides["left"].patent


def test_a_mask_elsewhere_is_refused_and_goes_with_nothing_else(head, alone, tmp_path):
    grid = alone.grid
    moved = Volume(
        mask_of(alone).values, grid.__class__(grid.shape, grid.spacing_mm, (900.0, 0.0, 0.0))
    )
    with pytest.raises(InputError, match="mask meets no air"):
        find_airway(head, COARSE, moved)
    for name, volume in (("v.nii.gz", head), ("m.nii.gz", mask_of(alone))):
        write_volume(tmp_path / name, volume)
    command = ["airway", str(tmp_path / "v.nii.gz"), "--output", str(tmp_path / "a")]
    command += ["--mask", str(tmp_path / "m.nii.gz"), "--grid-spacing-mm", "1.0"]
    assert exit_code([*command, "--reference", str(tmp_path)]) == 2
    assert exit_code(command) == 0
