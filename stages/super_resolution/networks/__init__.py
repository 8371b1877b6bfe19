"""The networks, each in a file of its own, and the table that names them.

A network is an `nn.Module` with the constructor ``(in_channels, out_channels, settings,
generator)``, a `forward` that maps normalised tensors to a residual of the same in-plane size and
is zero before training, and two facts for restoration: `in_plane_multiple` (y and x must be
multiples of it) and `reach` (how far, in pixels, an input pixel can change the output).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel
from torch import Generator, nn

from stages.super_resolution.networks.unet import UNet, UNetSettings


@dataclass(frozen=True)
class NetworkEntry:
    """Name a network's settings and constructor."""

    settings: type[BaseModel]
    constructor: Callable[[int, int, Any, Generator], nn.Module]


NETWORKS: Mapping[str, NetworkEntry] = MappingProxyType(
    {
        "unet": NetworkEntry(UNetSettings, UNet),
    }
)
"""Networks by name; a new one is a new file and one line here."""


def build_network(
    name: str,
    in_channels: int,
    out_channels: int,
    settings: Mapping[str, Any],
    generator: Generator,
) -> nn.Module:
    """Build a network of the table with its initial weights.

    Parameters
    ----------
    name
        A name of the table.
    in_channels
        Channels of the input.
    out_channels
        Channels of the output.
    settings
        What differs from the network's own defaults.
    generator
        Source of the initial weights.
    """
    entry = NETWORKS[name]
    checked = entry.settings.model_validate(dict(settings))
    return entry.constructor(in_channels, out_channels, checked, generator)
