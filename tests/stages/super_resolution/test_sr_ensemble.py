"""Several models restore their mean, and sigma is the law of total variance."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sr_networks import SMALL, make_small
from sr_volumes import make_head

from pipeline.core.artefacts import read_sidecar
from pipeline.core.errors import InputError, UsageError
from pipeline.core.volume import read_volume, write_volume
from stages.super_resolution.cli import restore_app
from stages.super_resolution.ensemble import combine
from stages.super_resolution.layout import Layout
from stages.super_resolution.model import Model, Normalisation
from stages.super_resolution.model_choice import choose_models
from stages.super_resolution.model_io import save_model
from stages.super_resolution.restoration import Restored
from stages.super_resolution.settings import RestorationSettings
from stages.super_resolution.stage import restore

EXACT = RestorationSettings(whole_hu=False, precision="float32", device="cpu", threads=1)
members_of = st.integers(1, 5).flatmap(
    lambda count: st.tuples(
        st.lists(st.floats(-1000, 3000), min_size=count, max_size=count),
        st.lists(st.floats(0, 500), min_size=count, max_size=count),
        st.lists(st.floats(0.1, 10), min_size=count, max_size=count),
    )
)


def volumes(values, sigmas):
    for value, sigma in zip(values, sigmas, strict=True):
        noise = None if sigma is None else np.full((1, 1, 1), sigma, np.float32)
        yield Restored(np.full((1, 1, 1), value, np.float32), noise)


@given(members_of)
def test_total_variance_is_the_noise_within_and_the_spread_between(case):
    values, sigmas, raw = (np.array(part) for part in case)
    weights = raw / raw.sum()
    found = combine(volumes(values, sigmas), weights.tolist())
    mean = (weights * values).sum()
    total = (weights * sigmas**2).sum() + (weights * (values - mean) ** 2).sum()
    # float32 of values to 3000: a few units in the last place, of variances to 4e6
    assert_allclose(found.values, mean, atol=2e-3)
    assert_allclose(found.sigma**2, total, rtol=1e-4, atol=2e-3)


def test_models_that_agree_are_certain_and_one_alone_keeps_its_own_noise():
    assert combine(volumes([7.0] * 3, [None] * 3), [0.2, 0.3, 0.5]).sigma.item() == 0.0
    assert combine(volumes([7.0], [4.0]), [1.0]).sigma.item() == 4.0


@pytest.fixture
def folder(tmp_path):
    """Write a volume, two models of one layout, one that predicts noise, and another factor's."""
    write_volume(tmp_path / "lr.nii.gz", make_head(2, shape=(6, 24, 24)))
    write_model(tmp_path / "a" / "model", seed=1)
    write_model(tmp_path / "b" / "model", seed=2)
    write_model(tmp_path / "noisy", seed=3, layout=Layout(3, 3, "box", predicts_variance=True))
    write_model(tmp_path / "single", seed=4, layout=Layout(3, 3, "box", stride=1))
    return tmp_path


def write_model(folder, seed, layout=Layout(3, 3, "box")):  # noqa: B008 -- frozen
    folder.mkdir(parents=True)
    network = make_small("unet", layout.in_channels, layout.out_channels)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    record = {"training": {}, "metrics": {"step": 0, "validation": {}}}
    record["provenance"] = {"cases": [], "command": "none"}
    model = Model("unet", network, layout, Normalisation(-200.0, 500.0))
    save_model(folder, model, SMALL["unet"], record)


def restored(folder, *models, sigma=None, settings=EXACT):
    output = folder / "sr.nii.gz"
    names = [str(folder / model) for model in models]
    restore(folder / "lr.nii.gz", output, settings, model=names, sigma=sigma, overwrite=True)
    return read_volume(output).values.astype(np.float64)


def test_several_models_restore_their_mean_and_sigma_is_their_spread(folder):
    each = np.stack([restored(folder, name) for name in ("a/model", "b/model")])
    assert np.abs(each[0] - each[1]).max() > 5.0
    mean = restored(folder, "a/model", "b/model", sigma=folder / "sd.nii.gz")
    assert_allclose(mean, each.mean(0), atol=1e-3)
    assert_allclose(read_volume(folder / "sd.nii.gz").values, each.std(0), atol=1e-3)
    record = read_sidecar(folder / "sr.nii.gz")
    assert record["properties"]["members"] == 2
    assert len(record["inputs"]) == 3  # equal folder names do not hide one another


