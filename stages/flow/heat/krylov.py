"""Solve sparse equations on the cells' sides by preconditioned biconjugate gradients.

Notes
-----
The equations are diag_i x_i - sum_d across_id x_n(i,d) = b_i. The preconditioner is the incomplete
factorisation that keeps the matrix's own entries: neighbours of a cell are no neighbours of one another,
so that only the diagonal changes.

References
----------
.. [1] van der Vorst (1992), SIAM J. Sci. Stat. Comput. 13, 631, doi:10.1137/0913035.
.. [2] Meijerink & van der Vorst (1977), Math. Comput. 31, 148, doi:10.2307/2005786.
"""

from __future__ import annotations

import numba
import numpy as np
from jaxtyping import Float, Int

_JIT = {"cache": True, "fastmath": {"contract", "nsz", "arcp"}}


@numba.njit(**_JIT)  # type: ignore[untyped-decorator]
def multiply(neighbour, across, diagonal, x, y):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    """Write the matrix times x into y."""
    for i in range(len(x)):
        value = diagonal[i] * x[i]
        for d in range(6):
            n = neighbour[i, d]
            if n >= 0:
                value -= across[i, d] * x[n]
        y[i] = value


@numba.njit(**_JIT)  # type: ignore[untyped-decorator]
def factorise(neighbour, across, diagonal, pivot):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    """Write the inverse pivots of the incomplete factorisation."""
    for i in range(len(diagonal)):
        value = diagonal[i]
        for d in range(6):
            n = neighbour[i, d]
            if 0 <= n < i:
                value -= across[i, d] * across[n, d ^ 1] * pivot[n]
        pivot[i] = 1.0 / value


@numba.njit(**_JIT)  # type: ignore[untyped-decorator]
def precondition(neighbour, across, pivot, r, y):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    """Solve the incomplete factors for r."""
    count = len(r)
    for i in range(count):
        value = r[i]
        for d in range(6):
            n = neighbour[i, d]
            if 0 <= n < i:
                value += across[i, d] * y[n]
        y[i] = value * pivot[i]
    for i in range(count - 1, -1, -1):
        value = 0.0
        for d in range(6):
            n = neighbour[i, d]
            if n > i:
                value += across[i, d] * y[n]
        y[i] += value * pivot[i]


@numba.njit(**_JIT)  # type: ignore[untyped-decorator]
def _dot(a, b):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Return the scalar product, summed in one order whatever the threads."""
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@numba.njit(**_JIT)  # type: ignore[untyped-decorator]
def _turn(p, r, v, beta, omega):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Set p to r + beta (p - omega v)."""
    for i in range(len(p)):
        p[i] = r[i] + beta * (p[i] - omega * v[i])


@numba.njit(**_JIT)  # type: ignore[untyped-decorator]
def _move(x, r, factor, q, v):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Move the solution along q, the residual against v."""
    for i in range(len(x)):
        x[i] += factor * q[i]
        r[i] -= factor * v[i]


def solve(
    neighbour: Int[np.ndarray, "cell 6"],
    across: Float[np.ndarray, "cell 6"],
    diagonal: Float[np.ndarray, "cell"],
    right: Float[np.ndarray, "cell"],
    start: Float[np.ndarray, "cell"],
    *,
    reduction: float,
    most: int,
) -> tuple[Float[np.ndarray, "cell"], int]:
    """Reduce the residual of a start by a factor; return the solution and the iterations taken.

    A breakdown ends the iteration early with the best solution so far.
    """
    x = start.copy()
    pivot, p, v, q, t = np.zeros((5, len(x)))
    factorise(neighbour, across, diagonal, pivot)
    multiply(neighbour, across, diagonal, x, t)
    r = right - t
    shadow = r.copy()
    square = _dot(r, r)
    goal = reduction**2 * square
    rho = alpha = omega = 1.0
    for iteration in range(most):
        before, rho = rho, _dot(shadow, r)
        if square <= goal or rho == 0.0 or omega == 0.0:
            return x, iteration
        _turn(p, r, v, rho / before * alpha / omega, omega)
        precondition(neighbour, across, pivot, p, q)
        multiply(neighbour, across, diagonal, q, v)
        alpha = rho / _dot(shadow, v)
        _move(x, r, alpha, q, v)
        precondition(neighbour, across, pivot, r, q)
        multiply(neighbour, across, diagonal, q, t)
        length = _dot(t, t)
        omega = _dot(t, r) / length if length > 0.0 else 0.0
        _move(x, r, omega, q, t)
        square = _dot(r, r)
    return x, most
