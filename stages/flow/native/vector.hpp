// Vectors of the widest registers that this translation unit is compiled for.
//
// One source is compiled several times with other target flags (see CMakeLists.txt); CT2FLOW_TARGET
// names the namespace, so that no inline function of a wide build can replace one of a narrow build.
// Multiplications and additions are fused only where `fma` says so (-ffp-contract=off): results then
// do not depend on how the compiler inlines, and agree between all processors with fused operations.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "narrow.hpp"

// The update of a tile must be one piece of code, or its populations pass through memory.
#define CT2FLOW_INLINED __attribute__((always_inline))
#define CT2FLOW_INLINE inline CT2FLOW_INLINED

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace ct2flow {
namespace CT2FLOW_TARGET {

#if defined(__AVX512F__)
constexpr int kRegisterBytes = 64;
#elif defined(__AVX2__)
constexpr int kRegisterBytes = 32;
#else
constexpr int kRegisterBytes = 16;
#endif

template <class T>
struct Pack {
  static constexpr int width = kRegisterBytes / int(sizeof(T));
  typedef T Vector __attribute__((vector_size(kRegisterBytes)));
};
template <class T>
using Vector = typename Pack<T>::Vector;

template <class T>
inline Vector<T> load(const T* from) {
  Vector<T> value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

template <class T>
inline void store(T* to, Vector<T> value) {
  std::memcpy(to, &value, sizeof(value));
}

inline Vector<double> load_narrow(const float* from) {
  typedef float Short __attribute__((vector_size(kRegisterBytes / 2)));
  Short half;
  std::memcpy(&half, from, sizeof(half));
  return __builtin_convertvector(half, Vector<double>);
}
#if defined(__AVX512F__)
inline Vector<float> load_narrow(const uint16_t* from) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return Vector<float>(_mm512_cvtph_ps(half)) * 0x1p-15f;
}
inline void store_narrow(uint16_t* to, Vector<float> value) {
  const __m512 most = _mm512_set1_ps(1.99f), least = _mm512_set1_ps(-1.99f);
  const __m512 held = _mm512_max_ps(_mm512_min_ps(__m512(value), most), least);
  const __mmask16 some = _mm512_cmp_ps_mask(_mm512_abs_ps(held), _mm512_set1_ps(0x1p-29f), _CMP_GE_OQ);
  const __m512 scaled = _mm512_maskz_mul_ps(some, held, _mm512_set1_ps(0x1p+15f));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph(scaled, _MM_FROUND_TO_NEAREST_INT));
}
#else
inline Vector<float> load_narrow(const uint16_t* from) {
  typedef uint16_t Short __attribute__((vector_size(kRegisterBytes / 2)));
  typedef uint32_t Whole __attribute__((vector_size(kRegisterBytes)));
  Short half;
  std::memcpy(&half, from, sizeof(half));
  return from_16_bits<Vector<float>>(__builtin_convertvector(half, Whole));
}
inline void store_narrow(uint16_t* to, Vector<float> value) {
  typedef uint16_t Short __attribute__((vector_size(kRegisterBytes / 2)));
  typedef uint32_t Whole __attribute__((vector_size(kRegisterBytes)));
  const Short half = __builtin_convertvector(to_16_bits<Whole>(value), Short);
  std::memcpy(to, &half, sizeof(half));
}
#endif
inline void store_narrow(float* to, Vector<double> value) {
  typedef float Short __attribute__((vector_size(kRegisterBytes / 2)));
  const Short half = __builtin_convertvector(value, Short);
  std::memcpy(to, &half, sizeof(half));
}

template <class T>
inline Vector<T> splat(T value) {
  return value - Vector<T>{};
}

// Bits of a tile's mask that belong to the lanes of one vector, from the lowest bit on.
using Bits = uint32_t;

#if defined(__AVX512F__)
inline Vector<float> fma(Vector<float> a, Vector<float> b, Vector<float> c) {
  return Vector<float>(_mm512_fmadd_ps(__m512(a), __m512(b), __m512(c)));
}
inline Vector<double> fma(Vector<double> a, Vector<double> b, Vector<double> c) {
  return Vector<double>(_mm512_fmadd_pd(__m512d(a), __m512d(b), __m512d(c)));
}
inline void store_where(Bits bits, float* to, Vector<float> value) {
  _mm512_mask_storeu_ps(to, __mmask16(bits), __m512(value));
}
inline void store_where(Bits bits, double* to, Vector<double> value) {
  _mm512_mask_storeu_pd(to, __mmask8(bits), __m512d(value));
}
inline Vector<float> select(Bits bits, Vector<float> yes, Vector<float> no) {
  return Vector<float>(_mm512_mask_mov_ps(__m512(no), __mmask16(bits), __m512(yes)));
}
inline Vector<double> select(Bits bits, Vector<double> yes, Vector<double> no) {
  return Vector<double>(_mm512_mask_mov_pd(__m512d(no), __mmask8(bits), __m512d(yes)));
}
// Where bits are set, the next values of a list; at least one vector behind `from` must be readable.
inline Vector<float> expand(Bits bits, const float* from, Vector<float> no) {
  return Vector<float>(_mm512_mask_expand_ps(__m512(no), __mmask16(bits), _mm512_loadu_ps(from)));
}
inline Vector<double> expand(Bits bits, const double* from, Vector<double> no) {
  return Vector<double>(_mm512_mask_expand_pd(__m512d(no), __mmask8(bits), _mm512_loadu_pd(from)));
}
// The reverse: the lanes with set bits one after the other.
inline void compress(Bits bits, float* to, Vector<float> value) {
  const __m512 packed = _mm512_maskz_compress_ps(__mmask16(bits), __m512(value));
  _mm512_mask_storeu_ps(to, __mmask16((1u << __builtin_popcount(bits)) - 1), packed);
}
inline void compress(Bits bits, double* to, Vector<double> value) {
  const __m512d packed = _mm512_maskz_compress_pd(__mmask8(bits), __m512d(value));
  _mm512_mask_storeu_pd(to, __mmask8((1u << __builtin_popcount(bits)) - 1), packed);
}
#elif defined(__AVX2__)
inline __m256i lanes(Bits bits, float) {
  const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(int(bits)), bit), bit);
}
inline __m256i lanes(Bits bits, double) {
  const __m256i bit = _mm256_setr_epi64x(1, 2, 4, 8);
  return _mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x(int64_t(bits)), bit), bit);
}
inline Vector<float> fma(Vector<float> a, Vector<float> b, Vector<float> c) {
  return Vector<float>(_mm256_fmadd_ps(__m256(a), __m256(b), __m256(c)));
}
inline Vector<double> fma(Vector<double> a, Vector<double> b, Vector<double> c) {
  return Vector<double>(_mm256_fmadd_pd(__m256d(a), __m256d(b), __m256d(c)));
}
inline void store_where(Bits bits, float* to, Vector<float> value) {
  _mm256_maskstore_ps(to, lanes(bits, 0.0f), __m256(value));
}
inline void store_where(Bits bits, double* to, Vector<double> value) {
  _mm256_maskstore_pd(to, lanes(bits, 0.0), __m256d(value));
}
inline Vector<float> select(Bits bits, Vector<float> yes, Vector<float> no) {
  return Vector<float>(
      _mm256_blendv_ps(__m256(no), __m256(yes), _mm256_castsi256_ps(lanes(bits, 0.0f))));
}
inline Vector<double> select(Bits bits, Vector<double> yes, Vector<double> no) {
  return Vector<double>(
      _mm256_blendv_pd(__m256d(no), __m256d(yes), _mm256_castsi256_pd(lanes(bits, 0.0))));
}
#else
template <class V>
inline V fma(V a, V b, V c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  for (size_t k = 0; k < sizeof(V) / sizeof(a[0]); ++k) c[k] = std::fma(a[k], b[k], c[k]);
  return c;
#else
  return a * b + c;
#endif
}
template <class T, class V>
inline void store_where(Bits bits, T* to, V value) {
  for (int k = 0; k < Pack<T>::width; ++k)
    if (bits >> k & 1u) to[k] = value[k];
}
template <class V>
inline V select(Bits bits, V yes, V no) {
  for (size_t k = 0; k < sizeof(V) / sizeof(yes[0]); ++k)
    if (bits >> k & 1u) no[k] = yes[k];
  return no;
}
#endif

