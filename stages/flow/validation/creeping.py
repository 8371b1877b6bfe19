"""Creeping flow through a hole in a thin plate inside a pipe, by finite differences.

Notes
-----
Stokes' equations in (r, z) on a staggered grid [1]_, in units of the hole's radius. The plate is a plane of
mirror symmetry: on it the radial velocity vanishes; in the hole, where the pressure is that of the middle,
the axial velocity is free. Far away the flow is Poiseuille's. Velocity and pressure are singular at the
rim, so that the error is of first order; two grids extrapolate it.

References
----------
.. [1] Harlow & Welch (1965), Phys. Fluids 8, 2182, doi:10.1063/1.1761178.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.sparse import bmat, csr_matrix, diags, eye, kron, lil_matrix
from scipy.sparse.linalg import spsolve

_CELLS = (16, 32)
"""Cells per radius of the hole on the two grids: the extrapolated value is within 0.5 %."""


def hole_resistance(pipe_radius: float, reach: float) -> float:
    """Return dp a^3 / (mu Q) of a hole beyond Poiseuille's friction in the pipe around it.

    Parameters
    ----------
    pipe_radius, reach
        Radius of the pipe and its length on each side, in radii of the hole.

    Notes
    -----
    3 in an infinite plate (Sampson 1891).
    """
    coarse, fine = (_resistance(pipe_radius, reach, cells) for cells in _CELLS)
    ratio = _CELLS[1] / _CELLS[0]
    return (ratio * fine - coarse) / (ratio - 1.0)


def _resistance(pipe_radius: float, reach: float, cells: int) -> float:
    step = 1.0 / cells
    rows, columns = round(pipe_radius * cells), round(reach * cells)
    profile = 2.0 * (1.0 - ((np.arange(rows) + 0.5) / rows) ** 2)
    pressure = _solve(rows, columns, cells, profile)[:, -1] / step
    radius = rows * step
    weight = np.arange(rows) + 0.5
    level = float(pressure @ weight / weight.sum())
    flux = np.pi * radius**2 * float(profile @ weight / weight.sum())
    slope = 8.0 * flux / (np.pi * radius**4)
    # The pressure is that of the middle of the last column, half a step before the end.
    return 2.0 * (-level - slope * (reach - 0.5 * step)) / flux


def _solve(
    rows: int, columns: int, hole: int, profile: Float[np.ndarray, "r"]
) -> Float[np.ndarray, "r z"]:
    """Return the pressure of the half with z > 0, in units of one step, velocities given at the end."""
    centre, face = np.arange(rows) + 0.5, np.arange(1, rows).astype(float)
    # Axial velocities at z = 0 (in the hole) to columns - 1; radial ones between rows.
    along = _second(columns)
    along[0, 1] = 2.0  # the axial velocity is even about the plate
    across = _radial(centre, np.arange(rows + 1.0))
    across[-1, -1] -= rows / centre[-1]  # no slip half a step beyond the last row
    laplace_z = kron(across, eye(columns)) + kron(eye(rows), along)
    inward = _radial(face, np.arange(rows) + 0.5) - diags(1.0 / face**2)
    ends = _second(columns)
    ends[0, 0] = ends[-1, -1] = -3.0  # none half a step beyond both ends
    laplace_r = kron(inward, eye(columns)) + kron(eye(rows - 1), ends)
    step_z = diags([np.ones(columns), -np.ones(columns - 1)], [0, -1]).tolil()
    step_z[0, 0] = 2.0  # the pressure is odd about the plate
    gradient_z = kron(eye(rows), step_z)
    step_r = diags([-np.ones(rows - 1), np.ones(rows - 1)], [0, 1], shape=(rows - 1, rows))
    gradient_r = kron(step_r, eye(columns))
    flow_z = kron(eye(rows), diags([-np.ones(columns), np.ones(columns - 1)], [0, 1]))
    flow_r = kron(_divergence(rows), eye(columns))
    last = np.zeros((rows, columns))
    last[:, -1] = profile
    free = np.ones((rows, columns), dtype=bool)
    free[hole:, 0] = False
    keep = diags(free.ravel().astype(float))
    matrix = bmat([
        [keep @ laplace_z + diags((~free).ravel().astype(float)), None, -(keep @ gradient_z)],
        [None, laplace_r, -gradient_r],
        [flow_z, flow_r, None],
    ])  # fmt: skip
    load = np.concatenate([-(keep @ last.ravel()), np.zeros((rows - 1) * columns), -last.ravel()])
    solution = spsolve(csr_matrix(matrix).tocsc(), load)
    return np.asarray(solution[-rows * columns :].reshape(rows, columns))


def _second(count: int) -> lil_matrix:
    """Return second differences with the value zero beyond both ends."""
    return diags([1.0, -2.0, 1.0], [-1, 0, 1], shape=(count, count)).tolil()


def _radial(at: Float[np.ndarray, "n"], faces: Float[np.ndarray, "n+1"]) -> lil_matrix:
    """Return (1/r) d/dr (r d/dr) with the value zero beyond the last and the first point."""
    low, high = faces[:-1] / at, faces[1:] / at
    return diags([low[1:], -(low + high), high[:-1]], [-1, 0, 1]).tolil()


def _divergence(rows: int) -> csr_matrix:
    centre, face = np.arange(rows) + 0.5, np.arange(1, rows)
    out = diags([face / centre[:-1]], [0], shape=(rows, rows - 1))
    into = diags([face / centre[1:]], [-1], shape=(rows, rows - 1))
    return out - into
