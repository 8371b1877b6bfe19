"""Triplets: simulate the thick slices that a scanner would have made of a thin-slice scan.

Input artefact: ``volume`` (HR, NIfTI, HU). Output artefact: ``triplets``, a folder with
`lr.nii.gz` (thick slices), `hr.nii.gz` (the thin slices that they stand for, nothing else) and
`triplets.json` (which thin slices belong to which thick one). Lengths in mm, taps dimensionless.

References
----------
Liu et al., Future Generation Computer Systems 159 (2024) 474-488,
a thick slice is the mean of three thin ones.
"""
