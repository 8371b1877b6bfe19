"""Losses: what vanishes, what counts, and how a sum is written."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from pydantic import ValidationError
from skimage.metrics import structural_similarity

from stages.super_resolution.losses import (
    ADVERSARIAL,
    LOSSES,
    discriminator_loss,
    losses,
    truth_logits_loss,
    wall_weights,
    weighted_mean,
)
from stages.super_resolution.model import Prediction
from stages.super_resolution.settings import LOSS_TERMS, TrainingSettings, parse_loss


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def found(mean, log_variance=None):
    if log_variance is None:
        log_variance = torch.zeros_like(mean)
    return Prediction(mean, log_variance)


def test_settings_offer_exactly_the_terms_there_are():
    assert set(LOSS_TERMS) == {*LOSSES, ADVERSARIAL}


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"nll"}))
def test_losses_vanish_for_equal_images_alone(name):
    true = random(2, 3, 16, 16)
    assert float(LOSSES[name](found(true), true).abs().max()) == pytest.approx(0.0, abs=1e-5)
    other = found(true + 0.5 * random(2, 3, 16, 16, seed=1))
    assert float(LOSSES[name](other, true).mean()) > 0.01


@pytest.mark.parametrize("name", LOSSES)
def test_images_of_errors_have_a_value_for_every_pixel(name):
    true = random(2, 3, 16, 18)
    assert LOSSES[name](found(random(2, 3, 16, 18, seed=1)), true).shape == true.shape


@pytest.mark.parametrize("name", ["l1", "mse", "charbonnier", "gradient", "nll"])
def test_the_sign_of_an_error_does_not_count(name):
    error = random(1, 3, 8, 8)
    true = torch.zeros_like(error)
    up, down = (LOSSES[name](found(sign * error), true).mean() for sign in (1, -1))
    assert float(up) == pytest.approx(float(down))


def test_charbonnier_lies_below_the_absolute_error_by_at_most_epsilon():
    error = torch.linspace(-3, 3, 61)[None, None, None]
    value = LOSSES["charbonnier"](found(error), torch.zeros_like(error))
    assert ((value <= error.abs() + 1e-6) & (value >= error.abs() - 0.02 - 1e-6)).all()


def test_gradient_loss_of_a_ramp_is_its_slope_along_every_axis():
    z, y, x = torch.meshgrid(*[torch.arange(6.0)] * 3, indexing="ij")
    ramp = (0.5 * z - 0.25 * y + 2.0 * x)[None]
    image = LOSSES["gradient"](found(ramp), torch.zeros_like(ramp))
    assert_allclose(image[:, :-1, :-1, :-1], 2.75, rtol=1e-6)


def test_gradient_loss_does_not_see_a_shift_of_grey_values():
    true = random(1, 3, 8, 8)
    assert float(LOSSES["gradient"](found(true + 7.0), true).max()) < 1e-5


def test_ssim_loss_agrees_with_an_independent_library():
    """Scikit-image with the same Gaussian windows, at pixels whose window is inside."""
    true, other = random(1, 2, 24, 24), random(1, 2, 24, 24, seed=1)
    loss = LOSSES["ssim"](found(other), true)[..., 5:-5, 5:-5]
    for channel in range(2):
        _, image = structural_similarity(
            true[0, channel].numpy().astype(np.float64),
            other[0, channel].numpy().astype(np.float64),
            data_range=4.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        # the windows of both libraries have 11 pixels; float32 variances by difference
        assert_allclose(1.0 - loss[0, channel], image[5:-5, 5:-5], atol=1e-4)


def test_likelihood_is_highest_at_the_error_that_is_made():
    true = torch.zeros(1, 1, 100, 100)
    mean = 0.3 * random(1, 1, 100, 100)
    tried = torch.linspace(-6, 2, 801)
    values = [
        float(LOSSES["nll"](found(mean, torch.full_like(mean, float(v))), true).mean())
        for v in tried
    ]
    best = float(tried[int(np.argmin(values))])
    assert best == pytest.approx(math.log(float(mean.square().mean())), abs=0.011)  # grid


def test_likelihood_needs_a_variance():
    true = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match="variance"):
        LOSSES["nll"](Prediction(true, None), true)


def test_wall_weights_are_a_band_of_two_pixels_on_either_side_of_the_edge():
    true = torch.full((1, 1, 9, 20), -2.0)
    true[..., 10:] = 0.0
    weights = wall_weights(true, -1.0, 5.0)
    expected = torch.ones(20)
    expected[8:12] = 5.0
    assert torch.equal(weights[0, 0], expected.expand(9, 20))


def test_a_level_wall_is_a_wall_for_all_slices_of_its_thick_one():
    """Air above tissue: no slice shows an edge, and their thick slice holds one everywhere."""
    true = torch.full((2, 3, 8, 8), -2.0)
    true[0, 1:] = 0.0
    weights = wall_weights(true, -1.0, 5.0)
    assert weights.shape == true.shape
    assert torch.equal(weights[0], torch.full((3, 8, 8), 5.0))
    assert torch.equal(weights[1], torch.ones(3, 8, 8))


@given(st.floats(0, 50), st.integers(0, 5))
def test_weighted_mean_of_a_constant_is_that_constant(weight, seed):
    true = random(1, 2, 8, 8, seed=seed)
    weights = wall_weights(true, 0.0, weight + 0.1)
    assert float(weighted_mean(torch.full_like(true, 3.0), weights)) == pytest.approx(3.0)


def test_errors_in_the_band_count_more_with_a_weight():
    true = torch.full((1, 1, 9, 20), -2.0)
    true[..., 10:] = 0.0
    error = torch.zeros_like(true)
    error[..., 9] = 1.0
    terms = {"l1": 1.0}
    plain = losses(found(true + error), true, terms, None)["l1"]
    weighted = losses(found(true + error), true, terms, wall_weights(true, -1.0, 6.0))["l1"]
    assert float(plain) == pytest.approx(1 / 20)
    assert float(weighted) == pytest.approx(6 / (16 + 4 * 6))


def test_discriminator_that_cannot_tell_pays_twice_the_logarithm_of_two():
    logits = torch.zeros(4)
    assert float(discriminator_loss(logits, logits)) == pytest.approx(2 * math.log(2))
    assert float(truth_logits_loss(logits)) == pytest.approx(math.log(2))


def test_generator_and_discriminator_want_the_opposite():
    restored = torch.zeros(3, requires_grad=True)
    (deceive,) = torch.autograd.grad(truth_logits_loss(restored), restored)
    (detect,) = torch.autograd.grad(discriminator_loss(torch.zeros(3), restored), restored)
    assert (deceive < 0).all()
    assert (detect > 0).all()


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("l1", {"l1": 1.0}),
        ("charbonnier+0.1*ssim", {"charbonnier": 1.0, "ssim": 0.1}),
        ("2*mse + 1e-3*adversarial", {"mse": 2.0, "adversarial": 0.001}),
        (".5*nll+gradient", {"nll": 0.5, "gradient": 1.0}),
    ],
)
def test_a_sum_of_losses_is_written_as_one(text, terms):
    assert parse_loss(text) == terms


@pytest.mark.parametrize(
    "text", ["", "l3", "l1+l1", "0*l1", "-1*l1", "l1*2", "l1+", "nan*l1", "adversarial"]
)
def test_what_is_no_sum_of_losses_is_refused(text):
    with pytest.raises(ValidationError, match="loss"):
        TrainingSettings(loss=text)
