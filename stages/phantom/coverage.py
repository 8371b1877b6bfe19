"""The share of each voxel that a solid covers, from its signed distance.

Blocks of voxels that the surface cannot reach are settled by one distance each, then voxels; only
voxels that the surface may cross are sub-sampled. In a sub-sample the share is a linear ramp of
the distance over the sub-sample's width, which is exact for planes across an axis.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from stages.phantom.shapes import Distance, Numbers

LIPSCHITZ = 1.5
"""Bound on how fast a distance may change per mm; smooth blends of slanted walls reach 1.4."""

_BLOCK = (4, 8, 8)
_SUB_MM = 0.35
"""Largest edge of a sub-sample; measured error of the share against 8x8x8 samples: 0.01 RMS."""
_MOST_SUBS = 4
"""Most sub-samples along a voxel's shortest edge: voxels of several mm need no finer ones."""
_CHUNK = 1 << 16
"""Points per evaluation: temporaries stay in the processor's cache."""

Axes = tuple[Float[np.ndarray, " z"], Float[np.ndarray, " y"], Float[np.ndarray, " x"]]
Bounds = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
Where = tuple[slice, slice, slice]


def cover(
    distance: Distance, axes: Axes, bounds_mm: Bounds, *, thickness_mm: float
) -> tuple[Where, Float[np.ndarray, "z y x"]] | None:
    """Return where a solid lies on the grid and the share of each voxel there that it covers.

    Parameters
    ----------
    distance
        Signed distance of the solid, mm.
    axes
        Centres of slices, rows and columns; even steps.
    bounds_mm
        Box (x, y, z ranges) that holds the solid.
    thickness_mm
        Extent of a voxel along z; it may be more or less than the step.
    """
    where = _index_box(axes, bounds_mm, thickness_mm)
    if where is None:
        return None
    axes = (axes[0][where[0]], axes[1][where[1]], axes[2][where[2]])
    steps = (thickness_mm, _step(axes[1]), _step(axes[2]))
    shares, blocks = _blocks(distance, axes, steps)
    if shares is None:
        return None
    shape = tuple(a.size for a in axes)
    dense = shares.reshape(*blocks, *_BLOCK).transpose(0, 3, 1, 4, 2, 5)
    dense = dense.reshape([n * b for n, b in zip(blocks, _BLOCK, strict=True)])
    return where, np.ascontiguousarray(dense[: shape[0], : shape[1], : shape[2]])


def _index_box(axes: Axes, bounds_mm: Bounds, thickness_mm: float) -> Where | None:
    found = []
    for axis, (low, high) in zip(axes, reversed(bounds_mm), strict=True):
        margin = max(thickness_mm, _step(axis))
        start = int(np.searchsorted(axis, low - margin))
        stop = int(np.searchsorted(axis, high + margin, side="right"))
        if stop <= start:
            return None
        found.append(slice(start, stop))
    z, y, x = found
    return z, y, x


def _step(axis: Float[np.ndarray, " point"]) -> float:
    return float(axis[1] - axis[0]) if axis.size > 1 else 1.0


def _blocks(
    distance: Distance, axes: Axes, steps: tuple[float, float, float]
) -> tuple[Float[np.ndarray, "block voxel"] | None, tuple[int, int, int]]:
    """Return the shares block by block, or None where the solid is absent."""
    padded = [_padded(a, b) for a, b in zip(axes, _BLOCK, strict=True)]
    counts = [p.size // b for p, b in zip(padded, _BLOCK, strict=True)]
    nz, ny, nx = counts
    split = [p.reshape(-1, b) for p, b in zip(padded, _BLOCK, strict=True)]
    centres = np.meshgrid(*(s.mean(axis=1) for s in split), indexing="ij")
    reach = (
        LIPSCHITZ
        * 0.5
        * math.hypot(*(float(np.ptp(s[0])) + e for s, e in zip(split, steps, strict=True)))
    )
    d = _evaluate(distance, *(c.ravel() for c in centres))
    if d.min() > reach:
        return None, (nz, ny, nx)
    shares = np.zeros((d.size, math.prod(_BLOCK)), dtype=np.float32)
    shares[d < -reach] = 1.0
    active = np.flatnonzero(np.abs(d) <= reach)
    if active.size:
        index = np.unravel_index(active, counts)
        points = [s[i] for s, i in zip(split, index, strict=True)]
        z = np.broadcast_to(points[0][:, :, None, None], (active.size, *_BLOCK))
        y = np.broadcast_to(points[1][:, None, :, None], (active.size, *_BLOCK))
        x = np.broadcast_to(points[2][:, None, None, :], (active.size, *_BLOCK))
        shares[active] = _voxels(distance, z, y, x, steps).reshape(active.size, -1)
    return shares, (nz, ny, nx)


def _padded(axis: Float[np.ndarray, " point"], block: int) -> Float[np.ndarray, " point"]:
    missing = -axis.size % block
    return np.concatenate([axis, axis[-1] + _step(axis) * np.arange(1, missing + 1)])


def _voxels(
    distance: Distance,
    z: Numbers,
    y: Numbers,
    x: Numbers,
    steps: tuple[float, float, float],
) -> Float[np.ndarray, " voxel"]:
    z, y, x = (np.ascontiguousarray(v, dtype=np.float32).ravel() for v in (z, y, x))
    d = _evaluate(distance, z, y, x)
    reach = LIPSCHITZ * 0.5 * math.hypot(*steps)
    share = (d < 0).astype(np.float32)
    crossed = np.flatnonzero(np.abs(d) <= reach)
    if crossed.size:
        share[crossed] = _sampled(distance, z[crossed], y[crossed], x[crossed], steps)
    return share


def _sampled(
    distance: Distance, z: Numbers, y: Numbers, x: Numbers, steps: tuple[float, float, float]
) -> Float[np.ndarray, " voxel"]:
    edge = max(_SUB_MM, min(steps) / _MOST_SUBS)
    counts = [math.ceil(s / edge) for s in steps]
    width = float(np.cbrt(math.prod(s / n for s, n in zip(steps, counts, strict=True))))
    offsets = [s * ((np.arange(n) + 0.5) / n - 0.5) for s, n in zip(steps, counts, strict=True)]
    total = np.zeros(z.size, dtype=np.float32)
    for dz in offsets[0]:
        for dy in offsets[1]:
            for dx in offsets[2]:
                d = _evaluate(distance, z + np.float32(dz), y + np.float32(dy), x + np.float32(dx))
                total += np.clip(0.5 - d / np.float32(width), 0.0, 1.0)
    return total / np.float32(math.prod(counts))


def _evaluate(distance: Distance, z: Numbers, y: Numbers, x: Numbers) -> Numbers:
    """Evaluate a distance at many points, chunk by chunk."""
    values = np.empty(z.size, dtype=np.float32)
    for start in range(0, z.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        values[part] = distance(*(np.asarray(v[part], dtype=np.float32) for v in (x, y, z)))
    return values
