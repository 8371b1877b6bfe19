// Compiled once for each processor level; see CMakeLists.txt.
#include "kernel.hpp"

#include "kernels.hpp"

namespace ct2flow {
namespace CT2FLOW_TARGET {

template <class T, int L>
static void arriving(const Tiles<T>& t, bool odd, int64_t tile, T* populations) {
  odd ? Kernel<T, L>::template gather<true>(t, tile, populations)
      : Kernel<T, L>::template gather<false>(t, tile, populations);
}

template <class T, int L>
static constexpr Kernels<T> kernels() {
  return {L, Kernel<T, L>::step, arriving<T, L>};
}

extern const Kernels<float> kSingle;
extern const Kernels<double> kDouble;
// One of the widest vectors each: in narrower tiles fewer lanes are solid.
constexpr Kernels<float> kSingle = kernels<float, 16>();
constexpr Kernels<double> kDouble = kernels<double, 8>();

}  // namespace CT2FLOW_TARGET
}  // namespace ct2flow
