"""Smooth fields over the sagittal plane: outlines, wall positions and widths of the airway.

A field is a tensor product of uniform cubic B-splines, so it is twice continuously
differentiable, and linear data are reproduced exactly: a flat wall stays flat.

References
----------
.. [1] de Boor (1978), A Practical Guide to Splines, chapter IX, ISBN 0-387-90356-9.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Float

from stages.phantom.shapes import Numbers

KNOT_MM = 1.5
"""Distance of the knots; a polygon's corners become round with a radius of about this length."""

Y_RANGE_MM = (-96.0, 45.0)
Z_RANGE_MM = (-140.0, 75.0)
"""Extent of the fields in the anatomical frame: from before the nose tip to behind the pharynx."""


@dataclass(frozen=True)
class Sheets:
    """Hold several fields on the same knots.

    Parameters
    ----------
    coefficients
        B-spline coefficients (y, z, field).
    """

    coefficients: Float[np.ndarray, "y z field"]

    def __call__(self, y: Numbers, z: Numbers) -> list[Numbers]:
        """Return each field at the points, in the type of the points."""
        y, z = np.broadcast_arrays(y, z)
        values = np.empty((self.coefficients.shape[2], y.size), dtype=y.dtype)
        _evaluate(
            self.coefficients,
            np.ascontiguousarray(y).ravel(),
            np.ascontiguousarray(z).ravel(),
            values,
        )
        return [field.reshape(y.shape) for field in values]


def build_sheets(fields: Sequence[Callable[[Numbers, Numbers], Numbers]]) -> Sheets:
    """Sample functions of y, z at the knots and take the samples as coefficients.

    Notes
    -----
    Samples taken as coefficients give the function smoothed by the cubic B-spline: by a bell
    of standard deviation h/sqrt(3) for knots h apart [1]_.
    """
    knots = [
        np.arange(low - 2 * KNOT_MM, high + 2.5 * KNOT_MM, KNOT_MM)
        for low, high in (Y_RANGE_MM, Z_RANGE_MM)
    ]
    y, z = np.meshgrid(*knots, indexing="ij")
    return Sheets(np.ascontiguousarray(np.stack([field(y, z) for field in fields], axis=-1)))


@numba.njit(cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _evaluate(
    coefficients: Float[np.ndarray, "y z field"],
    y: Float[np.ndarray, " point"],
    z: Float[np.ndarray, " point"],
    values: Float[np.ndarray, "field point"],
) -> None:
    rows, columns, fields = coefficients.shape
    y0, z0 = Y_RANGE_MM[0] - 2 * KNOT_MM, Z_RANGE_MM[0] - 2 * KNOT_MM
    wy, wz, total = np.empty(4), np.empty(4), np.empty(fields)
    for p in range(y.size):
        s = min(max((y[p] - y0) / KNOT_MM, 1.0), rows - 2.000001)
        t = min(max((z[p] - z0) / KNOT_MM, 1.0), columns - 2.000001)
        i, j = int(s), int(t)
        _weights(s - i, wy)
        _weights(t - j, wz)
        for f in range(fields):
            total[f] = 0.0
        for a in range(4):
            for b in range(4):
                w = wy[a] * wz[b]
                for f in range(fields):
                    total[f] += w * coefficients[i - 1 + a, j - 1 + b, f]
        for f in range(fields):
            values[f, p] = total[f]


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _weights(t: float, weights: Float[np.ndarray, 4]) -> None:
    """Fill in the four cubic B-splines that reach into an interval at its position t in [0, 1)."""
    weights[0] = (1 - t) ** 3 / 6
    weights[1] = (3 * t**3 - 6 * t**2 + 4) / 6
    weights[2] = (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6
    weights[3] = t**3 / 6
