"""Make the closed surface of an airway, cut at its planes, as STL patches.

In: a CT volume in HU and an airway folder. Out: a SURFACE_DIR of STL patches (mm, LPS, normals outward).

References
----------
Lorensen & Cline, SIGGRAPH 1987, doi:10.1145/37401.37422; Schroeder et al., LDAV 2015 (flying edges),
doi:10.1109/LDAV.2015.7348069; Taubin, SIGGRAPH 1995, doi:10.1145/218380.218473.
"""
