"""Small lattices and the engines on them, for tests."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from flow_meshes import circle, rotation, tube

from stages.flow.collision import Collision
from stages.flow.engine import NumbaEngine
from stages.flow.lattice import VELOCITIES
from stages.flow.mesh import assemble
from stages.flow.openings import OpeningLinks, OpeningState, make_openings
from stages.flow.settings import FlowSettings
from stages.flow.simulation import Simulation
from stages.flow.voxels import SparseLattice, build_lattice
from stages.flow.walls import WallLinks, interpolated_walls

native_engine = pytest.importorskip(
    "stages.flow.native_engine", reason="the compiled engine is not installed"
)
NativeEngine = native_engine.NativeEngine

ENGINES = ("native", "numba")
PRECISIONS = (np.float32, np.float64)
# One operation's rounding of populations of size 0.01, some tens of operations long.
ROUNDING = {np.float32: 0.01 * 2**-23 * 30, np.float64: 0.01 * 2**-52 * 30}
every_engine = pytest.mark.parametrize("name", ENGINES)
every_precision = pytest.mark.parametrize("precision", PRECISIONS)


@dataclass
class Parts:
    """Hold what an engine is made of."""

    lattice: SparseLattice
    walls: WallLinks
    openings: OpeningLinks
    collision: Collision
    state: OpeningState

    def engine(self, name: str, precision: type[np.floating], **more: Any):
        lattice = self.lattice
        made = {"native": NativeEngine, "numba": NumbaEngine}[name]
        if name == "native":
            more["cells"] = lattice.cells
        return made(
            *(lattice.neighbour, lattice.link_cell, lattice.link_direction),
            walls=self.walls,
            openings=self.openings,
            collision=self.collision,
            precision=precision,
            **{"threads": 1, **more},
        )

    def started(self, name: str, precision: type[np.floating], fields: np.ndarray, **more: Any):
        engine = self.engine(name, precision, **more)
        engine.restart(fields.astype(precision), self.walls, self.openings, self.collision)
        return engine, copy.deepcopy(self.state)


def open_pipe(walls: str = "linear", inlet: str = "developed", diameter: float = 8.0) -> Parts:
    surface = assemble(tube(circle(diameter), 20.0, turn=rotation(30.0, 20.0, 10.0)))
    lattice = build_lattice(surface, 0.8)
    settings = FlowSettings(
        flow_rate_ml_s=2.0, spacing_mm=0.8, inlet=inlet, walls=walls, engine="numba"
    )
    run = Simulation(lattice, make_openings(surface, lattice), settings)
    state = run._control
    state.speed, state.level = np.full(2, 0.02), np.full(2, 0.003)
    state.outlet[2:4] = 1e-3, 0.5
    return Parts(lattice, run._walls(), run._opening_links(), run._collision(), state)


def closed_lattice(inside: np.ndarray) -> SparseLattice:
    """Return a lattice of given cells whose missing neighbours are walls half a link away."""
    cells = np.argwhere(inside)
    index = np.full(np.array(inside.shape) + 2, -1)
    index[tuple((cells + 1).T)] = np.arange(len(cells))
    neighbour = np.stack([index[tuple((cells + 1 + c).T)] for c in VELOCITIES]).astype(np.int32)
    direction, cell = np.nonzero(neighbour < 0)
    half, wall = np.full(len(cell), 0.5), np.zeros(len(cell), dtype=np.int64)
    return SparseLattice(
        *(np.zeros(3), 1.0, inside.shape, cells, neighbour, cell, direction, half, wall),
        names=("wall",),
    )


def closed_box(
    inside: np.ndarray,
    distance: float = 0.5,
    curvature: float = 0.0,
    tau: float = 0.51,
) -> Parts:
    lattice = closed_lattice(inside)
    link = np.arange(len(lattice.link_cell))

    def some(chosen: np.ndarray) -> WallLinks:
        return interpolated_walls(
            *(chosen, lattice.link_cell[chosen], lattice.link_direction[chosen]),
            *(np.full(len(chosen), distance), lattice.neighbour),
            cells=lattice.cells,
            relaxation_time=tau,
            curvature=curvature,
        )

    none = np.zeros(0, dtype=np.int32)
    openings = OpeningLinks(
        *(none, none, none, none, np.zeros(0), np.zeros(0, bool), some(none)),
        *(np.zeros((3, 0)), np.zeros(0, bool)),
    )
    state = OpeningState(
        given_velocity=False,
        level=np.zeros(0),
        speed=np.zeros(0),
        flux=np.zeros(0),
        outlet=np.zeros(6),
    )
    return Parts(lattice, some(link), openings, Collision(1 / tau), state)


def winding(shape: tuple[int, int, int] = (14, 21, 37)) -> np.ndarray:
    """Return curved slots of three to six cells, with rows that stop and start."""
    x, y, z = np.indices(shape)
    slot = np.abs((x + 2.5 * np.sin(0.3 * y) + 1.5 * np.cos(0.22 * z)) % 8 - 4) < 2.2
    return slot & (np.abs((y + 0.3 * z) % 9 - 4) > 0.8)


def random_fields(parts: Parts, size: float = 0.01, seed: int = 1) -> np.ndarray:
    return size * np.random.default_rng(seed).standard_normal((4, len(parts.lattice.cells)))


def arriving(engine: Any) -> np.ndarray:
    """Return what arrives at each cell, (q, cell)."""
    if isinstance(engine, NumbaEngine):
        return engine._old[engine._source]
    return engine.populations()
