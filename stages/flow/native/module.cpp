// The Python face of the engine: tables in, populations and fields out.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <string>

#include "engine.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace ct2flow {
namespace {

template <class T>
using Array = nb::ndarray<const T, nb::c_contig, nb::device::cpu>;
template <class T>
using Out = nb::ndarray<T, nb::c_contig, nb::device::cpu>;

template <class T>
std::vector<T> values(const Array<T>& array) {
  return std::vector<T>(array.data(), array.data() + array.size());
}

// The best level that this processor runs.
std::string best_level() {
#if defined(CT2FLOW_X86_LEVELS)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return "v4";
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "v3";
#endif
  return "base";
}

template <class T>
const Kernels<T>& kernels_of(const std::string& level) {
  const auto pick = [](const Kernels<float>& a, const Kernels<double>& b) -> const Kernels<T>& {
    if constexpr (sizeof(T) == 4) return a;
    else return b;
  };
#if defined(CT2FLOW_X86_LEVELS)
  if (level == "v4") return pick(v4::kSingle, v4::kDouble);
  if (level == "v3") return pick(v3::kSingle, v3::kDouble);
#endif
  return pick(base::kSingle, base::kDouble);
}

template <class T>
int lanes() { return kernels_of<T>("base").lanes; }

template <class T>
void bind(nb::module_& m, const char* name) {
  using E = Engine<T>;
  nb::class_<E>(m, name)
      .def_static("lanes", &lanes<T>, "Return the cells of a tile, the same at every level.")
      .def("__init__", [](E* self, int64_t tiles, int threads, const std::string& level) {
        new (self) E(kernels_of<T>(level), tiles, threads);
      }, "tiles"_a, "threads"_a, "level"_a)
      .def("set_geometry", [](E& self, Array<int32_t> ahead, Array<int32_t> border,
                              Array<uint16_t> fluid, Array<uint16_t> link, Array<uint16_t> near,
                              Array<int32_t> record, Array<int32_t> first_group) {
        std::vector<Border> borders(first_group.size());
        for (size_t b = 0; b < borders.size(); ++b) {
          Border& to = borders[b];
          to = Border{};
          to.first_group = first_group.data()[b];
          to.record = -1;
          if (b == fluid.size()) break;
          to.fluid = fluid.data()[b];
          to.record = record.data()[b];
          for (size_t q = 1; q < kQ; ++q) to.link[q - 1] = link.data()[b * kQ + q];
        }
        self.set_geometry(values<int32_t>(ahead), values<int32_t>(border), std::move(borders),
                          values<uint16_t>(near));
      })
      .def("set_walls", [](E& self, Array<int32_t> block, Array<uint16_t> lanes, Array<T> rest,
                           Array<T> here, Array<T> ratio, Array<T> press, Array<T> inverse,
                           Array<int32_t> window, Array<double> weight, Array<double> share) {
        std::vector<Group> groups(block.size());
        for (size_t g = 0; g < groups.size(); ++g) groups[g] = {block.data()[g], lanes.data()[g]};
        self.set_walls(std::move(groups), values<T>(rest), values<T>(here), values<T>(ratio),
                       values<T>(press), values<T>(inverse),
                       {values<int32_t>(window), values<double>(weight), values<double>(share)});
      })
      .def("set_openings", [](E& self, Array<int64_t> offsets, Array<int32_t> direction,
                              Array<int32_t> opening, Array<bool> solid, Array<double> share,
                              Array<double> profile, Array<double> normal, Array<uint8_t> inlet,
                              int64_t records) {
        Openings openings;
        const size_t count = direction.size();
        const int64_t* at = offsets.data();
        for (size_t k = 0; k < count; ++k)
          openings.links.push_back({at[k], at[count + k], at[2 * count + k], at[3 * count + k],
                                    at[4 * count + k], direction.data()[k], opening.data()[k],
                                    solid.data()[k], share.data()[k], profile.data()[k]});
        openings.normal = values<double>(normal);
        openings.inlet = values<uint8_t>(inlet);
        self.set_openings(std::move(openings), records);
      })
      .def_prop_ro("threads", &E::threads)
      .def_prop_ro("steps", &E::steps)
      .def_prop_ro("curves", &E::curves)
      .def("set_rates", &E::set_rates)
      .def("set_correction", &E::set_correction)
      .def("set_deferred", [](E& self, Array<T> terms, int64_t steps) {
        self.set_deferred(terms.data(), steps);
      })
      .def("deferred", [](const E& self, Out<T> terms) { self.deferred(terms.data()); },
           "terms"_a.noconvert())
      .def("set_stress", [](E& self, Array<T> values) { self.set_stress(values.data()); })
      .def("stress", [](const E& self, Out<T> values) { self.stress(values.data()); },
           "values"_a.noconvert())
      .def("set_cells", [](E& self, Array<int64_t> place) { self.set_cells(values<int64_t>(place)); })
      .def("set_leaving", [](E& self, Array<T> populations, Array<T> velocity) {
        self.set_leaving(populations.data(), velocity.data());
      })
      .def("set_arriving", [](E& self, Array<T> populations, Array<T> velocity) {
        self.set_arriving(populations.data(), velocity.data());
      })
      .def("arriving", [](const E& self, Out<T> populations, Out<T> velocity) {
        self.arriving(populations.data(), velocity.data());
      }, "populations"_a.noconvert(), "velocity"_a.noconvert())
      .def("macroscopic", [](const E& self, Out<T> fields) {
        nb::gil_scoped_release released;
        self.macroscopic(fields.data());
      }, "fields"_a.noconvert())
      .def("advance", [](E& self, int64_t steps, bool given_velocity, Array<double> level,
                         Array<double> speed, Out<double> flux, Out<double> outlet) {
        OpeningControl control{given_velocity, level.data(), speed.data(), flux.data(), outlet.data()};
        nb::gil_scoped_release released;
        self.advance(steps, control);
      }, "steps"_a, "given_velocity"_a, "level"_a, "speed"_a, "flux"_a.noconvert(),
         "outlet"_a.noconvert());
}

}  // namespace
}  // namespace ct2flow

NB_MODULE(_core, m) {
  m.def("best_level", &ct2flow::best_level, "Return the best processor level that runs here.");
  ct2flow::bind<float>(m, "EngineSingle");
  ct2flow::bind<double>(m, "EngineDouble");
}