def test_mean_is_rounded_once(folder):
    mean = restored(folder, "a/model", "b/model")
    whole = restored(
        folder, "a/model", "b/model", settings=EXACT.model_copy(update={"whole_hu": True})
    )
    assert_allclose(whole, np.rint(mean), atol=0.0)


def test_noise_that_a_member_predicts_is_part_of_sigma(folder):
    restored(folder, "noisy", sigma=folder / "noise.nii.gz")
    each = np.stack([restored(folder, name) for name in ("noisy", "a/model")])
    restored(folder, "noisy", "a/model", sigma=folder / "both.nii.gz")
    noise = read_volume(folder / "noise.nii.gz").values.astype(np.float64)
    both = read_volume(folder / "both.nii.gz").values.astype(np.float64)
    assert_allclose(both**2, each.var(0) + noise**2 / 2, rtol=1e-3, atol=1e-2)


def write_ensemble(folder, weights):
    (folder / "both").mkdir()
    entries = []
    for name, weight in zip("ab", weights, strict=True):
        (folder / name / "model").rename(folder / "both" / name)
        entries.append({"folder": name, "weight": weight})
    content = {"format": 1, "members": entries}
    (folder / "both" / "model.json").write_text(json.dumps(content))


def test_folder_of_members_restores_their_weighted_mean(folder):
    each = [restored(folder, name) for name in ("a/model", "b/model")]
    write_ensemble(folder, [3, 1])
    found = restored(folder, "both", sigma=folder / "sd.nii.gz")
    assert_allclose(found, 0.75 * each[0] + 0.25 * each[1], atol=1e-3)
    spread = np.sqrt(0.75 * 0.25) * np.abs(each[0] - each[1])
    assert_allclose(read_volume(folder / "sd.nii.gz").values, spread, atol=1e-3)


def test_members_and_models_beside_them_share_the_weight(folder):
    write_ensemble(folder, [1, 1])
    choice = choose_models([str(folder / "both"), str(folder / "noisy")], 3)
    assert choice.weights == (0.25, 0.25, 0.5)


@pytest.mark.parametrize(
    ("models", "sentence"),
    [
        (["a/model", "histospline"], "histospline: is no network"),
        (["a/model", "single"], "the models make 1, 3 thin slices"),
        ([], "none is given"),
    ],
)
def test_models_that_cannot_be_averaged_are_refused(folder, models, sentence):
    names = [m if m == "histospline" else str(folder / m) for m in models]
    with pytest.raises(UsageError, match=sentence):
        choose_models(names, 3)


def test_one_model_without_noise_has_no_sigma(folder):
    with pytest.raises(UsageError, match="--sigma: one network predicts no"):
        restored(folder, "a/model", sigma=folder / "sd.nii.gz")


@pytest.mark.parametrize(
    "content",
    [
        {"format": 1, "members": []},
        {"format": 2, "members": [{"folder": "a"}]},
        {"format": 1, "members": [{"folder": "../a"}]},
        {"format": 1, "members": [{"folder": "a", "weight": 0}]},
        {"format": 1, "members": ["a"]},
        {"format": 1, "members": 3},
    ],
)
def test_unusable_ensemble_is_refused_in_one_sentence(folder, content):
    (folder / "bad").mkdir()
    (folder / "bad" / "model.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="is no usable ensemble") as caught:
        choose_models([str(folder / "bad")], 3)
    assert "\n" not in str(caught.value)


def test_command_takes_several_models(folder):
    words = f"{folder}/lr.nii.gz --model {folder}/a/model --model {folder}/b/model"
    words += f" --output {folder}/sr.nii.gz --sigma {folder}/sd.nii.gz --threads 1 --device cpu"
    restore_app(words, result_action="return_value")
    assert read_volume(folder / "sd.nii.gz").values.max() > 0
