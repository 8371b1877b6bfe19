// One time step of a range of tiles, in place (Bailey, Myre, Walsh, Lilja & Saar 2009,
// doi:10.1109/ICPP.2009.38).
//
// Before an even step slot q of a cell holds what arrives along q; the step leaves in slot -q what
// leaves along q. Before an odd step a population that arrives along -q therefore waits in slot q of
// the cell ahead; the step takes it from there and leaves there what goes that way. What the surface
// returns waits in a list of its own, since the slot ahead may belong to fluid behind a thin wall.
#pragma once

#include <algorithm>
#include <utility>

#include "collision.hpp"
#include "tiles.hpp"

namespace ct2flow {
namespace CT2FLOW_TARGET {

template <class T, int L>
struct Kernel {
  static constexpr int W = Pack<T>::width < L ? Pack<T>::width : L;
  static constexpr int kParts = L / W;
  static constexpr int kTile = kQ * L;
  // Tiles between asking for memory and using it: 1 is too late, 4 no longer fit the nearest cache.
  static constexpr int64_t kSoon = 2;
  static constexpr Bits kAll = Bits((1ull << W) - 1);
  using V = Vector<T>;
  static_assert(W == Pack<T>::width && L % W == 0, "a tile is a number of whole vectors");

  // Let the compiler read addresses again instead of keeping nineteen of them in registers that the
  // collision needs.
  static CT2FLOW_INLINE void forget() { asm volatile("" ::: "memory"); }

  // Where slot q of the cells ahead of a tile begins.
  template <int q>
  static CT2FLOW_INLINE T* ahead(const Tiles<T>& t, int64_t tile, int part) {
    if constexpr (q == 0) return t.slot[0] + tile * L + part * W;
    else return t.slot[q] + t.ahead[tile * kNeighbours + q - 1] + part * W;
  }

  template <class Body, int... q>
  static CT2FLOW_INLINE void each(std::integer_sequence<int, q...>, Body body) {
    (body(std::integral_constant<int, q>{}), ...);
  }
  template <class Body>
  static CT2FLOW_INLINE void each_direction(Body body) {
    each(std::make_integer_sequence<int, kQ>{}, body);
  }

  static Bits bits_of(uint32_t mask, int part) { return (mask >> (part * W)) & kAll; }

  // The place of a direction's first link in one part of a tile.
  template <int q>
  static CT2FLOW_INLINE int64_t first_link(const Border& border, int part) {
    const int64_t place = border.first_link + border.first[q - 1];
    if constexpr (kParts == 1) return place;
    return place + __builtin_popcount(border.link[q - 1] & ((1u << (part * W)) - 1));
  }

  static CT2FLOW_INLINE Narrow<T>* stress_of(const Tiles<T>& t, int64_t tile, int part, int k) {
    return t.stress + (tile * 6 + k) * L + part * W;
  }

  // The second difference of the convective part of the equilibrium along each link, with 0 at walls
  // where they are: what the extra stress is made of. See stages/flow/convection.py.
  template <bool Surface>
  static CT2FLOW_INLINE void correct_stress(const Tiles<T>& t, int64_t tile, int part,
                                            const Border* border) {
    const int64_t own = tile * L + part * W;
    const V none{}, one = splat<T>(T(1)), tiny = splat<T>(T(1e-20));
    V u[3], sum[6] = {};
    for (int d = 0; d < 3; ++d) u[d] = load(t.velocity[d] + own);
    const auto even = [](const V* v, auto q) CT2FLOW_INLINED {
      V along{};
      for (int d = 0; d < 3; ++d)
        if (kC[q][d]) along = kC[q][d] > 0 ? along + v[d] : along - v[d];
      const V square = fma(v[0], v[0], fma(v[1], v[1], v[2] * v[2]));
      return fma(splat<T>(T(4.5)) * along, along, splat<T>(T(-1.5)) * square);
    };
    const auto ahead_of = [&](auto q, V* inverse) CT2FLOW_INLINED {
      V v[3];
      const int64_t place = t.ahead[tile * kNeighbours + q - 1] + part * W;
      for (int d = 0; d < 3; ++d) v[d] = load(t.velocity[d] + place);
      V value = even(v, q);
      *inverse = one;
      if constexpr (Surface) {
        const int64_t at = first_link<q>(*border, part);
        const Bits cut = bits_of(border->link[q - 1], part);
        value = select(cut, none, value);
        *inverse = expand(cut, t.walls.inverse + at, one);
      }
      return value;
    };
    each_direction([&](auto q) CT2FLOW_INLINED {
      if constexpr (q % 2 == 1) {
        constexpr auto back = std::integral_constant<int, q + 1>{};
        V first, second;
        const V here = even(u, q), a = ahead_of(q, &first), b = ahead_of(back, &second);
        V difference = (a - here) + (b - here);
        if constexpr (Surface)
          difference = fma(a - here, first, (b - here) * second) *
                       (splat<T>(T(2)) * first * second / (first + second + tiny));
        difference *= splat<T>(T(2 * weight(q)) * t.convection);
        for (int d = 0; d < 3; ++d)
          if (kC[q][d]) sum[d] += difference;
        constexpr int pair = kC[q][0] ? (kC[q][1] ? 3 : 4) : 5;
        if constexpr (q > 6)
          sum[pair] = kC[q][0] * kC[q][1] + kC[q][0] * kC[q][2] + kC[q][1] * kC[q][2] > 0
                          ? sum[pair] + difference : sum[pair] - difference;
      }
    });
    for (int k = 0; k < 6; ++k) {
      Narrow<T>* const to = stress_of(t, tile, part, k);
      const V old = load_narrow(to), next = fma(splat(t.walls.rate), sum[k] - old, old);
      if constexpr (Surface) store_narrow(to, select(bits_of(border->fluid, part), next, none));
      else store_narrow(to, next);
    }
  }