#if !defined(__AVX512F__)
template <class T, class V>
inline V expand(Bits bits, const T* from, V no) {
  for (; bits; bits &= bits - 1) no[__builtin_ctz(bits)] = *from++;
  return no;
}
template <class T, class V>
inline void compress(Bits bits, T* to, V value) {
  for (; bits; bits &= bits - 1) *to++ = value[__builtin_ctz(bits)];
}
#endif

// Values at places that are listed in pairs: at the first or the second places of the next pairs.
#if defined(__AVX512F__)
template <int which>
inline Vector<float> collect(const float* values, const void* pairs) {
  const __m512i both = _mm512_loadu_si512(pairs);
  const __m512i at =
      which ? _mm512_srli_epi32(both, 16) : _mm512_and_si512(both, _mm512_set1_epi32(0xffff));
  return Vector<float>(_mm512_i32gather_ps(at, values, 4));
}
template <int which>
inline Vector<double> collect(const double* values, const void* pairs) {
  const __m256i both = _mm256_loadu_si256(static_cast<const __m256i*>(pairs));
  const __m256i at =
      which ? _mm256_srli_epi32(both, 16) : _mm256_and_si256(both, _mm256_set1_epi32(0xffff));
  return Vector<double>(_mm512_i32gather_pd(at, values, 8));
}
#else
template <int which, class T, class Pair>
inline Vector<T> collect(const T* values, const Pair* pairs) {
  Vector<T> found;
  for (int k = 0; k < Pack<T>::width; ++k)
    found[k] = values[which ? pairs[k].second : pairs[k].own];
  return found;
}
#endif

