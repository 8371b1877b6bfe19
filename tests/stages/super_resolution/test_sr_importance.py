"""Biased sampling draws as its formula says, is measured once, and survives a kill."""

from __future__ import annotations

import shlex
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from pydantic import ValidationError
from sr_networks import make_small
from sr_volumes import TINY, make_head, write_manifest

from pipeline.config import flags
from pipeline.core.artefacts import read_json
from stages.super_resolution import training
from stages.super_resolution.checkpoint import CheckpointFolder
from stages.super_resolution.cli import train_app
from stages.super_resolution.importance import (
    biased_sampler,
    candidate_centres,
    draw_probabilities,
    measure_importance,
    summarise_importance,
)
from stages.super_resolution.layout import Layout
from stages.super_resolution.model import Model
from stages.super_resolution.patches import PatchSampler
from stages.super_resolution.settings import TrainingSettings
from stages.super_resolution.training_stage import train
from stages.super_resolution.training_volumes import measure_normalisation, prepare_volume

BIASED = TINY.model_copy(
    update={"sampling": "importance", "importance_warmup_steps": 3, "importance_candidates": 7}
)
scores = st.lists(st.floats(0, 1e4), min_size=2, max_size=50)


def make_sampler(volumes=None, **changes):
    settings = BIASED.model_copy(update=changes)
    volumes = volumes or [make_head()]
    prepared = [prepare_volume("head", v, np.random.default_rng(0)) for v in volumes]
    layout = Layout(settings.factor, settings.context, settings.profile)
    return PatchSampler(prepared, layout, measure_normalisation(prepared), settings)


def make_model(sampler):
    """Return a model that has learnt nothing: it restores the histospline."""
    layout = sampler.layout
    network = make_small("unet", layout.in_channels, layout.out_channels)
    return Model("unet", network, layout, sampler.normalisation)


@given(scores, st.floats(0, 1))
def test_probabilities_sum_to_one_and_none_is_below_its_uniform_part(found, share):
    chances = draw_probabilities(found, share)
    assert chances.sum() == pytest.approx(1.0, rel=1e-12)
    assert chances.min() >= share / len(found) * (1 - 1e-12)


def test_without_a_uniform_share_twice_the_error_is_drawn_twice_as_often():
    assert_allclose(draw_probabilities([1.0, 2.0, 0.0], 0.0), [1 / 3, 2 / 3, 0.0], rtol=1e-15)


def test_all_are_drawn_alike_where_nothing_is_wrong_or_all_is_uniform():
    assert_allclose(draw_probabilities([0.0, 0.0], 0.1), 0.5)
    assert_allclose(draw_probabilities([3.0, 1.0, 7.0], 1.0), 1 / 3, rtol=1e-15)
    assert summarise_importance([2.0] * 5, BIASED)["effective_share"] == 1.0


def test_centres_are_drawn_as_often_as_their_probability_says():
    sampler = make_sampler(importance_uniform_share=0.2)
    importance = [0.0, 1.0, 2.0, 4.0, 0.0, 8.0, 16.0]
    biased, rng, draws = biased_sampler(sampler, importance), np.random.default_rng(1), 20_000
    drawn = [biased.draw_centre(rng) for _ in range(draws)]
    found = np.array([drawn.count(c) for c in candidate_centres(sampler)]) / draws
    expected = draw_probabilities(importance, 0.2)
    # five standard deviations of a binomial share
    assert np.all(np.abs(found - expected) < 5 * np.sqrt(expected / draws))


def test_importance_is_the_error_at_the_walls_and_zero_without_any():
    """The same error everywhere is found as it is, in HU; plain tissue has no wall to fail at."""
    tissue = make_head()
    tissue = tissue.with_values(np.full_like(tissue.values, 40))
    sampler = make_sampler(
        [make_head(), tissue], importance_candidates=12, importance_warmup_steps=1
    )
    sampler = replace(sampler, layout=replace(sampler.layout, consistent=False))
    found = measured(sampler, 0.0)
    offset = measured(sampler, 1e4 / sampler.normalisation.scale_hu)
    plain = [c.volume == 1 for c in candidate_centres(sampler)]
    assert any(plain)
    assert_allclose(np.array(offset)[plain], 0.0)
    marked = np.array(offset) > 0
    assert marked.any()
    assert (np.array(found)[marked] > 0).all()
    # an offset far beyond any error of the histospline hides the errors' signs: |d + e| = d + e
    assert_allclose(np.array(offset)[marked], 1e4, rtol=0.05)


def measured(sampler, offset):
    """Measure a model whose network adds the same to every slice, normalised units."""
    model = make_model(sampler)

    class Adds(torch.nn.Module):
        def forward(self, images):
            return torch.full_like(images[:, : model.layout.images], offset)

    return measure_importance(
        replace(model, network=Adds()), sampler, precision="float32", device="cpu"
    )


@pytest.mark.parametrize("kill_at", [1, 2])
def test_killed_before_or_after_the_measurement_training_ends_with_the_same_weights(
    tmp_path, monkeypatch, kill_at
):
    """States are written after steps 2, 4 and 6, importance is measured after step 3."""
    manifest = write_manifest(tmp_path)
    calls = []
    measure = training.measure_importance
    monkeypatch.setattr(
        training, "measure_importance", lambda *a, **k: calls.append(0) or measure(*a, **k)
    )
    train(manifest, tmp_path / "whole", BIASED)
    assert len(calls) == 1
    saves, save = [], CheckpointFolder.save

    def save_then_die(self, *arguments):
        save(self, *arguments)
        saves.append(0)
        if len(saves) == kill_at:
            raise KeyboardInterrupt

    monkeypatch.setattr(CheckpointFolder, "save", save_then_die)
    with pytest.raises(KeyboardInterrupt):
        train(manifest, tmp_path / "killed", BIASED)
    train(manifest, tmp_path / "killed", BIASED)
    assert len(calls) == 2
    for name in ("weights.safetensors", "model.json", "metrics.jsonl"):
        killed, whole = (tmp_path / f / name for f in ("killed", "whole"))
        assert killed.read_bytes() == whole.read_bytes()
    found = read_json(tmp_path / "killed" / "model.json")
    assert found["training"]["sampling"] == "importance"
    assert found["metrics"]["importance"]["candidates"] == 7
    assert 0 < found["metrics"]["importance"]["effective_share"] <= 1


def test_biased_training_is_another_one_than_the_uniform(tmp_path):
    """Before the measurement both are the same, after it they differ."""
    manifest = write_manifest(tmp_path)
    uniform = BIASED.model_copy(update={"sampling": "uniform"})
    found = {}
    for name, settings in {"uniform": uniform, "biased": BIASED}.items():
        train(manifest, tmp_path / name, settings)
        found[name] = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
    assert found["uniform"][0] == found["biased"][0]
    assert found["uniform"][2] != found["biased"][2]


def test_warm_up_that_leaves_nothing_to_sample_is_refused():
    with pytest.raises(ValidationError, match="importance_warmup_steps must be fewer"):
        TrainingSettings(sampling="importance", steps=100, importance_warmup_steps=100)


def test_flags_that_the_workflow_writes_are_the_settings():
    settings = BIASED.model_copy(update={"importance_uniform_share": 0.25})
    words = ["m.csv", "--output", "model", *shlex.split(flags(settings))]
    _, bound, _ = train_app.parse_args(words, exit_on_error=False, print_error=False)
    assert bound.arguments["settings"] == settings