  template <bool Odd, bool Keep, Curves C>
  static CT2FLOW_INLINE void inner(const Tiles<T>& t, int64_t tile) {
    constexpr bool extra = C != Curves::kNone;
    const Rates<T> rates{t.omega, t.third, t.recursive};
    for (int part = 0; part < kParts; ++part) {
      const int64_t own = tile * L + part * W;
      V f[kQ], state[4], stress[6];
      if constexpr (C == Curves::kCorrect) correct_stress<false>(t, tile, part, nullptr);
      if constexpr (extra)
        for (int k = 0; k < 6; ++k) stress[k] = load_narrow(stress_of(t, tile, part, k));
      each_direction([&](auto q) CT2FLOW_INLINED {
        if constexpr (Odd) f[opposite(q)] = load(ahead<q>(t, tile, part));
        else f[q] = load(t.slot[q] + own);
      });
      collide<T, Keep, extra>(f, state, rates, stress);
      forget();
      each_direction([&](auto q) CT2FLOW_INLINED {
        if constexpr (Odd) store(ahead<q>(t, tile, part), f[q]);
        else store(t.slot[opposite(q)] + own, f[q]);
      });
      if constexpr (C == Curves::kKeep)
        for (int d = 0; d < 4; ++d) store(t.velocity[d] + own, state[(d + 1) % 4]);
    }
  }

  // What arrives in one part of a tile at the surface.
  template <bool Odd>
  static CT2FLOW_INLINE void arriving(const Tiles<T>& t, const Border& border, int64_t tile,
                                      int part, V* f) {
    const int64_t own = tile * L + part * W;
    each_direction([&](auto q) CT2FLOW_INLINED {
      constexpr int p = opposite(q);
      if constexpr (Odd) f[p] = load(ahead<q>(t, tile, part));
      else f[p] = load(t.slot[p] + own);
      if constexpr (q > 0) {
        const int64_t place = first_link<q>(border, part);
        f[p] = expand(bits_of(border.link[q - 1], part), t.returned + place, f[p]);
      }
    });
    const int32_t end = (&border)[1].first_group;
    for (int32_t g = border.first_group; g < end; ++g) {
      const V more = f[0] + splat(t.spread[t.groups[g].block]);
      f[0] = select(bits_of(t.groups[g].lanes, part), more, f[0]);
    }
  }

  // What curved walls ask for: the velocities of the cells and of those behind them along the link.
  template <int q>
  static CT2FLOW_INLINE V curved(const Tiles<T>& t, int64_t tile, int part, Bits link,
                                 int64_t place, const V* u) {
    const int64_t behind = t.ahead[tile * kNeighbours + opposite(q) - 1] + part * W;
    const V none{}, ratio = expand(link, t.walls.ratio + place, none);
    V sum{};
    for (int d = 0; d < 3; ++d)
      if (kC[q][d]) {
        const V both = fma(ratio, load(t.velocity[d] + behind), u[d + 1]);
        sum = kC[q][d] > 0 ? sum + both : sum - both;
      }
    const V pressed = expand(link, t.walls.press + place, none) * (u[0] - load(t.velocity[3] + behind));
    return fma(expand(link, t.walls.here + place, none), sum, pressed);
  }

