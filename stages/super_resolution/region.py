"""A thin-slice region of a patient beside the thick slices of the whole: where both lie.

The region is brought onto the grid that the thick slices are restored to, by means over voxels:
the cumulative sum is interpolated and differenced, so that voxels that match are taken as they
are and no mass is lost where they do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from pipeline.core.errors import InputError
from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume
from stages.super_resolution.baselines import apply_operator, cell_means
from stages.super_resolution.degradation import degrade
from stages.super_resolution.layout import Layout

_LEAST_CELLS = 6
"""Thick slices that the region must cover: some to learn from and some to judge by."""
_LEAST_PIXELS = 32
_COVERED = 0.02
"""Part of a voxel that may lie outside the region: rounding of positions in file headers."""
_ANGLE_DEGREES = 0.5
"""Largest angle between the axes: over 100 mm it moves a slice by 0.9 mm."""
_COARSEST_SLICES, _COARSEST_PIXELS = 1.05, 1.25
"""Largest spacing of the region relative to the restored grid's, along z and in the plane."""
_DISPLACED = 0.9
"""A displaced region agrees better by this factor of squared error; less may be the profile."""
_LEAST_EXPLAINED = 0.5
"""Share of the thick slices' variance that the region must explain to be of the same patient."""


@dataclass(frozen=True)
class Region:
    """Hold thin slices on the restored grid, and the thick slices of the whole above them.

    Parameters
    ----------
    thin
        Thin slices of the covered cells, HU.
    thick
        All thick slices within the region's rows and columns, HU.
    first
        The thick slice whose cell is the first one covered.
    spacing_mm
        Spacing of the thin slices, their rows and their columns.
    outside_mm
        Length along z of what lies beyond the thick slices.
    """

    thin: Float[np.ndarray, "thin y x"]
    thick: Shaped[np.ndarray, "thick y x"]
    first: int
    spacing_mm: tuple[float, float, float]
    outside_mm: float

    def cells(self, slices: int) -> int:
        """Return how many thick slices are covered, each by so many thin ones."""
        return len(self.thin) // slices


@dataclass(frozen=True)
class Agreement:
    """Say how well thick slices are explained by the region, and where they are best.

    Parameters
    ----------
    rms_hu
        Root mean square of measured minus simulated thick slices, HU.
    explained
        Share of the measured slices' variance that the simulated ones explain.
    displaced
        Thin slices, rows and columns by which the region lies beside the place where it agrees
        clearly better; (0, 0, 0): where it should.
    """

    rms_hu: float
    explained: float
    displaced: tuple[int, int, int]

    @property
    def is_good(self) -> bool:
        """Say whether measured thick slices may be paired with the region's thin ones."""
        return self.displaced == (0, 0, 0) and self.explained >= _LEAST_EXPLAINED


