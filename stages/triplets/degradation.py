"""Degrade thin slices to thick ones: a linear operator along the slice axis.

With taps w(i), i = -h ... h, that sum to 1, stride s, and thin slices x:

    y(j) = sum over i of w(i) x(c(j) + i),    c(j) = c(0) + s j.

Thick slice j stands for the s thin slices around c(j), and lies at their centroid. Only thick
slices whose profile lies wholly inside the scan are made: nothing is padded.

References
----------
McCollough and Zink, "Performance evaluation of a multi-slice CT system", Medical Physics 26
(1999) 2223-2230, doi:10.1118/1.598777 (slice-sensitivity profiles and their width).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Shaped

from pipeline.core.errors import InputError
from pipeline.core.geometry import VoxelGrid

_GAUSSIAN_REACH = 1.5
"""Half-length of the Gaussian's taps in widths; the profile is 0.2 % of its peak there."""


@dataclass(frozen=True)
class SlicePlan:
    """Say which thin slices make and belong to which thick slice.

    Parameters
    ----------
    first
        Index of the first thin slice that belongs to a thick one.
    count
        Number of thick slices.
    stride
        Thin slices that belong to each thick slice.
    reach
        Taps on either side of the centre.
    """

    first: int
    count: int
    stride: int
    reach: int

    @property
    def thin_count(self) -> int:
        """Return the number of thin slices that belong to thick ones."""
        return self.count * self.stride

    def centre(self, thick: int) -> int:
        """Return the thin slice in the middle of a thick one, as an index of the whole scan."""
        return self.first + (self.stride - 1) // 2 + thick * self.stride


def profile_taps(profile: str, factor: int) -> Float[np.ndarray, " tap"]:
    """Return the taps of a named slice profile, which sum to 1.

    Parameters
    ----------
    profile
        ``box``: the mean of `factor` slices; ``triangle``: of full width at half maximum
        `factor`, the profile of a helical scan at pitch 1 with 180-degree interpolation;
        ``gaussian``: of the same width.
    factor
        Full width at half maximum in thin slices, odd.

    Raises
    ------
    ValueError
        If there is no such profile or the factor is not odd.
    """
    if factor < 1 or factor % 2 == 0:
        raise ValueError(f"The factor must be odd and above 0, not {factor}.")
    if profile == "box":
        weights = np.ones(factor)
    elif profile == "triangle":
        weights = 1.0 - np.abs(_offsets(factor - 1)) / factor
    elif profile == "gaussian":
        sigma = factor / (2.0 * math.sqrt(2.0 * math.log(2.0)))
        weights = np.exp(-0.5 * (_offsets(math.floor(_GAUSSIAN_REACH * factor)) / sigma) ** 2)
    else:
        raise ValueError(f"No slice profile is called {profile!r}.")
    taps: Float[np.ndarray, " tap"] = weights / weights.sum()
    return taps


def _offsets(reach: int) -> Float[np.ndarray, " tap"]:
    return np.arange(-reach, reach + 1, dtype=np.float64)


def plan_slices(thin_count: int, tap_count: int, stride: int) -> SlicePlan:
    """Place as many thick slices as fit; thin slices that are left over at the ends are dropped.

    Raises
    ------
    InputError
        If not even one thick slice fits.
    """
    reach, own = tap_count // 2, (stride - 1) // 2
    first = max(reach - own, 0)
    last_centre = thin_count - 1 - max(reach, own)
    count = (last_centre - first - own) // stride + 1
    if count < 1:
        raise InputError(
            f"The volume has {thin_count} slices; one thick slice needs "
            f"{max(tap_count, stride)}. Give a volume with more slices or a smaller factor.",
            slices=thin_count,
        )
    return SlicePlan(first, count, stride, reach)


def degrade(
    values: Shaped[np.ndarray, "z y x"], taps: Float[np.ndarray, " tap"], plan: SlicePlan
) -> Float[np.ndarray, "thick y x"]:
    """Return the thick slices of a plan, float32; each is summed in float64."""
    thick = np.empty((plan.count, *values.shape[1:]), dtype=np.float32)
    for j in range(plan.count):
        start = plan.centre(j) - plan.reach
        support = values[start : start + len(taps)].astype(np.float64)
        thick[j] = np.tensordot(taps, support, axes=1)
    return thick


def thin_grid(grid: VoxelGrid, plan: SlicePlan) -> VoxelGrid:
    """Return the grid of the thin slices that belong to thick ones."""
    return _moved(grid, plan.thin_count, plan.first, 1)


def thick_grid(grid: VoxelGrid, plan: SlicePlan) -> VoxelGrid:
    """Return the grid of the thick slices: each lies at the centroid of its thin slices."""
    return _moved(grid, plan.count, plan.centre(0), plan.stride)


def _moved(grid: VoxelGrid, count: int, first: int, step: int) -> VoxelGrid:
    x, y, z = (float(v) for v in grid.to_world_mm(np.array([first, 0, 0])))
    _, rows, columns = grid.shape
    along, down, across = grid.spacing_mm
    return replace(
        grid,
        shape=(count, rows, columns),
        spacing_mm=(along * step, down, across),
        origin_mm=(x, y, z),
    )
