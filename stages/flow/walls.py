"""Interpolated walls: what a cut link returns, from populations and momenta beside it.

Notes
-----
With q the distance to the wall in link lengths, i the outward direction, f after and g before
collision, the linear part is one-node Bouzidi [1]_ [2]_:

    q < 1/2:  f_-i(t+1) = 2 q f_i + (1 - 2 q) g_i,
    else:     f_-i(t+1) = f_i / (2 q) + (2 q - 1) / (2 q) f_-i,

where g_i, what arrived along the link, stands for f_i of the cell behind one step earlier, so that
gaps one cell wide need no fall-back. In a steady flow with phi = c_i . u this imposes, by the
Chapman-Enskog expansion along a link and with third moments forgotten at each collision,

    phi + q phi' + (2/3) L (q or 1 - q) phi'' = 0,     L = tau - 1/2,

where the wall needs phi + q phi' + (q^2 / 2) phi'' = 0. As tau approaches 1/2 the missing term moves
the wall inwards by up to a quarter of a cell: 13 % of pressure loss in a pipe of eight cells.
Quadratic walls add the difference to what the link returns; phi'' follows from the wall, the cell and
the cell behind it, phi'' = 2 (q phi_behind / (1 + q) - phi) / q, with the velocity along the wall
only, since the velocity towards it carries the sound. Linear walls leave it out: they are more
viscous; no run with it has diverged yet.

A cell's links do not return exactly what they took: part of that is the flux between the wall and
the staircase of links, part is an error that would leak. The sum over a block of cells is only
error; it is given back to the block's wall cells in equal parts, to the populations at rest.

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

from stages.flow.lattice import OPPOSITE, VELOCITIES, WEIGHTS

_SMALLEST_STENCIL = 0.25
"""Distances below this share of a link do not sharpen the viscous part of the second difference."""
_LARGEST_DRAG = 0.4
"""Share of a cell's momentum along walls that the second-order term may take in one step: a flat wall
takes 0.33, a corner would take up to 3 and ring."""


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
    tangent
        The outward direction without its part normal to the wall, (3, link).
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
    tangent: Float[np.ndarray, "3 link"]

    def as_type(self, precision: type[np.floating]) -> WallLinks:
        """Return the same links with weights of the populations' type."""
        names = ("share", "here", "back", "tangent")
        return replace(self, **{name: getattr(self, name).astype(precision) for name in names})


def interpolated_walls(
    link: Int[np.ndarray, "wall"],
    cell: Int[np.ndarray, "wall"],
    direction: Int[np.ndarray, "wall"],
    distance: Float[np.ndarray, "wall"],
    neighbour: Int[np.ndarray, "q cell"],
    *,
    block: Int[np.ndarray, "cell"],
    relaxation_time: float,
    curvature: float,
) -> WallLinks:
    """Return what wall links hand back.

    Parameters
    ----------
    link
        Number of each wall link among all links.
    cell, direction, distance
        Fluid cell, outward direction and distance to the wall in link lengths (0, 1].
    neighbour
        Cell one link ahead in each direction, or -1.
    block
        Block of each cell within which walls conserve mass.
    relaxation_time
        tau.
    curvature
        Share of the second-order term that is added: 1 for quadratic walls, 0 for linear ones.
    """
    behind = neighbour[OPPOSITE[direction], cell].astype(np.int64)
    near, q = distance < 0.5, distance
    tangent, strength = _curvature(cell, direction, q, neighbour.shape[1], relaxation_time)
    strength = np.where(behind < 0, 0.0, curvature * strength)
    order = np.lexsort((direction, cell, block[cell]))
    _, first = np.unique(block[cell[order]], return_index=True)
    return WallLinks(
        first=np.append(first, len(cell)).astype(np.int64),
        link=link[order].astype(np.int32),
        cell=cell[order].astype(np.int32),
        direction=direction[order].astype(np.int32),
        behind=np.where(behind < 0, cell, behind)[order].astype(np.int32),
        near=near[order],
        share=np.where(near, 2.0 * q, 0.5 / q)[order],
        here=-strength[order],
        back=(strength * q / (1.0 + q))[order],
        tangent=np.ascontiguousarray(tangent[:, order]),
    )


def _curvature(
    cell: Int[np.ndarray, "wall"],
    direction: Int[np.ndarray, "wall"],
    q: Float[np.ndarray, "wall"],
    cells: int,
    relaxation_time: float,
) -> tuple[Float[np.ndarray, "3 wall"], Float[np.ndarray, "wall"]]:
    """Return each link's direction along the wall and the weight of its second-order term."""
    c = VELOCITIES[direction].T.astype(np.float64)
    w = WEIGHTS[direction]
    normal = np.stack([np.bincount(cell, w * row, cells) for row in c])
    normal = (normal / np.maximum(np.linalg.norm(normal, axis=0), 1e-12))[:, cell]
    tangent = c - normal * (normal * c).sum(axis=0)
    near = q < 0.5
    needed = np.where(near, 2.0 * q, 1.0)
    viscous = (relaxation_time - 0.5) / np.maximum(q, _SMALLEST_STENCIL)
    excess = np.where(near, (8.0 / 3.0) * (1.0 - q), 4.0 / 3.0) * viscous
    drag = np.bincount(cell, 3.0 * w * needed * (tangent**2).sum(axis=0), cells)
    limit = np.minimum(1.0, _LARGEST_DRAG / np.maximum(drag, 1e-12))[cell]
    return tangent, 3.0 * w * (needed - excess) * limit
