"""The flux through passages, from what the lattice counts and the cells' velocities.

Notes
-----
Openings count the mass that leaves cells. In steady flow the mass that moves along a passage is

    sum over cells of u - 1/2 sum over wall links of c_i (f_i - f_-i),

with f_i what goes into the wall and f_-i what comes back: links that end at the wall move nothing along.
The odd part of a link's populations is that of the velocity phi = c_i . u, continued beyond the wall as a
parabola,

    f_i - f_-i = 3 w_i (phi(0) + phi(1) + (tau - 1) phi''),

as quadratic walls return it (`walls`); of links without a cell behind it is what those are left. In a pipe of
four cells along an axis that is 5 % of the flux, in slits and pipes oblique to the lattice 2 % at four cells
and 0.3 % at eight.

As an integral over the passage the cells' sum is the midpoint rule on whole cells. Between the wall, at the
distance q from the first cell in link lengths, and the far face of that cell, e = q + 1/2 from the wall, a
profile u = s x + a x^2 holds s e^2 / 2 + a e^3 / 3 instead of u(q); and by the Euler-Maclaurin formula the
midpoint rule misses -(s + 2 a e) / 24 of all cells beyond. Along any one axis that completes the integral:
where the wall is oblique to two, each counts with the square of the wall's normal. With walls half-way a duct
of eight cells would carry 1.8 % less than the sum says. Where walls cross the lattice at all distances this
averages out, as in a nose; along an axis one q stands for a whole wall.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Float, Int

from stages.flow.lattice import OPPOSITE, VELOCITIES, WEIGHTS
from stages.flow.mesh import WALL
from stages.flow.voxels import SparseLattice
from stages.flow.walls import SMALLEST_STENCIL, pair_friction

_SMALLEST_DISTANCE = 0.01
"""Closer to the wall a cell's own velocity tells no slope: it is taken from the cell behind."""
_LARGEST = 0.5
"""Largest share that is believed: beyond it nothing is resolved."""


@dataclass(frozen=True)
class FluxQuadrature:
    """Weigh velocities beside the walls.

    Parameters
    ----------
    cell, behind
        First cell at the wall along an axis, and the one behind it.
    here, back
        Weights of their velocities in what the midpoint rule misses.
    link_cell, link_behind, link_direction
        First cell of each wall link, the one behind it or -1, and the outward direction.
    link_distance
        Distance to the wall, link lengths.
    link_friction
        Of links without a cell behind, as of `walls.pair_friction`.
    """

    cell: Int[np.ndarray, "axis_link"]
    behind: Int[np.ndarray, "axis_link"]
    here: Float[np.ndarray, "axis_link"]
    back: Float[np.ndarray, "axis_link"]
    link_cell: Int[np.ndarray, "link"]
    link_behind: Int[np.ndarray, "link"]
    link_direction: Int[np.ndarray, "link"]
    link_distance: Float[np.ndarray, "link"]
    link_friction: Float[np.ndarray, "link"]

    @classmethod
    def of(cls, lattice: SparseLattice) -> FluxQuadrature:
        """Return the weights of a lattice."""
        link = lattice.links_of(WALL)
        cell, direction = lattice.link_cell[link], lattice.link_direction[link]
        # An opening opposite counts as a wall one link away: few cells, and a straight profile there moved
        # oblique slits of 1.5 cells from 0.1 to 0.3 % of their flux.
        distance = np.ones(lattice.neighbour.shape, dtype=np.float32)
        distance[direction, cell] = lattice.link_distance[link]
        q, across = distance[direction, cell], distance[OPPOSITE[direction], cell]
        behind = lattice.neighbour[OPPOSITE[direction], cell]
        axis = np.abs(VELOCITIES[direction]).sum(axis=1) == 1
        here, back = quadrature_weights(q[axis].astype(np.float64))
        alone = behind[axis] < 0
        here = np.where(alone, gap_weights(q[axis], across[axis]), here)
        share = np.where(alone, 1.0, _normal_shares(lattice, cell, direction)[axis])
        return cls(
            cell[axis],
            np.where(alone, cell[axis], behind[axis]),
            share * here,
            share * np.where(alone, 0.0, back),
            *(cell.astype(np.int32), behind.astype(np.int32), direction.astype(np.int8)),
            *(q, pair_friction(cell, direction, q, lattice.neighbour).astype(np.float32)),
        )

    def factor(self, velocity: Float[np.ndarray, "3 cell"], relaxation_time: float) -> float:
        """Return the flux of a velocity field over what the lattice counts, averaged along all passages.

        Parameters
        ----------
        velocity
            Of the cells, any unit.
        relaxation_time
            tau.
        """
        speed = _speed(velocity)
        missed, idle = self._missed(velocity, speed), self._idle(velocity, speed, relaxation_time)
        kept = np.clip(np.array([missed, idle]) / max(speed.sum(), 1e-30), -_LARGEST, _LARGEST)
        return float((1.0 + kept[0]) / (1.0 - kept[1]))

    def missed(self, velocity: Float[np.ndarray, "3 cell"]) -> float:
        """Return what the midpoint rule misses, as a share of the cells' sum; 0 at rest."""
        speed = _speed(velocity)
        return self._missed(velocity, speed) / max(float(speed.sum()), 1e-30)

    def idle(self, velocity: Float[np.ndarray, "3 cell"], relaxation_time: float) -> float:
        """Return what ends at walls instead of moving along, as a share of the cells' sum; 0 at rest."""
        speed = _speed(velocity)
        return self._idle(velocity, speed, relaxation_time) / max(float(speed.sum()), 1e-30)

    def _missed(
        self, velocity: Float[np.ndarray, "3 cell"], speed: Float[np.ndarray, "cell"]
    ) -> float:
        first, second = velocity[:, self.cell], velocity[:, self.behind]
        along = first / np.maximum(speed[self.cell], 1e-30)
        return float(np.sum(along * (self.here * first + self.back * second)))

    def _idle(
        self,
        velocity: Float[np.ndarray, "3 cell"],
        speed: Float[np.ndarray, "cell"],
        relaxation_time: float,
    ) -> float:
        idle = _idle_flux(
            *(velocity, speed, self.link_cell, self.link_behind, self.link_direction),
            *(self.link_distance, self.link_friction, relaxation_time, VELOCITIES, WEIGHTS),
        )
        return float(idle)


