// Owns the memory of a lattice in tiles and advances it with some threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels.hpp"
#include "memory.hpp"

namespace ct2flow {

constexpr size_t kSlack = 16;  // the last values of a list are read as a whole vector

// What the openings' links return; offsets count values of one record or of the populations.
struct OpeningLink {
  int64_t place;      // of what is returned among that of all links
  int64_t out;        // what left along the link
  int64_t second;     // the second population of an interpolated wall
  int64_t cell;       // density deviation of the cell
  int64_t behind;     // density deviation of the cell behind it
  int32_t direction, opening;
  bool solid;
  double share, profile;
};

// The windows in which walls conserve mass; see stages/flow/mass_windows.py.
struct Windows {
  static constexpr int kOver = 8;  // windows over each block
  std::vector<int32_t> window;     // [block][8]
  std::vector<double> weight;      // [block][8]
  std::vector<double> share;       // [window]
};

struct Openings {
  std::vector<OpeningLink> links;
  std::vector<double> normal;   // [3][opening]
  std::vector<uint8_t> inlet;   // [opening]
};

// Mirrors `OpeningState` of stages/flow/openings.py; updated in place.
struct OpeningControl {
  bool given_velocity;
  const double* level;
  const double* speed;
  double* flux;
  double* outlet;  // level, impedance, rate of the integral, target, smoothed flux, smoothing
};

template <class T>
class Engine {
 public:
  Engine(const Kernels<T>& kernels, int64_t tiles, int threads);

  // Beside each border tile the lanes whose second population is what arrived along the link, [border][q].
  void set_geometry(std::vector<int32_t> ahead, std::vector<int32_t> border,
                    std::vector<Border> borders, const std::vector<uint16_t>& near);
  // Weights are parallel to the links of all border tiles; none of `here` and `ratio` for linear walls.
  void set_walls(std::vector<Group> groups, std::vector<T> rest, std::vector<T> here,
                 std::vector<T> ratio, std::vector<T> press, std::vector<T> inverse,
                 Windows windows);
  // Every so many steps the deferred terms of curved walls make up this share of the difference.
  void set_correction(int64_t interval, T rate) { interval_ = interval, rate_ = rate; }
  void set_openings(Openings openings, int64_t records);
  void set_rates(T omega, T third, T recursive, T convection);
  void set_cells(std::vector<int64_t> place);

  // The extra stress, (6, cell), in the kernel's axes; nothing for linear walls.
  void stress(T* values) const;
  void set_stress(const T* values);
  // Populations after a collision, (q, cell), which the next step streams, and velocity and density, (4, cell).
  void set_leaving(const T* populations, const T* velocity);
  // Populations before a collision, (q, cell), and the velocity and density kept, (4, cell).
  void set_arriving(const T* populations, const T* velocity);
  void arriving(T* populations, T* velocity) const;
  // The deferred terms by link, none for linear walls, and the steps since the state was set.
  int64_t curves() const { return is_curved() ? int64_t(deferred_.size() - kSlack) : 0; }
  int64_t steps() const { return steps_; }
  void deferred(T* terms) const { std::copy_n(deferred_.begin(), curves(), terms); }
  void set_deferred(const T* terms, int64_t steps);
  void macroscopic(T* fields) const;  // (4, cell)
  void advance(int64_t steps, OpeningControl& control);
  int threads() const { return threads_; }
  int64_t cells() const { return int64_t(place_.size()); }

 private:
  Tiles<T> view() const;
  bool is_curved() const { return ratio_.size() > kSlack; }
  template <class Body>
  void over_tiles(Body body) const;
  void return_from_openings(const OpeningControl& control, double answer, int thread);
  T returned_by(const OpeningLink& link, const OpeningControl& control, double answer) const;
  void sum_flux(const OpeningControl& control) const;
  void sum_blocks(int thread);
  void sum_windows(int thread);
  void share_windows(int thread);
  // Call body(direction, lane, returned value) for all links of a tile that end at the surface.
  template <class Body>
  void over_links(int64_t tile, Body body);
  int64_t stress_place(int64_t place, int k) const {
    const int64_t lanes = kernels_.lanes;
    return (place / lanes * 6 + k) * lanes + place % lanes;
  }
  // Call body(place, cell) for all cells of a tile, if corrections read velocities.
  template <class Body>
  void over_kept(int64_t tile, Body body) const;

  const Kernels<T>& kernels_;
  int64_t tiles_, stride_;
  int threads_;
  bool odd_ = false;
  Memory<T> populations_;
  std::vector<int32_t> ahead_, border_;
  std::vector<Border> borders_;
  std::vector<Group> groups_;
  std::vector<LinkSource> sources_;      // [link]
  std::vector<T> rest_, here_, ratio_, press_, inverse_, deferred_;  // [link]
  std::vector<int32_t> block_first_, block_group_;  // groups of each block
  std::vector<double> block_defect_, window_part_;  // what walls returned too little; its part of a wall cell
  std::vector<int32_t> window_first_, window_place_;  // places of each window in `windows_.window`
  Windows windows_;
  std::vector<T> spread_;
  std::vector<double> defect_;
  Memory<T> velocity_;                   // [4], the last the density, [tile][lane]
  Memory<Narrow<T>> stress_;             // [tile][6][lane]
  std::vector<T> records_, returned_;
  std::vector<int64_t> place_;   // of each cell: tile * lanes + lane
  std::vector<int32_t> cell_;    // of each place, -1 where solid
  Openings openings_;
  std::vector<double> flux_;     // of each part of the openings' links, [part][opening]
  T omega_ = 1, third_ = 1, recursive_ = 1, convection_ = 0, rate_ = 1;
  int64_t interval_ = 16, steps_ = 0;
  bool fresh_ = false;           // the state was set: the next step corrects in full
};

}  // namespace ct2flow
