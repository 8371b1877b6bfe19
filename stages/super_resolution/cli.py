"""Commands that train a network and restore thin slices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from stages.super_resolution.settings import RestorationSettings, TrainingSettings

train_app = App(name="train", help="Train a network.")
restore_app = App(name="restore", help="Restore thin slices.")


@train_app.default
def train(
    manifest: Path,
    /,
    *,
    output: Path,
    settings: Annotated[TrainingSettings, Parameter(name="*")] = TrainingSettings(),  # noqa: B008
    data_root: Path | None = None,
    initial: Path | None = None,
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
    overwrite
        Replace an existing output.
    """
    from stages.super_resolution.stage import train as run

    run(manifest, output, settings, data_root=data_root, initial=initial, overwrite=overwrite)


@restore_app.default
def restore(
    volume: Path,
    /,
    *,
    model: str,
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
        MODEL_DIR, 'shipped' (the network in the package), or linear, spline or histospline.
    output
        Restored volume, .nii or .nii.gz.
    settings
        Factor, rounding and arithmetic.
    sigma
        Volume to write of the predicted standard deviation, HU (models trained with --loss nll).
    overwrite
        Replace an existing output.
    """
    from stages.super_resolution.stage import restore as run

    run(volume, output, settings, model=model, sigma=sigma, overwrite=overwrite)
