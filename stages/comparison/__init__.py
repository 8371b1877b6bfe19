"""How far each variant's image, surface and pressure loss are from the thin-slice scan's.

Purpose: compare volumes, surfaces and flows of one case with the HR baseline and say which
deviations are larger than the error they carry. Inputs: volumes (HU), SURFACE_DIRs (mm), FLOW_DIRs
(Pa, ml/s). Output: JSON. Principal references: Liu et al., Future Generation Computer Systems 159
(2024) 474-488; Roache (1994), doi:10.1115/1.2910291.
"""
