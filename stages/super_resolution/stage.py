"""Read volumes, restore their thin slices, and write them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.core.artefacts import digest, publish, read_sidecar
from pipeline.core.errors import InputError, UsageError
from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume, read_volume, write_volume
from stages.super_resolution.baselines import checked_factor, thin_grid
from stages.super_resolution.cases import check_finite
from stages.super_resolution.checkpoint import METRICS
from stages.super_resolution.description import STAGE
from stages.super_resolution.ensemble import combine
from stages.super_resolution.model import chosen_device, chosen_precision
from stages.super_resolution.model_choice import ModelChoice, choose_models, model_folder
from stages.super_resolution.model_io import load_model
from stages.super_resolution.positions import ThickSlices, target_grid
from stages.super_resolution.restoration import Arithmetic, Restored
from stages.super_resolution.settings import RestorationSettings
from stages.super_resolution.training_stage import (
    SHIPPED,
    SHIPPED_FOLDER,
    TOLERANCE,
    train,
    use_threads,
)
from stages.super_resolution.volume_restoration import (
    Restorer,
    restore_at_spacing,
    restore_stack,
    to_whole_hu,
)

__all__ = ["SHIPPED", "SHIPPED_FOLDER", "export", "restore", "train", "view_metrics"]

_FINER = 0.8
"""Below this share of the model's own thin slices the wanted ones are interpolated, and it is said."""


