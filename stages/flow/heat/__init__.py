"""Temperature carried by a steady flow: a passive scalar on the fluid cells.

Input: the fluid cells, the distances of their links to the walls and a mean velocity field, m/s.
Output: temperature, degrees C, of every cell, the heat that the walls give, W, and what leaves through
the openings. `faces` are the sides of the cells, `fluxes` the conservative volume flow through them,
`transport` the equations, `krylov` their solution, `temperature` puts them together.

References
----------
.. [1] Patankar (1980), Numerical Heat Transfer and Fluid Flow, ISBN 978-0-89116-522-4.
.. [2] Gibou, Fedkiw, Cheng & Kang (2002), J. Comput. Phys. 176, 205, doi:10.1006/jcph.2001.6977, for the
   walls.
"""