def _speed(velocity: Float[np.ndarray, "3 cell"]) -> Float[np.ndarray, "cell"]:
    speed: Float[np.ndarray, "cell"] = np.sqrt(np.square(velocity.astype(np.float64)).sum(axis=0))
    return speed


def _normal_shares(
    lattice: SparseLattice, cell: Int[np.ndarray, "link"], direction: Int[np.ndarray, "link"]
) -> Float[np.ndarray, "link"]:
    """Return the square of the wall's normal along each link, the normal taken from all links of its cell."""
    way = VELOCITIES[direction].T
    count = len(lattice.cells)
    normal = np.stack([np.bincount(cell, WEIGHTS[direction] * c, count) for c in way])
    normal /= np.maximum(np.linalg.norm(normal, axis=0), 1e-12)
    shares: Float[np.ndarray, "link"] = np.square((normal[:, cell] * way).sum(axis=0))
    return shares


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _idle_flux(velocity, speed, cell, behind, direction, distance, friction, tau, ways, weights):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Return the sum over wall links of c_i . e (f_i - f_-i) / 2, with e the direction of the cell's flow."""
    total = 0.0
    for n in range(len(cell)):
        x, b, d, q = cell[n], behind[n], direction[n], distance[n]
        phi, phi_behind = 0.0, 0.0
        for k in range(3):
            phi += ways[d, k] * velocity[k, x]
            if b >= 0:
                phi_behind += ways[d, k] * velocity[k, b]
        if speed[x] <= 0.0:
            continue
        if b >= 0:
            bend = 2.0 * (q * phi_behind / (1.0 + q) - phi) / max(q, SMALLEST_STENCIL)
            odd = 3.0 * phi - phi_behind + tau * bend
        elif np.isinf(friction[n]):
            odd = phi
        else:
            odd = phi * (2.0 - min((tau - 0.5) * friction[n] / 3.0, 2.0))
        total += 1.5 * weights[d] * phi / speed[x] * odd
    return total


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
    """Return half of what one cell between two walls misses, as a weight of its velocity.

    Parameters
    ----------
    distance, across
        Of the cell to the one wall and to the other, link lengths.

    Notes
    -----
    Walls let such a cell have the mean velocity of a slit as wide as the gap (`walls`).
    """
    weights: Float[np.ndarray, "link"] = 0.5 * (distance + across - 1.0)
    return weights
