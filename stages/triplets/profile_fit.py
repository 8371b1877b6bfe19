"""Estimate a scanner's slice-sensitivity profile from a thin and a thick series of one scan.

A thick slice at z_j is taken as the weighted mean of the thin slices around it,

    K(z_j; x, y) = sum over i of w(i) T(z_j + i s; x, y),

with T linear between thin slices. The taps w, at the thin spacing s, minimise

    |X w - K|^2 + lambda tr(A)/n |D w|^2    under    w >= 0,  sum of w = 1,

with A = X'X and D the second difference. lambda is the one whose error on thick slices that took no
part in the fit is least; the same held-out slices judge the result beside the box, the triangle
and the Gaussian of the nominal width. A profile of an X-ray detector has no negative part, and its
sum is 1 because both series are in Hounsfield units.

References
----------
.. [1] McCollough and Zink (1999), Performance evaluation of a multi-slice CT system,
   doi:10.1118/1.598777.
.. [2] Golub, Heath and Wahba (1979), Generalized cross-validation as a method for choosing a good
   ridge parameter, doi:10.1080/00401706.1979.10489751 (here with blocks left out).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from scipy.optimize import nnls
from scipy.special import erf

from pipeline.core.errors import InputError
from pipeline.core.geometry import VoxelGrid

REACH = 1.6
"""Half-length of the taps in nominal widths: profiles have feet beyond their width."""
LAMBDAS = (0.0, *(10.0**k for k in range(-8, 1)))
FOLDS = 7
MIN_THICK = 8
"""Fewer thick slices inside the thin ones leave nothing to hold out."""
SAME_PLACE = 0.1
"""Pixels by which the in-plane grids may differ."""
MIN_RATIO = 1.2
"""Thick slices are wider than thin ones by at least this factor."""
LEAST_EXPLAINED = 0.9
"""Share of the variance of the thick slices that the fit must explain, or they are no pair."""
_SUM_WEIGHT = 1e4
_NAMED = ("box", "triangle", "gaussian")


@dataclass(frozen=True)
class Supports:
    """Say where thick slices lie among the thin ones.

    Parameters
    ----------
    thick
        Indices of the thick slices whose whole support lies inside the thin series.
    centre
        Their places as fractional indices of thin slices.
    reach
        Taps on either side.
    """

    thick: tuple[int, ...]
    centre: tuple[float, ...]
    reach: int


@dataclass(frozen=True)
class Sums:
    """Hold the normal equations of one thick slice: X'X, X'k, k'k, number and spread of pixels."""

    a: Float[np.ndarray, "tap tap"]
    b: Float[np.ndarray, " tap"]
    kk: float
    spread: float
    pixels: int


@dataclass(frozen=True)
class ProfileFit:
    """Hold a fitted profile.

    Parameters
    ----------
    taps
        Weights at the thin spacing, the middle one at the thick slice's place; they sum to 1.
    standard_errors
        Of the taps: the larger of leaving out blocks of thick slices and of propagating the
        held-out error through the fit without its bounds.
    smoothing
        The chosen lambda.
    rms_hu
        Error on held-out thick slices by profile: fitted, box, triangle, gaussian.
    explained
        Share of the thick slices' variance that the fit explains, held out.
    thick_slices
        Number of thick slices that took part.
    """

    taps: Float[np.ndarray, " tap"]
    standard_errors: Float[np.ndarray, " tap"]
    smoothing: float
    rms_hu: dict[str, float]
    explained: float
    thick_slices: int


def place_supports(thin: VoxelGrid, thick: VoxelGrid, width_mm: float) -> Supports:
    """Return where the thick slices lie among the thin ones, from both geometries.

    Raises
    ------
    InputError
        If the grids are not a pair: other pixels, other directions, thick slices that are not
        thicker, or too few of them inside the thin series.
    """
    _check_planes(thin, thick)
    spacing = thin.spacing_mm[0]
    if width_mm < MIN_RATIO * spacing:
        raise InputError(
            f"The thick slices are {width_mm:g} mm wide and the thin ones {spacing:g} mm apart "
            f"(needed: at least {MIN_RATIO:g} times as wide); give the thin series as --thin and "
            "the thick one as --thick, or their width as --thickness-mm.",
            width_mm=width_mm,
            spacing_mm=spacing,
        )
    reach = math.ceil(REACH * width_mm / spacing)
    index = np.stack([np.arange(thick.shape[0]), *np.zeros((2, thick.shape[0]))], axis=1)
    at = thin.to_index(thick.to_world_mm(index))[:, 0]
    inside = (at - reach >= -1e-6) & (at + reach <= thin.shape[0] - 1 + 1e-6)
    found = np.flatnonzero(inside)
    if len(found) < MIN_THICK:
        raise InputError(
            f"{len(found)} of {thick.shape[0]} thick slices lie with their whole profile "
            f"({2 * reach + 1} thin slices) inside the thin series (needed: {MIN_THICK}); give "
            "series of the same scan with more slices.",
            slices=len(found),
        )
    return Supports(tuple(int(j) for j in found), tuple(float(at[j]) for j in found), reach)


