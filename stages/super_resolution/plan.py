"""What a training's settings come to: the network, its layout, and the defaults left open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.core.errors import UsageError
from stages.super_resolution.layout import Layout
from stages.super_resolution.losses import ADVERSARIAL
from stages.super_resolution.networks import NETWORKS, complete_settings
from stages.super_resolution.settings import PROFILES, TrainingSettings, parse_loss

FITTED = "fitted"


def network_settings(settings: TrainingSettings) -> dict[str, Any]:
    """Return all that the network is built from.

    Raises
    ------
    UsageError
        If the network has no such setting or its value is out of bounds.
    """
    changes: dict[str, Any] = {"width": settings.width, "depth": settings.depth}
    changes = {name: value for name, value in changes.items() if value is not None}
    for pair in settings.network_settings:
        name, separator, text = pair.partition("=")
        if not separator or name in changes:
            raise UsageError(
                f"--network-settings {pair}: needed is NAME=VALUE, each name once, such as "
                "kernel=5.",
                found=pair,
            )
        changes[name] = _value(text)
    return complete_settings(settings.network, changes)


def completed(settings: TrainingSettings) -> TrainingSettings:
    """Return settings whose learning rate and loss are those that the network's defaults give.

    Raises
    ------
    UsageError
        If the network has no such setting or its value is out of bounds.
    """
    network_settings(settings)
    entry = NETWORKS[settings.network]
    loss = settings.loss
    if entry.adversarial_weight and ADVERSARIAL not in parse_loss(loss):
        loss = f"{loss}+{entry.adversarial_weight:g}*{ADVERSARIAL}"
    rate = settings.learning_rate or entry.learning_rate
    return settings.model_copy(update={"loss": loss, "learning_rate": rate})


def layout_of(settings: TrainingSettings, taps: tuple[float, ...]) -> Layout:
    """Return the layout that the settings ask for.

    Parameters
    ----------
    settings
        Settings of the training.
    taps
        Weights of a fitted profile; empty for a named one.
    """
    return Layout(
        settings.factor,
        settings.context,
        settings.profile if settings.profile in PROFILES else FITTED,
        stride=settings.stride or 0,
        taps=taps,
        consistent=settings.consistent,
        predicts_variance="nll" in parse_loss(settings.loss),
        view=settings.view,
    )


def recorded(settings: TrainingSettings) -> dict[str, Any]:
    """Return the settings as a record; of a fitted profile's path the name alone.

    A path is no fact about the result and may name a patient; the taps are in the layout.
    """
    values = settings.model_dump(mode="json")
    return values | {"profile": Path(settings.profile).name}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
