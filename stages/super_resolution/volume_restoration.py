"""Restore whole volumes: on the grid of the thin slices, or at any spacing by true positions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Shaped

from pipeline.core.progress import track
from stages.super_resolution.baselines import apply_operator, linear_weights, restore_baseline
from stages.super_resolution.consistency import make_consistent
from stages.super_resolution.degradation import degrade
from stages.super_resolution.layout import Layout
from stages.super_resolution.model import Model
from stages.super_resolution.positions import (
    ThickSlices,
    agree,
    baseline_at,
    measurement_operator,
    resampling_operator,
)
from stages.super_resolution.restoration import Arithmetic, Restored, restore_volume
from stages.super_resolution.upright import restore_upright

HISTOSPLINE = "histospline"
_BOX = Layout(3, 1, "box")
"""What thick slices are taken for where no model says more: means over their thickness."""


@dataclass(frozen=True)
class Restorer:
    """Choose what restores, and how.

    Parameters
    ----------
    method
        ``linear``, ``spline`` or ``histospline``; anything else where a model is given.
    factor
        Thin slices per thick slice, odd.
    model
        Network with its layout and normalisation; None: the baseline.
    arithmetic
        Tiles, precision and symmetries of a network.
    device
        Where a network computes.
    consistent
        Whether restored slices are made to agree with the measured ones; None: as the model was
        trained, and for the histospline where slices do not just touch.
    """

    method: str
    factor: int
    model: Model | None = None
    arithmetic: Arithmetic = field(default_factory=Arithmetic)
    device: str = "cpu"
    consistent: bool | None = None

    @property
    def slices(self) -> int:
        """Return the number of thin slices per thick one."""
        return self.model.layout.slices if self.model else self.factor


def restore_stack(
    thick: Shaped[np.ndarray, "thick y x"],
    restorer: Restorer,
    *,
    whole_hu: bool = False,
    wants_sigma: bool = False,
) -> Restored:
    """Restore the thin slices of contiguous thick ones, a whole number for each.

    Parameters
    ----------
    thick
        Thick slices, HU.
    restorer
        Baseline or network.
    whole_hu
        Round to int16.
    wants_sigma
        Keep the standard deviation that the network predicts.
    """
    if restorer.model is None:
        thin = restore_baseline(thick, restorer.method, factor=restorer.factor)
        return Restored(to_whole_hu(thin) if whole_hu else thin, None)
    layout = restorer.model.layout
    asked = layout.is_consistent if restorer.consistent is None else restorer.consistent
    # A profile wider than a slice binds neighbours together, and an upright plane holds them all:
    # their agreement is made afterwards.
    afterwards = asked and (layout.is_upright or not layout.is_compact_box)
    found = _by_network(
        thick,
        restorer,
        consistent=asked and not afterwards,
        whole_hu=whole_hu and not afterwards,
        wants_sigma=wants_sigma,
    )
    thin = make_consistent(found.values, thick, layout) if afterwards else found.values
    return Restored(to_whole_hu(thin) if whole_hu else thin, found.sigma if wants_sigma else None)


def restore_at_spacing(
    thick: Shaped[np.ndarray, "thick y x"],
    places: ThickSlices,
    restorer: Restorer,
    *,
    spacing_mm: float,
    count: int,
    wants_sigma: bool = False,
) -> Restored:
    """Restore thin slices of a wanted spacing from thick ones at their true positions.

    Parameters
    ----------
    thick
        Thick slices, HU.
    places
        Where they lie and how thick they are.
    restorer
        Baseline or network.
    spacing_mm
        Spacing of the thin slices, which need not divide that of the thick ones.
    count
        Their number, from the first face of the stack.
    wants_sigma
        Interpolate the standard deviation that the network predicts.

    Notes
    -----
    A network sees what it was trained on: a stack whose slices are as thick, relative to their
    spacing, as its own. Where the scan's are not, such a stack is measured from the histospline that
    agrees with the scan. The network makes its whole number of thin slices; their cells are averaged
    into the wanted ones; these are made to agree with the scan.
    """
    if restorer.model is None:
        base = apply_operator(baseline_at(places, restorer.method, spacing_mm, count), thick)
        wanted = restorer.method == HISTOSPLINE and places.ratio != 1.0
        asked = wanted if restorer.consistent is None else restorer.consistent
        return Restored(_agreeing(base, thick, places, _BOX, spacing_mm) if asked else base, None)
    layout = restorer.model.layout
    stack = _stack_of_the_model(thick, places, layout)
    cell_mm, cells = places.spacing_mm / layout.slices, len(thick) * layout.slices
    operator = resampling_operator(cells, cell_mm, spacing_mm, count)
    fine = restore_stack(stack, restorer, wants_sigma=wants_sigma)
    thin, sigma = apply_operator(operator, fine.values), fine.sigma
    del stack, fine  # each is as large as the result
    if layout.is_consistent if restorer.consistent is None else restorer.consistent:
        thin = _agreeing(thin, thick, places, layout, spacing_mm)
    if sigma is None:
        return Restored(thin, None)
    centres = (np.arange(count) + 0.5) * spacing_mm / cell_mm
    return Restored(thin, apply_operator(linear_weights(cells, centres), sigma))


def to_whole_hu(values_hu: Shaped[np.ndarray, "z y x"]) -> Shaped[np.ndarray, "z y x"]:
    """Round to int16; what exceeds it is cut off."""
    if values_hu.dtype == np.int16:
        return values_hu
    limits = np.iinfo(np.int16)
    whole: Shaped[np.ndarray, "z y x"] = np.rint(values_hu).clip(limits.min, limits.max)
    return whole.astype(np.int16)


def _by_network(
    thick: Shaped[np.ndarray, "thick y x"],
    restorer: Restorer,
    *,
    consistent: bool,
    whole_hu: bool,
    wants_sigma: bool,
) -> Restored:
    assert restorer.model is not None
    model = replace(restorer.model, network=restorer.model.network.to(restorer.device))
    if model.layout.is_upright:
        return restore_upright(model, thick, restorer.arithmetic, device=restorer.device)
    slices = restore_volume(
        model, thick, restorer.arithmetic, device=restorer.device, consistent=consistent
    )
    return _stacked(
        track(slices, "restore", total=len(thick)),
        (len(thick) * model.layout.slices, *thick.shape[1:]),
        whole_hu=whole_hu,
        wants_sigma=wants_sigma,
    )


def _stacked(
    slices: Iterable[Restored], shape: tuple[int, ...], *, whole_hu: bool, wants_sigma: bool
) -> Restored:
    """Put the thin slices together as they come; whole HU take half the memory."""
    thin = np.empty(shape, np.int16 if whole_hu else np.float32)
    sigma = np.empty(shape, np.float32) if wants_sigma else None
    start = 0
    for restored in slices:
        cell = slice(start, start + len(restored.values))
        thin[cell] = to_whole_hu(restored.values) if whole_hu else restored.values
        if sigma is not None:
            sigma[cell] = restored.sigma
        start = cell.stop
    return Restored(thin, sigma)


def _stack_of_the_model(
    thick: Shaped[np.ndarray, "thick y x"], places: ThickSlices, layout: Layout
) -> Shaped[np.ndarray, "thick y x"]:
    """Return slices as thick, relative to their spacing, as those the model was trained on."""
    if np.isclose(places.ratio, layout.factor / layout.slices, rtol=1e-2):
        return thick
    cell_mm = places.spacing_mm / layout.slices
    count = len(thick) * layout.slices
    base = apply_operator(baseline_at(places, HISTOSPLINE, cell_mm, count), thick)
    fine = _agreeing(base, thick, places, layout, cell_mm)
    return degrade(fine, layout.profile_taps, layout.slices)


def _agreeing(
    thin: Float[np.ndarray, "thin y x"],
    thick: Shaped[np.ndarray, "thick y x"],
    places: ThickSlices,
    layout: Layout,
    spacing_mm: float,
) -> Float[np.ndarray, "thin y x"]:
    forward, inside = measurement_operator(
        places, layout.profile_taps, spacing_mm, len(thin), factor=layout.factor
    )
    return agree(thin, thick, forward, inside, damped=places.ratio > 1.0)
