// What a kernel needs to know of a lattice in tiles; plain pointers, owned by the engine.
#pragma once

#include <cstdint>

#include "lattice.hpp"
#include "narrow.hpp"

namespace ct2flow {

// A tile that is not all fluid, touches the surface or is read by openings.
struct Border {
  uint16_t fluid;           // lanes that are fluid
  uint16_t link[kQ - 1];    // lanes whose link in direction q + 1 ends at the surface
  uint16_t first[kQ - 1];   // links of the directions before
  int32_t record;           // where openings read this tile's cells, or -1
  int32_t first_group;      // cells with walls, block by block
  int32_t first_link;       // what its links return and their weights, by direction and lane
};

// Cells of one tile that share the mass defect of a block's walls.
struct Group {
  int32_t block;
  uint32_t lanes;
};

// Where a link's populations lie among what arrived and what leaves in its tile, [2][q][lane].
struct LinkSource {
  uint16_t own;             // what leaves along the link
  uint16_t second;          // the second population of its wall
};

// What walls weigh: the second population and, if they are curved, velocities along the link.
template <class T>
struct WallLinks {
  const T* rest;            // weight of the second population
  const T* here;            // of the velocity in the cell; null for linear walls
  const T* ratio;           // the weight of the velocity behind over that
  const T* press;           // of the density less that behind
  const T* inverse;         // of the distance, 0 where the link ends at an opening
  T* deferred;              // what is added until the next correction
  T rate;                   // share of the difference that a correction makes up
};

// What a step does about curved walls and the extra stress: nothing, add what is deferred, correct that
// first, or keep the velocities that the next correction reads.
enum class Curves { kNone, kAdd, kCorrect, kKeep };

template <class T>
struct Tiles {
  T* slot[kQ];              // populations of each direction, [tile][lane]
  const int32_t* ahead;     // [tile][kNeighbours], place of the cell ahead of the first lane
  const int32_t* border;    // [tile], -1 inside
  const Border* borders;    // one more than there are
  const Group* groups;
  WallLinks<T> walls;       // [link]
  const LinkSource* sources;  // [link]
  T* returned;              // [link], what the surface returns
  T* velocity[4];           // [tile][lane], of the last step that kept them; the fourth is the density
  Narrow<T>* stress;        // [tile][xx, yy, zz, xy, xz, yz][lane], extra stress of the equilibrium
  T convection;             // weight of the second differences that it is made of
  Curves curves;
  const T* spread;          // [block], mass that each wall cell is given back
  double* defect;           // [group]
  T* records;               // [record][arriving q, leaving q, state][lane]
  T omega, third, recursive;
};

constexpr int record_rows() { return 2 * kQ + 4; }

}  // namespace ct2flow
