"""Commands that train a network and restore thin slices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from stages.super_resolution.settings import (
    OnTheFlySettings,
    RestorationSettings,
    TrainingSettings,
)

train_app = App(name="train", help="Train a network.")
restore_app = App(name="restore", help="Restore thin slices.")
export_app = App(name="export-onnx", help="Write a model as ONNX.")


@train_app.default
def train(
    manifest: Path,
    /,
    *,
    output: Path,
    settings: Annotated[TrainingSettings, Parameter(name="*")] = TrainingSettings(),  # noqa: B008
    data_root: Path | None = None,
    initial: Path | None = None,
    devices: int = 1,
    overwrite: bool = False,
) -> None:
    """Train a network on the thin-slice volumes of a manifest.

    An interrupted training goes on where it stopped when the same command is run again.

    Parameters
    ----------
    manifest
        CSV file with the columns case, patient, role, source and path.
    output
        MODEL_DIR to write: weights.safetensors, model.json, MODEL_CARD.md, metrics.jsonl.
    settings
        Network, data sampling, loss and schedule.
    data_root
        Folder that the manifest's paths are relative to; else the manifest's own.
    initial
        MODEL_DIR whose weights the training starts from, or 'shipped'.
    devices
        GPUs of this machine that share each batch, or processes where there is none; several
        machines: docs/training.md. The model is the same, to rounding.
    overwrite
        Replace an existing output.
    """
    if devices != 1:
        from stages.super_resolution.launching import is_started_by_launcher, start_processes

        if not is_started_by_launcher(devices):
            start_processes(devices, settings)
            return
    from stages.super_resolution.training_stage import train as run

    run(manifest, output, settings, data_root=data_root, initial=initial, overwrite=overwrite)


@train_app.command(name="on-the-fly")
def on_the_fly(
    thick: Path,
    /,
    *,
    region: Path,
    output: Path,
    settings: Annotated[OnTheFlySettings, Parameter(name="*")] = OnTheFlySettings(),  # noqa: B008
    model: str = "shipped",
    restored: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Fit a network to a thin-slice region of a patient, for the rest of the same patient.

    An interrupted fit goes on where it stopped when the same command is run again.

    Parameters
    ----------
    thick
        Thick slices of the whole along the volume's first axis (z), NIfTI, HU.
    region
        Thin slices of a part of it, in the same frame of reference, NIfTI, HU.
    output
        MODEL_DIR to write: weights.safetensors, model.json, MODEL_CARD.md, metrics.jsonl.
    settings
        Pairs and schedule.
    model
        MODEL_DIR that the fit starts from, or 'shipped' (the network in the package).
    restored
        Volume to write of the thick slices restored by the fitted model, .nii or .nii.gz.
    overwrite
        Replace existing outputs.
    """
    from stages.super_resolution.on_the_fly_stage import train_on_the_fly as run

    run(
        thick,
        output,
        settings,
        region=region,
        model=model,
        restored=restored,
        overwrite=overwrite,
    )


@train_app.command(name="tensorboard")
def view_metrics(model: Path, /, *, output: Path, overwrite: bool = False) -> None:
    """Write the metrics of a training as logs for TensorBoard.

    Needs the package of 'ct2flow[tensorboard]'; then: tensorboard --logdir LOGS

    Parameters
    ----------
    model
        MODEL_DIR, or the folder MODEL_DIR.training of a training that runs.
    output
        Folder to write, with one event file.
    overwrite
        Replace an existing output.
    """
    from stages.super_resolution.stage import view_metrics as run

    run(model, output, overwrite=overwrite)


@restore_app.default
def restore(
    volume: Path,
    /,
    *,
    model: list[str],
    output: Path,
    settings: Annotated[RestorationSettings, Parameter(name="*")] = RestorationSettings(),  # noqa: B008
    sigma: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Restore the thin slices of a volume of thick ones.

    Parameters
    ----------
    volume
        Thick slices along the volume's first axis (z), NIfTI, HU.
    model
        MODEL_DIR, 'shipped' (the network in the package), or linear, spline or histospline. Given
        several times: the mean of these networks.
    output
        Restored volume, .nii or .nii.gz.
    settings
        Factor, rounding and arithmetic.
    sigma
        Volume to write of the standard deviation, HU: the noise that models trained with --loss nll
        predict and, of several models, how far they differ.
    overwrite
        Replace an existing output.
    """
    from stages.super_resolution.stage import restore as run

    run(volume, output, settings, model=model, sigma=sigma, overwrite=overwrite)


@export_app.default
def export_onnx(
    model: str, /, *, output: Path, edge: int | None = None, overwrite: bool = False
) -> None:
    """Write a model as ONNX: HU in, HU out, any in-plane size, conventions in the metadata.

    Needs the packages of 'ct2flow[onnx]'. The file is checked against torch.

    Parameters
    ----------
    model
        MODEL_DIR, or 'shipped' (the network in the package).
    output
        ONNX file to write.
    edge
        Rows and columns, pixels, of a file for one in-plane size alone, which swinir needs.
    overwrite
        Replace an existing output.
    """
    from stages.super_resolution.stage import export

    export(model, output, edge=edge, overwrite=overwrite)
