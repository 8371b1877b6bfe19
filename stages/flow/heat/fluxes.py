"""Volume flow through the sides of the cells, so that no cell gains or loses any.

Notes
-----
Between two cells the flow is that of the mean of their velocities. Averaged lattice velocities are free of
divergence only to second order, and the staircase of closed sides along an oblique wall is not where the
velocity vanishes; a scalar carried by such fluxes would pile up. The smallest change, in the sum of
squares over all sides, that makes every cell's fluxes sum to zero is minus the gradient of a potential:

    F = F* - grad(phi),     div grad(phi) = div F*,

with phi = 0 beyond the outlets, whose flow follows, and no change at the inlets (Chorin 1968,
doi:10.1090/S0025-5718-1968-0242392-2). It falls off within a few cells of the wall. The equations are
solved by conjugate gradients, preconditioned by the diagonal and by an exact solution on blocks of cells.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix, csr_matrix, diags
from scipy.sparse.linalg import LinearOperator, cg, splu

from pipeline.core.errors import NumericalError
from stages.flow.heat.faces import DIRECTIONS, INLET, OPEN, OUTLET, SIDES, CellSides

_LARGEST_CHANGE = 1e-6
"""Net flow that a cell may keep, root mean square over that of a cell's side in the inlets."""
_ROUNDING = 1e-12
"""Share of the imbalance below which there is only rounding: what the solver cannot reach it divides by."""
_MOST_ITERATIONS = 3000


def conservative_fluxes(
    sides: CellSides,
    velocity_m_s: Float[np.ndarray, "3 cell"],
    block: Int[np.ndarray, "cell"],
    inlet_flow_m3_s: dict[int, float],
) -> Float[np.ndarray, "cell 6"]:
    """Return the volume flow out of every side of every cell, m3/s.

    Parameters
    ----------
    sides
        Sides of the cells.
    velocity_m_s
        Velocity at the cells' centres.
    block
        Number of the block of cells in which each cell lies, for the coarse solution.
    inlet_flow_m3_s
        Flow into the domain by number of the inlet's patch.

    Raises
    ------
    NumericalError
        If the correction does not converge.
    """
    flux = _interpolated(sides, velocity_m_s)
    _set_inlets(flux, sides, inlet_flow_m3_s)
    through = sum(abs(flow) for flow in inlet_flow_m3_s.values())
    scale = through / max(int((sides.kind == INLET).sum()), 1)
    potential = _potential(sides, -flux.sum(axis=1), block, _LARGEST_CHANGE * scale)
    for side in range(SIDES):
        ahead = sides.neighbour[:, side]
        beyond = np.where(ahead >= 0, potential[ahead], 0.0)
        moved = (sides.kind[:, side] == OPEN) | (sides.kind[:, side] == OUTLET)
        flux[:, side] -= np.where(moved, beyond - potential, 0.0)
    return flux


def _interpolated(
    sides: CellSides, velocity_m_s: Float[np.ndarray, "3 cell"]
) -> Float[np.ndarray, "cell 6"]:
    flux = np.zeros(sides.kind.shape)
    area = sides.spacing_m**2
    for side, direction in enumerate(DIRECTIONS):
        axis = int(np.flatnonzero(direction)[0])
        along = velocity_m_s[axis].astype(np.float64) * direction[axis]
        ahead, kind = sides.neighbour[:, side], sides.kind[:, side]
        beyond = np.where(ahead >= 0, along[ahead], along)
        flux[:, side] = np.where(kind == 1, 0.0, 0.5 * area * (along + beyond))
    return flux


def _set_inlets(
    flux: Float[np.ndarray, "cell 6"], sides: CellSides, inlet_flow_m3_s: dict[int, float]
) -> None:
    """Give every inlet its flow; what is missing is shared in proportion to the flow of each side."""
    for patch, flow in inlet_flow_m3_s.items():
        chosen = sides.patch == patch
        values = flux[chosen]
        weight = np.abs(values)
        if weight.sum() == 0.0:
            weight = np.ones(len(values))
        flux[chosen] = values - weight / weight.sum() * (flow + values.sum())


def _potential(
    sides: CellSides,
    source: Float[np.ndarray, "cell"],
    block: Int[np.ndarray, "cell"],
    tolerance: float,
) -> Float[np.ndarray, "cell"]:
    matrix = _laplacian(sides)
    precondition = _two_levels(matrix, block)
    found, state = cg(
        matrix,
        source,
        rtol=_ROUNDING,  # a run that has hardly begun moves far more air than enters it
        atol=tolerance * np.sqrt(len(source)),
        maxiter=_MOST_ITERATIONS,
        M=precondition,
    )
    if state != 0 or not np.isfinite(found).all():
        raise NumericalError(
            "the volume flow through the cells' sides could not be balanced within "
            f"{_MOST_ITERATIONS} iterations."
        )
    return np.asarray(found)


def _laplacian(sides: CellSides) -> csr_matrix:
    count = len(sides.neighbour)
    open_side = sides.kind == OPEN
    rows, side = np.nonzero(open_side)
    columns = sides.neighbour[rows, side]
    shape = (count, count)
    across = csr_matrix((np.full(len(rows), -1.0), (rows, columns)), shape=shape)
    diagonal = open_side.sum(axis=1) + (sides.kind == OUTLET).sum(axis=1)
    return (across + diags(diagonal.astype(np.float64))).tocsr()


def _two_levels(matrix: csr_matrix, block: Int[np.ndarray, "cell"]) -> LinearOperator:
    """Return the sum of the inverses of the diagonal and of the equations summed over blocks."""
    count, blocks = len(block), int(block.max()) + 1
    gather = csr_matrix((np.ones(count), (block, np.arange(count))), shape=(blocks, count))
    entries = matrix.tocoo()
    shape = (blocks, blocks)
    coarse = coo_matrix((entries.data, (block[entries.row], block[entries.col])), shape=shape)
    factors = splu(coarse.tocsc(), options={"SymmetricMode": True}, permc_spec="MMD_AT_PLUS_A")
    inverse = 1.0 / matrix.diagonal()

    def apply(residual: Float[np.ndarray, "cell"]) -> Float[np.ndarray, "cell"]:
        return np.asarray(inverse * residual + factors.solve(gather @ residual)[block])

    return LinearOperator(matrix.shape, matvec=apply, dtype=np.float64)
