"""Collision of one cell: the physics of the lattice, apart from where populations come from.

Notes
-----
Populations are deviations f_i - w_i. The equilibrium is that of He & Luo [1]_ for steady incompressible
flow: velocity is momentum at unit density, so that a steady solution has no error of the order
of the Mach number squared in its mass balance.

Moments up to second order relax as in the regularised model: the stress deviator with rate
`omega`, its trace at once (a high bulk viscosity that damps sound). Third-order central moments relax
with rate `omega_third`; at 1 the scheme is the recursive-regularised one [2]_ [3]_, which has no free
non-hydrodynamic modes: that is what keeps it stable as the relaxation time approaches 1/2.
With `recursive` = 0 the third-order terms are left out: the projected-regularised model [4]_.

An extra stress of the equilibrium takes out what the lattice gets wrong: see `convection`.

References
----------
.. [1] He & Luo (1997), J. Stat. Phys. 88, 927, doi:10.1023/B:JOSS.0000015179.12689.e4.
.. [2] Malaspinas (2015), arXiv:1505.06900, eqs. 18 and 33.
.. [3] Coreixas, Wissocq, Puigt, Boussuge & Sagaut (2017), Phys. Rev. E 96, 033306,
   doi:10.1103/PhysRevE.96.033306.
.. [4] Latt & Chopard (2006), Math. Comput. Simul. 72, 165, doi:10.1016/j.matcom.2006.05.017.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from jaxtyping import Float

from stages.flow.convection import convection_weight


@dataclass(frozen=True)
class Collision:
    """Choose the relaxation of one run.

    Parameters
    ----------
    omega
        Relaxation rate of the shear stress, 1 / tau.
    omega_third
        Relaxation rate of the third-order central moments; 1 forgets them.
    recursive
        1 keeps the third-order terms of the equilibrium and of the stress, 0 leaves them out.
    convection
        Whether the extra stress of `convection` is added.
    """

    omega: float
    omega_third: float = 1.0
    recursive: float = 1.0
    convection: bool = True

    def values(self, precision: type[np.floating]) -> Float[np.ndarray, "4"]:
        """Return the rates and the weight of the extra stress as the kernels take them."""
        weight = self.convection * convection_weight(self.omega, self.omega_third)
        return np.array([self.omega, self.omega_third, self.recursive, weight], dtype=precision)


@numba.njit(fastmath={"contract", "nsz", "arcp"})  # type: ignore[untyped-decorator]
def collide(f, extra, omega, omega_third, recursive):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201, PLR0915
    """Return density deviation, velocity and the 19 populations after collision.

    Parameters
    ----------
    f
        The 19 arriving populations, in the order of `lattice.VELOCITIES`.
    extra
        Stress that the equilibrium has beside its own: xx, yy, zz, xy, xz, yz.
    omega, omega_third, recursive
        See `Collision`; scalars of the populations' type.
    """
    one = omega / omega
    third, w0, w1, w2 = one / 3, one / 3, one / 18, one / 36
    two, three, half3, nine = one + one, 3 * one, 3 * one / 2, 9 * one
    f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11, f12, f13, f14, f15, f16, f17, f18 = f
    sx, sy, sz = f1 + f2, f3 + f4, f5 + f6
    pxy, mxy, pxz, mxz, pyz, myz = f7 + f8, f9 + f10, f11 + f12, f13 + f14, f15 + f16, f17 + f18
    dpxy, dmxy, dpxz, dmxz, dpyz, dmyz = (
        f7 - f8,
        f9 - f10,
        f11 - f12,
        f13 - f14,
        f15 - f16,
        f17 - f18,
    )
    xy, xz, yz = pxy + mxy, pxz + mxz, pyz + myz
    rho = f0 + sx + sy + sz + xy + xz + yz
    ux = f1 - f2 + dpxy + dmxy + dpxz + dmxz
    uy = f3 - f4 + dpxy - dmxy + dpyz + dmyz
    uz = f5 - f6 + dpxz - dmxz + dpyz - dmyz
    exx, eyy, ezz, exy, exz, eyz = extra
    # stress deviator before and after relaxation
    nxx = sx + xy + xz - third * rho - ux * ux - exx
    nyy = sy + xy + yz - third * rho - uy * uy - eyy
    nzz = sz + xz + yz - third * rho - uz * uz - ezz
    trace = third * (nxx + nyy + nzz)
    nxx, nyy, nzz = nxx - trace, nyy - trace, nzz - trace
    nxy, nxz, nyz = (
        pxy - mxy - ux * uy - exy,
        pxz - mxz - ux * uz - exz,
        pyz - myz - uy * uz - eyz,
    )
    keep = one - omega
    # Third-order Hermite coefficients a_xyy = u_x u_y^2 + 2 u_y n_xy + u_x n_yy after relaxation, plus
    # what is kept of the arriving central moment.
    kept = one - omega_third
    blend_n = keep - kept
    eq = one - kept
    mx, my, mz = keep * nxx, keep * nyy, keep * nzz
    axx, ayy, azz = ux * ux + exx + mx, uy * uy + eyy + my, uz * uz + ezz + mz
    axy, axz, ayz = (
        ux * uy + exy + keep * nxy,
        ux * uz + exz + keep * nxz,
        uy * uz + eyz + keep * nyz,
    )
    axyy = recursive * (eq * ux * uy * uy + blend_n * (two * uy * nxy + ux * nyy)) + kept * (
        dpxy + dmxy - third * ux
    )
    axxy = recursive * (eq * uy * ux * ux + blend_n * (two * ux * nxy + uy * nxx)) + kept * (
        dpxy - dmxy - third * uy
    )
    axzz = recursive * (eq * ux * uz * uz + blend_n * (two * uz * nxz + ux * nzz)) + kept * (
        dpxz + dmxz - third * ux
    )
    axxz = recursive * (eq * uz * ux * ux + blend_n * (two * ux * nxz + uz * nxx)) + kept * (
        dpxz - dmxz - third * uz
    )
    ayzz = recursive * (eq * uy * uz * uz + blend_n * (two * uz * nyz + uy * nzz)) + kept * (
        dpyz + dmyz - third * uy
    )
    ayyz = recursive * (eq * uz * uy * uy + blend_n * (two * uy * nyz + uz * nyy)) + kept * (
        dpyz - dmyz - third * uz
    )
    g0 = w0 * (rho - half3 * (axx + ayy + azz))
    even, odd = rho + three * axx - half3 * (ayy + azz), three * ux - nine * (axyy + axzz)
    g1, g2 = w1 * (even + odd), w1 * (even - odd)
    even, odd = rho + three * ayy - half3 * (axx + azz), three * uy - nine * (axxy + ayzz)
    g3, g4 = w1 * (even + odd), w1 * (even - odd)
    even, odd = rho + three * azz - half3 * (axx + ayy), three * uz - nine * (axxz + ayyz)
    g5, g6 = w1 * (even + odd), w1 * (even - odd)
    even, cross = rho + three * (axx + ayy) - half3 * azz, nine * axy
    tx, ty = three * ux + nine * axyy, three * uy + nine * axxy
    g7, g8 = w2 * (even + cross + tx + ty), w2 * (even + cross - tx - ty)
    g9, g10 = w2 * (even - cross + tx - ty), w2 * (even - cross - tx + ty)
    even, cross = rho + three * (axx + azz) - half3 * ayy, nine * axz
    tx, tz = three * ux + nine * axzz, three * uz + nine * axxz
    g11, g12 = w2 * (even + cross + tx + tz), w2 * (even + cross - tx - tz)
    g13, g14 = w2 * (even - cross + tx - tz), w2 * (even - cross - tx + tz)
    even, cross = rho + three * (ayy + azz) - half3 * axx, nine * ayz
    ty, tz = three * uy + nine * ayzz, three * uz + nine * ayyz
    g15, g16 = w2 * (even + cross + ty + tz), w2 * (even + cross - ty - tz)
    g17, g18 = w2 * (even - cross + ty - tz), w2 * (even - cross - ty + tz)
    return (
        (rho, ux, uy, uz),
        (g0, g1, g2, g3, g4, g5, g6, g7, g8, g9, g10, g11, g12, g13, g14, g15, g16, g17, g18),
    )
