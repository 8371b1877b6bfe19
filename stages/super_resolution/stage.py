"""Read manifests and volumes, train or restore, and write models and volumes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped

from pipeline.core.artefacts import digest, publish
from pipeline.core.errors import InputError, UsageError
from pipeline.core.manifests import read_manifest
from pipeline.core.progress import track
from pipeline.core.volume import Volume, read_volume, write_volume
from stages.super_resolution.baselines import (
    BASELINES,
    checked_factor,
    restore_baseline,
    thin_grid,
)
from stages.super_resolution.checkpoint import CheckpointFolder
from stages.super_resolution.data import (
    PatchSampler,
    measure_normalisation,
    prepare_volume,
)
from stages.super_resolution.description import (
    STAGE,
    TrainingCase,
    describe,
    fingerprint,
    network_settings,
)
from stages.super_resolution.model import Layout, Model, chosen_device, chosen_precision
from stages.super_resolution.model_io import (
    DESCRIPTION,
    load_model,
    network_settings_of,
    new_model,
    save_model,
)
from stages.super_resolution.restoration import restore_volume
from stages.super_resolution.settings import RestorationSettings, TrainingSettings
from stages.super_resolution.training import train_model
from stages.super_resolution.validation import ValidationCase, prepare_validation

_LOG = logging.getLogger("ct2flow.super_resolution")
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
        If the manifest or a volume is unusable.
    UsageError
        If the output exists, or the initial model does not fit the settings.
    NumericalError
        If the training diverges.
    """
    _use_threads(settings.threads)
    device = chosen_device(settings.device)
    precision = chosen_precision(settings.precision, device)
    initial = SHIPPED_FOLDER if initial == Path(SHIPPED) else initial
    inputs = [manifest, *([initial] if initial else [])]
    with publish(
        output,
        kind="model",
        stage=STAGE,
        settings=settings,
        inputs=inputs,
        seed=settings.seed,
        device=device,
        tolerance=_TOLERANCE,
        overwrite=overwrite,
        folder=True,
    ) as pending:
        cases = _find_cases(manifest, data_root or manifest.parent)
        store = CheckpointFolder(
            output.parent / f"{output.name}.training",
            fingerprint(cases, settings, initial, precision),
        )
        model, sampler, judged = _prepare(cases, settings, initial)
        result = train_model(
            model, sampler, judged, settings, store, precision=precision, device=device
        )
        record = describe(
            cases, judged, result, settings=settings, manifest=manifest, initial=initial
        )
        save_model(pending.path, result.model, network_settings(settings), record)
        (pending.path / "metrics.jsonl").write_text(store.metrics())
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
    overwrite
        Replace an existing output.

    Raises
    ------
    InputError
        If volume or model are unusable.
    UsageError
        If the output exists, or the factor is even or not the model's.
    """
    _use_threads(settings.threads)
    factor = checked_factor(settings.factor)
    folder = None if model in BASELINES else _model_folder(model, factor)
    device = chosen_device(settings.device) if folder else "cpu"
    precision = chosen_precision(settings.precision, device)
    with publish(
        output,
        kind="volume",
        stage=STAGE,
        settings={**settings.model_dump(mode="json"), "model": model if not folder else "network"},
        inputs=[volume, *([folder] if folder else [])],
        device=device,
        tolerance=_TOLERANCE if folder else None,
        overwrite=overwrite,
    ) as pending:
        thick = read_volume(volume)
        _check_finite(thick, volume)
        if folder is None:
            thin = restore_baseline(thick.values, model, factor=factor)
            thin = _whole(thin) if settings.whole_hu else thin
        else:
            thin = _restore_by_network(load_model(folder), thick, settings, precision, device)
            pending.properties["precision"] = precision
        pending.properties |= {"method": model if folder is None else "network", "factor": factor}
        write_volume(pending.path, Volume(thin, thin_grid(thick.grid, factor)))


def _restore_by_network(
    model: Model, thick: Volume, settings: RestorationSettings, precision: str, device: str
) -> Shaped[np.ndarray, "thin y x"]:
    factor, (slices, rows, columns) = model.layout.factor, thick.grid.shape
    dtype = np.int16 if settings.whole_hu else np.float32
    thin = np.empty((slices * factor, rows, columns), dtype=dtype)
    model.network.to(device)
    for index, restored in enumerate(_track(model, thick, settings, precision, device)):
        part = _whole(restored) if settings.whole_hu else restored
        thin[factor * index : factor * (index + 1)] = part
    return thin


def _track(
    model: Model, thick: Volume, settings: RestorationSettings, precision: str, device: str
) -> Iterator[Float[np.ndarray, "factor y x"]]:
    slices = restore_volume(
        model, thick.values, tile=settings.tile, precision=precision, device=device
    )
    return track(slices, "restore", total=thick.grid.shape[0])


def _whole(values_hu: Float[np.ndarray, "z y x"]) -> Shaped[np.ndarray, "z y x"]:
    limits = np.iinfo(np.int16)
    whole: Shaped[np.ndarray, "z y x"] = np.rint(values_hu).clip(limits.min, limits.max)
    return whole.astype(np.int16)


def _model_folder(model: str, factor: int) -> Path:
    folder = SHIPPED_FOLDER if model == SHIPPED else Path(model)
    if not (folder / DESCRIPTION).is_file():
        raise InputError(
            f"{model}: is no MODEL_DIR ({DESCRIPTION} is missing); give one made by 'ct2flow "
            f"train', '{SHIPPED}' or one of {', '.join(BASELINES)}.",
            model=model,
        )
    own = load_model(folder).layout.factor
    if own != factor:
        raise UsageError(
            f"--factor {factor}: the model {model} restores {own} slices from one; give --factor "
            f"{own} or another model.",
            factor=factor,
        )
    return folder


def _find_cases(manifest: Path, root: Path) -> list[TrainingCase]:
    """List the training and validation cases with their files."""
    cases = [case for case in read_manifest(manifest).cases if case.role != "test"]
    if not any(case.role == "train" for case in cases):
        raise InputError(
            f"{manifest.name}: has no case of role train; needed is one at least; add one.",
            path=manifest,
        )
    found = []
    for case in cases:
        path = root / case.path
        if case.source != "volume" or not case.path.endswith((".nii", ".nii.gz")):
            raise InputError(
                f"{manifest.name}: case {case.case} is of source {case.source} and no NIfTI "
                "volume; run 'ct2flow manifest prepare' on the manifest first.",
                case=case.case,
            )
        if not path.is_file():
            raise InputError(
                f"{manifest.name}: the volume of case {case.case} is not there; run 'ct2flow "
                "manifest prepare' or correct --data-root.",
                case=case.case,
            )
        found.append(TrainingCase(case, path, digest(path)))
    return found


def _prepare(
    cases: list[TrainingCase], settings: TrainingSettings, initial: Path | None
) -> tuple[Model, PatchSampler, list[ValidationCase]]:
    """Read the volumes and build the model, the sampler and the validation cases."""
    rng = np.random.default_rng(settings.seed)
    layout = Layout(settings.factor, settings.context, settings.profile)
    volumes = [
        prepare_volume(c.case.case, _thin_volume(c, settings), rng)
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
            c.case.case, _thin_volume(c, settings), model, slices=settings.validation_slices
        )
        for c in track([c for c in cases if c.case.role == "validation"], "read validation cases")
    ]
    return model, PatchSampler(volumes, layout, model.normalisation, settings), judged


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
    multiple = int(model.network.in_plane_multiple)  # type: ignore[arg-type]
    if patch % multiple or patch < 2 * multiple:
        raise UsageError(
            f"--patch {patch}: the network needs a multiple of {multiple} pixels, "
            f"{2 * multiple} or more; give --patch {max(2, round(patch / multiple)) * multiple}.",
            patch=patch,
        )


def _thin_volume(case: TrainingCase, settings: TrainingSettings) -> Volume:
    volume = read_volume(case.path)
    _check_finite(volume, case.path)
    needed = settings.factor * 2
    if volume.grid.shape[0] < needed:
        raise InputError(
            f"Case {case.case.case}: has {volume.grid.shape[0]} slices, needed are {needed} or "
            "more; leave it out.",
            case=case.case.case,
        )
    if volume.values.dtype.itemsize <= 2:
        return volume
    return volume.with_values(_whole(volume.values.astype(np.float32)))


def _check_finite(volume: Volume, path: Path) -> None:
    if volume.values.dtype.kind == "f" and not np.isfinite(volume.values).all():
        raise InputError(
            f"{path.name}: holds values that are not finite; set them to -1024 HU first.",
            path=path,
        )


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        torch.set_num_threads(threads)
