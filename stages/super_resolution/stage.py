"""Read manifests and volumes, train or restore, and write models and volumes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import nn

from pipeline.core.artefacts import publish
from pipeline.core.errors import InputError, UsageError
from pipeline.core.progress import track
from pipeline.core.volume import Volume, read_volume, write_volume
from stages.super_resolution.baselines import (
    BASELINES,
    checked_factor,
    restore_baseline,
    thin_grid,
)
from stages.super_resolution.cases import (
    TrainingCase,
    check_finite,
    find_cases,
    read_case,
    read_taps,
)
from stages.super_resolution.checkpoint import CheckpointFolder
from stages.super_resolution.consistency import make_consistent
from stages.super_resolution.data import PatchSampler, measure_normalisation, prepare_volume
from stages.super_resolution.description import STAGE, describe, fingerprint
from stages.super_resolution.layout import Layout
from stages.super_resolution.losses import ADVERSARIAL
from stages.super_resolution.model import Model, chosen_device, chosen_precision
from stages.super_resolution.model_io import (
    DESCRIPTION,
    LAST,
    load_model,
    network_settings_of,
    new_model,
    save_model,
)
from stages.super_resolution.networks import build_discriminator
from stages.super_resolution.plan import completed, layout_of, network_settings, recorded
from stages.super_resolution.restoration import Arithmetic, Restored, restore_volume
from stages.super_resolution.settings import (
    PROFILES,
    RestorationSettings,
    TrainingSettings,
    parse_loss,
)
from stages.super_resolution.training import train_model
from stages.super_resolution.upright import restore_upright
from stages.super_resolution.validation import ValidationCase, prepare_validation

SHIPPED = "shipped"
SHIPPED_FOLDER = Path(__file__).resolve().parent / "weights" / "unet-x3"
_TOLERANCE = "bitwise for one number of threads on one processor; else about 1 HU"


def train(
    manifest: Path,
    output: Path,
    settings: TrainingSettings,
    *,
    data_root: Path | None = None,
    initial: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Train a network on the thin-slice volumes of a manifest and write its MODEL_DIR.

    Parameters
    ----------
    manifest
        Manifest of prepared volumes.
    output
        MODEL_DIR to write. The state for resuming lies beside it until the training is done.
    settings
        Network, data sampling, loss and schedule.
    data_root
        Folder that the manifest's paths are relative to; None: the manifest's own.
    initial
        MODEL_DIR whose weights the training starts from, or ``shipped``.
    overwrite
        Replace an existing output.

    Raises
    ------
    InputError
        If the manifest, a volume or a fitted profile is unusable.
    UsageError
        If the output exists, or the settings do not fit the network or the initial model.
    NumericalError
        If the training diverges.
    """
    _use_threads(settings.threads)
    settings = completed(settings)
    device = chosen_device(settings.device)
    precision = chosen_precision(settings.precision, device)
    initial = SHIPPED_FOLDER if initial == Path(SHIPPED) else initial
    fitted = [] if settings.profile in PROFILES else [Path(settings.profile)]
    with publish(
        output,
        kind="model",
        stage=STAGE,
        settings=recorded(settings),
        inputs=[manifest, *fitted, *([initial] if initial else [])],
        seed=settings.seed,
        device=device,
        tolerance=_TOLERANCE,
        overwrite=overwrite,
        folder=True,
    ) as pending:
        cases = find_cases(manifest, data_root or manifest.parent)
        layout = layout_of(settings, read_taps(settings.profile))
        mark = fingerprint(cases, settings, layout, initial=initial, precision=precision)
        store = CheckpointFolder(output.parent / f"{output.name}.training", mark)
        model, sampler, judged = _prepare(cases, settings, layout, initial)
        result = train_model(
            model,
            sampler,
            judged,
            settings,
            store,
            precision=precision,
            device=device,
            discriminator=_discriminator(model, settings),
        )
        record = describe(
            cases, judged, result, settings=settings, manifest=manifest, initial=initial
        )
        save_model(pending.path, result.model, network_settings(settings), record)
        (pending.path / "metrics.jsonl").write_text(store.metrics())
        if settings.keep_last:
            store.write_last(pending.path / LAST, "average")
        pending.properties |= {"precision": precision, **record["metrics"]}
        if not judged:
            pending.warnings.append("No validation case: the last weights were taken unjudged.")
    store.remove()


