"""What must hold on any lattice: conservation of mass, mirror symmetry and independence of Mach."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from stages.flow.collision import Collision
from stages.flow.engine_interface import Engine
from stages.flow.engines import engine_name, make_engine
from stages.flow.mesh import assemble
from stages.flow.openings import OpeningLinks, OpeningState
from stages.flow.validation.flows import NU_M2_S, Bench, Solved
from stages.flow.validation.pipes import OBLIQUE, SIDES, pipe_flow
from stages.flow.validation.rows import Outcome, Row, at_most, near
from stages.flow.validation.shapes import (
    Patches,
    anchored,
    bend,
    circle,
    mirrored,
    rotation,
    tube,
)
from stages.flow.validation.throat import throat_flow
from stages.flow.voxels import OFFSET, SparseLattice, build_lattice
from stages.flow.walls import WallLinks, interpolated_walls

_BOX_TAU = 0.51
_MACH_GOAL = 0.005
_KEPT = float(np.finfo(np.float32).eps)
"""Results are kept in float32."""


def closed_box(bench: Bench) -> Outcome:
    """Stir a closed vessel and weigh it."""
    steps = 400 if bench.quick else 4000
    precision = np.dtype(bench.precision).type
    vessel = build_lattice(assemble(tube(circle(9.0, SIDES), 14.0, turn=rotation(*OBLIQUE))), 0.8)
    rows = []
    for name, distance, curvature in (
        ("half-way walls", np.full(len(vessel.link_cell), 0.5), 0.0),
        ("quadratic walls at their places", vessel.link_distance, 1.0),
    ):
        change = _mass_change(vessel, distance, curvature, precision, steps, bench.threads)
        rows.append(
            at_most(
                f"change of mass of a closed vessel in {steps} steps, {name}",
                *(change, float(np.finfo(precision).eps)),
                unit="share of its mass",
                source="rounding: the spacing of floating-point numbers at the mean density",
                note=f"{len(vessel.cells)} cells, random velocities of 0.01, tau {_BOX_TAU}",
            )
        )
    return Outcome(rows)


def _mass_change(
    vessel: SparseLattice,
    distance: Float[np.ndarray, "link"],
    curvature: float,
    precision: type[np.floating],
    steps: int,
    threads: int,
) -> float:
    every = np.arange(len(vessel.link_cell))

    def walls(chosen: np.ndarray) -> WallLinks:
        return interpolated_walls(
            *(chosen, vessel.link_cell[chosen], vessel.link_direction[chosen]),
            *(distance[chosen], vessel.neighbour),
            cells=vessel.cells,
            relaxation_time=_BOX_TAU,
            curvature=curvature,
        )

    none = np.zeros(0, dtype=np.int32)
    openings = OpeningLinks(
        *(none, none, none, none, np.zeros(0), np.zeros(0, dtype=bool), walls(none)),
        *(np.zeros((3, 0)), np.zeros(0, dtype=np.int32)),
    )
    collision = Collision(1.0 / _BOX_TAU)
    engine = make_engine(
        *(engine_name("auto"), vessel, walls(every), openings),
        collision=collision,
        precision=precision,
        threads=threads,
    )
    start = 0.01 * np.random.default_rng(1).standard_normal((4, len(vessel.cells)))
    engine.restart(start.astype(precision), walls(every), openings, collision)
    before = _mass(engine)
    engine.advance(steps, _no_openings())
    return (_mass(engine) - before) / len(vessel.cells)


def _mass(engine: Engine) -> float:
    return float(engine.macroscopic()[0].sum(dtype=np.float64))


def _no_openings() -> OpeningState:
    none = np.zeros(0)
    return OpeningState(False, none, none.copy(), none.copy(), np.zeros(6))  # noqa: FBT003


def mirror(bench: Bench) -> Outcome:
    """Compare the flow through a bend with that through its mirror image on the mirrored lattice."""
    spacing, steps = 1.0, 200 if bench.quick else 600
    pipe = bend(circle(6.0, SIDES), 15.0, 90.0, turn=rotation(20.0, 30.0, 10.0))
    rows = []
    flow = 100.0 * NU_M2_S * np.pi * 6e-3 / 4 * 1e6
    settings = {"inlet": "total-pressure", "max_steps": steps}
    direct = bench.solve(_framed(pipe, spacing), spacing, flow, **settings)
    for axis, name in enumerate("xyz"):
        image = _framed(mirrored(pipe, axis), spacing, direct.lattice, axis)
        difference = _difference(direct, bench.solve(image, spacing, flow, **settings), axis)
        rows.append(
            at_most(
                f"largest difference from the flow mirrored in {name}, over the peak velocity",
                *(difference, max(steps * float(np.finfo(bench.precision).eps), _KEPT)),
                unit="1",
                source="mirror symmetry; each step adds at most its rounding",
                note=f"a bend oblique to the lattice, Re 100, after {steps} steps",
                numbers=direct.numbers(),
            )
        )
    return Outcome(rows)


def _framed(
    patches: Patches,
    spacing: float,
    lattice: SparseLattice | None = None,
    axis: int = 0,
) -> Patches:
    """Fix where the lattice lies; with the other lattice, so that it lies on that one's mirror image."""
    low = np.concatenate(list(patches.values())).reshape(-1, 3).min(axis=0)
    corner = low - 1.5 * spacing
    if lattice is not None:
        corner = lattice.origin_mm + (2.0 - OFFSET) * spacing
        last = -(lattice.origin_mm[axis] + (lattice.shape[axis] - 1) * spacing)
        corner[axis] = last + (2.0 - OFFSET[axis]) * spacing
        corner[axis] += spacing * np.floor((low[axis] - corner[axis]) / spacing - 1.0)
    return anchored(patches, corner, 0.01 * spacing)


