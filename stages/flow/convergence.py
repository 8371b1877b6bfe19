"""When a run may end: steady within a tolerance, statistically steady, or at its limit."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

MAX_IMBALANCE = 1e-3
"""Largest relative difference of inflow, outflow and target of a converged run."""
_STATIONARY_IMBALANCE = 5e-3
"""The same of an unsteady flow, whose windows' means still vary."""
_STATIONARY_CHANGE = 0.01
"""A flow is statistically steady when the means of the two halves of its last windows differ by less, and its
mean is known within that: large scatter agrees by chance."""
_STATIONARY_WINDOWS = 3
_FADING = 0.5
"""Scatter that falls below this share of what it was two windows before is a transient on its way out."""
_UNSTEADY_SCATTER = 2e-3
"""A flow whose loss varies less within a window, relative to it, is on its way to be steady."""
RAMP_WINDOWS = 1.0
"""The flow rate is raised over this many windows, so that no pressure wave breaks the run."""


@dataclass(frozen=True)
class Sample:
    """Hold one reading of a run, SI units.

    Parameters
    ----------
    time_s
        Physical time.
    flux_m3_s
        Mass flow over density through each opening, in the direction of the flow.
    static_pa, total_pa
        Flux-weighted pressures of each opening.
    """

    time_s: float
    flux_m3_s: Float[np.ndarray, "opening"]
    static_pa: Float[np.ndarray, "opening"]
    total_pa: Float[np.ndarray, "opening"]

    def loss_pa(self, inlet: Bool[np.ndarray, "opening"]) -> tuple[float, float]:
        """Return static and total pressure loss, flux-weighted inlets minus outlets."""
        weight = np.empty(len(inlet))
        for side in (inlet, ~inlet):
            flux = self.flux_m3_s[side]
            usable = abs(flux.sum()) > 1e-3 * np.abs(flux).sum()
            weight[side] = flux / flux.sum() if usable else 1 / len(flux)
        signed = np.where(inlet, weight, -weight)
        return (
            float(signed @ self.static_pa),
            float(signed @ self.total_pa),
        )


@dataclass(frozen=True)
class Means:
    """Hold the means of a stretch of samples; the parameters are those of `Sample`.

    Parameters
    ----------
    loss_pa
        Static and total pressure loss, flux-weighted inlets minus outlets.
    scatter_pa
        Standard deviation of the total loss in time.
    """

    flux_m3_s: Float[np.ndarray, "opening"]
    static_pa: Float[np.ndarray, "opening"]
    total_pa: Float[np.ndarray, "opening"]
    loss_pa: tuple[float, float]
    scatter_pa: float

    def outlet_pa(self, inlet: Bool[np.ndarray, "opening"]) -> float:
        """Return the flux-weighted static pressure of the outlets."""
        flux, static = self.flux_m3_s[~inlet], self.static_pa[~inlet]
        weight = flux / flux.sum() if flux.sum() != 0 else np.full(len(flux), 1 / len(flux))
        return float(weight @ static)


@dataclass(frozen=True)
class State:
    """Say how far a run has converged.

    Parameters
    ----------
    change
        Largest relative difference of the total loss between the last window's mean and those of the halves
        of the last windows, two or more.
    imbalance
        Relative difference of inflow, outflow and target.
    stationary
        Whether the flow is unsteady but its windows no longer drift.
    mean_error
        Relative standard error of the last window's mean loss if the flow is stationary, by the method of
        batch means over half windows, taken as independent [1]_.

    References
    ----------
    .. [1] Flyvbjerg & Petersen (1989), J. Chem. Phys. 91, 461, doi:10.1063/1.457480.
    """

    change: float
    imbalance: float
    stationary: bool
    mean_error: float | None = None

    def reached(self, tolerance: float) -> bool:
        """Return whether the flow is steady within the tolerances."""
        return self.change < tolerance and self.imbalance < MAX_IMBALANCE


