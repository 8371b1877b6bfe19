"""The lattice update on a list of fluid cells, compiled for the processor by Numba.

The engine knows tables, not geometry: index lists, wall links and opening links go in, density and
velocity come out. Another engine (C++, CUDA) offers the same methods, those of `engine_interface`, and
replaces this file alone.

Notes
-----
Two lattices, pull: every cell gathers its populations from `source`, an index into the populations
of the last step followed by the values that surfaces return (the tail). After the collision, walls
and openings write the tail of the new step. All sums over links run in one order on one thread, so
that results do not depend on the number of threads.
"""

from __future__ import annotations

import numba
import numpy as np
from jaxtyping import Float, Int

from stages.flow.collision import Collision, collide
from stages.flow.convection import correct_stress
from stages.flow.gathering import source_table
from stages.flow.lattice import OPPOSITE, VELOCITIES, WEIGHTS, Q
from stages.flow.openings import OpeningLinks, OpeningState
from stages.flow.walls import CORRECTION_RATE, CORRECTION_STEPS, WallLinks

_REFLECTED = 0.8
"""Share of anti-bounce-back, which keeps the stress, in what pressure openings return; the rest is the
equilibrium, which damps: 1 rings in oblique pipes at relaxation times below 0.51."""
_PARALLEL = {"cache": True, "parallel": True, "fastmath": {"contract", "nsz", "arcp"}}