def _check_planes(thin: VoxelGrid, thick: VoxelGrid) -> None:
    same_axes = np.allclose(thin.axes, thick.axes, atol=1e-3)
    corner = thin.to_index(np.array(thick.origin_mm))[1:]
    same_pixels = np.allclose(thin.spacing_mm[1:], thick.spacing_mm[1:], rtol=1e-3)
    same_place = bool(np.abs(corner).max() <= SAME_PLACE)
    if same_axes and same_pixels and same_place and thin.shape[1:] == thick.shape[1:]:
        return
    raise InputError(
        f"The series differ in-plane: {thin.shape[1]} x {thin.shape[2]} pixels of "
        f"{thin.spacing_mm[1]:.4f} mm and {thick.shape[1]} x {thick.shape[2]} of "
        f"{thick.spacing_mm[1]:.4f} mm, corners {np.abs(corner).max():.2f} pixels apart (needed: "
        "the same field of view); reconstruct both from one scan with the same field of view.",
        shift_pixels=float(np.abs(corner).max()),
    )


def accumulate(
    thin: Shaped[np.ndarray, "z y x"], thick: Shaped[np.ndarray, "k y x"], supports: Supports
) -> list[Sums]:
    """Return the normal equations of each thick slice."""
    return [
        _sums(thin, thick[j], centre, supports.reach)
        for j, centre in zip(supports.thick, supports.centre, strict=True)
    ]


def _sums(
    thin: Shaped[np.ndarray, "z y x"],
    target: Shaped[np.ndarray, "y x"],
    centre: float,
    reach: int,
) -> Sums:
    whole = math.floor(centre + 1e-6)
    part = max(centre - whole, 0.0)
    first = whole - reach
    stack = thin[first : first + 2 * reach + 1].astype(np.float64)
    if part > 1e-6:
        after = thin[first + 1 : first + 2 * reach + 2].astype(np.float64)
        stack = (1.0 - part) * stack + part * after
    x, k = stack.reshape(len(stack), -1), target.ravel().astype(np.float64)
    spread = float(((k - k.mean()) ** 2).sum()) if len(k) else 0.0
    return Sums(x @ x.T, x @ k, float(k @ k), spread, len(k))


def fit_profile(parts: Sequence[Sums], width: float) -> ProfileFit:
    """Fit the taps to normal equations of thick slices.

    Parameters
    ----------
    parts
        Normal equations, one entry a thick slice, in the order of the slices.
    width
        Nominal width in thin slices, for the named profiles beside it.

    Raises
    ------
    InputError
        If the thin slices do not explain the thick ones.
    """
    folds = np.array_split(np.arange(len(parts)), min(FOLDS, len(parts)))
    trained = [_total([p for i, p in enumerate(parts) if i not in set(f)]) for f in folds]
    held = [_total([parts[i] for i in f]) for f in folds]
    candidates = {}
    for smoothing in LAMBDAS:
        taps = [_solve(sums, smoothing) for sums in trained]
        candidates[smoothing] = (_rms(held, taps), taps)
    smoothing = min(candidates, key=lambda value: candidates[value][0])
    rms, by_fold = candidates[smoothing]
    total = _total(parts)
    explained = 1.0 - rms**2 * total.pixels / max(total.spread, 1e-12)
    if explained < LEAST_EXPLAINED:
        raise InputError(
            f"The thin slices explain {100 * max(explained, 0):.0f} % of the thick ones (needed: "
            f"{100 * LEAST_EXPLAINED:.0f} %); give two reconstructions of one scan.",
            explained=explained,
        )
    count = len(by_fold)
    spread = np.array(by_fold) - np.mean(by_fold, axis=0)
    blocks = np.sqrt((count - 1) / count * (spread**2).sum(axis=0))
    # Blocks see noise that neighbours share but not what the bound at zero hides; this one does.
    errors = np.maximum(blocks, rms * _propagation(total, smoothing))
    reach = len(total.b) // 2
    others = {name: _rms(held, [named_taps(name, width, reach)] * count) for name in _NAMED}
    return ProfileFit(
        _solve(total, smoothing),
        errors,
        smoothing,
        {"fitted": rms, **others},
        explained,
        len(parts),
    )