def restore(
    volume: Path,
    output: Path,
    settings: RestorationSettings,
    *,
    model: str | Sequence[str],
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
        ``linear``, ``spline``, ``histospline``; or ``shipped`` and MODEL_DIRs, of several of which
        the mean is taken.
    sigma
        Volume to write of the standard deviation, HU: what the models predict of the noise and, of
        several, how far they differ; None: none.
    overwrite
        Replace an existing output.

    Raises
    ------
    InputError
        If volume or model are unusable.
    UsageError
        If the output exists, the factor is even or not the models', or there is no sigma.
    """
    use_threads(settings.threads)
    factor = checked_factor(settings.factor)
    choice = choose_models([model] if isinstance(model, str) else model, factor)
    _check_sigma(sigma, choice)
    network, name = bool(choice.models), choice.name
    device = chosen_device(settings.device) if network else "cpu"
    precision = chosen_precision(settings.precision, device)
    arithmetic = Arithmetic(settings.tile, precision, settings.symmetries)
    restorers = [
        Restorer(name, factor, member, arithmetic, device, settings.consistent)
        for member in choice.models or (None,)
    ]
    restorer = restorers[0]
    publish_volume = partial(
        publish,
        kind="volume",
        stage=STAGE,
        settings={**settings.model_dump(mode="json"), "model": name},
        inputs={volume.name: digest(volume)} | dict(choice.digests),
        device=device,
        tolerance=TOLERANCE if network else None,
        overwrite=overwrite,
    )
    with ExitStack() as outputs:
        pending = outputs.enter_context(publish_volume(output))
        second = outputs.enter_context(publish_volume(sigma)) if sigma else None
        thick = read_volume(volume)
        check_finite(thick, volume)
        thickness = _thickness_mm(volume, thick.grid, settings)
        pending.warnings += _position_warnings(thick.grid, thickness, settings, restorer)
        facts = {"method": name, "factor": restorer.slices} | _spacing_facts(settings, thickness)
        if len(restorers) == 1:
            grid, found = _restored(thick, thickness, settings, restorer, wants_sigma=bool(sigma))
        else:
            grid, found = _restored_by_all(thick, thickness, settings, restorers, choice.weights)
            facts["members"] = len(restorers)
        pending.properties |= facts | ({"precision": precision} if network else {})
        if second is not None and found.sigma is not None:
            second.properties |= {"quantity": "sigma_hu", **facts}
            write_volume(second.path, Volume(found.sigma, grid))
        write_volume(pending.path, Volume(found.values, grid))


def export(model: str, output: Path, *, edge: int | None = None, overwrite: bool = False) -> None:
    """Write a model as ONNX and say how far it is from torch.

    Parameters
    ----------
    model
        MODEL_DIR or ``shipped``.
    output
        ONNX file.
    edge
        Rows and columns of the only in-plane size; None: any size.
    overwrite
        Replace an existing output.

    Raises
    ------
    InputError
        If the model is unusable.
    UsageError
        If the output exists or does not end in .onnx, a package is missing, or the network cannot
        be exported so.
    """
    from stages.super_resolution.onnx_export import export_onnx

    if output.suffix != ".onnx":
        raise UsageError(f"{output.name}: the output must end in .onnx; rename it.")
    folder = model_folder(model)
    with publish(
        output,
        kind="onnx",
        stage=STAGE,
        settings={"edge": edge},
        inputs=[folder],
        tolerance="the graph's weights are the model's; its layout is the exporter's",
        overwrite=overwrite,
    ) as pending:
        found, difference_hu = export_onnx(load_model(folder), edge=edge)
        pending.path.write_bytes(found)
        pending.properties |= {"difference_from_torch_max_hu": difference_hu}


def view_metrics(model: Path, output: Path, *, overwrite: bool = False) -> None:
    """Write the metrics of a training as a folder of logs for TensorBoard.

    Parameters
    ----------
    model
        MODEL_DIR, or the folder of a training that runs (MODEL_DIR.training).
    output
        Folder to write.
    overwrite
        Replace an existing output.

    Raises
    ------
    InputError
        If the folder holds no metrics.jsonl, or it is none.
    UsageError
        If the output exists or the package tensorboard is missing.
    """
    from stages.super_resolution.metrics_view import EVENTS, event_file, read_metrics

    path = model / METRICS
    if not path.is_file():
        raise InputError(
            f"{model.name}: holds no {METRICS}; give a MODEL_DIR that 'ct2flow train' wrote, or "
            "the folder MODEL_DIR.training of one that runs."
        )
    with publish(
        output,
        kind="tensorboard",
        stage=STAGE,
        settings={},
        inputs=[path],
        overwrite=overwrite,
        folder=True,
    ) as pending:
        scalars = read_metrics(path.read_text(), f"{model.name}/{METRICS}")
        (pending.path / EVENTS).write_bytes(event_file(scalars))
        pending.properties |= {"steps": scalars[-1].step, "numbers": len(scalars)}


def _restored(
    thick: Volume,
    thickness_mm: float,
    settings: RestorationSettings,
    restorer: Restorer,
    *,
    wants_sigma: bool,
) -> tuple[VoxelGrid, Restored]:
    """Restore on the grid that the settings ask for."""
    if settings.spacing_mm is None:
        slices = restorer.slices
        grid = thick.grid if slices == 1 else thin_grid(thick.grid, slices)
        return grid, restore_stack(
            thick.values, restorer, whole_hu=settings.whole_hu, wants_sigma=wants_sigma
        )
    grid = target_grid(thick.grid, settings.spacing_mm)
    found = restore_at_spacing(
        thick.values,
        ThickSlices(len(thick.values), thick.grid.spacing_mm[0], thickness_mm),
        restorer,
        spacing_mm=settings.spacing_mm,
        count=grid.shape[0],
        wants_sigma=wants_sigma,
    )
    return grid, replace(found, values=to_whole_hu(found.values)) if settings.whole_hu else found


def _restored_by_all(
    thick: Volume,
    thickness_mm: float,
    settings: RestorationSettings,
    restorers: Sequence[Restorer],
    weights: Sequence[float],
) -> tuple[VoxelGrid, Restored]:
    """Restore by each model; return the mean, rounded last, and the standard deviation."""
    exact = settings.model_copy(update={"whole_hu": False})
    grids: list[VoxelGrid] = []

    def restore_each() -> Iterator[Restored]:
        for restorer in restorers:
            noisy = restorer.model is not None and restorer.model.layout.predicts_variance
            grid, found = _restored(thick, thickness_mm, exact, restorer, wants_sigma=noisy)
            grids.append(grid)
            yield found

    found = combine(restore_each(), weights)
    return grids[0], replace(
        found, values=to_whole_hu(found.values)
    ) if settings.whole_hu else found


def _thickness_mm(path: Path, grid: VoxelGrid, settings: RestorationSettings) -> float:
    """Return the thickness that was given, else recorded, else the spacing."""
    recorded = read_sidecar(path).get("properties", {}).get("slice_thickness_mm")
    known = isinstance(recorded, (int, float)) and recorded > 0
    return settings.thickness_mm or (float(recorded) if known else grid.spacing_mm[0])


def _spacing_facts(settings: RestorationSettings, thickness_mm: float) -> dict[str, Any]:
    if settings.spacing_mm is None:
        return {}
    return {"thick_slice_thickness_mm": thickness_mm, "slice_thickness_mm": settings.spacing_mm}


def _position_warnings(
    grid: VoxelGrid, thickness_mm: float, settings: RestorationSettings, restorer: Restorer
) -> list[str]:
    """Say where slices do not touch but are taken to, and where finer slices hold no more detail."""
    spacing = grid.spacing_mm[0]
    if settings.spacing_mm is None:
        if ThickSlices(grid.shape[0], spacing, thickness_mm).ratio == 1.0:
            return []
        return [
            f"the slices are {thickness_mm:g} mm thick every {spacing:g} mm and were taken to "
            "touch; give --spacing-mm to restore them by their thickness and true positions"
        ]
    made = spacing / restorer.slices
    if restorer.model is None or settings.spacing_mm > _FINER * made:
        return []
    return [
        f"the model makes slices of {made:g} mm; those of {settings.spacing_mm:g} mm are "
        "interpolated between them"
    ]


def _check_sigma(sigma: Path | None, choice: ModelChoice) -> None:
    if sigma is not None and not choice.gives_sigma:
        raise UsageError(
            f"--sigma: one {choice.name} predicts no standard deviation; leave it out, give "
            "several models, or one trained with --loss nll.",
            model=choice.name,
        )