class NumbaEngine:
    """Advance the populations of a sparse lattice on the processor.

    Parameters
    ----------
    neighbour
        Cell one link ahead in each direction, or -1.
    link_cell, link_direction
        Fluid cell and outward direction of every link that ends at the surface.
    walls, openings
        What those links return.
    collision
        Relaxation rates.
    precision
        Type of the populations.
    threads
        Processor threads.
    """

    def __init__(
        self,
        neighbour: Int[np.ndarray, "q cell"],
        link_cell: Int[np.ndarray, "link"],
        link_direction: Int[np.ndarray, "link"],
        *,
        walls: WallLinks,
        openings: OpeningLinks,
        collision: Collision,
        precision: type[np.floating],
        threads: int,
    ) -> None:
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        self._cells = neighbour.shape[1]
        self._precision = precision
        self._source = source_table(neighbour, link_cell, link_direction)
        self._openings = openings.as_type(precision)
        size = Q * self._cells + len(link_cell)
        self._old = np.zeros(size, dtype=precision)
        self._new = np.zeros(size, dtype=precision)
        self._macroscopic = np.zeros((4, self._cells), dtype=precision)
        self._links = len(link_cell)
        self._stress = np.zeros((6, self._cells), dtype=precision)
        self._set_walls(walls)
        self._rates = collision.values(precision)
        self._deferred = np.zeros(len(walls.link), dtype=precision)
        self._steps = 0

    def advance(self, steps: int, openings: OpeningState) -> None:
        """Advance some steps; the fluxes through the openings are left in `openings`."""
        walls, links = self._walls, self._openings
        surface = links.surface
        assert surface is not None
        for _ in range(steps):
            old, new = self._old, self._new
            stream_and_collide(
                *(old, new, self._source, self._rates, self._stress, self._macroscopic)
            )
            return_from_walls(
                *(old, new, self._source, walls.first, walls.link, walls.cell),
                *(walls.direction, walls.near, walls.share, self._deferred, self._defect),
            )
            give_back(new, walls.first, walls.cell, walls.windows.spread(self._defect))
            return_from_openings(
                *(old, new, self._source, self._macroscopic, links.link, links.cell),
                *(links.direction, links.opening, links.profile, links.normal, links.inlet),
                links.solid,
                *(surface.behind, surface.near, surface.share),
                *(openings.given_velocity, openings.level, openings.speed, openings.flux),
                openings.outlet,
            )
            self._old, self._new = new, old
            self._steps += 1
            if self._steps % CORRECTION_STEPS == 0:
                self._correct(CORRECTION_RATE)

    def _set_walls(self, walls: WallLinks) -> None:
        self._walls = walls.as_type(self._precision)
        self._defect = np.zeros(len(walls.first) - 1)
        self._inverse = np.zeros(self._links, dtype=self._precision)
        self._inverse[walls.link] = self._walls.inverse

    def _correct(self, rate: float) -> None:
        """Correct what is deferred: the walls' terms and the extra stress."""
        walls = self._walls
        if not walls.is_curved:
            return
        correct_stress(
            *(self._macroscopic, self._source, self._inverse, self._stress),
            *(self._rates[3], self._precision(rate)),
        )
        correct_walls(
            *(self._macroscopic, walls.cell, walls.direction, walls.behind),
            *(walls.here, walls.back, walls.press, self._deferred, self._precision(rate)),
        )

    def macroscopic(self) -> Float[np.ndarray, "4 cell"]:
        """Return density deviation and velocity of every cell, lattice units."""
        return self._macroscopic

    def restart(
        self,
        macroscopic: Float[np.ndarray, "4 cell"],
        walls: WallLinks,
        openings: OpeningLinks,
        collision: Collision,
    ) -> None:
        """Set every cell to the equilibrium of a state and continue with other rates."""
        self._set_walls(walls)
        self._openings = openings.as_type(self._precision)
        self._rates = collision.values(self._precision)
        self._macroscopic = macroscopic.astype(self._precision)
        self._deferred[:] = 0.0
        self._stress[:] = 0.0
        self._correct(1.0)
        set_equilibrium(self._old, self._macroscopic)
        tail = self._old[Q * self._cells :]
        links = np.flatnonzero(self._source.ravel() >= Q * self._cells)
        opposite = OPPOSITE[links // self._cells] * self._cells + links % self._cells
        tail[self._source.ravel()[links] - Q * self._cells] = self._old[opposite]

    def state(self) -> dict[str, np.ndarray]:
        """Return all that changes from step to step; `load` continues from it bit by bit.

        Returns
        -------
        ``populations`` after the last step with what surfaces return, ``macroscopic`` (4, cell) as the
        openings read it last, ``deferred`` (link) terms of the walls, the extra ``stress`` (6, cell) and the
        number of ``steps``.
        """
        return {
            "populations": self._old.copy(),
            "macroscopic": self._macroscopic.copy(),
            "deferred": self._deferred.copy(),
            "stress": self._stress.copy(),
            "steps": np.array(self._steps),
        }

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Continue from what `state` returned in an engine of the same tables."""
        self._old[:] = state["populations"]
        self._macroscopic = state["macroscopic"].astype(self._precision)
        self._deferred[:] = state["deferred"]
        self._stress[:] = state["stress"]
        self._steps = int(state["steps"])

    @property
    def bytes_per_cell(self) -> int:
        """Memory moved in one update: gather and store, indices, density and velocity."""
        size = np.dtype(self._precision).itemsize
        return Q * (2 * size + 4) + 4 * size


@numba.njit(**_PARALLEL)  # type: ignore[untyped-decorator]
def stream_and_collide(old, new, source, rates, stress, macroscopic):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    """Gather, collide and store one step of all cells.

    Parameters
    ----------
    old, new
        Flat populations of this and the next step, (19 cells + links).
    source
        Where to gather from, (q, cell).
    rates
        omega, omega_third and recursive of `Collision`.
    stress
        Extra stress of the equilibrium, (6, cell).
    macroscopic
        Receives density deviation and velocity, (4, cell).
    """
    n = source.shape[1]
    omega, omega_third, recursive = rates[0], rates[1], rates[2]
    for i in numba.prange(n):
        arriving = (
            old[source[0, i]],
            old[source[1, i]],
            old[source[2, i]],
            old[source[3, i]],
            old[source[4, i]],
            old[source[5, i]],
            old[source[6, i]],
            old[source[7, i]],
            old[source[8, i]],
            old[source[9, i]],
            old[source[10, i]],
            old[source[11, i]],
            old[source[12, i]],
            old[source[13, i]],
            old[source[14, i]],
            old[source[15, i]],
            old[source[16, i]],
            old[source[17, i]],
            old[source[18, i]],
        )
        extra = (
            *(stress[0, i], stress[1, i], stress[2, i]),
            *(stress[3, i], stress[4, i], stress[5, i]),
        )
        state, leaving = collide(arriving, extra, omega, omega_third, recursive)
        macroscopic[0, i], macroscopic[1, i] = state[0], state[1]
        macroscopic[2, i], macroscopic[3, i] = state[2], state[3]
        for q in range(19):
            new[q * n + i] = leaving[q]


@numba.njit(**_PARALLEL)  # type: ignore[untyped-decorator]
def return_from_walls(  # type: ignore[no-untyped-def] # noqa: ANN201
    old,  # noqa: ANN001
    new,  # noqa: ANN001
    source,  # noqa: ANN001
    first,  # noqa: ANN001
    link,  # noqa: ANN001
    cell,  # noqa: ANN001
    direction,  # noqa: ANN001
    near,  # noqa: ANN001
    share,  # noqa: ANN001
    deferred,  # noqa: ANN001
    lacking,  # noqa: ANN001
):
    """Write what each wall link returns, and what each block's links return less than they took.

    See `walls` for the equations.
    """
    n = source.shape[1]
    one = old[0] * 0 + 1
    for w in numba.prange(len(first) - 1):
        defect = 0.0
        for k in range(first[w], first[w + 1]):
            c, q = cell[k], direction[k]
            outgoing = new[q * n + c]
            second = old[source[q, c]] if near[k] else new[OPPOSITE[q] * n + c]
            value = share[k] * outgoing + (one - share[k]) * second + deferred[k]
            new[19 * n + link[k]] = value
            defect += outgoing - value
        lacking[w] = defect


@numba.njit(**_PARALLEL)  # type: ignore[untyped-decorator]
def give_back(new, first, cell, spread):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    """Add what each wall cell of a block is given to its population at rest."""
    for w in numba.prange(len(first) - 1):
        previous = -1
        for k in range(first[w], first[w + 1]):
            if cell[k] != previous:
                new[cell[k]] += spread[w]
            previous = cell[k]


@numba.njit(**_PARALLEL)  # type: ignore[untyped-decorator]
def correct_walls(  # type: ignore[no-untyped-def] # noqa: ANN201
    macroscopic,  # noqa: ANN001
    cell,  # noqa: ANN001
    direction,  # noqa: ANN001
    behind,  # noqa: ANN001
    here,  # noqa: ANN001
    back,  # noqa: ANN001
    press,  # noqa: ANN001
    deferred,  # noqa: ANN001
    rate,  # noqa: ANN001
):
    """Move the deferred terms of the wall links towards what velocities and densities ask for."""
    for k in numba.prange(len(cell)):
        c, b, q = cell[k], behind[k], direction[k]
        along = _along(q, macroscopic[1, c], macroscopic[2, c], macroscopic[3, c])
        before = _along(q, macroscopic[1, b], macroscopic[2, b], macroscopic[3, b])
        difference = macroscopic[0, c] - macroscopic[0, b]
        asked = here[k] * along + back[k] * before + press[k] * difference
        deferred[k] += rate * (asked - deferred[k])


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def return_from_openings(  # type: ignore[no-untyped-def] # noqa: ANN201
    old,  # noqa: ANN001
    new,  # noqa: ANN001
    source,  # noqa: ANN001
    macroscopic,  # noqa: ANN001
    link,  # noqa: ANN001
    cell,  # noqa: ANN001
    direction,  # noqa: ANN001
    opening,  # noqa: ANN001
    profile,  # noqa: ANN001
    normal,  # noqa: ANN001
    inlet,  # noqa: ANN001
    solid,  # noqa: ANN001
    behind,  # noqa: ANN001
    near,  # noqa: ANN001
    share,  # noqa: ANN001
    given_velocity,  # noqa: ANN001
    level,  # noqa: ANN001
    speed,  # noqa: ANN001
    flux,  # noqa: ANN001
    outlet,  # noqa: ANN001
):
    """Write what each opening link returns; see `openings` for the equations."""
    n = source.shape[1]
    answer = _outlet_density(flux, inlet, outlet)
    for o in range(len(flux)):
        flux[o] = 0.0
    for k in range(len(link)):
        o, c, q = opening[k], cell[k], direction[k]
        ux, uy, uz = macroscopic[1, c], macroscopic[2, c], macroscopic[3, c]
        nx, ny, nz = normal[0, o], normal[1, o], normal[2, o]
        out = new[q * n + c]
        if solid[k]:
            second = old[source[q, c]] if near[k] else new[OPPOSITE[q] * n + c]
            value = share[k] * out + (1.0 - share[k]) * second
        elif inlet[o] and given_velocity:
            given = profile[k] * speed[o]
            cu = _along(q, nx, ny, nz) * given
            even = macroscopic[0, behind[k]] + 4.5 * cu * cu - 1.5 * given * given
            value = WEIGHTS[q] * (even - 3.0 * cu)
        else:
            density = level[o] if inlet[o] else answer
            through = nx * ux + ny * uy + nz * uz
            if inlet[o] or through < 0:
                entering = max(through, 0.0) if inlet[o] else through
                density -= 1.5 * entering * entering
                ux, uy, uz = nx * through, ny * through, nz * through
            cu = _along(q, ux, uy, uz)
            even = density + 4.5 * cu * cu - 1.5 * (ux * ux + uy * uy + uz * uz)
            reflected = 2.0 * WEIGHTS[q] * even - out
            settled = WEIGHTS[q] * (even - 3.0 * cu)
            value = _REFLECTED * reflected + (1.0 - _REFLECTED) * settled
        new[19 * n + link[k]] = value
        gain = value - new[q * n + c]
        flux[o] += gain if inlet[o] else -gain


@numba.njit  # type: ignore[untyped-decorator]
def _outlet_density(flux, inlet, outlet):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Let the outlets answer the flux as open space would, and drive it to the target.

    `outlet`: level, impedance, rate of the integral, target flux, smoothed flux, smoothing.
    """
    total = 0.0
    for o in range(len(flux)):
        if not inlet[o]:
            total += flux[o]
    outlet[4] += outlet[5] * (total - outlet[4])
    error = outlet[1] * (outlet[4] - outlet[3])
    outlet[0] += outlet[2] * error
    return outlet[0] + error


@numba.njit  # type: ignore[untyped-decorator]
def _along(q, ux, uy, uz):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Return the velocity along a direction of the lattice."""
    return VELOCITIES[q, 0] * ux + VELOCITIES[q, 1] * uy + VELOCITIES[q, 2] * uz


@numba.njit(**_PARALLEL)  # type: ignore[untyped-decorator]
def set_equilibrium(populations, macroscopic):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    """Set all populations to the equilibrium of the given density deviation and velocity."""
    n = macroscopic.shape[1]
    for i in numba.prange(n):
        rho, ux, uy, uz = (
            macroscopic[0, i],
            macroscopic[1, i],
            macroscopic[2, i],
            macroscopic[3, i],
        )
        for q in range(19):
            cu = _along(q, ux, uy, uz)
            square = ux * ux + uy * uy + uz * uz
            populations[q * n + i] = WEIGHTS[q] * (rho + 3.0 * cu + 4.5 * cu * cu - 1.5 * square)
