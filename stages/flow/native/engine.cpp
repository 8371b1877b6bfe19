#include "engine.hpp"

#include <algorithm>
#include <utility>

namespace ct2flow {

namespace {

constexpr double kReflected = 0.8;
constexpr int kParts = 16;  // of the openings' links: sums do not depend on the number of threads
constexpr int64_t kTilesPerThread = 64;   // fewer are not worth a thread
constexpr size_t kSoon = 8;  // links between asking for their records and reading them
constexpr int64_t kPieces = 16;           // of each thread's work, for those that wait to take over

// Of each direction the share of a velocity.
double along(int q, const double* u) { return kC[q][0] * u[0] + kC[q][1] * u[1] + kC[q][2] * u[2]; }

// Lets the outlets answer the flux as open space would; see stages/flow/openings.py.
double outlet_density(const OpeningControl& control, const std::vector<uint8_t>& inlet) {
  double total = 0;
  for (size_t o = 0; o < inlet.size(); ++o)
    if (!inlet[o]) total += control.flux[o];
  double* outlet = control.outlet;
  outlet[4] += outlet[5] * (total - outlet[4]);
  const double error = outlet[1] * (outlet[4] - outlet[3]);
  outlet[0] += outlet[2] * error;
  return outlet[0] + error;
}

}  // namespace

template <class T>
Engine<T>::Engine(const Kernels<T>& kernels, int64_t tiles, int threads)
    : kernels_(kernels), tiles_(tiles), threads_(threads) {
  const int64_t most = std::max<int64_t>(1, tiles / kTilesPerThread);
  threads_ = int(std::min<int64_t>(threads, most));
  // One tile more, of zeros, stands for all that is solid. Directions lie an odd number of cache lines
  // apart: at multiples of 4 KiB they would compete for the same places of the cache.
  const int64_t line = 64 / int64_t(sizeof(T)), page = 4096 / int64_t(sizeof(T));
  stride_ = ((tiles + 1) * kernels.lanes + page - 1) / page * page + 5 * line;
  populations_ = Memory<T>(size_t(stride_ * kQ));
}

template <class T>
void Engine<T>::set_geometry(std::vector<int32_t> ahead, std::vector<int32_t> border,
                             std::vector<Border> borders, const std::vector<uint16_t>& near) {
  ahead_ = std::move(ahead);
  border_ = std::move(border);
  borders_ = std::move(borders);
  const uint32_t lanes = uint32_t(kernels_.lanes);
  sources_.clear();
  for (size_t k = 0; k < borders_.size(); ++k) {
    borders_[k].first_link = int32_t(sources_.size());
    for (uint32_t q = 1; q < kQ; ++q) {
      borders_[k].first[q - 1] = uint16_t(int32_t(sources_.size()) - borders_[k].first_link);
      for (uint32_t left = borders_[k].link[q - 1]; left; left &= left - 1) {
        const uint32_t lane = uint32_t(__builtin_ctz(left));
        const bool is_near = near[k * kQ + q] >> lane & 1u;
        const uint32_t second = is_near ? q : kQ + uint32_t(opposite(int(q)));
        sources_.push_back({uint16_t((kQ + q) * lanes + lane), uint16_t(second * lanes + lane)});
      }
    }
  }
  const size_t links = sources_.size();
  sources_.resize(links + kSlack);
  returned_.assign(links + kSlack, T(0));
}

// Sort places by what they hold: those of value v begin at first[v].
static void sort_into(const std::vector<int32_t>& held, size_t values, std::vector<int32_t>& first,
                      std::vector<int32_t>& place) {
  first.assign(values + 1, 0), place.resize(held.size());
  for (int32_t v : held) ++first[size_t(v) + 1];
  for (size_t v = 0; v < values; ++v) first[v + 1] += first[v];
  std::vector<int32_t> next(first.begin(), first.end() - 1);
  for (size_t k = 0; k < held.size(); ++k) place[size_t(next[size_t(held[k])]++)] = int32_t(k);
}

template <class T>
void Engine<T>::set_walls(std::vector<Group> groups, std::vector<T> rest, std::vector<T> here,
                          std::vector<T> ratio, std::vector<T> press, std::vector<T> inverse,
                          Windows windows) {
  groups_ = std::move(groups);
  rest_ = std::move(rest), here_ = std::move(here), ratio_ = std::move(ratio);
  press_ = std::move(press), inverse_ = std::move(inverse);
  deferred_.assign(ratio_.size(), T(0));
  for (std::vector<T>* weights : {&rest_, &here_, &ratio_, &press_, &inverse_, &deferred_})
    weights->resize(weights->size() + kSlack);
  if (is_curved()) {
    if (!velocity_.data()) velocity_ = Memory<T>(size_t(4 * stride_)), stress_ = Memory<Narrow<T>>(size_t(6 * stride_));
    // Links without a cell behind them read some place all the same, times zero: it must hold a number.
    std::fill_n(velocity_.data(), 4 * stride_, T(0));
    std::fill_n(stress_.data(), 6 * stride_, Narrow<T>(0));
  }
  windows_ = std::move(windows);
  const size_t blocks = windows_.window.size() / Windows::kOver;
  defect_.assign(groups_.size(), 0.0);
  spread_.assign(blocks, T(0));
  block_defect_.assign(blocks, 0.0);
  window_part_.assign(windows_.share.size(), 0.0);
  std::vector<int32_t> block(groups_.size());
  for (size_t g = 0; g < block.size(); ++g) block[g] = groups_[g].block;
  sort_into(block, blocks, block_first_, block_group_);
  sort_into(windows_.window, window_part_.size(), window_first_, window_place_);
}

template <class T>
void Engine<T>::set_openings(Openings openings, int64_t records) {
  openings_ = std::move(openings);
  records_.assign(size_t(records) * record_rows() * kernels_.lanes, T(0));
  flux_.assign(kParts * openings_.inlet.size(), 0.0);
}

template <class T>
void Engine<T>::set_rates(T omega, T third, T recursive, T convection) {
  omega_ = omega, third_ = third, recursive_ = recursive, convection_ = convection;
}

template <class T>
void Engine<T>::stress(T* values) const {
  over_tiles([&](int64_t tile) {
    over_kept(tile, [&](int64_t place, int64_t cell) {
      for (int k = 0; k < 6; ++k) values[k * cells() + cell] = widen(stress_.data()[stress_place(place, k)]);
    });
  });
}

template <class T>
void Engine<T>::set_stress(const T* values) {
  over_tiles([&](int64_t tile) {
    over_kept(tile, [&](int64_t place, int64_t cell) {
      for (int k = 0; k < 6; ++k) stress_.data()[stress_place(place, k)] = narrow(values[k * cells() + cell]);
    });
  });
}

template <class T>
void Engine<T>::set_deferred(const T* terms, int64_t steps) {
  std::copy_n(terms, curves(), deferred_.begin());
  steps_ = steps, fresh_ = steps == 0;
}

template <class T>
void Engine<T>::set_cells(std::vector<int64_t> place) {
  place_ = std::move(place);
  cell_.assign(size_t(tiles_) * kernels_.lanes, -1);
  for (size_t c = 0; c < place_.size(); ++c) cell_[size_t(place_[c])] = int32_t(c);
}

template <class T>
Tiles<T> Engine<T>::view() const {
  Tiles<T> t{};
  for (int q = 0; q < kQ; ++q) t.slot[q] = populations_.data() + q * stride_;
  t.ahead = ahead_.data(), t.border = border_.data(), t.borders = borders_.data();
  t.groups = groups_.data(), t.sources = sources_.data(), t.walls.rest = rest_.data();
  if (is_curved()) {
    t.walls.here = here_.data(), t.walls.ratio = ratio_.data();
    t.walls.press = press_.data(), t.walls.inverse = inverse_.data(), t.convection = convection_;
    t.stress = stress_.data();
    t.walls.deferred = const_cast<T*>(deferred_.data());
    for (int d = 0; d < 4; ++d) t.velocity[d] = velocity_.data() + d * stride_;
  }
  t.spread = spread_.data(), t.defect = const_cast<double*>(defect_.data());
  t.records = const_cast<T*>(records_.data()), t.returned = const_cast<T*>(returned_.data());
  t.omega = omega_, t.third = third_, t.recursive = recursive_;
  return t;
}

template <class T>
template <class Body>
void Engine<T>::over_tiles(Body body) const {
  run_threads(threads_, [&](int thread) {
    for (int64_t tile = tiles_ * thread / threads_; tile < tiles_ * (thread + 1) / threads_; ++tile)
      body(tile);
  });
}

template <class T>
template <class Body>
void Engine<T>::over_links(int64_t tile, Body body) {
  if (border_[size_t(tile)] < 0) return;
  const Border& border = borders_[size_t(border_[size_t(tile)])];
  T* returned = returned_.data() + border.first_link;
  for (int q = 1; q < kQ; ++q)
    for (uint32_t left = border.link[q - 1]; left; left &= left - 1)
      body(q, __builtin_ctz(left), *returned++);
}

template <class T>
template <class Body>
void Engine<T>::over_kept(int64_t tile, Body body) const {
  if (!is_curved()) return;
  for (int64_t place = tile * kernels_.lanes; place < (tile + 1) * kernels_.lanes; ++place)
    if (cell_[size_t(place)] >= 0) body(place, int64_t(cell_[size_t(place)]));
}

template <class T>
void Engine<T>::set_leaving(const T* populations, const T* velocity) {
  const int lanes = kernels_.lanes;
  T* to = populations_.data();
  const int64_t n = cells();
  over_tiles([&](int64_t tile) {
    for (int lane = 0; lane < lanes; ++lane) {
      const int64_t cell = cell_[size_t(tile * lanes + lane)];
      for (int q = 0; q < kQ; ++q)
        to[opposite(q) * stride_ + tile * lanes + lane] = cell < 0 ? T(0) : populations[q * n + cell];
    }
    over_links(tile, [&](int q, int lane, T& returned) {
      returned = populations[q * n + cell_[size_t(tile * lanes + lane)]];
    });
    over_kept(tile, [&](int64_t place, int64_t cell) {
      for (int d = 0; d < 4; ++d) velocity_.data()[d * stride_ + place] = velocity[d * n + cell];
    });
  });
  std::fill(spread_.begin(), spread_.end(), T(0));
  odd_ = true, fresh_ = true, steps_ = 0;
}

template <class T>
void Engine<T>::set_arriving(const T* populations, const T* velocity) {
  const int lanes = kernels_.lanes;
  T* to = populations_.data();
  const int64_t n = cells();
  over_tiles([&](int64_t tile) {
    for (int lane = 0; lane < lanes; ++lane) {
      const int64_t cell = cell_[size_t(tile * lanes + lane)];
      for (int q = 0; q < kQ; ++q)
        to[q * stride_ + tile * lanes + lane] = cell < 0 ? T(0) : populations[q * n + cell];
    }
    over_links(tile, [&](int q, int lane, T& returned) {
      returned = populations[opposite(q) * n + cell_[size_t(tile * lanes + lane)]];
    });
    over_kept(tile, [&](int64_t place, int64_t cell) {
      for (int d = 0; d < 4; ++d) velocity_.data()[d * stride_ + place] = velocity[d * n + cell];
    });
  });
  std::fill(spread_.begin(), spread_.end(), T(0));
  odd_ = false;
}

template <class T>
void Engine<T>::arriving(T* populations, T* velocity) const {
  const int lanes = kernels_.lanes;
  const Tiles<T> t = view();
  const int64_t n = cells();
  over_tiles([&](int64_t tile) {
    alignas(64) T f[kQ * 16];
    kernels_.arriving(t, odd_, tile, f);
    for (int lane = 0; lane < lanes; ++lane) {
      const int64_t cell = cell_[size_t(tile * lanes + lane)];
      for (int q = 0; q < kQ && cell >= 0; ++q) populations[q * n + cell] = f[q * lanes + lane];
    }
    over_kept(tile, [&](int64_t place, int64_t cell) {
      for (int d = 0; d < 4; ++d) velocity[d * n + cell] = velocity_.data()[d * stride_ + place];
    });
  });
}

template <class T>
void Engine<T>::macroscopic(T* fields) const {
  const int lanes = kernels_.lanes;
  const Tiles<T> t = view();
  const int64_t n = cells();
  over_tiles([&](int64_t tile) {
    alignas(64) T f[kQ * 16];
    kernels_.arriving(t, odd_, tile, f);
    T sum[4][16] = {};
    for (int q = 0; q < kQ; ++q)
      for (int lane = 0; lane < lanes; ++lane) {
        sum[0][lane] += f[q * lanes + lane];
        for (int d = 0; d < 3; ++d) sum[d + 1][lane] += T(kC[q][d]) * f[q * lanes + lane];
      }
    for (int lane = 0; lane < lanes; ++lane) {
      const int64_t cell = cell_[size_t(tile * lanes + lane)];
      for (int d = 0; d < 4 && cell >= 0; ++d) fields[d * n + cell] = sum[d][lane];
    }
  });
}

template <class T>
void Engine<T>::advance(int64_t steps, OpeningControl& control) {
  Barrier barrier(threads_);
  double answer = 0;
  // Whoever is free takes the next piece: a tile's result does not depend on who computes it.
  const int64_t pieces = threads_ == 1 ? 1 : threads_ * kPieces;
  std::atomic<int64_t> next[2] = {{0}, {0}};
  run_threads(threads_, [&](int thread) {
    Tiles<T> t = view();
    bool odd = odd_;
    for (int64_t step = 0; step < steps; ++step) {
      if (thread == 0) answer = outlet_density(control, openings_.inlet);
      const int64_t number = steps_ + step;
      const bool fresh = fresh_ && step == 0;
      t.walls.rate = fresh ? T(1) : rate_;
      if (!is_curved()) t.curves = Curves::kNone;
      else if (fresh || (number > 0 && number % interval_ == 0)) t.curves = Curves::kCorrect;
      else t.curves = (number + 1) % interval_ == 0 ? Curves::kKeep : Curves::kAdd;
      std::atomic<int64_t>& piece = next[step % 2];
      for (int64_t k = piece.fetch_add(1); k < pieces; k = piece.fetch_add(1))
        kernels_.step(t, odd, tiles_ * k / pieces, tiles_ * (k + 1) / pieces);
      barrier.wait();
      if (thread == 0) next[(step + 1) % 2] = 0;
      return_from_openings(control, answer, thread);
      sum_blocks(thread);
      barrier.wait();
      sum_windows(thread);
      barrier.wait();
      share_windows(thread);
      barrier.wait();
      if (thread == 0) sum_flux(control);
      odd = !odd;
    }
  });
  if (steps % 2) odd_ = !odd_;
  if (steps > 0) fresh_ = false;
  steps_ += steps;
}

// What each block's walls returned less than they took.
template <class T>
void Engine<T>::sum_blocks(int thread) {
  for (size_t b = size_t(thread); b < block_defect_.size(); b += size_t(threads_)) {
    double defect = 0;
    for (int32_t k = block_first_[b]; k < block_first_[b + 1]; ++k)
      defect += defect_[size_t(block_group_[size_t(k)])];
    block_defect_[b] = defect;
  }
}

// What that is in each window for one wall cell.
template <class T>
void Engine<T>::sum_windows(int thread) {
  for (size_t w = size_t(thread); w < window_part_.size(); w += size_t(threads_)) {
    double defect = 0;
    for (int32_t k = window_first_[w]; k < window_first_[w + 1]; ++k) {
      const size_t place = size_t(window_place_[size_t(k)]);
      defect += windows_.weight[place] * block_defect_[place / Windows::kOver];
    }
    window_part_[w] = defect * windows_.share[w];
  }
}

// What each wall cell of a block is given back by all windows over it.
template <class T>
void Engine<T>::share_windows(int thread) {
  for (size_t b = size_t(thread); b < spread_.size(); b += size_t(threads_)) {
    double part = 0;
    for (size_t k = b * Windows::kOver; k < (b + 1) * Windows::kOver; ++k)
      part += windows_.weight[k] * window_part_[size_t(windows_.window[k])];
    spread_[b] = T(part);
  }
}

// What an opening link returns; see stages/flow/openings.py for the equations.
template <class T>
T Engine<T>::returned_by(const OpeningLink& link, const OpeningControl& control,
                         double answer) const {
  const size_t count = openings_.inlet.size(), o = size_t(link.opening);
  const T* record = records_.data();
  const bool inlet = openings_.inlet[o];
  const int q = link.direction;
  const double out = record[link.out], w = weight(q);
  const double normal[3] = {openings_.normal[o], openings_.normal[count + o],
                            openings_.normal[2 * count + o]};
  if (link.solid)
    return T(link.share) * T(out) + (T(1) - T(link.share)) * record[link.second];
  if (inlet && control.given_velocity) {
    const double given = link.profile * control.speed[o], cu = along(q, normal) * given;
    const double even = record[link.behind] + 4.5 * cu * cu - 1.5 * given * given;
    return T(w * (even - 3.0 * cu));
  }
  double density = inlet ? control.level[o] : answer;
  const T* cell = record + link.cell;
  const int lanes = kernels_.lanes;
  double u[3] = {cell[lanes], cell[2 * lanes], cell[3 * lanes]};
  const double through = normal[0] * u[0] + normal[1] * u[1] + normal[2] * u[2];
  if (inlet || through < 0) {
    const double entering = inlet ? std::max(through, 0.0) : through;
    density -= 1.5 * entering * entering;
    for (int d = 0; d < 3; ++d) u[d] = normal[d] * through;
  }
  const double cu = along(q, u);
  const double even = density + 4.5 * cu * cu - 1.5 * (u[0] * u[0] + u[1] * u[1] + u[2] * u[2]);
  const double reflected = 2.0 * w * even - out, settled = w * (even - 3.0 * cu);
  return T(kReflected * reflected + (1.0 - kReflected) * settled);
}

template <class T>
void Engine<T>::return_from_openings(const OpeningControl& control, double answer, int thread) {
  const size_t count = openings_.inlet.size(), links = openings_.links.size();
  for (size_t part = size_t(thread); part < kParts; part += size_t(threads_)) {
    double* flux = flux_.data() + part * count;
    std::fill(flux, flux + count, 0.0);
    for (size_t k = part * links / kParts; k < (part + 1) * links / kParts; ++k) {
      const OpeningLink& link = openings_.links[k];
      const OpeningLink& later = openings_.links[std::min(k + kSoon, links - 1)];
      for (int64_t place : {later.out, later.second, later.cell, later.behind})
        __builtin_prefetch(records_.data() + place);
      const T value = returned_by(link, control, answer);
      returned_[size_t(link.place)] = value;
      const double gain = double(value) - double(records_[size_t(link.out)]);
      flux[link.opening] += openings_.inlet[size_t(link.opening)] ? gain : -gain;
    }
  }
}

template <class T>
void Engine<T>::sum_flux(const OpeningControl& control) const {
  const size_t count = openings_.inlet.size();
  std::fill(control.flux, control.flux + count, 0.0);
  for (size_t k = 0; k < flux_.size(); ++k) control.flux[k % count] += flux_[k];
}

template class Engine<float>;
template class Engine<double>;

}  // namespace ct2flow
