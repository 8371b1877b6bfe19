"""A flow as the input of an MPI solver, to run it on a cluster.

In: SURFACE_DIR and the settings of a simulation. Out: a folder with the solver's geometry, grid and run
files, patches as ASCII STL in mm, and case.json with what turns its numbers into SI units. Solver:
m-AIA (https://git.rwth-aachen.de/aia/m-AIA/m-AIA); see docs/cluster_export.md.
"""
