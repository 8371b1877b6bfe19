"""From a closed surface to the pressure loss of its flow.

Purpose: simulate laminar flow by a sparse lattice-Boltzmann method (D3Q19, recursive-regularised
collision, interpolated walls). Input: SURFACE_DIR (STL patches, mm, LPS). Output: FLOW_DIR
(flow.json, field.vti, probes.csv; Pa, m/s, ml/s). Principal references: Malaspinas (2015),
arXiv:1505.06900; Bouzidi et al. (2001), doi:10.1063/1.1399290.
"""
