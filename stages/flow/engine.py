"""The lattice update on a list of fluid cells, compiled for the processor by Numba.

The engine knows no physics beyond one collision: index lists and boundary populations go in,
populations come out. Another engine (C++, CUDA) replaces this file alone.

Notes
-----
Populations are stored as deviations f_i - w_i, so that float32 keeps the digits of a small
pressure difference. The scheme is pull: every cell gathers from `source`, an index into the
populations of the last step followed by the values that the surface returns. The recursive-
regularised collision rebuilds all populations from density, momentum and stress [1]_ [2]_: it has no
free non-hydrodynamic modes, which is what keeps it stable as the relaxation time approaches
1/2. The trace of the non-equilibrium stress is set to zero (bulk viscosity), which damps sound.

References
----------
.. [1] Malaspinas (2015), arXiv:1505.06900, eqs. 18 and 33.
.. [2] Jacob, Malaspinas & Sagaut (2018), J. Turbul. 19, 1051, doi:10.1080/14685248.2018.1540879, for
   the third-order Hermite terms that D3Q19 can represent.
"""

from __future__ import annotations

import numba
import numpy as np
from jaxtyping import Float, Int

from stages.flow.lattice import OPPOSITE, VELOCITIES, WEIGHTS, Q

_PARALLEL = {"cache": True, "parallel": True, "fastmath": {"contract", "nsz", "arcp"}}


def source_table(
    neighbour: Int[np.ndarray, "q cell"],
    link_cell: Int[np.ndarray, "link"],
    link_direction: Int[np.ndarray, "link"],
) -> Int[np.ndarray, "q cell"]:
    """Return where each cell finds the population of each direction after streaming.

    Values below 19 n point into the populations (q, cell) of the last step, others to the link
    whose surface returns the population.
    """
    number = neighbour.shape[1]
    source = np.empty((Q, number), dtype=np.int32)
    for q in range(Q):
        behind = neighbour[OPPOSITE[q]].astype(np.int64)
        source[q] = np.where(behind >= 0, q * number + behind, -1)
    link = np.arange(len(link_cell))
    source[OPPOSITE[link_direction], link_cell] = Q * number + link
    return source


@numba.njit(**_PARALLEL)  # type: ignore[untyped-decorator]
def collide_and_stream(old, new, source, omega, macroscopic):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201, PLR0915
    """Gather, collide (recursive-regularised) and store one step of all cells.

    Parameters
    ----------
    old, new
        Flat populations of this and the next step, (19 cells + links).
    source
        Where to gather from, (q, cell).
    omega
        Relaxation rate of the shear stress of each cell.
    macroscopic
        Receives density deviation and momentum, (4, cell).
    """
    number = source.shape[1]
    one = old.dtype.type(1.0)
    third = old.dtype.type(1.0 / 3.0)
    w0 = old.dtype.type(1.0 / 3.0)
    w1 = old.dtype.type(1.0 / 18.0)
    w2 = old.dtype.type(1.0 / 36.0)
    three = old.dtype.type(3.0)
    half3 = old.dtype.type(1.5)
    nine = old.dtype.type(9.0)
    two = old.dtype.type(2.0)
    for i in numba.prange(number):
        f0 = old[source[0, i]]
        f1 = old[source[1, i]]
        f2 = old[source[2, i]]
        f3 = old[source[3, i]]
        f4 = old[source[4, i]]
        f5 = old[source[5, i]]
        f6 = old[source[6, i]]
        f7 = old[source[7, i]]
        f8 = old[source[8, i]]
        f9 = old[source[9, i]]
        f10 = old[source[10, i]]
        f11 = old[source[11, i]]
        f12 = old[source[12, i]]
        f13 = old[source[13, i]]
        f14 = old[source[14, i]]
        f15 = old[source[15, i]]
        f16 = old[source[16, i]]
        f17 = old[source[17, i]]
        f18 = old[source[18, i]]
        sx, sy, sz = f1 + f2, f3 + f4, f5 + f6
        pxy, mxy = f7 + f8, f9 + f10
        pxz, mxz = f11 + f12, f13 + f14
        pyz, myz = f15 + f16, f17 + f18
        xy, xz, yz = pxy + mxy, pxz + mxz, pyz + myz
        rho = f0 + sx + sy + sz + xy + xz + yz
        jx = f1 - f2 + (f7 - f8) + (f9 - f10) + (f11 - f12) + (f13 - f14)
        jy = f3 - f4 + (f7 - f8) - (f9 - f10) + (f15 - f16) + (f17 - f18)
        jz = f5 - f6 + (f11 - f12) - (f13 - f14) + (f15 - f16) - (f17 - f18)
        inverse = one / (one + rho)
        ux, uy, uz = jx * inverse, jy * inverse, jz * inverse
        keep = one - omega[i]
        nxx = sx + xy + xz - third * rho - jx * ux
        nyy = sy + xy + yz - third * rho - jy * uy
        nzz = sz + xz + yz - third * rho - jz * uz
        trace = third * (nxx + nyy + nzz)
        nxx, nyy, nzz = keep * (nxx - trace), keep * (nyy - trace), keep * (nzz - trace)
        nxy = keep * (pxy - mxy - jx * uy)
        nxz = keep * (pxz - mxz - jx * uz)
        nyz = keep * (pyz - myz - jy * uz)
        axx, ayy, azz = jx * ux + nxx, jy * uy + nyy, jz * uz + nzz
        axy, axz, ayz = jx * uy + nxy, jx * uz + nxz, jy * uz + nyz
        axyy = jx * uy * uy + two * uy * nxy + ux * nyy
        axzz = jx * uz * uz + two * uz * nxz + ux * nzz
        axxy = jy * ux * ux + two * ux * nxy + uy * nxx
        ayzz = jy * uz * uz + two * uz * nyz + uy * nzz
        axxz = jz * ux * ux + two * ux * nxz + uz * nxx
        ayyz = jz * uy * uy + two * uy * nyz + uz * nyy
        macroscopic[0, i] = rho
        macroscopic[1, i] = ux
        macroscopic[2, i] = uy
        macroscopic[3, i] = uz
        new[i] = w0 * (rho - half3 * (axx + ayy + azz))
        even = rho + three * axx - half3 * (ayy + azz)
        odd = three * jx - nine * (axyy + axzz)
        new[number + i] = w1 * (even + odd)
        new[2 * number + i] = w1 * (even - odd)
        even = rho + three * ayy - half3 * (axx + azz)
        odd = three * jy - nine * (axxy + ayzz)
        new[3 * number + i] = w1 * (even + odd)
        new[4 * number + i] = w1 * (even - odd)
        even = rho + three * azz - half3 * (axx + ayy)
        odd = three * jz - nine * (axxz + ayyz)
        new[5 * number + i] = w1 * (even + odd)
        new[6 * number + i] = w1 * (even - odd)
        even = rho + three * (axx + ayy) - half3 * azz
        tx, ty = three * jx + nine * axyy, three * jy + nine * axxy
        new[7 * number + i] = w2 * (even + nine * axy + tx + ty)
        new[8 * number + i] = w2 * (even + nine * axy - tx - ty)
        new[9 * number + i] = w2 * (even - nine * axy + tx - ty)
        new[10 * number + i] = w2 * (even - nine * axy - tx + ty)
        even = rho + three * (axx + azz) - half3 * ayy
        tx, tz = three * jx + nine * axzz, three * jz + nine * axxz
        new[11 * number + i] = w2 * (even + nine * axz + tx + tz)
        new[12 * number + i] = w2 * (even + nine * axz - tx - tz)
        new[13 * number + i] = w2 * (even - nine * axz + tx - tz)
        new[14 * number + i] = w2 * (even - nine * axz - tx + tz)
        even = rho + three * (ayy + azz) - half3 * axx
        ty, tz = three * jy + nine * ayzz, three * jz + nine * ayyz
        new[15 * number + i] = w2 * (even + nine * ayz + ty + tz)
        new[16 * number + i] = w2 * (even + nine * ayz - ty - tz)
        new[17 * number + i] = w2 * (even - nine * ayz + ty - tz)
        new[18 * number + i] = w2 * (even - nine * ayz - ty + tz)


