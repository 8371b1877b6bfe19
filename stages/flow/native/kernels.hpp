// The kernels of each processor level.
#pragma once

#include "tiles.hpp"

namespace ct2flow {

template <class T>
struct Kernels {
  int lanes;  // cells of a tile
  void (*step)(const Tiles<T>&, bool odd, int64_t begin, int64_t end);
  void (*arriving)(const Tiles<T>&, bool odd, int64_t tile, T* populations);
};


#define CT2FLOW_DECLARE(level)           \
  namespace level {                      \
  extern const Kernels<float> kSingle;   \
  extern const Kernels<double> kDouble;  \
  }

CT2FLOW_DECLARE(base)
#if defined(CT2FLOW_X86_LEVELS)
CT2FLOW_DECLARE(v3)
CT2FLOW_DECLARE(v4)
#endif
#undef CT2FLOW_DECLARE

}  // namespace ct2flow