// Of listed pairs those whose first place lies in some lanes of a tile of so many, as bits.
template <int width, int count, class Pair>
inline Bits in_lanes(uint32_t lanes, const Pair* pairs) {
#if defined(__AVX512F__)
  if constexpr (width == 16) {
    const __m512i both = _mm512_loadu_si512(pairs);
    const __m512i lane = _mm512_and_si512(both, _mm512_set1_epi32(count - 1));
    return _mm512_test_epi32_mask(_mm512_srlv_epi32(_mm512_set1_epi32(int(lanes)), lane), _mm512_set1_epi32(1));
  } else if constexpr (width == 8) {
    const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(pairs));
    const __m256i lane = _mm256_and_si256(both, _mm256_set1_epi32(count - 1));
    return _mm256_test_epi32_mask(_mm256_srlv_epi32(_mm256_set1_epi32(int(lanes)), lane), _mm256_set1_epi32(1));
  }
#endif
  Bits found = 0;
  for (int k = 0; k < width; ++k) found |= (lanes >> (pairs[k].own % count) & 1u) << k;
  return found;
}

// Sums all lanes of some vectors in double precision and in a fixed order.
#if defined(__AVX512F__)
template <class T>
struct LaneSum;
template <>
struct LaneSum<double> {
  __m512d sum = _mm512_setzero_pd();
  void add(Vector<double> value) { sum = _mm512_add_pd(sum, __m512d(value)); }
  double total() const { return _mm512_reduce_add_pd(sum); }
};
template <>
struct LaneSum<float> {
  __m512d sum = _mm512_setzero_pd();
  void add(Vector<float> value) {
    const __m512 all = __m512(value);
    const __m256 upper = _mm512_extractf32x8_ps(all, 1);
    sum = _mm512_add_pd(sum, _mm512_add_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(all)),
                                           _mm512_cvtps_pd(upper)));
  }
  double total() const { return _mm512_reduce_add_pd(sum); }
};
#else
template <class T>
struct LaneSum {
  double sum[2] = {};
  void add(Vector<T> value) {
    for (int k = 0; k < Pack<T>::width; ++k) sum[k % 2] += double(value[k]);
  }
  double total() const { return sum[0] + sum[1]; }
};
#endif

}  // namespace CT2FLOW_TARGET
}  // namespace ct2flow
