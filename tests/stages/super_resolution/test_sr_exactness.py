"""Tiles, arithmetic and memory change nothing that is restored, beyond stated rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sr_networks import make_small, wake
from sr_volumes import make_head

from stages.super_resolution.degradation import degrade, profile_taps
from stages.super_resolution.layout import Layout
from stages.super_resolution.model import Model, Normalisation
from stages.super_resolution.model_io import load_model
from stages.super_resolution.networks import NETWORKS
from stages.super_resolution.restoration import (
    Arithmetic,
    restore_images,
    restore_volume,
    slice_inputs,
)
from stages.super_resolution.stage import SHIPPED_FOLDER
from stages.super_resolution.validation import psnr_db

BOX = Layout(3, 3, "box")
TILE = 32


def make_double(name):
    network = wake(make_small(name)).double()
    return Model(name, network, BOX, Normalisation(-200.0, 500.0))


def noise(rows=150, columns=83):
    generator = torch.Generator().manual_seed(0)
    return 300.0 * torch.randn(1, 6, rows, columns, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", NETWORKS)
def test_tiles_are_exact_by_the_reach(name):
    """In float64 nothing but rounding is left: every kept pixel saw all that it would have seen.

    A pixel that missed one input would be off by 1e-3 HU or more; see the test below.
    """
    model = make_double(name)
    whole, _ = restore_images(model, noise(), Arithmetic(tile=1024))
    tiled, _ = restore_images(model, noise(), Arithmetic(tile=TILE))
    assert (whole - noise()[:, 3:]).abs().max() > 1.0
    assert_allclose(tiled, whole, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", ["srcnn", "espcn", "lapsrn"])
def test_a_smaller_halo_would_be_seen(name):
    """The reach of plain convolutions is the least that is exact."""
    model = make_double(name)
    whole, _ = restore_images(model, noise(), Arithmetic(tile=1024))
    model.network.reach -= 1
    tiled, _ = restore_images(model, noise(), Arithmetic(tile=TILE))
    assert (tiled - whole).abs().max() > 1e-6


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_slices_restored_together_are_those_restored_alone(name):
    model = make_double(name)
    batch = torch.cat([noise(24, 32), noise(24, 32).flip(3)])
    together, _ = restore_images(model, batch, Arithmetic())
    alone = [restore_images(model, one[None], Arithmetic())[0] for one in batch]
    assert_allclose(together, torch.cat(alone), rtol=0, atol=1e-8)


@pytest.fixture(scope="module")
def head():
    thin = make_head(5, shape=(18, 96, 96), spacing_mm=(1.0, 0.6, 0.6)).values.astype(np.float32)
    return thin, degrade(thin, profile_taps("box", 3), 3)


def restored(thick, **choices):
    model = load_model(SHIPPED_FOLDER)
    return np.concatenate([o.values for o in restore_volume(model, thick, Arithmetic(**choices))])


def test_bfloat16_is_within_a_few_hu_and_a_hundredth_of_a_decibel(head):
    """8 bits of the residual alone: the baseline and the agreement stay in float32."""
    thin, thick = head
    exact, half = restored(thick), restored(thick, precision="bfloat16")
    change = half - exact
    residual = np.abs(exact - thin).max()
    assert residual > 100
    assert np.sqrt(np.square(change).mean()) < 3.0
    assert np.abs(change).max() < 0.05 * np.abs(exact).max()
    loss = psnr_db(np.square(exact - thin).mean()) - psnr_db(np.square(half - thin).mean())
    assert abs(loss) < 0.05


def test_threads_change_nothing_beyond_rounding(head):
    threads = torch.get_num_threads()
    try:
        found = []
        for number in (1, 2):
            torch.set_num_threads(number)
            found.append(restored(head[1][:2]))
    finally:
        torch.set_num_threads(threads)
    assert_allclose(found[1], found[0], atol=0.05)  # float32 at 1000 HU


class Watched(np.ndarray):
    """Remember which slices were read."""

    def __getitem__(self, key):
        self.read |= set(np.atleast_1d(np.arange(len(self))[key]).tolist())
        return np.asarray(self)[key]


@pytest.mark.parametrize("index", [0, 40, 89])
def test_a_slice_needs_its_neighbours_alone(head, index):
    """However long the stack: the histospline's weights fall by 0.27 a slice, to 1e-9 after 16."""
    thick = np.tile(head[1][:, :16, :16], (15, 1, 1)).view(Watched)
    thick.read = set()
    (inputs,) = slice_inputs(thick, [index], load_model(SHIPPED_FOLDER))
    assert inputs.shape == (6, 16, 16)
    assert {index} <= thick.read <= set(range(index - 20, index + 21))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", NETWORKS)
def test_graphics_processor_restores_as_the_processor_does(name, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    network = wake(make_small(name))
    inputs = noise().float()
    found = []
    for device in ("cpu", "cuda"):
        model = Model(name, network.to(device), BOX, Normalisation(-200.0, 500.0))
        found.append(restore_images(model, inputs.to(device), Arithmetic(tile=TILE))[0].cpu())
    assert_allclose(found[1], found[0], atol=0.1)  # float32 at 1000 HU, other orders of sums
