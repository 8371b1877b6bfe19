"""Interpolated walls: what a cut link returns, from populations and momenta beside it.

Notes
-----
With q the distance to the wall in link lengths, i the outward direction, f after and g before
collision, the linear part is one-node Bouzidi [1]_:

    q < 1/2:  f_-i(t+1) = 2 q f_i + (1 - 2 q) g_i,
    else:     f_-i(t+1) = f_i / (2 q) + (2 q - 1) / (2 q) f_-i,

where g_i, what arrived along the link, stands for f_i of the cell behind one step earlier, so that
gaps one cell wide need no fall-back. In a steady flow with phi = c_i . u this imposes, by the
Chapman-Enskog expansion along a link and with third moments forgotten at each collision,

    phi + q phi' + (2/3) L (q or 1 - q) phi'' = 0,     L = tau - 1/2,

where the wall needs phi + q phi' + (q^2 / 2) phi'' = 0. As tau approaches 1/2 the missing term moves
the wall inwards by up to a quarter of a cell: 13 % of pressure loss in a pipe of eight cells.
The difference is added to what the link returns; phi'' follows from the wall, the cell and the cell
behind it, phi'' = 2 (q phi_behind / (1 + q) - phi) / q.

References
----------
.. [1] Bouzidi, Firdaouss & Lallemand (2001), Phys. Fluids 13, 3452, eqs. 5a and 5b,
   doi:10.1063/1.1399290.
.. [2] Ginzburg & d'Humieres (2003), Phys. Rev. E 68, 066614, for the closure relations,
   doi:10.1103/PhysRevE.68.066614.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from stages.flow.lattice import OPPOSITE, WEIGHTS

_SMALLEST_STENCIL = 0.25
"""Distances below this share of a link do not sharpen the viscous part of the second difference."""


@dataclass(frozen=True)
class WallLinks:
    """Hold what each wall link returns, sorted by cell.

    Parameters
    ----------
    first
        First link of each cell that has walls, and the end, (wall cell + 1).
    link
        Number of each link among all links of the lattice.
    cell, direction
        Fluid cell and outward direction of each link.
    behind
        The cell behind the fluid cell; the cell itself where there is none.
    near
        Whether the wall is less than half a link away.
    share
        Weight of the outgoing population; the second one has the rest.
    here, back
        Weights of the momentum along the link, in the cell and in the cell behind.
    moving
        Weight of the surface's own velocity along the link, for surfaces that let fluid in.
    """

    first: Int[np.ndarray, "wall_cell"]
    link: Int[np.ndarray, "link"]
    cell: Int[np.ndarray, "link"]
    direction: Int[np.ndarray, "link"]
    behind: Int[np.ndarray, "link"]
    near: Int[np.ndarray, "link"]
    share: Float[np.ndarray, "link"]
    here: Float[np.ndarray, "link"]
    back: Float[np.ndarray, "link"]
    moving: Float[np.ndarray, "link"]

    def as_type(self, precision: type[np.floating]) -> WallLinks:
        """Return the same links with weights of the populations' type."""
        names = ("share", "here", "back", "moving")
        return replace(self, **{name: getattr(self, name).astype(precision) for name in names})


def interpolated_walls(
    link: Int[np.ndarray, "wall"],
    cell: Int[np.ndarray, "wall"],
    direction: Int[np.ndarray, "wall"],
    distance: Float[np.ndarray, "wall"],
    neighbour: Int[np.ndarray, "q cell"],
    *,
    block: Int[np.ndarray, "cell"],
    curved,
    distance_behind: Float[np.ndarray, "wall"],
    relaxation_time: float,
    curvature: float = 1.0,
) -> WallLinks:
    """Return walls of second order whose place does not depend on the viscosity.

    Parameters
    ----------
    link
        Number of each wall link among all links.
    cell, direction, distance
        Fluid cell, outward direction and distance to the wall in link lengths (0, 1].
    neighbour
        Cell one link ahead in each direction, or -1.
    distance_behind
        Distance to the surface in the opposite direction where no cell lies behind.
    relaxation_time
        tau.
    curvature
        Share of the second-order term that is added: 1, or 0 for linear walls.
    """
    behind = neighbour[OPPOSITE[direction], cell].astype(np.int64)
    lonely = behind < 0
    near = distance < 0.5
    q = distance
    viscous = relaxation_time - 0.5
    blunt = np.maximum(q, _SMALLEST_STENCIL)
    needed = np.where(near, 2.0 * q, 1.0)
    excess = np.where(near, (8.0 / 3.0) * (1.0 - q), 4.0 / 3.0) * viscous / blunt
    import os
    curvature *= float(os.environ.get('CURV','1'))
    if os.environ.get('LON')=='0': curved = curved & ~lonely
    strength = curved * curvature * 3.0 * WEIGHTS[direction] * (needed - excess)
    mirrored = np.minimum((1.0 - distance_behind) / np.maximum(distance_behind, 1e-6), 1.0)
    back = strength * q / (1.0 + q)
    here = -strength - np.where(lonely, back * mirrored, 0.0)
    order = np.lexsort((direction, cell, block[cell]))
    _, first = np.unique(block[cell[order]], return_index=True)
    columns = (
        link,
        cell,
        direction,
        np.where(lonely, cell, behind),
    )
    return WallLinks(
        np.append(first, len(cell)).astype(np.int64),
        *(np.ascontiguousarray(column[order].astype(np.int32)) for column in columns),
        near[order],
        np.where(near, 2.0 * q, 0.5 / q)[order],
        here[order],
        np.where(lonely, 0.0, back)[order],
        (strength / (1.0 + q) - 3.0 * WEIGHTS[direction] * np.where(near, 2.0, 1.0 / q))[order],
    )
