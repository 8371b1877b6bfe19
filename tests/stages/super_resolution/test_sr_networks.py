"""Every network of the table obeys the contract; newcomers are tested unasked."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sr_networks import SMALL, make_small, wake
from sr_volumes import TINY, write_manifest

from pipeline.core.artefacts import read_json
from pipeline.core.errors import UsageError
from stages.super_resolution import networks
from stages.super_resolution.layout import Layout
from stages.super_resolution.losses import discriminator_loss
from stages.super_resolution.model import (
    Model,
    Normalisation,
    count_parameters,
    restore_slices,
)
from stages.super_resolution.model_io import load_model, save_model
from stages.super_resolution.networks import NETWORKS, build_network, complete_settings
from stages.super_resolution.networks.srgan import Discriminator, SRGANSettings
from stages.super_resolution.plan import network_settings
from stages.super_resolution.restoration import Arithmetic, restore_images
from stages.super_resolution.settings import NetworkName, TrainingSettings
from stages.super_resolution.stage import train

PARAMETERS = {
    ("unet", 6, 3): 483_203,
    ("srcnn", 1, 1): 8_129,
    ("espcn", 1, 9): 22_729,
    ("msd", 1, 1): 45_652,
    ("msd", 3, 11): 48_494,
}
"""Trainable parameters with input and output channels, default settings. SRCNN: 9-1-5 on one
channel; ESPCN: one channel, nine sub-pixels; MS-D: depth 100."""


def make(name, in_channels=6, out_channels=3, **settings):
    generator = torch.Generator().manual_seed(0)
    return build_network(name, in_channels, out_channels, settings, generator)


def image(size=64, seed=2, channels=6):
    return torch.randn(1, channels, size, size, generator=torch.Generator().manual_seed(seed))


def test_settings_offer_exactly_the_networks_of_the_table():
    assert set(get_args(NetworkName)) == set(NETWORKS)


@pytest.mark.parametrize("case", PARAMETERS)
def test_parameter_count_is_that_of_the_paper(case):
    assert count_parameters(make(*case)) == PARAMETERS[case]


def test_unet_parameter_count_follows_from_its_definition():
    widths = [16, 32, 64, 128]
    blocks = list(zip([6, *widths[:-1]], widths, strict=True))
    blocks += [(2 * a, a) for a in widths[:-1]]
    double = sum(9 * a * b + 9 * b * b + 4 * b for a, b in blocks)
    up = sum(4 * 2 * a * a + a for a in widths[:-1])
    assert double + up + 16 * 3 + 3 == count_parameters(make("unet"))


def test_lapsrn_parameter_count_follows_from_its_definition():
    """Ten 3x3 convolutions of 64 maps, a transposed 3x3x3 one along z, a shared 3x3 to one."""
    features = (9 * 6 + 1) * 64 + 9 * (9 * 64 + 1) * 64
    assert features + 3 * (9 * 64 + 1) * 64 + 9 * 64 + 1 == count_parameters(make("lapsrn"))


@pytest.mark.parametrize("blocks", [8, 16])
def test_srresnet_parameter_count_follows_from_its_definition(blocks):
    """9x9 entry and exit with bias; a block has two 3x3 without, four norm vectors, a PReLU."""
    ends = (81 * 6 + 1) * 64 + 64 + (81 * 64 + 1) * 3
    block, close = 2 * 9 * 64 * 64 + 5 * 64, 9 * 64 * 64 + 2 * 64
    assert ends + blocks * block + close == count_parameters(make("srresnet", depth=blocks))


def test_swinir_parameter_count_follows_from_its_definition():
    """Per block: qkv, projection, position table, two dense layers, two norms."""
    w, heads = 60, 6
    block = (w + 1) * 3 * w + (w + 1) * w + 15 * 15 * heads + 4 * w
    block += (w + 1) * 2 * w + (2 * w + 1) * w
    body = 4 * (6 * block + 9 * w * w + w) + 2 * w + 9 * w * w + w
    ends = (9 * 6 + 1) * w + (9 * w + 1) * 3
    assert body + ends == count_parameters(make("swinir"))


@pytest.mark.parametrize(("c_in", "depth", "c_out"), [(1, 100, 1), (3, 200, 11), (6, 30, 3)])
def test_msd_parameter_count_follows_from_its_definition(c_in, depth, c_out):
    layers = sum(9 * (c_in + i) + 1 for i in range(depth))
    expected = layers + c_out * (c_in + depth) + c_out
    assert count_parameters(make("msd", c_in, c_out, depth=depth)) == expected
    if depth == 200:
        assert expected == 186_944


def test_discriminator_has_the_convolutions_of_the_paper():
    """Eight 3x3 convolutions of 64 to 512 maps, every second one with stride 2."""
    judge = Discriminator(3, SRGANSettings(), torch.Generator().manual_seed(0))
    layers = [m for m in judge.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in layers] == [64, 64, 128, 128, 256, 256, 512, 512]
    assert [m.stride[0] for m in layers] == [1, 2] * 4
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in judge.modules()) == 7


def test_discriminator_takes_any_patch_and_learns_to_tell():
    generator = torch.Generator().manual_seed(0)
    settings = SRGANSettings(discriminator_width=4, discriminator_depth=2)
    judge = Discriminator(3, settings, generator)
    optimizer = torch.optim.Adam(judge.parameters(), lr=1e-2)
    for size in (17, 24, 32) * 5:
        rough = torch.randn(4, 3, size, size, generator=generator)
        smooth = torch.nn.functional.avg_pool2d(rough, 5, 1, 2)
        of_rough, of_smooth = judge(torch.cat([rough, smooth])).chunk(2)
        loss = discriminator_loss(of_rough, of_smooth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < np.log(2)  # twice this where it cannot tell


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("channels", [(1, 1), (3, 3), (6, 3), (8, 5), (4, 2)])
def test_untrained_network_predicts_no_residual_for_any_channels(name, channels):
    network = make_small(name, *channels).eval()
    size = max(2 * network.in_plane_multiple, network.in_plane_minimum)
    with torch.no_grad():
        residual = network(image(size, channels=channels[0]))
    assert residual.shape == (1, channels[1], size, size)
    assert not residual.any()


@pytest.mark.parametrize("name", NETWORKS)
def test_network_at_its_default_size_predicts_no_residual_before_training(name):
    with torch.no_grad():
        assert not make(name).eval()(image(16)).any()


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_depend_on_the_seed_alone(name):
    first, same, other = (make_small(name, seed=seed).state_dict() for seed in (0, 0, 1))
    torch.rand(7)  # the library's own random numbers are no part of it
    again = make_small(name).state_dict()
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradient_reaches_every_parameter(name):
    network = wake(make_small(name)).train()
    network(image(32)).square().sum().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("name", NETWORKS)
def test_a_pixel_changes_nothing_beyond_the_reach(name):
    network = wake(make_small(name))
    size = -(-2 * (network.reach + 8) // network.in_plane_multiple) * network.in_plane_multiple
    centre, reach = size // 2, network.reach
    base = image(size)
    changed = base.clone()
    changed[:, :, centre, centre] += 100.0
    with torch.no_grad():
        moved = (network(changed) - network(base)).abs().amax(dim=(0, 1))
    far = torch.ones(size, size, dtype=torch.bool)
    far[centre - reach : centre + reach + 1, centre - reach : centre + reach + 1] = False
    assert far.any()
    assert moved[centre, centre] > 0
    assert not moved[far].any()


@pytest.mark.parametrize("name", NETWORKS)
def test_shifting_by_the_multiple_shifts_the_result(name):
    network = wake(make_small(name))
    shift, margin = network.in_plane_multiple, network.reach + network.in_plane_multiple
    base = image(-(-(2 * margin + 16) // shift) * shift)
    with torch.no_grad():
        expected = network(base).roll(shift, dims=2)
        found = network(base.roll(shift, dims=2))
    inner = slice(margin, -margin)
    assert expected[:, :, inner, inner].abs().max() > 1e-3
    # float32 convolutions may sum in another order at another place
    assert_allclose(found[:, :, inner, inner], expected[:, :, inner, inner], atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("context", [1, 3, 5])
def test_restored_slices_average_to_the_base_whatever_the_network_says(name, context):
    layout = Layout(3, context, "box")
    network = wake(make_small(name, layout.in_channels))
    inputs = image(16, channels=layout.in_channels)
    with torch.no_grad():
        restored = restore_slices(network, layout, inputs)
    base = inputs[:, context:]
    assert (restored - base).abs().max() > 1e-3
    assert_allclose(restored.mean(1), base.mean(1), atol=1e-6)  # float32 epsilon


def make_model(name):
    layout = Layout(3, 3, "box")
    network = wake(make_small(name, layout.in_channels, layout.out_channels))
    return Model(name, network, layout, Normalisation(-200.0, 500.0))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shape", [(1, 1), (5, 33), (29, 18)])
def test_any_in_plane_size_is_restored(name, shape):
    inputs = 300.0 * torch.randn(1, 6, *shape, generator=torch.Generator().manual_seed(0))
    found, sigma = restore_images(make_model(name), inputs, Arithmetic())
    assert sigma is None
    assert found.shape == (1, 3, *shape)
    assert torch.isfinite(found).all()
    assert (found - inputs[:, 3:]).abs().max() > 0.1


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_tiled_equals_untiled(name, precision):
    model = make_model(name)
    inputs = 300.0 * torch.randn(1, 6, 101, 66, generator=torch.Generator().manual_seed(0))
    whole, _ = restore_images(model, inputs, Arithmetic(1024, precision))
    tiled, _ = restore_images(model, inputs, Arithmetic(24, precision))
    # sums may run in another order on images of another size: float32 at 1000 HU, and one
    # rounding of the residual's 8 bits
    tolerance = (
        0.05 if precision == "float32" else 0.02 * float((whole - inputs[:, 3:]).abs().max())
    )
    assert_allclose(tiled, whole, atol=tolerance)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("symmetries", [4, 8])
def test_averaged_mirror_images_commute_with_mirroring(name, symmetries):
    model = make_model(name)
    inputs = 300.0 * torch.randn(1, 6, 22, 22, generator=torch.Generator().manual_seed(0))
    arithmetic = Arithmetic(symmetries=symmetries)
    mirrors = [lambda a: a.flip(2), lambda a: a.flip(3)]
    mirrors += [lambda a: a.transpose(2, 3)] if symmetries == 8 else []
    found, _ = restore_images(model, inputs, arithmetic)
    for mirror in mirrors:
        mirrored, _ = restore_images(model, mirror(inputs), arithmetic)
        plain = restore_images(model, mirror(inputs), Arithmetic())[0]
        assert_allclose(mirrored, mirror(found), atol=0.05)  # float32 at 1000 HU
        assert (plain - mirror(restore_images(model, inputs, Arithmetic())[0])).abs().max() > 1.0


@pytest.mark.parametrize("name", NETWORKS)
def test_saved_network_comes_back_bit_by_bit_with_its_description(name, tmp_path):
    model = make_model(name)
    record = {
        "training": {},
        "metrics": {"step": 0, "validation": {}},
        "provenance": {"cases": [], "command": "none"},
    }
    settings = complete_settings(name, SMALL.get(name, {}))
    save_model(tmp_path, model, settings, record)
    found = load_model(tmp_path)
    description = read_json(tmp_path / "model.json")
    assert description["network"] == name
    assert description["settings"] == settings
    assert description["parameters"] == count_parameters(model.network)
    assert found.layout == model.layout
    same = found.network.state_dict()
    assert all(torch.equal(tensor, same[n]) for n, tensor in model.network.state_dict().items())
    assert torch.equal(found.network(image(16)), model.network(image(16)))


@pytest.mark.parametrize("name", NETWORKS)
def test_two_steps_of_training_move_the_weights_and_repeat_themselves(name, tmp_path):
    manifest = write_manifest(tmp_path, shape=(12, 24, 24))
    changes = {k: v for k, v in SMALL.get(name, {}).items() if k in ("width", "depth")}
    more = tuple(f"{k}={v}" for k, v in SMALL.get(name, {}).items() if k not in changes)
    settings = TINY.model_copy(
        update={
            "width": None,
            "depth": None,
            "network": name,
            "network_settings": more,
            "steps": 2,
            "report_interval": 1,
            "validation_interval": 1,
            **changes,
        }
    )
    train(manifest, tmp_path / "a", settings)
    train(manifest, tmp_path / "b", settings)
    weights = (tmp_path / "a" / "weights.safetensors").read_bytes()
    assert weights == (tmp_path / "b" / "weights.safetensors").read_bytes()
    trained = load_model(tmp_path / "a").network
    untrained = make_small(name)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(trained.parameters(), untrained.parameters(), strict=True)
    )
    assert read_json(tmp_path / "a" / "model.json")["settings"] == network_settings(settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "msd", "width": 4}, "width"),
        ({"network": "swinir", "width": 10}, "multiple of heads"),
        ({"network_settings": ("kernel",)}, "NAME=VALUE"),
        ({"network": "srresnet", "network_settings": ("kernel=4",)}, "kernel"),
        ({"width": 8, "network_settings": ("width=9",)}, "each name once"),
    ],
)
def test_settings_that_a_network_does_not_have_are_refused_in_a_sentence(changes, message):
    with pytest.raises(UsageError, match=message):
        network_settings(TrainingSettings(**changes))


def test_msd_in_its_fast_form_is_its_definition():
    """Value and every derivative; 12 products of float32 epsilon, relative to the largest."""
    network = wake(make("msd", 3, 2, depth=12, dilations=5))
    inputs = torch.randn(2, 3, 9, 14, generator=torch.Generator().manual_seed(3))
    inputs.requires_grad_()
    fast, naive = network(inputs), network.forward_naively(inputs)
    towards = torch.randn(fast.shape, generator=torch.Generator().manual_seed(4))
    assert_allclose(fast.detach(), naive.detach(), atol=1e-6 * float(naive.detach().abs().max()))
    wanted = [inputs, *network.parameters()]
    for found, expected in zip(
        torch.autograd.grad((fast * towards).sum(), wanted),
        torch.autograd.grad((naive * towards).sum(), wanted),
        strict=True,
    ):
        assert_allclose(found, expected, atol=2e-6 * float(expected.abs().max()))


def test_msd_derivative_is_that_of_finite_differences():
    network = wake(make("msd", 1, 1, depth=5, dilations=3)).double()
    inputs = torch.randn(1, 1, 6, 5, generator=torch.Generator().manual_seed(3)).double()
    inputs.requires_grad_()
    assert torch.autograd.gradcheck(network, (inputs,), atol=1e-6)


def test_msd_weights_have_the_variance_of_the_definition():
    weights = make("msd", 3, 11).weights
    expected = 2.0 / (9 * (3 + 100 - 1) + 11)
    error = np.sqrt(2.0 / weights.numel())  # of the variance of so many normal numbers
    assert float(weights.detach().var()) == pytest.approx(expected, rel=5 * error)


def test_folder_of_the_networks_holds_no_file_that_the_table_does_not_know():
    files = {path.stem for path in Path(networks.__file__).parent.glob("*.py")}
    assert files - {"__init__", "interface"} == set(NETWORKS)
