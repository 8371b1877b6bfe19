"""Every network of the table obeys the contract; newcomers are tested unasked."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from numpy.testing import assert_allclose

from stages.super_resolution.losses import LOSSES
from stages.super_resolution.model import Layout, count_parameters, restore_slices
from stages.super_resolution.networks import NETWORKS, build_network
from stages.super_resolution.settings import NetworkName, TrainingSettings

PARAMETERS = {"unet": 483_203}
"""Trainable parameters with 6 input and 3 output channels, default settings. U-Net: two 3x3
convolutions without bias and two batch normalisations per block, (6 -> 16 -> 32 -> 64 -> 128),
2x2 transposed convolutions with bias, a 1x1 exit."""


def make(name, seed=0):
    return build_network(name, 6, 3, {}, torch.Generator().manual_seed(seed))


def wake(network):
    """Give the zero-initialised last layer weights, so that inputs reach the output."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1, generator=generator)
    return network.eval()


def image(size=64, seed=2):
    return torch.randn(1, 6, size, size, generator=torch.Generator().manual_seed(seed))


def test_settings_offer_exactly_the_networks_of_the_table():
    assert set(get_args(NetworkName)) == set(NETWORKS)


def test_settings_offer_exactly_the_losses_of_the_table():
    assert set(get_args(TrainingSettings.model_fields["loss"].annotation)) == set(LOSSES)


@pytest.mark.parametrize("name", NETWORKS)
def test_parameter_count_is_that_of_the_definition(name):
    assert count_parameters(make(name)) == PARAMETERS[name]


def test_unet_parameter_count_follows_from_its_definition():
    widths = [16, 32, 64, 128]
    blocks = list(zip([6, *widths[:-1]], widths, strict=True))
    blocks += [(2 * a, a) for a in widths[:-1]]
    double = sum(9 * a * b + 9 * b * b + 4 * b for a, b in blocks)
    up = sum(4 * 2 * a * a + a for a in widths[:-1])
    assert double + up + 16 * 3 + 3 == PARAMETERS["unet"]


@pytest.mark.parametrize("name", NETWORKS)
def test_untrained_network_predicts_no_residual(name):
    with torch.no_grad():
        residual = make(name).eval()(image())
    assert residual.shape == (1, 3, 64, 64)
    assert not residual.any()


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_depend_on_the_seed_alone(name):
    first, same, other = (make(name, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradient_reaches_every_parameter(name):
    network = wake(make(name)).train()
    network(image()).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_pixel_changes_nothing_beyond_the_reach(name):
    network = wake(make(name))
    size, centre = 160, 80
    base = image(size)
    changed = base.clone()
    changed[:, :, centre, centre] += 100.0
    with torch.no_grad():
        moved = (network(changed) - network(base)).abs().amax(dim=(0, 1))
    far = torch.ones(size, size, dtype=torch.bool)
    reach = network.reach
    far[centre - reach : centre + reach + 1, centre - reach : centre + reach + 1] = False
    assert moved[centre, centre] > 0
    assert not moved[far].any()


@pytest.mark.parametrize("name", NETWORKS)
def test_shifting_by_the_multiple_shifts_the_result(name):
    network = wake(make(name))
    shift, margin = network.in_plane_multiple, network.reach + network.in_plane_multiple
    base = image(192)
    with torch.no_grad():
        expected = network(base).roll(shift, dims=2)
        found = network(base.roll(shift, dims=2))
    inner = slice(margin, -margin)
    # float32 convolutions may sum in another order at another place
    assert_allclose(found[:, :, inner, inner], expected[:, :, inner, inner], atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("context", [1, 3, 5])
def test_restored_slices_average_to_the_base_whatever_the_network_says(name, context):
    layout = Layout(3, context, "box")
    generator = torch.Generator().manual_seed(0)
    network = wake(build_network(name, layout.in_channels, 3, {}, generator))
    inputs = torch.randn(2, layout.in_channels, 32, 32, generator=generator)
    with torch.no_grad():
        restored = restore_slices(network, layout, inputs)
    base = inputs[:, context:]
    assert (restored - base).abs().max() > 1e-3
    assert_allclose(restored.mean(1), base.mean(1), atol=1e-6)  # float32 epsilon


@pytest.mark.parametrize("name", LOSSES)
def test_losses_vanish_for_equal_images_alone_and_do_not_know_the_sign(name):
    true = torch.zeros(1, 3, 4, 4)
    error = torch.full_like(true, 0.5)
    loss = LOSSES[name]
    assert float(loss(true, true)) == pytest.approx(0.0, abs=1e-9)
    assert float(loss(error, true)) == pytest.approx(float(loss(-error, true)))
    assert float(loss(error, true)) > 0.1


def test_charbonnier_lies_below_the_absolute_error_by_at_most_epsilon():
    error = torch.linspace(-3, 3, 61)
    for value in error:
        found = float(LOSSES["charbonnier"](value[None], torch.zeros(1)))
        assert abs(float(value)) - 0.02 - 1e-6 <= found <= abs(float(value)) + 1e-6
