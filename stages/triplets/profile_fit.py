"""Estimate a scanner's slice-sensitivity profile from a thin and a thick series of one scan.

A thick slice at z_j is taken as the weighted mean of the thin slices around it,

    K(z_j; x, y) = sum over i of w(i) T(z_j + i s; x, y),

with T linear between thin slices, which is the same as moving the taps w by area. The taps, at the
thin spacing s, minimise

    |X w - K|^2 / a + lambda |D w|^2    under    w >= 0,  sum of w = 1,

with a the mean of the diagonal of X'X and D the second difference. lambda is the one whose error on
blocks of thick slices that took no part in the fit is least. The error that is reported comes from
an outer round: each block is predicted by taps, and a lambda, that the others alone have chosen.

The taps are free, not symmetric about a fitted centre: a shift of the centre and a lopsided
profile are then found rather than assumed away, and the symmetric fit is reported beside it. A
detector's profile has no negative part, and its sum is 1 because both series are in HU.

The thin slices have a width of their own: the taps are the profile relative to them, which is what
making thick slices of thin ones needs. Both series must come from the same raw data, so that they
share their noise; noise of the thin slices alone would widen the taps.

References
----------
.. [1] McCollough and Zink (1999), Performance evaluation of a multi-slice CT system,
   doi:10.1118/1.598777.
.. [2] Stone (1974), Cross-validatory choice and assessment of statistical predictions,
   doi:10.1111/j.2517-6161.1974.tb00994.x.
.. [3] Lawson and Hanson (1995), Solving least squares problems, chapter 23 (non-negative least
   squares), doi:10.1137/1.9781611971217.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from scipy.optimize import nnls

from pipeline.core.errors import InputError
from stages.triplets.profile_shapes import (
    NAMED,
    centre_offset,
    profile_weights,
    width_at_half_maximum,
)
from stages.triplets.profile_sums import (
    HIGHEST_HU,
    LOWEST_HU,
    SliceSums,
    Sums,
    in_taps,
    interpolation,
    squared_error,
    total,
)

LAMBDAS = (0.0, *(10.0**k for k in range(-8, 1)))
BLOCKS = 7
LEAST_STRUCTURE_HU = 1.0
"""RMS change of the thin slices along the axis; HU are whole numbers."""
LEAST_EXPLAINED = 0.2
"""Share of the squared error of a flat profile that the fit removes from held-out slices. Measured on
the Philips skull phantom: its own pair 0.9995, with 60 HU of noise added 0.89; mirrored, upside
down or shifted by 20 mm 0.00 to 0.11, because any smooth object is like its surroundings."""
MOST_AT_END = 0.05
"""An end tap of more than this part of the highest: a Gaussian has it if it is over 1.5 times as
wide as the nominal width that set the length of the taps. Two standard errors are allowed for."""
_SUM_WEIGHT = 1e4
_RIDGE = 1e-12
"""Keeps the factorisation of a rank-deficient matrix alive; far below what any lambda adds."""

Taps = Float[np.ndarray, " tap"]


@dataclass(frozen=True)
class Block:
    """Hold the errors on one block of thick slices by taps that never saw it.

    Parameters
    ----------
    first_thick, last_thick
        Indices of its first and last slice in the thick series.
    smoothing
        The lambda that the other blocks chose.
    rms_hu
        Error by profile, HU RMS.
    """

    first_thick: int
    last_thick: int
    smoothing: float
    rms_hu: dict[str, float]


@dataclass(frozen=True)
class ProfileFit:
    """Hold a fitted profile; lengths in thin slices.

    Parameters
    ----------
    taps
        Weights at the thin spacing, the middle one at the thick slice's place; they sum to 1.
    standard_errors
        Of the taps: the larger of leaving out blocks of thick slices and of propagating the
        held-out error through the fit without its bounds.
    width, width_error
        Full width at half maximum and its standard error over blocks.
    offset, offset_error
        Centroid of the taps relative to the thick slice's place and its standard error.
    smoothing
        The chosen lambda.
    rms_by_smoothing
        Error on held-out slices for each lambda that was tried, HU.
    rms_hu
        Error on held-out thick slices: fitted, symmetric, box, triangle, gaussian.
    rms_tissue_hu
        The same where the thick slice is no air.
    blocks
        The same for each block.
    explained
        Share of the squared error of a flat profile that the fit removes from held-out slices.
    thick_slices
        Number of thick slices that took part.
    """

    taps: Taps
    standard_errors: Taps
    width: float
    width_error: float
    offset: float
    offset_error: float
    smoothing: float
    rms_by_smoothing: dict[float, float]
    rms_hu: dict[str, float]
    rms_tissue_hu: dict[str, float]
    blocks: tuple[Block, ...]
    explained: float
    thick_slices: int


@dataclass(frozen=True)
class _Round:
    """Hold what all blocks but one have chosen."""

    smoothing: float
    taps: Taps
    symmetric: Taps


def fit_profile(parts: Sequence[SliceSums], width: float) -> ProfileFit:
    """Fit the taps to the normal equations of thick slices.

    Parameters
    ----------
    parts
        Normal equations, one entry a thick slice, in the order of the slices.
    width
        Nominal width in thin slices, for the named profiles beside it.

    Raises
    ------
    InputError
        If the thin slices do not change along the axis, do not explain the thick ones, or the
        profile is longer than the taps.
    """
    _check_structure(total([p.usable for p in parts]))
    blocks = np.array_split(np.arange(len(parts)), min(BLOCKS, len(parts)))
    groups = [total([in_taps(parts[i]) for i in block]) for block in blocks]
    rounds = [_round(groups[:g] + groups[g + 1 :]) for g in range(len(groups))]
    weights = _held_out_weights(parts, blocks, rounds, width)
    rms = _rms([p.usable for p in parts], weights)
    explained = 1.0 - (rms["fitted"] / max(rms.pop("flat"), 1e-12)) ** 2
    by_smoothing = _rms_by_smoothing(groups)
    smoothing = _least(by_smoothing)
    taps = _solve(total(groups), smoothing)
    # Blocks see noise that neighbours share but not what the bound at zero hides; the other does.
    propagated = rms["fitted"] * _propagation(total(groups), smoothing)
    errors = np.maximum(_jackknife([r.taps for r in rounds]), propagated)
    _check_fit(taps, errors, explained)
    shapes = [np.array([width_at_half_maximum(r.taps), centre_offset(r.taps)]) for r in rounds]
    width_error, offset_error = _jackknife(shapes)
    return ProfileFit(
        taps=taps,
        standard_errors=errors,
        width=width_at_half_maximum(taps),
        width_error=float(width_error),
        offset=centre_offset(taps),
        offset_error=float(offset_error),
        smoothing=smoothing,
        rms_by_smoothing=by_smoothing,
        rms_hu=rms,
        rms_tissue_hu=_without_flat(_rms([p.tissue for p in parts], weights)),
        blocks=tuple(
            _block(parts, weights, block, r) for block, r in zip(blocks, rounds, strict=True)
        ),
        explained=explained,
        thick_slices=len(parts),
    )


def _check_structure(sums: Sums) -> None:
    """Refuse series that are the same in every slice: any profile fits them."""
    # The last thin slice of a support may be absent (zero): leave it out.
    a = sums.a[:-1, :-1]
    spread = max(float(np.trace(a) - a.sum() / len(a)), 0.0)
    structure = math.sqrt(spread / max(len(a) * sums.pixels, 1))
    if structure < LEAST_STRUCTURE_HU:
        raise InputError(
            f"The thin slices change by {structure:.2g} HU RMS along the axis in {sums.pixels} "
            f"usable pixels (needed: {LEAST_STRUCTURE_HU:g} HU between {LOWEST_HU} and "
            f"{HIGHEST_HU} HU); give series in HU of an object that varies along the axis.",
            structure_hu=structure,
            pixels=sums.pixels,
        )


def _check_fit(taps: Taps, errors: Taps, explained: float) -> None:
    if explained < LEAST_EXPLAINED:
        raise InputError(
            f"The best slice profile removes {100 * max(explained, 0):.0f} % of the squared error "
            f"of a flat one (needed: {100 * LEAST_EXPLAINED:.0f} %), so the thin slices do not "
            "explain the thick ones; give two reconstructions of one scan.",
            explained=explained,
        )
    at_end = float(max((taps - 2.0 * errors)[[0, -1]]) / taps.max())
    if at_end > MOST_AT_END:
        raise InputError(
            f"The slice profile still has at least {100 * at_end:.0f} % of its peak at the end of the "
            f"{len(taps)} taps (allowed: {100 * MOST_AT_END:.0f} %): it is wider than, or lies "
            "beside, what the record of the thick series says; give its width as --thickness-mm.",
            at_end=at_end,
        )


def _round(others: Sequence[Sums]) -> _Round:
    smoothing = _least(_rms_by_smoothing(others))
    sums = total(others)
    mirror = _mirror(len(sums.b))
    return _Round(smoothing, _solve(sums, smoothing), mirror @ _solve(sums, smoothing, mirror))


def _rms_by_smoothing(groups: Sequence[Sums]) -> dict[float, float]:
    """Return the error on each group by taps fitted to all the others, pooled, for each lambda."""
    others = [total([*groups[:g], *groups[g + 1 :]]) for g in range(len(groups))]
    pixels = max(sum(g.pixels for g in groups), 1)
    found = {}
    for smoothing in LAMBDAS:
        errors = (
            squared_error(held, _solve(o, smoothing))
            for held, o in zip(groups, others, strict=True)
        )
        found[smoothing] = math.sqrt(sum(errors) / pixels)
    return found


def _least(rms_by_smoothing: dict[float, float]) -> float:
    return min(rms_by_smoothing, key=lambda smoothing: rms_by_smoothing[smoothing])


def _held_out_weights(
    parts: Sequence[SliceSums],
    blocks: Sequence[Shaped[np.ndarray, " index"]],
    rounds: Sequence[_Round],
    width: float,
) -> dict[str, list[Taps]]:
    """Return each profile's weights of the thin slices around each thick one."""
    count = len(parts[0].usable.b)
    edges = np.arange(count + 1) - 0.5 - (count // 2 - 1)
    weights = {
        name: [profile_weights(name, width, edges - p.part) for p in parts] for name in NAMED
    }
    flat = [interpolation(p.part, count - 1) @ np.full(count - 1, 1 / (count - 1)) for p in parts]
    by_slice = [r for block, r in zip(blocks, rounds, strict=True) for _ in block]
    moved = [(interpolation(p.part, count - 1), r) for p, r in zip(parts, by_slice, strict=True)]
    return {
        "fitted": [matrix @ r.taps for matrix, r in moved],
        "symmetric": [matrix @ r.symmetric for matrix, r in moved],
        **weights,
        "flat": flat,
    }


def _rms(sums: Sequence[Sums], weights: dict[str, list[Taps]]) -> dict[str, float]:
    pixels = max(sum(s.pixels for s in sums), 1)
    return {
        name: math.sqrt(sum(map(squared_error, sums, by_slice)) / pixels)
        for name, by_slice in weights.items()
    }


def _without_flat(rms_hu: dict[str, float]) -> dict[str, float]:
    return {name: rms for name, rms in rms_hu.items() if name != "flat"}


def _block(
    parts: Sequence[SliceSums],
    weights: dict[str, list[Taps]],
    indices: Shaped[np.ndarray, " index"],
    chosen: _Round,
) -> Block:
    own = {name: [by_slice[i] for i in indices] for name, by_slice in weights.items()}
    rms = _without_flat(_rms([parts[i].usable for i in indices], own))
    return Block(parts[indices[0]].thick, parts[indices[-1]].thick, chosen.smoothing, rms)


def _jackknife(without_block: Sequence[Shaped[np.ndarray, " value"]]) -> Taps:
    """Return the standard error of values of which each was found without one block."""
    values = np.array(without_block)
    count = len(values)
    spread = ((values - values.mean(axis=0)) ** 2).sum(axis=0)
    error: Taps = np.sqrt((count - 1) / count * spread)
    return error


def _mirror(taps: int) -> Float[np.ndarray, "tap half"]:
    """Return the matrix from the middle tap and one side to symmetric taps."""
    half = taps // 2
    matrix: Float[np.ndarray, "tap half"] = np.zeros((taps, half + 1))
    for i in range(half + 1):
        matrix[half - i, i] = matrix[half + i, i] = 1.0
    return matrix


def _solve(
    sums: Sums, smoothing: float, basis: Float[np.ndarray, "tap half"] | None = None
) -> Taps:
    """Return the non-negative weights, of the taps or of a basis, whose taps sum to 1."""
    normal, scale = _normal(sums, smoothing)
    right, ones = sums.b / scale, np.ones(len(sums.b))
    if basis is not None:
        normal, right, ones = basis.T @ normal @ basis, basis.T @ right, basis.T @ ones
    # |R w - q|^2 with R'R = A and R'q = b is the same problem with as many rows as taps.
    upper = np.linalg.cholesky(normal).T
    q = np.linalg.solve(upper.T, right)
    found, _ = nnls(np.vstack([upper, _SUM_WEIGHT * ones]), np.append(q, _SUM_WEIGHT))
    solved: Taps = found / (ones @ found)
    return solved


def _propagation(sums: Sums, smoothing: float) -> Taps:
    """Return the standard deviation of each tap for independent unit errors of the pixels."""
    normal, scale = _normal(sums, smoothing)
    inverse = np.linalg.inv(normal)
    covariance = inverse @ (sums.a / scale) @ inverse / scale
    deviation: Taps = np.sqrt(np.diag(covariance))
    return deviation


def _normal(sums: Sums, smoothing: float) -> tuple[Float[np.ndarray, "tap tap"], float]:
    """Return the regularised normal matrix, divided by its mean diagonal, and that mean."""
    n = len(sums.b)
    scale = max(float(np.trace(sums.a)) / n, _RIDGE)
    bend = np.diff(np.eye(n), 2, axis=0)
    return sums.a / scale + smoothing * bend.T @ bend + _RIDGE * np.eye(n), scale
