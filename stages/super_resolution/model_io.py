"""MODEL_DIR: weights.safetensors, model.json and MODEL_CARD.md, written and read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from math import nan
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save

from pipeline.core.artefacts import read_json, write_json
from pipeline.core.errors import InputError
from stages.super_resolution.checkpoint import read_tensors
from stages.super_resolution.layout import Layout
from stages.super_resolution.model import Model, Normalisation, count_parameters
from stages.super_resolution.networks import NETWORKS, build_network

MODEL_FORMAT = 1
WEIGHTS = "weights.safetensors"
LAST = "last.safetensors"
DESCRIPTION = "model.json"
CARD = "MODEL_CARD.md"


def new_model(
    name: str,
    network_settings: Mapping[str, Any],
    layout: Layout,
    normalisation: Normalisation,
    *,
    seed: int,
) -> Model:
    """Build a model with initial weights from a seed."""
    generator = torch.Generator().manual_seed(seed)
    network = build_network(
        name, layout.in_channels, layout.out_channels, network_settings, generator
    )
    return Model(name, network, layout, normalisation)


def save_model(
    folder: Path, model: Model, network_settings: Mapping[str, Any], record: Mapping[str, Any]
) -> None:
    """Write weights, description and card.

    Parameters
    ----------
    folder
        MODEL_DIR, existing.
    model
        Model whose weights are kept.
    network_settings
        What its network was built from.
    record
        Sections ``training``, ``metrics`` and ``provenance`` of model.json.
    """
    weights = {n: t.detach().cpu().contiguous() for n, t in model.network.state_dict().items()}
    (folder / WEIGHTS).write_bytes(save(weights))
    description = {
        "format": MODEL_FORMAT,
        "network": model.name,
        "settings": dict(network_settings),
        "parameters": count_parameters(model.network),
        "layout": asdict(model.layout),
        "normalisation": asdict(model.normalisation),
        **record,
    }
    write_json(folder / DESCRIPTION, description)
    (folder / CARD).write_text(model_card(description))


def load_model(folder: Path) -> Model:
    """Read a model; only safetensors and JSON are opened.

    Raises
    ------
    InputError
        If a file is missing or unreadable, or the weights do not fit the description.
    """
    name = folder.name
    found = read_json(folder / DESCRIPTION)
    if found.get("format") != MODEL_FORMAT or found.get("network") not in NETWORKS:
        raise InputError(
            f"{name}/{DESCRIPTION}: has format {found.get('format')!r} and network "
            f"{found.get('network')!r}; needed are format {MODEL_FORMAT} and one of "
            f"{', '.join(NETWORKS)}. Give a MODEL_DIR made by 'ct2flow train'.",
            path=folder,
        )
    try:
        layout, normalisation = Layout(**found["layout"]), Normalisation(**found["normalisation"])
        model = new_model(found["network"], found["settings"], layout, normalisation, seed=0)
        model.network.load_state_dict(read_tensors(folder / WEIGHTS))
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError, OSError) as error:
        raise InputError(
            f"{name}: description and weights are no usable model ({type(error).__name__}); "
            "train it again or fetch the whole folder.",
            path=folder,
        ) from error
    model.network.eval()
    return model


def network_settings_of(folder: Path) -> dict[str, Any]:
    """Return what the network of a MODEL_DIR was built from."""
    return dict(read_json(folder / DESCRIPTION).get("settings", {}))


def model_card(found: Mapping[str, Any]) -> str:
    """Write the model card from the description."""
    layout, metrics, provenance = found["layout"], found["metrics"], found["provenance"]
    planes = "thick ones" if layout["view"] == "axial" else "sagittal or coronal planes"
    cases = [
        f"| {c['case']} | {c['role']} | {c['licence'] or 'not stated'} |"
        for c in provenance["cases"]
    ]
    judged = [
        f"| {name} | {m['psnr_db']:.2f} | {m['histospline_psnr_db']:.2f} "
        f"| {m.get('wall_psnr_db', nan):.2f} | {m.get('histospline_wall_psnr_db', nan):.2f} |"
        for name, m in metrics["validation"].items()
    ]
    training = [f"    {name}: {value}" for name, value in found["training"].items()]
    lines = [
        f"# {found['network']} x{layout['factor']}",
        "",
        f"Restores thin CT slices, {layout['stride']} for a thick one, from {layout['context']} "
        f"neighbouring {planes} ({layout['profile']} profile). {found['parameters']:,} parameters. "
        "It predicts the "
        "residual to the area-preserving spline of the thick slices (histospline)"
        + ("; restored slices average to the thick one." if layout["consistent"] else "."),
        "Research use only.",
        "",
        "## Data",
        "| case | role | licence |",
        "|---|---|---|",
        *cases,
        "",
        f"## Validation (step {metrics['step']})",
        "PSNR in dB, HU clipped to [-1024, 3071], range 4095, error pooled over whole slices.",
        "",
        "Walls: within two pixels of an air-tissue edge inside the body.",
        "",
        "| case | network | histospline | network, walls | histospline, walls |",
        "|---|---|---|---|---|",
        *judged,
        "",
        "## Training settings",
        *training,
        "",
        "## Made by",
        f"    {provenance['command']}",
        "",
    ]
    return "\n".join(lines)
