"""The networks, each in a file of its own, and the table that names them.

A network is a `ResidualNetwork` with the constructor ``(in_channels, out_channels, settings,
generator)`` and a `forward` that maps normalised tensors to a residual of the same in-plane size
that is zero before training. Any number of channels serves: one interpolated image in and one out
(same-size), or thick slices and their baseline in and the thin slices out (2.5-D).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError
from torch import Generator, nn

from pipeline.core.errors import UsageError
from stages.super_resolution.networks.espcn import ESPCN, ESPCNSettings
from stages.super_resolution.networks.interface import ResidualNetwork
from stages.super_resolution.networks.lapsrn import LapSRN, LapSRNSettings
from stages.super_resolution.networks.msd import MSD, MSDSettings
from stages.super_resolution.networks.srcnn import SRCNN, SRCNNSettings
from stages.super_resolution.networks.srgan import SRGAN, Discriminator, SRGANSettings
from stages.super_resolution.networks.srresnet import SRResNet, SRResNetSettings
from stages.super_resolution.networks.swinir import SwinIR, SwinIRSettings
from stages.super_resolution.networks.unet import UNet, UNetSettings


@dataclass(frozen=True)
class NetworkEntry:
    """Name a network's settings and constructor.

    Parameters
    ----------
    settings
        Model of its settings; the defaults are its paper's.
    constructor
        Builds it from input channels, output channels, settings and generator.
    learning_rate
        Peak learning rate of AdamW to start from where none is given.
    adversarial_weight
        Weight of an adversarial term that belongs to its definition; 0: none.
    """

    settings: type[BaseModel]
    constructor: Callable[[int, int, Any, Generator], ResidualNetwork]
    learning_rate: float = 1e-3
    adversarial_weight: float = 0.0


NETWORKS: Mapping[str, NetworkEntry] = MappingProxyType(
    {
        "unet": NetworkEntry(UNetSettings, UNet, 2e-3),
        "srcnn": NetworkEntry(SRCNNSettings, SRCNN),
        "espcn": NetworkEntry(ESPCNSettings, ESPCN),
        "lapsrn": NetworkEntry(LapSRNSettings, LapSRN, 5e-4),
        "srresnet": NetworkEntry(SRResNetSettings, SRResNet, 5e-4),
        "srgan": NetworkEntry(SRGANSettings, SRGAN, 1e-4, adversarial_weight=1e-3),
        "swinir": NetworkEntry(SwinIRSettings, SwinIR, 5e-4),
        "msd": NetworkEntry(MSDSettings, MSD, 4e-3),
    }
)
"""Networks by name; a new one is a new file and one line here."""


def build_network(
    name: str,
    in_channels: int,
    out_channels: int,
    settings: Mapping[str, Any],
    generator: Generator,
) -> ResidualNetwork:
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

    Raises
    ------
    pydantic.ValidationError
        If the network has no such setting or its value is out of bounds.
    """
    entry = NETWORKS[name]
    checked = entry.settings.model_validate(dict(settings))
    return entry.constructor(in_channels, out_channels, checked, generator)


def build_discriminator(
    name: str, channels: int, settings: Mapping[str, Any], generator: Generator
) -> nn.Module:
    """Build the discriminator that a network is trained against; SRGAN's for every one.

    Parameters
    ----------
    name
        A name of the table.
    channels
        Thin slices that are judged together.
    settings
        Settings of the network; those of its discriminator are taken.
    generator
        Source of the initial weights.
    """
    own = settings if name == "srgan" else {}
    return Discriminator(channels, SRGANSettings.model_validate(dict(own)), generator)


def complete_settings(name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings of a network from those that differ from its defaults.

    Raises
    ------
    UsageError
        If the network has no such setting or its value is out of bounds.
    """
    model = NETWORKS[name].settings
    try:
        return model.model_validate(dict(changes)).model_dump(mode="json")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "settings"
        unknown = first["type"] == "extra_forbidden"
        raise UsageError(
            f"--network {name}: {where}: {'no such setting' if unknown else first['msg']}; it has "
            f"{', '.join(model.model_fields)}.",
            network=name,
        ) from error