def restore(
    volume: Path,
    output: Path,
    settings: RestorationSettings,
    *,
    model: str,
    sigma: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Restore the thin slices of a volume and write them on the grid of the thin slices.

    Parameters
    ----------
    volume
        Thick slices along z, HU.
    output
        Restored volume.
    settings
        Factor, rounding and arithmetic.
    model
        ``linear``, ``spline``, ``histospline``, ``shipped`` or a MODEL_DIR.
    sigma
        Volume to write of the standard deviation that the model predicts, HU; None: none.
    overwrite
        Replace an existing output.

    Raises
    ------
    InputError
        If volume or model are unusable.
    UsageError
        If the output exists, the factor is even or not the model's, or the model predicts no sigma.
    """
    _use_threads(settings.threads)
    factor = checked_factor(settings.factor)
    network = None if model in BASELINES else _load(model, factor)
    _check_sigma(sigma, model, network)
    device = chosen_device(settings.device) if network else "cpu"
    precision = chosen_precision(settings.precision, device)
    name = "network" if network else model
    publish_volume = partial(
        publish,
        kind="volume",
        stage=STAGE,
        settings={**settings.model_dump(mode="json"), "model": name},
        inputs=[volume, *([_model_folder(model)] if network else [])],
        device=device,
        tolerance=_TOLERANCE if network else None,
        overwrite=overwrite,
    )
    with ExitStack() as outputs:
        pending = outputs.enter_context(publish_volume(output))
        thick = read_volume(volume)
        check_finite(thick, volume)
        factor = network.layout.slices if network else factor
        grid = thick.grid if factor == 1 else thin_grid(thick.grid, factor)
        pending.properties |= {"method": name, "factor": factor}
        if network is None:
            thin = restore_baseline(thick.values, model, factor=factor)
            thin = _whole(thin) if settings.whole_hu else thin
        else:
            second = outputs.enter_context(publish_volume(sigma)) if sigma else None
            thin, spread = _restore_by_network(
                network, thick, settings, precision, device, wants_sigma=second is not None
            )
            pending.properties["precision"] = precision
            if second is not None and spread is not None:
                second.properties |= {"quantity": "sigma_hu", "factor": factor}
                write_volume(second.path, Volume(spread, grid))
        write_volume(pending.path, Volume(thin, grid))


def _restore_by_network(
    model: Model,
    thick: Volume,
    settings: RestorationSettings,
    precision: str,
    device: str,
    *,
    wants_sigma: bool,
) -> tuple[Shaped[np.ndarray, "thin y x"], Float[np.ndarray, "thin y x"] | None]:
    layout = model.layout
    asked = layout.is_consistent if settings.consistent is None else settings.consistent
    # A profile wider than a slice binds neighbours together, and an upright plane holds them all:
    # their agreement is made afterwards.
    afterwards = asked and (layout.is_upright or not layout.is_compact_box)
    whole_at_once = settings.whole_hu and not afterwards
    arithmetic = Arithmetic(settings.tile, precision, settings.symmetries)
    model = replace(model, network=model.network.to(device))
    if layout.is_upright:
        found = restore_upright(model, thick.values, arithmetic, device=device)
        thin, sigma = found.values, found.sigma
    else:
        slices = restore_volume(
            model, thick.values, arithmetic, device=device, consistent=asked and not afterwards
        )
        thin, sigma = _stack(
            track(slices, "restore", total=len(thick.values)),
            (len(thick.values) * layout.slices, *thick.grid.shape[1:]),
            whole_hu=whole_at_once,
            wants_sigma=wants_sigma,
        )
    if afterwards:
        thin = make_consistent(thin, thick.values, layout)
    return _whole(thin) if settings.whole_hu else thin, sigma if wants_sigma else None


def _stack(
    slices: Iterable[Restored], shape: tuple[int, int, int], *, whole_hu: bool, wants_sigma: bool
) -> tuple[Shaped[np.ndarray, "thin y x"], Float[np.ndarray, "thin y x"] | None]:
    """Put the thin slices together as they come; whole HU take half the memory."""
    thin = np.empty(shape, np.int16 if whole_hu else np.float32)
    sigma = np.empty(shape, np.float32) if wants_sigma else None
    start = 0
    for restored in slices:
        cell = slice(start, start + len(restored.values))
        thin[cell] = _whole(restored.values) if whole_hu else restored.values
        if sigma is not None:
            sigma[cell] = restored.sigma
        start = cell.stop
    return thin, sigma


def _check_sigma(sigma: Path | None, name: str, model: Model | None) -> None:
    if sigma is not None and (model is None or not model.layout.predicts_variance):
        raise UsageError(
            f"--sigma: {name} predicts no standard deviation; leave it out or give a model "
            "trained with --loss nll.",
            model=name,
        )


def _whole(values_hu: Shaped[np.ndarray, "z y x"]) -> Shaped[np.ndarray, "z y x"]:
    if values_hu.dtype == np.int16:
        return values_hu
    limits = np.iinfo(np.int16)
    whole: Shaped[np.ndarray, "z y x"] = np.rint(values_hu).clip(limits.min, limits.max)
    return whole.astype(np.int16)


def _model_folder(model: str) -> Path:
    folder = SHIPPED_FOLDER if model == SHIPPED else Path(model)
    if not (folder / DESCRIPTION).is_file():
        raise InputError(
            f"{model}: is no MODEL_DIR ({DESCRIPTION} is missing); give one made by 'ct2flow "
            f"train', '{SHIPPED}' or one of {', '.join(BASELINES)}.",
            model=model,
        )
    return folder


def _load(model: str, factor: int) -> Model:
    found = load_model(_model_folder(model))
    own = found.layout.factor
    if own != factor:
        raise UsageError(
            f"--factor {factor}: the model {model} restores {own} slices from one; give --factor "
            f"{own} or another model.",
            factor=factor,
        )
    return found


def _prepare(
    cases: list[TrainingCase], settings: TrainingSettings, layout: Layout, initial: Path | None
) -> tuple[Model, PatchSampler, list[ValidationCase]]:
    """Read the volumes and build the model, the sampler and the validation cases."""
    rng = np.random.default_rng(settings.seed)
    volumes = [
        prepare_volume(c.case.case, read_case(c, settings), rng)
        for c in track([c for c in cases if c.case.role == "train"], "read training cases")
    ]
    if initial is None:
        normalisation = measure_normalisation(volumes)
        model = new_model(
            settings.network,
            network_settings(settings),
            layout,
            normalisation,
            seed=settings.seed,
        )
    else:
        model = _initial_model(initial, settings, layout)
    _check_patch(settings.patch, model)
    judged = [
        prepare_validation(
            c.case.case, read_case(c, settings), model, slices=settings.validation_slices
        )
        for c in track([c for c in cases if c.case.role == "validation"], "read validation cases")
    ]
    return model, PatchSampler(volumes, layout, model.normalisation, settings), judged


def _discriminator(model: Model, settings: TrainingSettings) -> nn.Module | None:
    """Build the opponent of an adversarial loss, seeded apart from the network."""
    if ADVERSARIAL not in parse_loss(settings.loss):
        return None
    generator = torch.Generator().manual_seed(settings.seed + 1)
    return build_discriminator(
        model.name, model.layout.images, network_settings(settings), generator
    )


def _initial_model(initial: Path, settings: TrainingSettings, layout: Layout) -> Model:
    model = load_model(initial)
    found = (model.name, network_settings_of(initial), model.layout)
    needed = (settings.network, network_settings(settings), layout)
    if found != needed:
        raise UsageError(
            f"{initial.name}: is {found[0]} with {found[1]} and {found[2]}; the settings ask for "
            f"{needed[0]} with {needed[1]} and {needed[2]}. Give matching settings.",
            initial=initial,
        )
    return model


def _check_patch(patch: int, model: Model) -> None:
    multiple = model.network.in_plane_multiple
    least = max(2, -(-model.network.in_plane_minimum // multiple)) * multiple
    if patch % multiple or patch < least:
        raise UsageError(
            f"--patch {patch}: the network needs a multiple of {multiple} pixels, {least} or "
            f"more; give --patch {max(least, round(patch / multiple) * multiple)}.",
            patch=patch,
        )


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        torch.set_num_threads(threads)