  // Let the deferred terms of one part of a tile follow what its curved walls ask for.
  static CT2FLOW_INLINE void correct_walls(const Tiles<T>& t, const Border& border, int64_t tile,
                                           int part, const V* u) {
    each_direction([&](auto q) CT2FLOW_INLINED {
      if constexpr (q > 0) {
        const int64_t place = first_link<q>(border, part);
        const Bits link = bits_of(border.link[q - 1], part);
        if (link) {
          const V old = expand(link, t.walls.deferred + place, V{});
          const V asked = curved<q>(t, tile, part, link, place, u);
          compress(link, t.walls.deferred + place, fma(splat(t.walls.rate), asked - old, old));
        }
      }
    });
  }

  // Compute what the walls return to a tile, and what that is too little, by group; see stages/flow/walls.py.
  // A tile has some twenty links, in eight of eighteen directions: taken link by link the lanes are full.
  template <bool Curved>
  static CT2FLOW_INLINE void walls(const Tiles<T>& t, const Border& border, const T* beside) {
    const Border& next = (&border)[1];
    const int groups = next.first_group - border.first_group;
    LaneSum<T> sum, later;
    const uint32_t others = groups > 1 ? ~t.groups[border.first_group].lanes : 0;
    for (int64_t k = border.first_link; k < next.first_link; k += W) {
      const Bits some = next.first_link - k < W ? Bits((1u << (next.first_link - k)) - 1) : kAll;
      const V g = collect<0>(beside, t.sources + k), second = collect<1>(beside, t.sources + k);
      V value = fma(load(t.walls.rest + k), second - g, g);
      if constexpr (Curved) value += load(t.walls.deferred + k);
      store_where(some, t.returned + k, value);
      const V lost = select(some, g - value, V{});
      if (groups > 1) {
        const Bits other = in_lanes<W, L>(others, t.sources + k);
        later.add(select(other, lost, V{}));
        sum.add(select(other, V{}, lost));
      } else {
        sum.add(lost);
      }
    }
    if (groups <= 2) {
      if (groups > 0) t.defect[border.first_group] = sum.total();
      if (groups > 1) t.defect[border.first_group + 1] = later.total();
    } else {
      share_out(t, border, beside);
    }
  }

  // The same of the few tiles whose walls belong to more than two blocks.
  static __attribute__((noinline)) void share_out(const Tiles<T>& t, const Border& border,
                                                  const T* beside) {
    double by_lane[L] = {};
    for (int k = border.first_link; k < (&border)[1].first_link; ++k)
      by_lane[t.sources[k].own % L] += double(beside[t.sources[k].own] - t.returned[k]);
    for (int32_t g = border.first_group; g < (&border)[1].first_group; ++g) {
      double sum = 0;
      for (int lane = 0; lane < L; ++lane)
        if (t.groups[g].lanes >> lane & 1u) sum += by_lane[lane];
      t.defect[g] = sum;
    }
  }

  template <bool Odd, bool Keep, Curves C>
  static CT2FLOW_INLINE void outer(const Tiles<T>& t, int64_t tile, const Border& border) {
    alignas(64) T beside[2 * kTile];  // what arrived and what leaves
    T* record = border.record < 0 ? nullptr
                                  : t.records + int64_t(border.record) * record_rows() * L;
    const int64_t own = tile * L;
    const Rates<T> rates{t.omega, t.third, t.recursive};
    for (int part = 0; part < kParts; ++part) {
      V f[kQ], u[4], stress[6];
      arriving<Odd>(t, border, tile, part, f);
      each_direction([&](auto q) CT2FLOW_INLINED { store(beside + q * L + part * W, f[q]); });
      if constexpr (C == Curves::kCorrect) correct_stress<true>(t, tile, part, &border);
      if constexpr (C != Curves::kNone)
        for (int k = 0; k < 6; ++k) stress[k] = load_narrow(stress_of(t, tile, part, k));
      collide<T, Keep, C != Curves::kNone>(f, u, rates, stress);
      forget();
      each_direction([&](auto q) CT2FLOW_INLINED {
        store(beside + (kQ + q) * L + part * W, f[q]);
        if constexpr (!Odd) {
          store(t.slot[opposite(q)] + own + part * W, f[q]);
        } else {
          const Bits fluid = bits_of(border.fluid, part);
          const Bits cut = q > 0 ? bits_of(border.link[q > 0 ? q - 1 : 0], part) : 0;
          store_where(fluid & ~cut, ahead<q>(t, tile, part), f[q]);
        }
      });
      if constexpr (C == Curves::kCorrect) correct_walls(t, border, tile, part, u);
      if (C == Curves::kKeep)
        for (int d = 0; d < 4; ++d)  // what solid lanes compute may be no number
          store_where(bits_of(border.fluid, part), t.velocity[d] + own + part * W, u[(d + 1) % 4]);
      if (record)
        for (int d = 0; d < 4; ++d) store(record + (2 * kQ + d) * L + part * W, u[d]);
    }
    walls<C != Curves::kNone>(t, border, beside);
    if (record) std::memcpy(record, beside, sizeof(beside));
  }

