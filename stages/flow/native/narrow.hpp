// Numbers kept in half of the bits that the lattice computes with: corrections that every step reads again,
// and whose rounding is far below their own error.
#pragma once

#include <cstdint>
#include <cstring>

namespace ct2flow {

// Beside double a float. Beside float 16 bits: a sign, 5 of exponent and 10 of mantissa as in IEEE 754's
// half precision, times 2^15: from 2^-29 up to 2, the range of a stress in lattice units; less is 0.
template <class T>
struct NarrowOf;
template <>
struct NarrowOf<float> { using type = uint16_t; };
template <>
struct NarrowOf<double> { using type = float; };
template <class T>
using Narrow = typename NarrowOf<T>::type;

// F is float or a vector of them, U as many unsigned integers of 32 bits.
template <class U, class F>
inline U to_16_bits(F value) {
  const F most = F{} + 1.99f;
  value = value > most ? most : value;
  value = value < -most ? -most : value;
  value = value * 0x1p-97f;
  U bits;
  std::memcpy(&bits, &value, sizeof bits);
  return ((bits >> 16) & 0x8000u) | (((bits & 0x7fffffffu) + 0x1000u) >> 13);
}

template <class F, class U>
inline F from_16_bits(U half) {
  const U bits = ((half & 0x8000u) << 16) | ((half & 0x7fffu) << 13);
  F value;
  std::memcpy(&value, &bits, sizeof value);
  return value * 0x1p+97f;
}

inline uint16_t narrow(float value) { return uint16_t(to_16_bits<uint32_t>(value)); }
inline float narrow(double value) { return float(value); }
inline float widen(uint16_t value) { return from_16_bits<float>(uint32_t(value)); }
inline double widen(float value) { return double(value); }

}  // namespace ct2flow