def named_taps(profile: str, width: float, reach: int) -> Float[np.ndarray, " tap"]:
    """Return a named profile of any width in thin slices, averaged over each tap's own place."""
    edges = np.arange(-reach - 0.5, reach + 1.0)
    if profile == "box":
        rise = np.clip(edges / width + 0.5, 0.0, 1.0)
    elif profile == "triangle":
        t = np.clip(edges / width, -1.0, 1.0)
        rise = 0.5 + t - 0.5 * np.sign(t) * t**2
    else:
        rise = 0.5 * (1.0 + erf(edges / width * 2.0 * math.sqrt(math.log(2.0))))
    weights = np.diff(rise)
    taps: Float[np.ndarray, " tap"] = weights / weights.sum()
    return taps


def width_at_half_maximum(taps: Float[np.ndarray, " tap"]) -> float:
    """Return the full width at half maximum of linearly joined taps, in taps."""
    padded = np.concatenate([[0.0], taps, [0.0]])
    half, peak = 0.5 * padded.max(), int(np.argmax(padded))
    left = peak - int(np.argmax(padded[peak::-1] < half))
    right = peak + int(np.argmax(padded[peak:] < half))
    rise = left + (half - padded[left]) / (padded[left + 1] - padded[left])
    fall = right - (half - padded[right]) / (padded[right - 1] - padded[right])
    return float(fall - rise)


def resample_taps(taps: Float[np.ndarray, " tap"], ratio: float) -> Float[np.ndarray, " tap"]:
    """Return taps for slices whose spacing is `ratio` times that of the fit; the area is kept.

    Each tap stands for the profile over its own place, so that the profile's integral is linear
    within it; the new taps are differences of that integral.
    """
    reach = len(taps) // 2
    edges = np.arange(-reach - 0.5, reach + 1.0)
    integral = np.concatenate([[0.0], np.cumsum(taps)])
    new_reach = max(math.ceil((reach + 0.5) / ratio - 0.5), 0)
    new_edges = np.arange(-new_reach - 0.5, new_reach + 1.0) * ratio
    weights = np.diff(np.interp(new_edges, edges, integral))
    resampled: Float[np.ndarray, " tap"] = weights / weights.sum()
    return resampled


def _total(parts: Sequence[Sums]) -> Sums:
    return Sums(
        np.sum([p.a for p in parts], axis=0),
        np.sum([p.b for p in parts], axis=0),
        sum(p.kk for p in parts),
        sum(p.spread for p in parts),
        sum(p.pixels for p in parts),
    )


def _solve(sums: Sums, smoothing: float) -> Float[np.ndarray, " tap"]:
    """Return the non-negative taps of sum 1 that minimise the regularised error."""
    n = len(sums.b)
    normal, scale = _normal(sums, smoothing)
    # |R w - q|^2 with R'R = A and R'q = b is the same problem with n rows.
    upper = np.linalg.cholesky(normal).T
    q = np.linalg.solve(upper.T, sums.b / scale)
    rows = np.vstack([upper, _SUM_WEIGHT * np.ones(n)])
    taps, _ = nnls(rows, np.append(q, _SUM_WEIGHT))
    solved: Float[np.ndarray, " tap"] = taps / taps.sum()
    return solved


def _propagation(sums: Sums, smoothing: float) -> Float[np.ndarray, " tap"]:
    """Return the standard deviation of each tap for independent unit errors of the pixels."""
    normal, scale = _normal(sums, smoothing)
    inverse = np.linalg.inv(normal)
    covariance = inverse @ (sums.a / scale) @ inverse / scale
    deviation: Float[np.ndarray, " tap"] = np.sqrt(np.diag(covariance))
    return deviation


def _normal(sums: Sums, smoothing: float) -> tuple[Float[np.ndarray, "tap tap"], float]:
    """Return the regularised normal matrix, divided by its mean diagonal, and that mean."""
    n = len(sums.b)
    scale = max(float(np.trace(sums.a)) / n, 1e-12)
    bend = np.diff(np.eye(n), 2, axis=0)
    return sums.a / scale + smoothing * bend.T @ bend + 1e-12 * np.eye(n), scale


def _rms(held: Sequence[Sums], taps: Sequence[Float[np.ndarray, " tap"]]) -> float:
    squared = sum(
        max(s.kk - 2.0 * float(w @ s.b) + float(w @ s.a @ w), 0.0)
        for s, w in zip(held, taps, strict=True)
    )
    return math.sqrt(squared / max(sum(s.pixels for s in held), 1))