  // What arrives in the cells of a tile; of a tile inside nothing needs a border.
  template <bool Odd>
  static void gather(const Tiles<T>& t, int64_t tile, T* populations) {
    const Border none[2] = {};
    const Border& border = t.border[tile] < 0 ? none[0] : t.borders[t.border[tile]];
    for (int part = 0; part < kParts; ++part) {
      V f[kQ];
      arriving<Odd>(t, border, tile, part, f);
      each_direction([&](auto q) CT2FLOW_INLINED { store(populations + q * L + part * W, f[q]); });
    }
  }

  // Ask for some values of each lane, beginning at a place.
  static CT2FLOW_INLINE void fetch_lanes(const T* from, int values = 1) {
    constexpr int line = 64;  // bytes
    for (int k = 0; k < values * L * int(sizeof(T)); k += line)
      __builtin_prefetch(reinterpret_cast<const char*>(from) + k, 1);
  }

  // Ask for what a later tile needs: it comes from more places than processors foresee by themselves.
  template <bool Odd, Curves C>
  static CT2FLOW_INLINE void fetch(const Tiles<T>& t, int64_t tile) {
    const int32_t border = t.border[tile];
    each_direction([&](auto q) CT2FLOW_INLINED {
      // Rows ahead are asked for tile by tile: what else a tile reads there belongs to one before or after.
      fetch_lanes(Odd ? ahead<q>(t, tile, 0) - kC[q][0] : t.slot[q] + tile * L);
      if constexpr (C == Curves::kCorrect && kC[q][0] == 0) {
        const int64_t place = q > 0 ? t.ahead[tile * kNeighbours + (q > 0 ? q - 1 : 0)] : tile * L;
        for (const T* velocity : t.velocity) fetch_lanes(velocity + place);
      }
    });
    if constexpr (C != Curves::kNone)
      fetch_lanes(reinterpret_cast<const T*>(stress_of(t, tile, 0, 0)), 3);
    if (border < 0) return;
    const int32_t link = t.borders[border].first_link;
    constexpr int usual = 2;  // lists of a tile have some twenty links
    fetch_lanes(t.returned + link, usual), fetch_lanes(t.walls.rest + link, usual);
    fetch_lanes(reinterpret_cast<const T*>(t.sources + link), usual);
    if constexpr (C != Curves::kNone) fetch_lanes(t.walls.deferred + link, usual);
    if constexpr (C == Curves::kCorrect)
      for (const T* list : {t.walls.here, t.walls.ratio, t.walls.press, t.walls.inverse})
        fetch_lanes(list + link, usual);
  }

  template <bool Odd, bool Keep, Curves C>
  static void range(const Tiles<T>& t, int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      fetch<Odd, C>(t, std::min(tile + kSoon, end - 1));
      forget();
      const int32_t border = t.border[tile];
      if (border < 0) inner<Odd, Keep, C>(t, tile);
      else outer<Odd, Keep, C>(t, tile, t.borders[border]);
    }
  }

  template <bool Odd, bool Keep>
  static void choose(const Tiles<T>& t, int64_t begin, int64_t end) {
    switch (t.curves) {
      case Curves::kNone: return range<Odd, Keep, Curves::kNone>(t, begin, end);
      case Curves::kAdd: return range<Odd, Keep, Curves::kAdd>(t, begin, end);
      case Curves::kCorrect: return range<Odd, Keep, Curves::kCorrect>(t, begin, end);
      case Curves::kKeep: return range<Odd, Keep, Curves::kKeep>(t, begin, end);
    }
  }

  static void step(const Tiles<T>& t, bool odd, int64_t begin, int64_t end) {
    const bool keep = t.third != T(1);
    if (odd) keep ? choose<true, true>(t, begin, end) : choose<true, false>(t, begin, end);
    else keep ? choose<false, true>(t, begin, end) : choose<false, false>(t, begin, end);
  }
};

}  // namespace CT2FLOW_TARGET
}  // namespace ct2flow
