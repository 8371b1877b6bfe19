"""Read a manifest's volumes, train a network on them, and write its MODEL_DIR."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from pipeline.core.artefacts import publish
from pipeline.core.errors import UsageError
from pipeline.core.manifests import read_manifest
from pipeline.core.progress import track
from stages.super_resolution.cases import TrainingCase, find_cases, read_case, read_taps
from stages.super_resolution.checkpoint import CheckpointFolder
from stages.super_resolution.description import STAGE, describe, fingerprint
from stages.super_resolution.determinism import deterministic_algorithms
from stages.super_resolution.history import (
    learnt_cases,
    names_its_patients,
    past_cases,
    refuse_learnt,
)
from stages.super_resolution.layout import Layout
from stages.super_resolution.losses import ADVERSARIAL
from stages.super_resolution.model import Model, Normalisation, chosen_device, chosen_precision
from stages.super_resolution.model_io import (
    LAST,
    load_model,
    network_settings_of,
    new_model,
    save_model,
)
from stages.super_resolution.networks import build_discriminator
from stages.super_resolution.patches import PatchSampler
from stages.super_resolution.plan import completed, layout_of, network_settings, recorded
from stages.super_resolution.processes import OneVoice, check_batch, connect
from stages.super_resolution.settings import (
    PROFILES,
    OnTheFlySettings,
    TrainingSettings,
    parse_loss,
)
from stages.super_resolution.stored_volumes import VolumeStore
from stages.super_resolution.training import TrainingResult, train_model
from stages.super_resolution.training_volumes import measure_normalisation
from stages.super_resolution.validation import ValidationCase, prepare_validation

_LOG = logging.getLogger("ct2flow.train")
SHIPPED = "shipped"
SHIPPED_FOLDER = Path(__file__).resolve().parent / "weights" / "unet-x3"
TOLERANCE = "bitwise for one number of threads and processes on one processor; else about 1 HU"


@dataclass(frozen=True)
class Preparation:
    """Hold what a training begins with: the model, its patches, and the cases that judge it."""

    model: Model
    sampler: PatchSampler
    judged: list[ValidationCase]


@dataclass(frozen=True)
class Machine:
    """State where, in which arithmetic and in which processes a training computes."""

    device: str
    precision: str
    fabric: Fabric


@dataclass(frozen=True)
class Order:
    """Hold what a training was asked for; `root` is what the manifest's paths are relative to."""

    manifest: Path
    output: Path
    settings: TrainingSettings
    root: Path
    initial: Path | None

    def plan(self, cases: list[TrainingCase], machine: Machine) -> tuple[Layout, str]:
        """Return what the network sees, and the digest of all that shapes the training."""
        layout = layout_of(self.settings, read_taps(self.settings.profile))
        mark = fingerprint(
            cases, self.settings, layout, initial=self.initial, precision=machine.precision
        )
        return layout, mark


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
        MODEL_DIR to write. The state for resuming and the prepared volumes lie beside it until
        the training is done.
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
        If the manifest, a volume or a fitted profile is unusable, or the initial model was trained
        on a patient of the role validation or test.
    UsageError
        If the output exists, or the settings do not fit the network, the initial model or the
        number of processes, or it is to be deterministic and an operation is not.
    NumericalError
        If the training diverges.
    """
    with (
        OneVoice(),
        deterministic_algorithms(chosen_device(settings.device), wanted=settings.deterministic),
    ):
        settings, machine = completed(settings), chosen_machine(settings)
        use_threads(settings.threads)
        check_batch(settings.batch_size, machine.fabric.world_size)
        start = SHIPPED_FOLDER if initial == Path(SHIPPED) else initial
        order = Order(manifest, output, settings, data_root or manifest.parent, start)
        if machine.fabric.is_global_zero:
            _lead(order, machine, overwrite=overwrite)
        else:
            _follow(order, machine)


def _lead(order: Order, machine: Machine, *, overwrite: bool) -> None:
    """Prepare the training for all processes, take part in it and write what comes of it."""
    settings, initial = order.settings, order.initial
    fitted = [] if settings.profile in PROFILES else [Path(settings.profile)]
    with publish(
        order.output,
        kind="model",
        stage=STAGE,
        settings=recorded(settings),
        inputs=[order.manifest, *fitted, *([initial] if initial else [])],
        seed=settings.seed,
        device=machine.device,
        tolerance=TOLERANCE,
        overwrite=overwrite,
        folder=True,
    ) as pending:
        cases = find_cases(order.manifest, order.root)
        if initial is not None:
            pending.warnings += _check_history(order.manifest, cases, initial)
        layout, mark = order.plan(cases, machine)
        store = CheckpointFolder(working_folder(order.output), mark)
        ready = _prepare(cases, settings, layout, initial, VolumeStore(store.path / "volumes"))
        machine.fabric.broadcast((cases, mark))
        result = run_training(ready, settings, store, machine)
        record = describe(
            cases,
            ready.judged,
            result,
            settings=settings,
            manifest=order.manifest,
            initial=initial,
        )
        save_model(pending.path, result.model, network_settings(settings), record)
        (pending.path / "metrics.jsonl").write_text(store.metrics())
        if settings.keep_last:
            store.write_last(pending.path / LAST, "average")
        pending.properties |= {"precision": machine.precision, **record["metrics"]}
        if not ready.judged:
            pending.warnings.append("No validation case: the last weights were taken unjudged.")
    store.remove()


def _follow(order: Order, machine: Machine) -> None:
    """Take part in a training that the leader has prepared, in a folder that both see."""
    nothing: tuple[list[TrainingCase], str] = ([], "")
    cases, expected = machine.fabric.broadcast(nothing)
    layout, mark = order.plan(cases, machine)
    store = CheckpointFolder(working_folder(order.output), mark)
    if mark != expected or not store.path.is_dir():
        raise UsageError(
            f"{store.path.name}: this process sees other settings, another version of ct2flow or "
            "another folder than the first one; start the same command on all nodes, in a folder "
            "that they share.",
            path=store.path,
        )
    learnt, volumes = _with_role(cases, "train"), VolumeStore(store.path / "volumes")
    ready = _prepare(learnt, order.settings, layout, order.initial, volumes)
    run_training(ready, order.settings, store, machine)


def run_training(
    ready: Preparation, settings: TrainingSettings, store: CheckpointFolder, machine: Machine
) -> TrainingResult:
    """Train what is prepared; a loss that needs an opponent gets one."""
    return train_model(
        ready.model,
        ready.sampler,
        ready.judged,
        settings,
        store,
        precision=machine.precision,
        fabric=machine.fabric,
        discriminator=_discriminator(ready.model, settings),
    )


def working_folder(output: Path) -> Path:
    """Return where a training keeps its state until it is done."""
    return output.parent / f"{output.name}.training"


def chosen_machine(settings: TrainingSettings | OnTheFlySettings) -> Machine:
    """Turn ``auto`` into the device that is there and the arithmetic that is fast on it.

    Of several processes each waits here for the others.

    Raises
    ------
    UsageError
        If CUDA is asked for and not there, or not for every process.
    """
    device = chosen_device(settings.device)
    precision = chosen_precision(settings.precision, device)
    return Machine(device, precision, connect(device, precision))


def use_threads(threads: int | None) -> None:
    """Set the number of processor threads, if one is asked for."""
    if threads is not None:
        torch.set_num_threads(threads)


def check_patch(patch: int, model: Model) -> None:
    """Refuse a patch that the network cannot take.

    Raises
    ------
    UsageError
        If the edge is no multiple of what the network halves, or too small for it.
    """
    multiple = model.network.in_plane_multiple
    least = max(2, -(-model.network.in_plane_minimum // multiple)) * multiple
    if patch % multiple or patch < least:
        raise UsageError(
            f"--patch {patch}: the network needs a multiple of {multiple} pixels, {least} or "
            f"more; give --patch {max(least, round(patch / multiple) * multiple)}.",
            patch=patch,
        )


def _check_history(manifest: Path, cases: list[TrainingCase], initial: Path) -> list[str]:
    """Refuse judges that the initial model has learnt; return what could not be checked."""
    past = past_cases(initial)
    judges = [case for case in read_manifest(manifest).cases if case.role != "train"]
    digests = {case.case.case: case.sha256 for case in cases}
    refuse_learnt(learnt_cases(judges, digests, past), manifest.name, initial.name)
    if not judges or names_its_patients(past):
        return []
    warning = (
        f"{initial.name}: does not record every patient that it was trained on; whether patients "
        f"of the roles validation and test of {manifest.name} are among them is not known."
    )
    _LOG.warning("%s", warning)
    return [warning]


def _prepare(
    cases: list[TrainingCase],
    settings: TrainingSettings,
    layout: Layout,
    initial: Path | None,
    volumes: VolumeStore,
) -> Preparation:
    """Store the volumes and build the model, the sampler and the validation cases."""
    stored = [
        volumes.prepare(c, settings, np.random.default_rng([settings.seed, index]))
        for index, c in enumerate(track(_with_role(cases, "train"), "read training cases"))
    ]
    if initial is None:
        model = _new_model(settings, layout, measure_normalisation(stored))
    else:
        model = _initial_model(initial, settings, layout)
    check_patch(settings.patch, model)
    judged = [
        prepare_validation(
            c.case.case, read_case(c, settings), model, slices=settings.validation_slices
        )
        for c in track(_with_role(cases, "validation"), "read validation cases")
    ]
    return Preparation(model, PatchSampler(stored, layout, model.normalisation, settings), judged)


def _with_role(cases: list[TrainingCase], role: str) -> list[TrainingCase]:
    return [case for case in cases if case.case.role == role]


def _new_model(settings: TrainingSettings, layout: Layout, normalisation: Normalisation) -> Model:
    built = network_settings(settings)
    return new_model(settings.network, built, layout, normalisation, seed=settings.seed)


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


def _discriminator(model: Model, settings: TrainingSettings) -> nn.Module | None:
    """Build the opponent of an adversarial loss, seeded apart from the network."""
    if ADVERSARIAL not in parse_loss(settings.loss):
        return None
    generator = torch.Generator().manual_seed(settings.seed + 1)
    return build_discriminator(
        model.name, model.layout.images, network_settings(settings), generator
    )
