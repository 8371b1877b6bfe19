"""The lattice update compiled from C++: tables of tiles in, populations and fields out.

`tiling` lays the cells out in tiles and translates walls and openings; `kernel.hpp` advances them;
`engine.cpp` owns the memory and the threads; `module.cpp` is their Python face, built by
CMakeLists.txt in the root as `stages.flow.native._core`.
"""
