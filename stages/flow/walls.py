"""Interpolated walls: what a cut link returns, from populations and momenta beside it.

Notes
-----
With q the distance to the wall in link lengths, i the outward direction, f after and g before
collision, the linear part is one-node Bouzidi [1]_ [2]_:

    q < 1/2:  f_-i(t+1) = 2 q f_i + (1 - 2 q) g_i,
    else:     f_-i(t+1) = f_i / (2 q) + (2 q - 1) / (2 q) f_-i,

where g_i, what arrived along the link, stands for f_i of the cell behind one step earlier, so that
gaps one cell wide need no fall-back. A creeping flow with phi = c_i . u, continued beyond the wall as a
parabola, would send back what leaves the place behind the wall, f_-i of x + c_i. By the Chapman-Enskog
expansion along the link, with third moments forgotten at each collision, that is more than the linear part by

    w_i (3 q^2 phi'' - 6 (1 - q) L phi'' + 2 (1 - q) rho')   for q < 1/2,
    w_i ((3/2) q phi'' - 3 L phi'' + rho')                   else,          L = tau - 1/2,

with rho' and phi'' the derivatives of density and velocity along the link. As tau approaches 1/2, as it does
in a nose, linear walls lie up to a quarter of a cell too far inwards: 13 % of pressure loss in a pipe of
eight cells, a factor of two in an oblique gap of three. Quadratic walls add the difference; phi'' follows
from the wall, the cell and the cell behind it, phi'' = 2 (q phi_behind / (1 + q) - phi) / q, so that
parabolas are exact, and rho' from the cell and the one behind.

The difference is a deferred correction [3]_: it follows the velocities with a time constant of some 50
steps, slow against the sound between neighbours and fast against the flow. Added at once, it rang
and diverged in a nose at cells of 0.7 and 1 mm; deferred, the steady state is the same.

A link whose opposite is cut too has no cell behind it. Linear walls turn the momentum along such a pair of
links round in each step: that all but closes a gap of one cell, and the velocity across it alternates
undamped, until corrections fed on it and the flow diverged. Beside quadratic walls each of the pair
returns the mean of what both took, so that the momentum along it vanishes in each step. The friction must
be that of a slit, 12 nu phi / (q + q')^2 with the walls at q and q': of the 3 w phi that a link takes all but
36 w L phi / (q + q')^2 is given back, deferred too. That is for cells whose links all feel the pressure
gradient; pairs feel none, and friction is less by their share. Where a whole cell is a gap, links that lead
only across it give nothing back.

The populations of a pair carry a stress too, with phi' the slope along the link: -3 w tau phi' in what should
arrive, but -3 w (tau - 1) phi', of the other sign, in what leaves and the mean hands back. Each of the pair
therefore returns -3 w phi' besides, deferred, with the slope of the parabola between both walls, phi' =
phi (q - q') / (q q'). Without it passages of two cells, where such links are many, were too narrow by far: a
nose at 0.7 mm lost a fifth more.

A cell's links do not return exactly what they took: part of that is the flux between the wall and
the staircase of links, part is an error that would leak. The sum over many cells is only error; it is given
back to the wall cells around, to the populations at rest (`mass_windows`).

References
----------
.. [1] Bouzidi, Firdaouss & Lallemand (2001), Phys. Fluids 13, 3452, eqs. 5a and 5b,
   doi:10.1063/1.1399290.
.. [2] Ginzburg & d'Humieres (2003), Phys. Rev. E 68, 066614, for the closure relations,
   doi:10.1103/PhysRevE.68.066614.
.. [3] Khosla & Rubin (1974), Comput. Fluids 2, 207, doi:10.1016/0045-7930(74)90014-0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from stages.flow.convection import SMALLEST_DISTANCE
from stages.flow.lattice import OPPOSITE, VELOCITIES, WEIGHTS
from stages.flow.mass_windows import MassWindows, mass_windows

SMALLEST_STENCIL = 0.25
"""Distances below this share of a link do not sharpen the viscous part of the second difference."""
_SMALLEST_PRODUCT = 0.25
"""Nor do products of the distances to both walls below this share sharpen the slope between them: with a
sixth of the square of their sum as the only bound a nose at 0.7 mm diverged."""
_TAKEN = 3.0
"""Share of w phi that a link takes whose return is the mean of what it and its opposite took."""
CORRECTION_STEPS, CORRECTION_RATE = 32, 0.45
"""Steps between updates of the deferred terms, and the share of the difference they make up, a time constant
of some 50 steps: at 0.8 creeping flow through a hole diverged, at 0.56 it did not."""


@dataclass(frozen=True)
class WallLinks:
    """Hold what each wall link returns, sorted by cell.

    Parameters
    ----------
    first
        First link of each block of `windows`, and the end.
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
        Weights of the velocity along the link in the deferred term, in the cell and in the cell behind.
    press
        Weight of the density in the cell less that in the cell behind.
    inverse
        1 over the distance to the wall, bounded as `convection` wants it.
    windows
        How the mass that links return too little is given back.
    """

    first: Int[np.ndarray, "block_end"]
    link: Int[np.ndarray, "link"]
    cell: Int[np.ndarray, "link"]
    direction: Int[np.ndarray, "link"]
    behind: Int[np.ndarray, "link"]
    near: Int[np.ndarray, "link"]
    share: Float[np.ndarray, "link"]
    here: Float[np.ndarray, "link"]
    back: Float[np.ndarray, "link"]
    press: Float[np.ndarray, "link"]
    inverse: Float[np.ndarray, "link"]
    windows: MassWindows

    @property
    def is_curved(self) -> bool:
        """Whether any link reads velocities."""
        return bool(np.any(self.here))

    def as_type(self, precision: type[np.floating]) -> WallLinks:
        """Return the same links with weights of the populations' type."""
        names = ("share", "here", "back", "press", "inverse")
        return replace(self, **{name: getattr(self, name).astype(precision) for name in names})

    def in_order_of(self, link: Int[np.ndarray, "link"]) -> WallLinks:
        """Return the same links in another order of their numbers, as one block."""
        by_number = np.argsort(self.link)
        at = by_number[np.searchsorted(self.link, link, sorter=by_number)]
        weights = ("share", "here", "back", "press", "inverse")
        names = ("link", "cell", "direction", "behind", "near", *weights)
        ordered = {name: getattr(self, name)[at] for name in names}
        return replace(self, first=np.array([0, len(at)]), **ordered)