def place_region(whole: Volume, grid: VoxelGrid, part: Volume, slices: int) -> Region:
    """Bring a thin-slice region onto the grid of the restored slices.

    Parameters
    ----------
    whole
        Thick slices of the whole, HU.
    grid
        Grid that they are restored to: the same rows and columns, `slices` for each thick one.
    part
        Thin slices of the region, HU.
    slices
        Thin slices per thick slice.

    Raises
    ------
    InputError
        If the region is turned, too coarse, outside the thick slices, or too small.
    """
    _check_axes(grid, part.grid)
    _check_spacing(grid, part.grid)
    z, rows, columns = (_covered(grid, part.grid, axis) for axis in range(3))
    first, stop = -(-z.start // slices), z.stop // slices
    _check_size(whole.grid, part.grid, stop - first, (rows, columns))
    thin = part.values.astype(np.float32)
    for axis, wanted in enumerate((slice(first * slices, stop * slices), rows, columns)):
        thin = _resampled(thin, axis, *_faces(grid, part.grid, axis, wanted))
    return Region(
        thin,
        whole.values[:, rows, columns],
        first,
        grid.spacing_mm,
        _outside_mm(grid, part.grid),
    )


def judge_agreement(region: Region, layout: Layout) -> Agreement:
    """Compare measured thick slices with those simulated from the region's thin ones.

    The region is also moved by one thin slice, row and column either way: a patient who moved
    between the scans, or another one, agrees no better where the headers say than beside it.
    """
    errors = {shift: _squared_error(region, layout, shift) for shift in _SHIFTS}
    here = errors[0, 0, 0]
    best = min(errors, key=lambda shift: errors[shift])
    measured = region.thick[region.first + 1 : region.first + region.cells(layout.slices) - 1]
    variance = float(measured[:, 1:-1, 1:-1].astype(np.float64).var())
    return Agreement(
        float(np.sqrt(here)),
        1.0 - here / variance if variance > 0 else 0.0,
        best if errors[best] < _DISPLACED * here else (0, 0, 0),
    )


_SHIFTS = (
    (0, 0, 0),
    *((step, 0, 0) for step in (-1, 1)),
    *((0, step, 0) for step in (-1, 1)),
    *((0, 0, step) for step in (-1, 1)),
)


def _squared_error(region: Region, layout: Layout, shift: tuple[int, int, int]) -> float:
    """Return the mean squared difference, HU^2, of the inner cells and pixels."""
    slices, count = layout.slices, region.cells(layout.slices)
    z, y, x = shift
    rows, columns = region.thin.shape[1:]
    moved = region.thin[slices + z : slices * (count - 1) + z]
    moved = moved[:, 1 + y : rows - 1 + y, 1 + x : columns - 1 + x]
    simulated = degrade(moved, layout.profile_taps, slices)
    measured = region.thick[region.first + 1 : region.first + count - 1, 1:-1, 1:-1]
    return float(np.square(simulated - measured, dtype=np.float64).mean())


def _ratio(grid: VoxelGrid, part: VoxelGrid, axis: int) -> float:
    return part.spacing_mm[axis] / grid.spacing_mm[axis]


def _place(grid: VoxelGrid, part: VoxelGrid, axis: int) -> float:
    """Return where the region begins along an axis, in voxels of the grid from its outer face."""
    first = float(grid.to_index(np.array(part.origin_mm))[axis])
    return first + 0.5 - 0.5 * _ratio(grid, part, axis)


def _covered(grid: VoxelGrid, part: VoxelGrid, axis: int) -> slice:
    """Return the voxels of the grid that the region covers whole; none: an empty slice."""
    start = _place(grid, part, axis)
    end = start + part.shape[axis] * _ratio(grid, part, axis)
    first = max(int(np.ceil(start - _COVERED)), 0)
    return slice(first, max(min(int(np.floor(end + _COVERED)), grid.shape[axis]), first))


def _outside_mm(grid: VoxelGrid, part: VoxelGrid) -> float:
    """Return the length of the region along z beyond the grid, mm."""
    start = _place(grid, part, 0)
    end = start + part.shape[0] * _ratio(grid, part, 0)
    return (max(0.0, -start) + max(0.0, end - grid.shape[0])) * grid.spacing_mm[0]


def _faces(
    grid: VoxelGrid, part: VoxelGrid, axis: int, wanted: slice
) -> tuple[Float[np.ndarray, " voxel"], Float[np.ndarray, " voxel"]]:
    """Return the faces of voxels of the grid, in voxels of the region from its outer face."""
    faces = np.arange(wanted.start, wanted.stop + 1) - _place(grid, part, axis)
    inside = np.clip(faces / _ratio(grid, part, axis), 0.0, part.shape[axis])
    nearest = np.rint(inside)
    inside = np.where(np.abs(inside - nearest) < _COVERED, nearest, inside)
    return inside[:-1], inside[1:]


def _resampled(
    values: Float[np.ndarray, "z y x"],
    axis: int,
    start: Float[np.ndarray, " voxel"],
    end: Float[np.ndarray, " voxel"],
) -> Float[np.ndarray, "z y x"]:
    """Take means between faces along an axis; voxels that match are only cut out."""
    turned = np.moveaxis(values, axis, 0)
    if np.all(start == np.rint(start)) and np.all(end - start == 1.0):
        cut = turned[int(start[0]) : int(end[-1])]
    else:
        cut = apply_operator(cell_means(len(turned), start, end), turned)
    back: Float[np.ndarray, "z y x"] = np.ascontiguousarray(np.moveaxis(cut, 0, axis))
    return back


def _check_axes(grid: VoxelGrid, part: VoxelGrid) -> None:
    cosines = (np.array(grid.axes) * np.array(part.axes)).sum(axis=1)
    angle = float(np.degrees(np.arccos(np.clip(cosines.min(), -1.0, 1.0))))
    if angle > _ANGLE_DEGREES:
        raise InputError(
            f"The region is turned by {angle:.1f} degrees against the thick slices (allowed: "
            f"{_ANGLE_DEGREES:g}); reconstruct it in the same orientation, or resample it first.",
            angle_degrees=angle,
        )


def _check_spacing(grid: VoxelGrid, part: VoxelGrid) -> None:
    for axis, (name, limit) in enumerate(
        (("slices", _COARSEST_SLICES), ("rows", _COARSEST_PIXELS), ("columns", _COARSEST_PIXELS))
    ):
        allowed = limit * grid.spacing_mm[axis]
        if part.spacing_mm[axis] > allowed:
            raise InputError(
                f"The region's {name} are {part.spacing_mm[axis]:.3g} mm apart; needed are "
                f"{allowed:.3g} mm or less, to learn what is restored. Reconstruct it finer, or "
                "give a model of a smaller factor.",
                spacing_mm=part.spacing_mm[axis],
            )


def _check_size(whole: VoxelGrid, part: VoxelGrid, cells: int, spans: tuple[slice, slice]) -> None:
    pixels = [span.stop - span.start for span in spans]
    if cells <= 0 or min(pixels) == 0:
        raise InputError(
            f"The region lies outside the thick slices: its middle is at {_middle(part)} mm, "
            f"theirs at {_middle(whole)} mm (x, y, z). Give two scans of one patient in one frame "
            "of reference, or register them first.",
        )
    if cells < _LEAST_CELLS or min(pixels) < _LEAST_PIXELS:
        raise InputError(
            f"The region covers {cells} thick slices of {pixels[0]} x {pixels[1]} pixels whole; "
            f"needed are {_LEAST_CELLS} of {_LEAST_PIXELS} x {_LEAST_PIXELS} or more. Give a "
            "larger one.",
            cells=cells,
        )


def _middle(grid: VoxelGrid) -> str:
    middle = grid.to_world_mm((np.array(grid.shape) - 1) / 2.0)
    return ", ".join(f"{value:.0f}" for value in middle)
