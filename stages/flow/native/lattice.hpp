// D3Q19 as stages/flow/lattice.py orders it, with x along the rows of tiles, and the memory of tiles.
#pragma once

#include <cstdint>

namespace ct2flow {

constexpr int kQ = 19;
constexpr int kC[kQ][3] = {
    {0, 0, 0},  {1, 0, 0},   {-1, 0, 0},  {0, 1, 0},   {0, -1, 0}, {0, 0, 1},   {0, 0, -1},
    {1, 1, 0},  {-1, -1, 0}, {1, -1, 0},  {-1, 1, 0},  {1, 0, 1},  {-1, 0, -1}, {1, 0, -1},
    {-1, 0, 1}, {0, 1, 1},   {0, -1, -1}, {0, 1, -1},  {0, -1, 1}};

constexpr int opposite(int q) { return q == 0 ? 0 : (q % 2 ? q + 1 : q - 1); }

constexpr double weight(int q) { return q == 0 ? 1.0 / 3.0 : (q < 7 ? 1.0 / 18.0 : 1.0 / 36.0); }

constexpr int kNeighbours = kQ - 1;

}  // namespace ct2flow
