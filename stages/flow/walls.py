"""Interpolated walls: what a cut link returns, as a blend of outgoing populations.

References
----------
.. [1] Bouzidi, Firdaouss & Lallemand (2001), Phys. Fluids 13, 3452, eqs. 5a and 5b,
   doi:10.1063/1.1399290.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from stages.flow.lattice import OPPOSITE


@dataclass(frozen=True)
class WallLinks:
    """Hold the blend that each wall link returns.

    Parameters
    ----------
    first
        First link of each cell that has walls, and the end, (wall cell + 1).
    address
        Cell, link number and three addresses into the populations, sorted by cell, (5, link).
    factor
        Weights of the three populations, (3, link).
    """

    first: Int[np.ndarray, "wall_cell"]
    address: Int[np.ndarray, "5 link"]
    factor: Float[np.ndarray, "3 link"]


def interpolated_walls(
    link: Int[np.ndarray, "wall"],
    cell: Int[np.ndarray, "wall"],
    direction: Int[np.ndarray, "wall"],
    distance: Float[np.ndarray, "wall"],
    neighbour: Int[np.ndarray, "q cell"],
) -> WallLinks:
    """Return linear Bouzidi walls; a cell without a second cell behind it falls back.

    Parameters
    ----------
    link
        Number of each wall link among all links.
    cell, direction, distance
        Fluid cell, outward direction and distance to the wall in link lengths (0, 1].
    neighbour
        Cell one link ahead in each direction, or -1.

    Notes
    -----
    With q the distance and i the outward direction, for q < 1/2
    f_-i(x, t+1) = 2 q f_i(x) + (1 - 2 q) f_i(x - c_i), else
    f_-i(x, t+1) = f_i(x) / (2 q) + (2 q - 1) / (2 q) f_-i(x).
    Where x - c_i is no fluid (a gap one cell wide) the first form has nothing to interpolate
    from and the link bounces half-way.
    """
    address, factor = blend(cell, direction, distance, neighbour)
    order = np.lexsort((direction, cell))
    _, first = np.unique(cell[order], return_index=True)
    return WallLinks(
        np.append(first, len(cell)).astype(np.int64),
        np.ascontiguousarray(np.stack([cell, link, *address])[:, order].astype(np.int32)),
        np.ascontiguousarray(factor[:, order]),
    )


def blend(
    cell: Int[np.ndarray, "link"],
    direction: Int[np.ndarray, "link"],
    distance: Float[np.ndarray, "link"],
    neighbour: Int[np.ndarray, "q cell"],
) -> tuple[Int[np.ndarray, "3 link"], Float[np.ndarray, "3 link"]]:
    """Return the addresses and weights of the populations that a resting surface returns."""
    number = neighbour.shape[1]
    behind = neighbour[OPPOSITE[direction], cell].astype(np.int64)
    outgoing = direction * number + cell
    reversed_here = OPPOSITE[direction] * number + cell
    near = distance < 0.5
    lonely = near & (behind < 0)
    q = np.where(lonely, 0.5, distance)
    second = np.where(near & ~lonely, direction * number + np.maximum(behind, 0), outgoing)
    factor = np.stack(
        [
            np.where(near, 2 * q, 1 / (2 * q)),
            np.where(near, 1 - 2 * q, 0.0),
            np.where(near, 0.0, (2 * q - 1) / (2 * q)),
        ]
    )
    return np.stack([outgoing, second, reversed_here]), factor
