"""What judges a training: errors over whole slices and at the walls of the airway."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sr_networks import make_small

from stages.super_resolution.layout import Layout
from stages.super_resolution.model import Model, Normalisation
from stages.super_resolution.validation import Score, ValidationCase, validate, wall_band


def make_block(air_width=6):
    """Tissue in air with an air channel of so many columns, and a plain slice of air."""
    image = np.full((40, 40), -1000.0, dtype=np.float32)
    image[5:35, 5:35] = 40.0
    image[10:30, 20 : 20 + air_width] = -1000.0
    return np.stack([image, np.full_like(image, -1000.0)])[:, None]


def test_walls_are_a_band_around_the_airway_and_not_the_skin():
    walls = wall_band(make_block())
    assert walls[0, 0, 20, 18:28].tolist() == [True] * 4 + [False] * 2 + [True] * 4
    assert not walls[0, 0, 20, 28:].any()
    assert not walls[0, 0, 20, :18].any()
    assert not walls[1].any()


def test_errors_at_the_wall_count_in_its_score_alone():
    true = torch.from_numpy(make_block())
    walls = torch.from_numpy(wall_band(true.numpy()))
    model = make_deblurring_model()
    inputs = torch.cat([true] * 4, dim=1)
    case = ValidationCase("block", inputs, true, walls, Score(0.0, None))
    arithmetic = {"tile": 768, "precision": "float32", "device": "cpu"}
    assert validate(model, [case], **arithmetic)["block"].psnr_db > 140  # float32 of 4095 HU
    at_wall = inputs.clone()
    at_wall[:, 3:][walls] += 20.0
    score = validate(model, [replace(case, inputs=at_wall)], **arithmetic)["block"]
    assert score.wall_psnr_db == pytest.approx(20 * np.log10(4095 / 20), abs=1e-3)
    diluted = 10 * np.log10(walls.numel() / int(walls.sum()))
    assert score.psnr_db == pytest.approx(score.wall_psnr_db + diluted, abs=1e-3)
    without = replace(case, walls=torch.zeros_like(walls))
    assert validate(model, [without], **arithmetic)["block"].wall_psnr_db is None


def make_deblurring_model():
    """Return a model of overlapping slices: three thick ones and their middle in, one out."""
    layout = Layout(3, 3, "box", stride=1)
    network = make_small("unet", layout.in_channels, layout.out_channels).eval()
    return Model("unet", network, layout, Normalisation(-200.0, 500.0))
