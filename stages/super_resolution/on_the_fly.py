"""Fit a network to the thin slices of one patient's region, to restore the rest of the patient.

The region's thin slices are what is true. What the network sees above them is either the thick
slices that the scanner measured, whose profile nobody needs to know, or thick slices simulated
from the thin ones, where the patient moved between the scans.

References
----------
Hendriksen et al., On-the-fly machine learning for improving image resolution in tomography, Applied
Sciences 9 (2019) 2445, doi:10.3390/app9122445.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from jaxtyping import Shaped
from numpy.random import Generator
from torch import nn

from pipeline.core.errors import InputError, UsageError
from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume
from stages.super_resolution.channels import paired_channels
from stages.super_resolution.degradation import degrade
from stages.super_resolution.layout import Layout
from stages.super_resolution.losses import ADVERSARIAL
from stages.super_resolution.model import Model
from stages.super_resolution.patches import WINDOW, Channels, PatchCentre, PatchSampler, span
from stages.super_resolution.region import Agreement, Region
from stages.super_resolution.restoration import slice_inputs
from stages.super_resolution.settings import OnTheFlySettings, TrainingSettings, parse_loss
from stages.super_resolution.training_volumes import TrainingVolume, prepare_volume
from stages.super_resolution.validation import ValidationCase, validation_case

REGION = "region"
_EDGE_FRACTION = 0.1
"""Share of patches centred on walls, few: half would be level ones, whose place between two slices
nothing shows; a small region's are learnt by heart."""


@dataclass(frozen=True)
class MeasuredVolume(TrainingVolume):
    """Hold thin slices with the thick slices measured above them; cell 0 is thick slice `first`."""

    thick: Shaped[np.ndarray, "thick y x"]
    first: int


@dataclass(frozen=True)
class MeasuredSampler(PatchSampler):
    """Draw patches of thin slices and of the thick ones measured above them."""

    volumes: Sequence[MeasuredVolume]

    def _channels(self, centre: PatchCentre, rng: Generator) -> Channels:
        """Draw thick slices around a point, and the thin ones of the cell that it lies in."""
        values, spacing_mm, point = self._turned(centre)
        pair, slices = self.volumes[centre.volume], self.layout.slices
        thick, edge_mm = pair.thick.transpose(centre.axes), self.draw_edge_mm(rng)
        cell = min(int(point[0]), len(values) - 1) // slices
        rows = span(point[1], edge_mm / spacing_mm[1], values.shape[1])
        columns = span(point[2], edge_mm / spacing_mm[2], values.shape[2])
        start = max(0, pair.first + cell - WINDOW)
        window = thick[start : pair.first + cell + WINDOW + 1, rows, columns]
        true = values[slices * cell : slices * (cell + 1), rows, columns]
        return lambda: paired_channels(
            window.astype(np.float32),
            pair.first + cell - start,
            true.astype(np.float32),
            self.layout,
        )


def check_view(layout: Layout) -> None:
    """Refuse a model that sees upright planes: a region of few slices shows only parts of them.

    Raises
    ------
    UsageError
        If the model is of view upright.
    """
    if layout.is_upright:
        raise UsageError(
            "--model: it sees sagittal and coronal planes, of which a region shows only parts; "
            "give a model trained with --view axial."
        )


def takes_measured(settings: OnTheFlySettings, agreement: Agreement) -> bool:
    """Say whether the network learns from measured thick slices.

    Raises
    ------
    InputError
        If they are asked for and do not agree with the region.
    """
    if settings.pairs == "simulated" or (settings.pairs == "auto" and not agreement.is_good):
        return False
    if not agreement.is_good:
        z, y, x = agreement.displaced
        raise InputError(
            "The thick slices do not agree with the region where both say they lie: it explains "
            f"{agreement.explained:.0%} of them and lies {z}, {y}, {x} slices, rows and columns "
            "beside where it agrees better. The patient moved or is another; register the region, "
            "or give --pairs simulated.",
            explained=agreement.explained,
        )
    return True


