"""Patches hold what their volumes hold, and true slices average to the thick one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from pydantic import ValidationError
from sr_volumes import TINY, make_head

from stages.super_resolution.channels import slice_channels
from stages.super_resolution.layout import Layout
from stages.super_resolution.patches import _EVERYWHERE, PatchSampler, _draw_point, cell_averages
from stages.super_resolution.settings import TrainingSettings
from stages.super_resolution.training_volumes import (
    EDGE_HU,
    body_mask,
    measure_normalisation,
    prepare_volume,
)

PLAIN = {"noise_hu": 0.0, "shift_hu": 0.0}


def make_sampler(**changes):
    settings = TINY.model_copy(update=changes)
    volumes = [prepare_volume("head", make_head(), np.random.default_rng(0))]
    layout = Layout(settings.factor, settings.context, settings.profile)
    return PatchSampler(volumes, layout, measure_normalisation(volumes), settings)


@pytest.mark.parametrize(
    "changes",
    [PLAIN, {"noise_hu": 50.0}, {"shift_hu": 100.0}, {"kernel_change": 1.0}, {"shrink": 1.0}],
)
@pytest.mark.parametrize("context", [1, 3, 5])
def test_true_slices_of_a_patch_average_to_its_thick_slice_whatever_the_augmentation(
    changes, context
):
    sampler = make_sampler(context=context, **{**PLAIN, **changes})
    inputs, true = sampler.batch(np.random.default_rng(3))
    thick, base = inputs[:, context // 2], inputs[:, context:]
    # float32 bicubic sums of values up to 3 in normalised units
    assert_allclose(true.mean(1), thick, atol=1e-5)
    assert_allclose(base.mean(1), thick, atol=1e-5)


@pytest.mark.parametrize("view", ["axial", "upright"])
def test_other_kernels_sharpen_and_soften_but_keep_flat_regions(view):
    """Detail grows or shrinks by at most the given share; the mean stays."""
    layout = Layout(3, 3, "box", view=view)
    sampler = replace(make_sampler(**PLAIN, kernel_change=0.5), layout=layout)
    flat = torch.full((4, 16, 16), 40.0)
    rough = torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(0))
    ratios = []
    for seed in range(20):
        kept = sampler._other_kernel(np.random.default_rng(seed))(flat)
        assert_allclose(kept, flat, atol=1e-4)  # float32 sums of weights of 1
        changed = sampler._other_kernel(np.random.default_rng(seed))(rough)
        ratios.append(float(changed.std() / rough.std()))
        assert float(changed.mean()) == pytest.approx(float(rough.mean()), abs=0.02)
    assert 0.5 <= min(ratios) < 0.8
    assert 1.2 < max(ratios) <= 1.5


@pytest.mark.parametrize("view", ["axial", "upright"])
def test_parts_of_a_batch_are_those_of_the_whole(view):
    """Whatever is random about the patches that are not cut is drawn all the same."""
    sampler = make_sampler(kernel_change=0.5, batch_size=6)
    sampler = replace(sampler, layout=replace(sampler.layout, view=view))
    for seed in range(4):
        whole = sampler.batch(np.random.default_rng(seed))
        parts = [
            sampler.batch(np.random.default_rng(seed), range(start, start + 2))
            for start in (0, 2, 4)
        ]
        for index, tensor in enumerate(whole):
            assert torch.equal(torch.cat([part[index] for part in parts]), tensor)


def test_patches_are_what_the_volume_holds_where_nothing_is_augmented():
    sampler = make_sampler(
        **PLAIN, pixel_spacing_min_mm=0.8, pixel_spacing_max_mm=0.8, patch=48, all_axes=False
    )
    values = make_head().values
    slices = {values[z].tobytes() for z in range(len(values))}
    _, true = sampler.batch(np.random.default_rng(4))
    n = sampler.normalisation
    restored = np.rint(true.numpy() * n.scale_hu + n.centre_hu).astype(np.int16)
    turns = [lambda a: a, lambda a: a.T]
    flips = [np.s_[::1, ::1], np.s_[::-1, ::1], np.s_[::1, ::-1], np.s_[::-1, ::-1]]
    for image in restored.reshape(-1, 48, 48):
        views = [turn(image[flip]) for turn in turns for flip in flips]
        assert any(np.ascontiguousarray(view).tobytes() in slices for view in views)


def test_patch_channels_equal_those_of_the_whole_stack():
    thin = make_head(1, shape=(90, 8, 8)).values.astype(np.float32)
    layout = Layout(3, 3, "box")
    whole = slice_channels(thin, 15, layout)
    window = slice_channels(thin[3 * 9 : 3 * 22], 6, layout)
    # the histospline's weights fall by 2 - sqrt(3) a slice; steps are up to 2000 HU
    assert_allclose(window, whole, atol=2000 * (2 - np.sqrt(3)) ** 6)


def test_body_holds_the_air_that_tissue_encloses_and_not_the_outside():
    values = np.full((1, 9, 9), -1000, dtype=np.int16)
    values[0, 2:7, 2:7] = 40
    values[0, 4, 4] = -1000
    body = body_mask(values)
    assert body.sum() == 25


def test_edges_are_tissue_of_the_body_that_touches_air_of_the_body():
    """Every edge point has both classes among itself and its six neighbours, within the body."""
    head = make_head()
    edges = prepare_volume("head", head, np.random.default_rng(0)).edges
    assert len(edges) > 100
    tissue, body = (np.pad(m, 1) for m in (head.values > EDGE_HU, body_mask(head.values)))
    steps = np.concatenate([np.eye(3, dtype=int), -np.eye(3, dtype=int)])
    for point in edges + 1:
        around = point + steps
        assert tissue[tuple(point)]
        assert body[tuple(point)]
        assert any(body[tuple(p)] and not tissue[tuple(p)] for p in around)


@pytest.mark.parametrize("edge_fraction", [0.0, 0.3, 1.0])
def test_as_many_patches_are_centred_on_edges_as_the_setting_says(edge_fraction):
    """Of n draws the share lies within four standard errors, plus what else hits an edge by chance."""
    volume = prepare_volume("head", make_head(), np.random.default_rng(0))
    edges, body = ({tuple(p) for p in points.tolist()} for points in (volume.edges, volume.body))
    draws, rng = 20_000, np.random.default_rng(1)
    points = [tuple(_draw_point(volume, edge_fraction, rng).tolist()) for _ in range(draws)]
    by_chance = (1 - _EVERYWHERE) * (1 - edge_fraction) * len(edges & body) / len(body)
    by_chance += _EVERYWHERE * len(edges) / volume.values.size
    expected = (1 - _EVERYWHERE) * edge_fraction + by_chance
    found = sum(point in edges for point in points) / draws
    assert abs(found - expected) <= 4 * np.sqrt(expected * (1 - expected) / draws)
    outside = sum(point not in body for point in points) / draws
    expected = _EVERYWHERE * (1 - len(body) / volume.values.size)
    assert abs(outside - expected) <= 4 * np.sqrt(expected * (1 - expected) / draws)


def test_a_volume_without_edges_is_drawn_from_its_body_and_one_without_a_body_from_anywhere():
    solid = np.full((6, 8, 8), -1000, dtype=np.int16)
    solid[:, 2:6, 2:6] = 40
    rng = np.random.default_rng(0)
    block = prepare_volume("block", replace(make_head(shape=(6, 8, 8)), values=solid), rng)
    assert not len(block.edges)
    points = np.array([_draw_point(block, 1.0, rng) for _ in range(400)])
    tissue = solid[tuple(points.T)] == 40
    expected = 1 - _EVERYWHERE * 0.75  # three quarters of the block's slices are air
    assert abs(tissue.mean() - expected) <= 4 * np.sqrt(expected * (1 - expected) / 400)
    empty = replace(block, body=np.empty((0, 3), dtype=np.int32))
    points = np.array([_draw_point(empty, 1.0, rng) for _ in range(400)])
    assert {tuple(points.min(0)), tuple(points.max(0))} == {(0, 0, 0), (5, 7, 7)}


def test_a_patient_shown_half_as_large_is_the_patient_of_pairs_of_slices():
    """As many pixels of half the size hold the same place: the patches are equal."""
    sampler = make_sampler(**PLAIN)
    large = np.random.default_rng(0).normal(0, 300, (60, 64, 64)).astype(np.float32)
    small = large.reshape(30, 2, 64, 64).mean(1)
    for seed, z in enumerate((0, 7, 15, 29)):
        found, index, means = sampler._slab(
            large, (1.0, 0.8, 0.8), np.array([2 * z, 30, 40]), 2.0, np.random.default_rng(seed)
        )
        true, true_index, _ = sampler._slab(
            small, (2.0, 0.4, 0.4), np.array([z, 30, 40]), 1.0, np.random.default_rng(seed)
        )
        assert index == true_index
        assert_allclose(means(found), true, atol=1e-4)  # float32 sums of values of 1000


@given(st.integers(1, 30), st.floats(1, 2.2), st.floats(0, 1))
def test_means_over_wider_cells_keep_what_the_slices_hold(count, width, start):
    """Constants stay, a ramp is sampled at the cells' middles, and sums over whole cells agree."""
    faces = start + width * np.arange(count + 1)
    slices = int(np.ceil(faces[-1])) + 1
    ramp = np.arange(slices, dtype=np.float32)[:, None, None]
    assert_allclose(cell_averages(faces, np.ones_like(ramp)), 1, rtol=1e-5)
    rough = np.random.default_rng(count).normal(size=(slices, 1, 1)).astype(np.float32)
    parts = np.diff(np.clip(faces[:, None] - np.arange(slices), 0, 1), axis=0)
    sums = cell_averages(faces, rough)[:, 0, 0] * width
    assert sums.sum() == pytest.approx(float(parts.sum(0) @ rough[:, 0, 0]), abs=1e-3)
    whole = cell_averages(np.array([0.0, 2.0, 4.0]), np.arange(4.0)[:, None, None])
    assert_allclose(whole[:, 0, 0], [0.5, 2.5])


def test_as_many_patches_are_shrunk_as_the_setting_says_and_none_without_it():
    rng = np.random.default_rng(0)
    sizes = np.array([make_sampler(shrink=0.5)._draw_size(rng) for _ in range(400)])
    assert (sizes > 1).mean() == pytest.approx(0.5, abs=0.1)  # 4 standard errors
    assert 1 <= sizes.min() < sizes.max() <= 2.2
    unused = np.random.default_rng(1)
    assert make_sampler()._draw_size(unused) == 1.0
    # Trainings without it draw the numbers that they drew before there was one.
    assert unused.uniform() == np.random.default_rng(1).uniform()


def test_a_stack_too_short_to_shrink_is_shrunk_as_far_as_it_goes():
    sampler = make_sampler(**PLAIN)
    values = np.zeros((4, 32, 32), np.int16)
    slab, index, means = sampler._slab(
        values, (1.0, 1.0, 1.0), np.array([3, 16, 16]), 2.2, np.random.default_rng(0)
    )
    assert index == 0
    assert means(slab.astype(np.float32)).shape[0] == sampler.layout.slices


def test_shrinking_is_for_the_axial_view():
    with pytest.raises(ValidationError, match="axial"):
        TrainingSettings(shrink=0.5, view="upright")
