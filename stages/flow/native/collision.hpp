// The collision of stages/flow/collision.py on vectors of cells; the equations are explained there.
#pragma once

#include "lattice.hpp"
#include "vector.hpp"

namespace ct2flow {
namespace CT2FLOW_TARGET {

template <class T>
struct Rates {
  T omega, third, recursive;
};

// Collide the populations f in place; state receives density deviation and velocity.
// Keep: whether third-order central moments outlive the collision (omega_third != 1).
// Extra: whether the equilibrium has an extra stress (xx, yy, zz, xy, xz, yz).
template <class T, bool Keep, bool Extra>
CT2FLOW_INLINE void collide(Vector<T>* f, Vector<T>* state, const Rates<T>& rates,
                            const Vector<T>* extra) {
  using V = Vector<T>;
  const V third = splat<T>(T(1) / T(3)), half3 = splat<T>(T(1.5)), three = splat<T>(T(3));
  const V nine = splat<T>(T(9)), w0 = third, w1 = splat<T>(T(1) / T(18)), w2 = splat<T>(T(1) / T(36));
  const V keep = splat<T>(T(1) - rates.omega), kept = splat<T>(T(1) - rates.third);
  const V recursive = splat<T>(rates.recursive);
  const V sx = f[1] + f[2], sy = f[3] + f[4], sz = f[5] + f[6];
  const V pxy = f[7] + f[8], mxy = f[9] + f[10], pxz = f[11] + f[12], mxz = f[13] + f[14];
  const V pyz = f[15] + f[16], myz = f[17] + f[18];
  const V dpxy = f[7] - f[8], dmxy = f[9] - f[10], dpxz = f[11] - f[12], dmxz = f[13] - f[14];
  const V dpyz = f[15] - f[16], dmyz = f[17] - f[18];
  const V xy = pxy + mxy, xz = pxz + mxz, yz = pyz + myz;
  const V rho = f[0] + ((sx + sy) + sz) + ((xy + xz) + yz);
  const V xxy = dpxy + dmxy, yxy = dpxy - dmxy, xxz = dpxz + dmxz, zxz = dpxz - dmxz;
  const V yyz = dpyz + dmyz, zyz = dpyz - dmyz;
  const V ux = (f[1] - f[2]) + (xxy + xxz);
  const V uy = (f[3] - f[4]) + (yxy + yyz);
  const V uz = (f[5] - f[6]) + (zxz + zyz);
  V uxux = ux * ux, uyuy = uy * uy, uzuz = uz * uz;
  if (Extra) uxux += extra[0], uyuy += extra[1], uzuz += extra[2];
  V nxx = ((sx + xy) + xz) - uxux, nyy = ((sy + xy) + yz) - uyuy, nzz = ((sz + xz) + yz) - uzuz;
  const V trace = third * ((nxx + nyy) + nzz);
  const V uxuy = ux * uy, uxuz = ux * uz, uyuz = uy * uz;
  const V mx = keep * (nxx - trace), my = keep * (nyy - trace), mz = keep * (nzz - trace);
  V nxy = (pxy - mxy) - uxuy, nxz = (pxz - mxz) - uxuz, nyz = (pyz - myz) - uyuz;
  if (Extra) nxy -= extra[3], nxz -= extra[4], nyz -= extra[5];
  const V axx = uxux + mx, ayy = uyuy + my, azz = uzuz + mz;
  V axy = fma(keep, nxy, uxuy), axz = fma(keep, nxz, uxuz), ayz = fma(keep, nyz, uyuz);
  V axyy, axxy, axzz, axxz, ayzz, ayyz;
  if (Keep) {
    const V blend = keep - kept, eq = splat<T>(rates.third);
    const V bx = blend * (nxx - trace), by = blend * (nyy - trace), bz = blend * (nzz - trace);
    const V sxy = fma(splat<T>(2) * blend, nxy, eq * uxuy);
    const V sxz = fma(splat<T>(2) * blend, nxz, eq * uxuz);
    const V syz = fma(splat<T>(2) * blend, nyz, eq * uyuz);
    axyy = fma(recursive, fma(uy, sxy, ux * by), kept * (xxy - third * ux));
    axxy = fma(recursive, fma(ux, sxy, uy * bx), kept * (yxy - third * uy));
    axzz = fma(recursive, fma(uz, sxz, ux * bz), kept * (xxz - third * ux));
    axxz = fma(recursive, fma(ux, sxz, uz * bx), kept * (zxz - third * uz));
    ayzz = fma(recursive, fma(uz, syz, uy * bz), kept * (yyz - third * uy));
    ayyz = fma(recursive, fma(uy, syz, uz * by), kept * (zyz - third * uz));
  } else {
    const V sxy = fma(keep, nxy, axy), sxz = fma(keep, nxz, axz), syz = fma(keep, nyz, ayz);
    axyy = recursive * fma(uy, sxy, ux * my);
    axxy = recursive * fma(ux, sxy, uy * mx);
    axzz = recursive * fma(uz, sxz, ux * mz);
    axxz = recursive * fma(ux, sxz, uz * mx);
    ayzz = recursive * fma(uz, syz, uy * mz);
    ayyz = recursive * fma(uy, syz, uz * my);
  }
  if (Extra) axy += extra[3], axz += extra[4], ayz += extra[5];
  const V dx = half3 * axx, dy = half3 * ayy, dz = half3 * azz;
  const V less = (rho - dx) - (dy + dz);
  f[0] = w0 * less;
  const V ex = fma(three, dx, less), ey = fma(three, dy, less), ez = fma(three, dz, less);
  const V minus = splat<T>(T(-9));
  const V ox = fma(minus, axyy + axzz, three * ux);
  const V oy = fma(minus, axxy + ayzz, three * uy);
  const V oz = fma(minus, axxz + ayyz, three * uz);
  f[1] = w1 * (ex + ox), f[2] = w1 * (ex - ox);
  f[3] = w1 * (ey + oy), f[4] = w1 * (ey - oy);
  f[5] = w1 * (ez + oz), f[6] = w1 * (ez - oz);
  const auto diagonal = [&](V even, V cross, V a, V b, V* g) CT2FLOW_INLINED {
    const V plus = w2 * (even + cross), minus = w2 * (even - cross);
    const V sum = w2 * (a + b), difference = w2 * (a - b);
    g[0] = plus + sum, g[1] = plus - sum, g[2] = minus + difference, g[3] = minus - difference;
  };
  diagonal(fma(three, dx + dy, less), nine * axy, fma(nine, axyy, three * ux), fma(nine, axxy, three * uy), f + 7);
  diagonal(fma(three, dx + dz, less), nine * axz, fma(nine, axzz, three * ux), fma(nine, axxz, three * uz), f + 11);
  diagonal(fma(three, dy + dz, less), nine * ayz, fma(nine, ayzz, three * uy), fma(nine, ayyz, three * uz), f + 15);
  state[0] = rho, state[1] = ux, state[2] = uy, state[3] = uz;
}

}  // namespace CT2FLOW_TARGET
}  // namespace ct2flow
