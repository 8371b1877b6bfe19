"""What the cells' sum of velocities misses of the flux through passages along the lattice.

Notes
-----
The mass that the lattice conserves is the sum of the cells' velocities; as an integral over a passage it is
the midpoint rule on whole cells. Between the wall, at the distance q from the first cell in link lengths, and
the far face of that cell, e = q + 1/2 from the wall, a profile u = s x + a x^2 holds s e^2 / 2 + a e^3 / 3
instead of u(q); and by the Euler-Maclaurin formula the midpoint rule misses -(s + 2 a e) / 24 of all cells
beyond. Where walls cross the lattice at all distances this averages out, as in a nose. Along an axis one q
stands for a whole wall: with walls half-way a duct of eight cells would carry 1.8 % less than the sum says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from stages.flow.lattice import OPPOSITE, VELOCITIES
from stages.flow.mesh import WALL
from stages.flow.voxels import SparseLattice

_SMALLEST_DISTANCE = 0.01
"""Closer to the wall a cell's own velocity tells no slope: it is taken from the cell behind."""
_LARGEST = 0.2
"""Largest share that is believed: beyond it nothing is resolved."""


@dataclass(frozen=True)
class FluxQuadrature:
    """Weigh velocities beside the walls along the axes.

    Parameters
    ----------
    cell, behind
        First cell at the wall along an axis, and the one behind it.
    here, back
        Weights of their velocities.
    """

    cell: Int[np.ndarray, "link"]
    behind: Int[np.ndarray, "link"]
    here: Float[np.ndarray, "link"]
    back: Float[np.ndarray, "link"]

    @classmethod
    def of(cls, lattice: SparseLattice) -> FluxQuadrature:
        """Return the weights of a lattice."""
        link = lattice.links_of(WALL)
        link = link[np.abs(VELOCITIES[lattice.link_direction[link]]).sum(axis=1) == 1]
        cell, direction = lattice.link_cell[link], lattice.link_direction[link]
        # An opening opposite counts as a wall one link away: few cells, and a straight profile there moved
        # oblique slits of 1.5 cells from 0.1 to 0.3 % of their flux.
        distance = np.ones(lattice.neighbour.shape)
        distance[direction, cell] = lattice.link_distance[link]
        behind = lattice.neighbour[OPPOSITE[direction], cell]
        here, back = quadrature_weights(distance[direction, cell])
        alone = behind < 0
        across = distance[OPPOSITE[direction], cell]
        here = np.where(alone, gap_weights(distance[direction, cell], across), here)
        return cls(cell, np.where(alone, cell, behind), here, np.where(alone, 0.0, back))

    def factor(self, velocity: Float[np.ndarray, "3 cell"]) -> float:
        """Return the flux of a velocity field over the cells' sum, averaged along all passages."""
        speed = np.linalg.norm(velocity.astype(np.float64), axis=0)
        total = float(speed.sum())
        if total <= 0.0:
            return 1.0
        first, second = velocity[:, self.cell], velocity[:, self.behind]
        along = first / np.maximum(speed[self.cell], 1e-30)
        missed = np.sum(along * (self.here * first + self.back * second), axis=0)
        return 1.0 + float(np.clip(missed.sum() / total, -_LARGEST, _LARGEST))


def quadrature_weights(
    distance: Float[np.ndarray, "link"],
) -> tuple[Float[np.ndarray, "link"], Float[np.ndarray, "link"]]:
    """Return what the midpoint rule misses at a wall, as weights of the two first velocities.

    Parameters
    ----------
    distance
        Of the first cell to the wall, link lengths.

    Notes
    -----
    Exact for parabolas; closer than a hundredth of a link, for straight profiles.
    """
    q = np.maximum(distance, _SMALLEST_DISTANCE)
    e = distance + 0.5
    slope, bend = e**2 / 2 - 1 / 24, e**3 / 3 - e / 12
    # s and a of the parabola through the wall and both velocities
    s, a = np.array([(1 + q) / q, -q / (1 + q)]), np.array([-1 / q, 1 / (1 + q)])
    close = distance < _SMALLEST_DISTANCE
    s = np.where(close, np.stack([0 * q, 1 / (1 + distance)]), s)
    a = np.where(close, 0.0, a)
    weights = slope * s + bend * a
    return weights[0] - 1.0, weights[1]


def gap_weights(
    distance: Float[np.ndarray, "link"], across: Float[np.ndarray, "link"]
) -> Float[np.ndarray, "link"]:
    """Return half of what one cell between two walls misses of its parabola, as a weight of its velocity.

    Parameters
    ----------
    distance, across
        Of the cell to the one wall and to the other, link lengths.
    """
    q, r = (np.maximum(d, _SMALLEST_DISTANCE) for d in (distance, across))
    weights: Float[np.ndarray, "link"] = 0.5 * ((q + r) ** 3 / (6 * q * r) - 1)
    return weights