def training_settings(
    model: Model, trained: Mapping[str, Any], region: Region, settings: OnTheFlySettings
) -> TrainingSettings:
    """Return the settings of the fit: the model's loss, patches as this scan has them.

    Parameters
    ----------
    model
        Model that is fitted.
    trained
        Settings that it was trained with, as its description says.
    region
        Thin slices on the restored grid.
    settings
        Settings of the fit.
    """
    layout, spacing_mm = model.layout, float(np.mean(region.spacing_mm[1:]))
    terms = parse_loss(trained.get("loss", "charbonnier"))
    # The opponent of an adversarial loss is not kept with a model: its other terms remain.
    loss = "+".join(f"{weight:f}*{name}" for name, weight in terms.items() if name != ADVERSARIAL)
    return TrainingSettings(
        network=model.name,  # type: ignore[arg-type]
        factor=layout.factor,
        context=layout.context,
        stride=layout.slices,
        loss=loss,
        wall_weight=trained.get("wall_weight", 1.0),
        pixel_spacing_min_mm=spacing_mm,
        pixel_spacing_max_mm=spacing_mm,
        noise_hu=trained.get("noise_hu", 0.0),
        shift_hu=trained.get("shift_hu", 0.0),
        all_axes=False,
        edge_fraction=_EDGE_FRACTION,
        report_interval=settings.validation_interval,
        **settings.model_dump(exclude={"pairs", "held_out"}),
    )


class _FrozenBatchNorm(nn.BatchNorm2d):
    """Normalise by the statistics of the first training, whatever the batch holds."""

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002, ARG002 -- torch's own
        return super().train(mode=False)


def freeze_statistics(network: nn.Module) -> None:
    """Keep the statistics of batch normalisation while weights are fitted, in place.

    The patches of one small region have others than whole slices: fitted to them, the network is
    worse on the slices than before it learnt anything.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            # The class holds no weights of its own: names and values stay those of the model.
            module.__class__ = _FrozenBatchNorm


def split_cells(region: Region, layout: Layout, held_out: float) -> tuple[int, int]:
    """Return how many cells are learnt from, and how many at the region's end judge."""
    cells = region.cells(layout.slices)
    judging = max(1, round(held_out * cells))
    return cells - judging, judging


def make_sampler(
    region: Region, model: Model, settings: TrainingSettings, learning: int, *, measured: bool
) -> PatchSampler:
    """Return the source of patches from the first cells of the region.

    Parameters
    ----------
    region
        Thin slices on the restored grid.
    model
        Model that is fitted.
    settings
        Settings of the fit.
    learning
        Cells that are learnt from.
    measured
        Whether the network sees measured thick slices.
    """
    thin = region.thin[: learning * model.layout.slices]
    rows, columns = thin.shape[1:]
    grid = VoxelGrid((len(thin), rows, columns), region.spacing_mm)
    volume = prepare_volume(REGION, Volume(thin, grid), np.random.default_rng([settings.seed, 0]))
    if not measured:
        return PatchSampler([volume], model.layout, model.normalisation, settings)
    pair = MeasuredVolume(**vars(volume), thick=region.thick, first=region.first)
    return MeasuredSampler([pair], model.layout, model.normalisation, settings)


def held_out_case(
    region: Region, model: Model, learning: int, *, measured: bool
) -> ValidationCase:
    """Return the cells after those learnt from, seen as the fitted model will see the rest.

    Parameters
    ----------
    region
        Thin slices on the restored grid.
    model
        Model that is fitted.
    learning
        Cells that are learnt from.
    measured
        Whether the thick slices are the measured ones; else they are simulated from the thin ones.
    """
    layout, slices = model.layout, model.layout.slices
    judged = list(range(learning, region.cells(slices)))
    if measured:
        thick, indices = region.thick, [region.first + cell for cell in judged]
    else:
        thick, indices = degrade(region.thin, layout.profile_taps, slices), judged
    inputs = np.stack(list(slice_inputs(thick, indices, model)))
    true = region.thin[slices * learning :].reshape(len(judged), slices, *region.thin.shape[1:])
    return validation_case(REGION, inputs, true, layout)


def fitted_layout(layout: Layout, *, measured: bool) -> Layout:
    """Return what the fitted model makes.

    A network that learnt the scanner's own profile is not made to agree with the profile that the
    model assumed before.
    """
    return replace(layout, consistent=False) if measured else layout
