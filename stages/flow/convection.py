"""The lattice's own error in what flow carries along, and the stress that takes it out.

Notes
-----
In a steady flow the populations that arrive are those that left the cells behind. Expanded to third order in
the cell size, with the stress relaxed at rate 1 / tau and third moments at rate 1 / tau_3, momentum obeys

    d_b P_ab - L d_b d_c Q_abc - (1/12 - L L_3) d_b d_c d_d R_abcd = 0,    L = tau - 1/2, L_3 = tau_3 - 1/2,

with P, Q and R the moments of the equilibrium; the factor is that of two-rate models [1]_. The part of R
that is quadratic in the velocity is not isotropic on D3Q19 [2]_ (nor, along the axes, on D3Q27):
R_xxxx = u_x^2 and R_xyzz = 0, where 2 u_x^2 and u_x u_y / 3 would leave a parallel flow alone. Along an axis
of the lattice the term is a pressure; oblique to it, it is a force that grows with the Reynolds number of a
cell. In a slit of three cells at a cell Reynolds number of 20 it drove a cross-flow of a tenth of the mean
velocity, and the loss was 17 % too high (4 % at a cell Reynolds number of 1).

The stress

    M_ab = (1/12 - L L_3) sum_i c_ia c_ib D_i^2 e_i,    e_i = w_i (9/2 (c_i . u)^2 - 3/2 u^2),

added to the equilibrium's takes it out, where D_i^2 is the second difference along a link; at walls e is zero
where they are. Like the walls' own terms it is deferred: it follows the velocities with their time constant.

References
----------
.. [1] d'Humieres & Ginzburg (2009), Comput. Math. Appl. 58, 823, doi:10.1016/j.camwa.2009.02.008, for steady
   recurrence equations and the combination of the two rates less 1/12.
.. [2] White & Chong (2011), J. Comput. Phys. 230, 6367, doi:10.1016/j.jcp.2011.04.031: flow through a throat
   depends on its orientation on D3Q19.
"""

from __future__ import annotations

import numba

from stages.flow.lattice import OPPOSITE, VELOCITIES, WEIGHTS, Q

SMALLEST_DISTANCE = 0.1
"""Distances to walls below this share of a link do not sharpen the second difference."""
_PARALLEL = {"cache": True, "parallel": True, "fastmath": {"contract", "nsz", "arcp"}}


def convection_weight(omega: float, omega_third: float) -> float:
    """Return 1/12 - L L_3 of two relaxation rates."""
    return 1.0 / 12.0 - (1.0 / omega - 0.5) * (1.0 / omega_third - 0.5)


@numba.njit(**_PARALLEL)  # type: ignore[untyped-decorator]
def correct_stress(macroscopic, source, inverse, stress, weight, rate):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201
    """Move the extra stress of all cells towards what the velocities ask for.

    Parameters
    ----------
    macroscopic
        Density deviation and velocity, (4, cell).
    source
        Where cells gather from, (q, cell), of `gathering.source_table`.
    inverse
        Of each link that ends at the surface: 1 over its distance, 0 at openings.
    stress
        xx, yy, zz, xy, xz, yz of each cell, (6, cell); changed in place.
    weight
        Of `convection_weight`.
    rate
        Share of the difference that is made up.
    """
    cells = macroscopic.shape[1]
    for i in numba.prange(cells):
        asked = (weight * 0, weight * 0, weight * 0, weight * 0, weight * 0, weight * 0)
        for q in range(1, Q, 2):
            here = _carried(macroscopic, q, i)
            first, a = _ahead(macroscopic, source, inverse, q, i)
            second, b = _ahead(macroscopic, source, inverse, q + 1, i)
            share = 2 * first * second / (first + second + 1e-20)
            bend = ((a - here) * first + (b - here) * second) * share * (2 * WEIGHTS[q] * weight)
            x, y, z = VELOCITIES[q, 0], VELOCITIES[q, 1], VELOCITIES[q, 2]
            asked = (
                asked[0] + x * x * bend,
                asked[1] + y * y * bend,
                asked[2] + z * z * bend,
                asked[3] + x * y * bend,
                asked[4] + x * z * bend,
                asked[5] + y * z * bend,
            )
        for k in range(6):
            stress[k, i] += rate * (asked[k] - stress[k, i])


@numba.njit  # type: ignore[untyped-decorator]
def _ahead(macroscopic, source, inverse, q, cell):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Return one over the distance to what lies ahead, and its even part: 0 at the surface."""
    cells = macroscopic.shape[1]
    place = source[OPPOSITE[q], cell]
    if place >= Q * cells:
        return inverse[place - Q * cells], macroscopic[0, cell] * 0
    return inverse[0] * 0 + 1, _carried(macroscopic, q, place - OPPOSITE[q] * cells)


@numba.njit  # type: ignore[untyped-decorator]
def _carried(macroscopic, q, cell):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Return 9/2 (c . u)^2 - 3/2 u^2."""
    ux, uy, uz = macroscopic[1, cell], macroscopic[2, cell], macroscopic[3, cell]
    along = VELOCITIES[q, 0] * ux + VELOCITIES[q, 1] * uy + VELOCITIES[q, 2] * uz
    return 4.5 * along * along - 1.5 * (ux * ux + uy * uy + uz * uz)
