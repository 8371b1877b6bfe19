"""One flow on several lattices: what refinement says about its discretisation error.

Each finer lattice begins with the coarser one's solution. In: SURFACE_DIR. Out: one FLOW_DIR per spacing
and refinement.json, Pa, ml/s, percent. References: `pipeline.core.grid_convergence`.
"""
