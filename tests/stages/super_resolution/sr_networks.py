"""Small networks of the table, with weights that let every input reach the output."""

from __future__ import annotations

import torch

from stages.super_resolution.networks import build_network

SMALL = {
    "unet": {"width": 4, "depth": 3},
    "lapsrn": {"width": 6, "depth": 3},
    "srresnet": {"width": 6, "depth": 2},
    "srgan": {"width": 6, "depth": 2, "discriminator_width": 4, "discriminator_depth": 2},
    "swinir": {"width": 8, "depth": 1, "blocks": 2, "heads": 2, "window": 4},
    "msd": {"depth": 12, "dilations": 4},
}
"""Settings that make the contract tests quick; a newcomer without an entry has its defaults."""


def make_small(name, in_channels=6, out_channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return build_network(name, in_channels, out_channels, SMALL.get(name, {}), generator)


def wake(network):
    """Give what starts at zero weights, so that inputs reach the output; evaluation mode."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1, generator=generator)
    return network.eval()
