"""Validation of the flow solver against closed forms and published references.

Every case runs the lattice that `ct2flow simulate` runs: `build_lattice`, `make_openings`, `Simulation`.

In: nothing. Out: a folder with ``validation.json``, ``.html``, ``.md`` and one JSON file per
case and precision in ``cases``. Lengths mm, flow rates ml/s, pressures Pa.

References
----------
Shah & London (1978), Laminar Flow Forced Convection in Ducts; White, Viscous Fluid Flow;
Happel & Brenner (1983), Low Reynolds Number Hydrodynamics; FDA nozzle, doi:10.17917/C78G69.
"""