def _difference(direct: Solved, image: Solved, axis: int) -> float:
    sign = np.where(np.arange(3) == axis, -1.0, 1.0)
    cells = [np.round(s.lattice.centres_mm * m / s.lattice.spacing_mm * 8).astype(np.int64)
             for s, m in ((direct, np.ones(3)), (image, sign))]  # fmt: skip
    first, second = (np.lexsort(c.T) for c in cells)
    if len(first) != len(second):
        return 1.0
    velocity = direct.result.velocity_m_s[:, first]
    other = image.result.velocity_m_s[:, second] * sign[:, None]
    return float(np.abs(velocity - other).max() / np.linalg.norm(velocity, axis=0).max())


def mach(bench: Bench) -> Outcome:
    """Halve the lattice velocity: the pressure loss must stay."""
    pipe = {u: pipe_flow(bench, 8, 100.0, turn=rotation(*OBLIQUE), lattice_velocity=u)
            for u in (0.1, 0.05)}  # fmt: skip
    rows = [
        near(
            "pressure gradient of an oblique pipe, lattice velocity 0.1 over 0.05",
            *((1 + pipe[0.1][1]) / (1 + pipe[0.05][1]), 1.0, _MACH_GOAL),
            unit="1",
            source="the flow is incompressible",
            note=_mach_numbers([pipe[u][0] for u in (0.1, 0.05)]),
            numbers=pipe[0.1][0].numbers(),
        )
    ]
    if bench.quick:
        return Outcome(rows)
    for cells in (8, 16):
        rows += _mach_of_throat(bench, cells)
    return Outcome(rows)


def _mach_of_throat(bench: Bench, cells: int) -> list[Row]:
    """Compare the losses of a throat: what depends on the lattice velocity falls with the spacing.

    It is no compressibility: at 8 cells along an axis the loss changes by 1.3 % from 0.1 to 0.05 and by 2.6 %
    from there to 0.025, since the lattice's own error at thin boundary layers grows as the relaxation time
    nears 1/2.
    """
    flows = {u: throat_flow(bench, cells, OBLIQUE, lattice_velocity=u) for u in (0.1, 0.05)}
    losses = {u: solved.result.means.loss_pa for u, solved in flows.items()}
    return [
        near(
            f"{name} pressure loss of a stenosis {cells} cells across, lattice velocity 0.1 over 0.05",
            *(losses[0.1][k], losses[0.05][k], _MACH_GOAL),
            unit="Pa",
            source="the flow is incompressible",
            note=_mach_numbers(list(flows.values())),
            numbers=flows[0.1].numbers(),
        )
        for k, name in enumerate(("static", "total"))
    ]


def _mach_numbers(flows: list[Solved]) -> str:
    return "largest Mach numbers " + ", ".join(f"{s.result.mach_max:.3f}" for s in flows)