def interpolated_walls(
    link: Int[np.ndarray, "wall"],
    cell: Int[np.ndarray, "wall"],
    direction: Int[np.ndarray, "wall"],
    distance: Float[np.ndarray, "wall"],
    neighbour: Int[np.ndarray, "q cell"],
    *,
    cells: Int[np.ndarray, "cell 3"],
    relaxation_time: float,
    curvature: float | Float[np.ndarray, "wall"],
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
    cells
        Indices (x, y, z) of all fluid cells.
    relaxation_time
        tau.
    curvature
        Share of the second-order term that is added, of all links or of each: 1 for quadratic walls, 0 for
        linear ones.
    """
    behind = neighbour[OPPOSITE[direction], cell].astype(np.int64)
    near, q = distance < 0.5, distance
    alone = behind < 0
    even = alone & (np.broadcast_to(curvature, q.shape) > 0.0)
    near = near & ~even
    strength = _curvature(direction, q, relaxation_time)
    friction = pair_friction(cell, direction, q, neighbour) * (relaxation_time - 0.5)
    stress = 3.0 * _pair_slope(cell, direction, q, neighbour)
    pair = WEIGHTS[direction] * (_given_back(friction) + stress)
    walled, number = np.unique(cell, return_inverse=True)
    block, windows = mass_windows(cells[walled])
    order = np.lexsort((direction, cell, block[number]))
    _, first = np.unique(block[number][order], return_index=True)
    return WallLinks(
        first=np.append(first, len(cell)).astype(np.int64),
        link=link[order].astype(np.int32),
        cell=cell[order].astype(np.int32),
        direction=direction[order].astype(np.int32),
        behind=np.where(alone, cell, behind)[order].astype(np.int32),
        near=near[order],
        share=np.where(even, 0.5, np.where(near, 2.0 * q, 0.5 / q))[order],
        here=(-curvature * np.where(alone, pair, strength))[order],
        back=(curvature * np.where(alone, 0.0, strength * q / (1.0 + q)))[order],
        press=(curvature * np.where(alone, 0.0, _pressed(direction, q)))[order],
        inverse=1.0 / np.maximum(q, SMALLEST_DISTANCE)[order],
        windows=windows,
    )


def _curvature(
    direction: Int[np.ndarray, "wall"], q: Float[np.ndarray, "wall"], relaxation_time: float
) -> Float[np.ndarray, "wall"]:
    """Return the weight of each link's second-order term."""
    near = q < 0.5
    needed = np.where(near, 2.0 * q, 1.0)
    viscous = (relaxation_time - 0.5) / np.maximum(q, SMALLEST_STENCIL)
    excess = np.where(near, 4.0 * (1.0 - q), 2.0) * viscous
    weights: Float[np.ndarray, "wall"] = 3.0 * WEIGHTS[direction] * (needed - excess)
    return weights


def _pressed(
    direction: Int[np.ndarray, "wall"], q: Float[np.ndarray, "wall"]
) -> Float[np.ndarray, "wall"]:
    """Return the weight of the density's difference along each link."""
    weights: Float[np.ndarray, "wall"] = WEIGHTS[direction] * np.where(
        q < 0.5, 2.0 * (1.0 - q), 1.0
    )
    return weights


def _given_back(friction: Float[np.ndarray, "wall"]) -> Float[np.ndarray, "wall"]:
    """Return the share of w phi that links of a pair give back, none where they lead only across a gap."""
    given: Float[np.ndarray, "wall"] = _TAKEN - np.minimum(friction, 2.0 * _TAKEN)
    return np.where(np.isfinite(friction), given, 0.0)


def _pair_slope(
    cell: Int[np.ndarray, "wall"],
    direction: Int[np.ndarray, "wall"],
    q: Float[np.ndarray, "wall"],
    neighbour: Int[np.ndarray, "q cell"],
) -> Float[np.ndarray, "wall"]:
    """Return phi' / phi of links whose opposite is cut too, 0 for others."""
    across = np.ones(neighbour.shape, dtype=np.float32)
    across[direction, cell] = q
    beyond = across[OPPOSITE[direction], cell]
    slope = (q - beyond) / np.maximum(q * beyond, _SMALLEST_PRODUCT)
    return np.where(neighbour[OPPOSITE[direction], cell] < 0, slope, 0.0)


def pair_friction(
    cell: Int[np.ndarray, "wall"],
    direction: Int[np.ndarray, "wall"],
    q: Float[np.ndarray, "wall"],
    neighbour: Int[np.ndarray, "q cell"],
) -> Float[np.ndarray, "wall"]:
    """Return the friction of links whose opposite is cut too, 0 for others.

    As the share of w phi that is taken, over tau - 1/2; infinite for links that lead only across a gap of
    one cell.

    Parameters
    ----------
    cell, direction, q
        Fluid cell, outward direction and distance to the wall of all wall links, link lengths.
    neighbour
        Cell one link ahead in each direction, or -1.
    """
    alone = neighbour[OPPOSITE[direction], cell] < 0
    cell, direction, q = cell[alone], direction[alone], q[alone]
    across = np.ones(neighbour.shape, dtype=np.float32)
    across[direction, cell] = q
    gap = q + across[OPPOSITE[direction], cell]
    cut = neighbour[1:7] < 0
    blocked = np.stack([cut[0] & cut[1], cut[2] & cut[3], cut[4] & cut[5]])
    way = np.where(blocked[:, cell], 0, VELOCITIES[direction].T)
    # Pairs feel no pressure gradient: where the flow is not driven, friction must be less by the same share.
    share = 3.0 * WEIGHTS[direction] * np.square(VELOCITIES[direction].T)
    still = np.stack([np.bincount(cell, part, neighbour.shape[1])[cell] for part in share])
    count = np.square(way).sum(axis=0)
    driven = 1.0 - (still * np.square(way)).sum(axis=0) / np.maximum(count, 1)
    friction = np.zeros(len(alone))
    friction[alone] = np.where(count > 0, 36.0 * driven / gap**2, np.inf)
    return friction