@numba.njit(**_PARALLEL)  # type: ignore[untyped-decorator]
def return_from_walls(populations, number, first, address, factor):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    """Write what each wall link returns: a blend of up to three outgoing populations.

    What a cell's links return less than they took is given to its population at rest, so that
    interpolated walls conserve mass to rounding.

    Parameters
    ----------
    populations
        Flat populations after collision; the tail behind 19 cells receives the values.
    number
        Number of fluid cells.
    first
        First link of each cell that has walls, and the end, (wall cell + 1).
    address
        Cell, tail position and three addresses of each link, sorted by cell, (5, link).
    factor
        Weights of the three populations, (3, link).
    """
    tail = 19 * number
    for c in numba.prange(len(first) - 1):
        defect = populations[0] * 0
        for n in range(first[c], first[c + 1]):
            outgoing = populations[address[2, n]]
            value = (
                factor[0, n] * outgoing
                + factor[1, n] * populations[address[3, n]]
                + factor[2, n] * populations[address[4, n]]
            )
            populations[tail + address[1, n]] = value
            defect += outgoing - value
        populations[address[0, first[c]]] += defect


@numba.njit(**_PARALLEL)  # type: ignore[untyped-decorator]
def return_from_openings(populations, number, address, factor, imposed):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    """Write what each opening link returns: a blend of outgoing populations plus a given value.

    Parameters
    ----------
    populations
        Flat populations after collision; the tail behind 19 cells receives the values.
    number
        Number of fluid cells.
    address
        Tail position and three addresses of each link, (4, link).
    factor
        Weights of the three populations, (3, link).
    imposed
        Value added at each link.
    """
    tail = 19 * number
    for n in numba.prange(address.shape[1]):
        populations[tail + address[0, n]] = (
            factor[0, n] * populations[address[1, n]]
            + factor[1, n] * populations[address[2, n]]
            + factor[2, n] * populations[address[3, n]]
            + imposed[n]
        )


@numba.njit(**_PARALLEL)  # type: ignore[untyped-decorator]
def set_equilibrium(populations, macroscopic):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    """Set all populations to the equilibrium of the given density deviation and velocity."""
    number = macroscopic.shape[1]
    for i in numba.prange(number):
        rho = macroscopic[0, i]
        ux, uy, uz = macroscopic[1, i], macroscopic[2, i], macroscopic[3, i]
        square = ux * ux + uy * uy + uz * uz
        for q in range(19):
            cu = VELOCITIES[q, 0] * ux + VELOCITIES[q, 1] * uy + VELOCITIES[q, 2] * uz
            second = 3.0 * cu + 4.5 * cu * cu - 1.5 * square
            populations[q * number + i] = WEIGHTS[q] * (rho + (1.0 + rho) * second)


def use_threads(count: int) -> None:
    """Let the kernels use at most this many threads."""
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))


def bytes_per_cell(precision: type[np.floating]) -> int:
    """Return memory traffic of one cell's update: gather, store, indices, rate and moments."""
    size = np.dtype(precision).itemsize
    return 19 * (2 * size + 4) + 5 * size


def populations_for(
    cells: int, links: int, precision: type[np.floating]
) -> Float[np.ndarray, "population"]:
    """Return populations at rest: deviations are zero."""
    return np.zeros(Q * cells + links, dtype=precision)