class History:
    """Collect the samples of a run.

    Parameters
    ----------
    inlet
        Whether each opening is an inlet.
    window_s
        Length of an averaging window.
    judged
        Windows whose halves must agree: whole windows do by chance where the loss turns between them. Two
        suffice on the way up from rest; a run that began with another lattice's flow passes plateaus while
        that turns into its own.
    since_s
        When the run began, or went back last: one window later the flow is judged.
    """

    def __init__(
        self,
        inlet: Bool[np.ndarray, "opening"],
        window_s: float,
        judged: int = 2,
        since_s: float = 0.0,
    ) -> None:
        self._inlet, self._judged = inlet, judged
        self._window_s, self._since_s = window_s, since_s
        self._times: list[float] = []
        self._samples: list[Sample] = []
        self._losses: list[tuple[float, float]] = []

    def append(self, sample: Sample) -> None:
        """Add a sample; times increase."""
        self._times.append(sample.time_s)
        self._samples.append(sample)
        self._losses.append(sample.loss_pa(self._inlet))

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Return all samples, the first one first."""
        return tuple(self._samples)

    def window(self, age: float = 0.0, share: float = 1.0) -> Means | None:
        """Return the means of a share of a window that ended `age` windows ago; None within the ramp."""
        if not self._times:
            return None
        end = self._times[-1] - age * self._window_s
        begin = end - share * self._window_s
        if begin < self._since_s + RAMP_WINDOWS * self._window_s:
            return None
        first, last = bisect_right(self._times, begin), bisect_right(self._times, end)
        return self._means(first, last) if last > first else None

    def latest(self) -> Means:
        """Return the means over the last window, however short the run was."""
        return self.window() or self._means(len(self._times) - 1, len(self._times))

    def _means(self, first: int, last: int) -> Means:
        inside = self._samples[first:last]
        losses = np.array(self._losses[first:last])
        return Means(
            np.mean([s.flux_m3_s for s in inside], axis=0),
            np.mean([s.static_pa for s in inside], axis=0),
            np.mean([s.total_pa for s in inside], axis=0),
            (float(losses[:, 0].mean()), float(losses[:, 1].mean())),
            float(losses[:, 1].std()),
        )

    def state(self, target_m3_s: float) -> State:
        """Judge the run so far."""
        later = self.window()
        judged = self._halves(self._judged)
        if later is None or len(judged) < 2 * self._judged:
            return State(np.inf, np.inf, stationary=False)
        scale = max(abs(later.loss_pa[1]), 1e-12)
        change = max(abs(later.loss_pa[1] - half.loss_pa[1]) for half in judged) / scale
        inflow = float(later.flux_m3_s[self._inlet].sum())
        outflow = float(later.flux_m3_s[~self._inlet].sum())
        imbalance = max(abs(inflow - outflow), abs(outflow - target_m3_s)) / target_m3_s
        unsteady = (
            later.scatter_pa > _UNSTEADY_SCATTER * scale and imbalance < _STATIONARY_IMBALANCE
        )
        error = self._mean_error(scale) if unsteady else None
        return State(change, imbalance, stationary=error is not None, mean_error=error)

    def _halves(self, windows: int) -> list[Means]:
        """Return the means of the halves of the last windows, the latest first, as far as there are."""
        means = (self.window(age / 2, share=0.5) for age in range(2 * windows))
        return [half for half in means if half is not None]

    def _mean_error(self, scale: float) -> float | None:
        """Return the relative standard error of the last window's mean; None if it is not stationary."""
        losses = [half.loss_pa[1] for half in self._halves(_STATIONARY_WINDOWS)]
        first, last = self.window(_STATIONARY_WINDOWS - 1), self.window()
        if len(losses) < 2 * _STATIONARY_WINDOWS or first is None or last is None:
            return None
        steps = np.sign(np.diff(losses))
        drifting = bool(np.all(steps == steps[0]))
        fading = last.scatter_pa < _FADING * first.scatter_pa
        middle = len(losses) // 2
        change = abs(np.mean(losses[:middle]) - np.mean(losses[middle:])) / scale
        error = float(np.std(losses, ddof=1)) / np.sqrt(2) / scale
        settled = not drifting and not fading and max(change, error) < _STATIONARY_CHANGE
        return error if settled else None
