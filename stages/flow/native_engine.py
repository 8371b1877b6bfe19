"""The lattice update in C++ behind the interface of `engine.Engine`.

Notes
-----
Same collision, same walls, same openings as `engine.NumbaEngine`, on another layout: tiles of 8
or 16 cells, one lattice updated in place. What differs beyond rounding: the deferred terms of the walls are
corrected one step later, with the velocity of the cell behind of the step before. In a steady flow that
is the same.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from stages.flow.collision import Collision
from stages.flow.lattice import OPPOSITE, VELOCITIES, WEIGHTS, Q
from stages.flow.native import _core
from stages.flow.native.tiling import (
    BorderTables,
    Tiling,
    WallTables,
    border_tables,
    make_tiling,
    opening_offsets,
    wall_tables,
)
from stages.flow.openings import OpeningLinks, OpeningState
from stages.flow.walls import CORRECTION_RATE, CORRECTION_STEPS, WallLinks

__all__ = ["NativeEngine", "Tiling", "levels", "make_tiling"]


def levels() -> tuple[str, ...]:
    """Return the instruction sets that this processor runs, the narrowest first."""
    every = ("base", "v3", "v4")
    return every[: every.index(_core.best_level()) + 1]


class NativeEngine:
    """Advance the populations of a sparse lattice on the processor.

    Parameters
    ----------
    neighbour
        Cell one link ahead in each direction, or -1.
    link_cell, link_direction
        Fluid cell and outward direction of every link that ends at the surface.
    cells
        Indices (x, y, z) of the fluid cells.
    walls, openings
        What those links return.
    collision
        Relaxation rates.
    precision
        Type of the populations.
    threads
        Processor threads; results do not depend on them.
    level
        Instruction set; None is the best of this processor.
    """

    name = "native"

    def __init__(
        self,
        neighbour: Int[np.ndarray, "q cell"],
        link_cell: Int[np.ndarray, "link"],
        link_direction: Int[np.ndarray, "link"],
        *,
        cells: Int[np.ndarray, "cell 3"],
        walls: WallLinks,
        openings: OpeningLinks,
        collision: Collision,
        precision: type[np.floating],
        threads: int,
        level: str | None = None,
    ) -> None:
        assert np.all(
            (neighbour[1:] < 0).sum(axis=1) == np.bincount(link_direction, minlength=Q)[1:]
        )
        self._cells = int(neighbour.shape[1])
        self._precision = np.dtype(precision).type
        self._links, self._neighbour = (link_cell, link_direction), neighbour
        self._bytes = 0
        core = _core.EngineSingle if self._precision is np.float32 else _core.EngineDouble
        self._tiling = make_tiling(cells, core.lanes())
        self._core = core(self._tiling.tiles, threads, level or _core.best_level())
        self._core.set_cells(self._tiling.place)
        self._set_tables(walls, openings, collision)

    def advance(self, steps: int, openings: OpeningState) -> None:
        """Advance some steps; the fluxes through the openings are left in `openings`."""
        self._core.advance(
            *(steps, openings.given_velocity, openings.level, openings.speed),
            *(openings.flux, openings.outlet),
        )

    def macroscopic(self) -> Float[np.ndarray, "4 cell"]:
        """Return density deviation and velocity of every cell, lattice units."""
        fields = np.empty((4, self._cells), dtype=self._precision)
        self._core.macroscopic(fields)
        fields[1:][list(self._tiling.axes)] = fields[1:].copy()
        return fields

    def restart(
        self,
        macroscopic: Float[np.ndarray, "4 cell"],
        walls: WallLinks,
        openings: OpeningLinks,
        collision: Collision,
    ) -> None:
        """Set every cell to the equilibrium of a state and continue with other rates."""
        self._set_tables(walls, openings, collision)
        rho, u = macroscopic[0], macroscopic[1:]
        populations = np.empty((Q, self._cells), dtype=self._precision)
        even = rho - 1.5 * (u * u).sum(axis=0)
        for q in range(Q):
            cu = VELOCITIES[q].astype(self._precision) @ u
            populations[self._tiling.direction[q]] = WEIGHTS[q] * (even + 3.0 * cu + 4.5 * cu * cu)
        kept = np.concatenate([u[list(self._tiling.axes)], rho[None]]).astype(self._precision)
        self._core.set_leaving(populations, kept)

    def populations(self) -> Float[np.ndarray, "q cell"]:
        """Return the populations that arrive at every cell before the next collision."""
        return self.state()["populations"]

    def state(self) -> dict[str, np.ndarray]:
        """Return all that changes from step to step; `load` continues from it bit by bit.

        Returns
        -------
        ``populations`` (19, cell) before the next collision, ``kept`` (4, cell) velocity in the kernel's
        axes and density as corrections read them last, ``deferred`` (link) terms of the walls, the extra
        ``stress`` (6, cell) in the kernel's axes, and the number of ``steps``.
        """
        populations = np.zeros((Q, self._cells), dtype=self._precision)
        kept = np.zeros((4, self._cells), dtype=self._precision)
        deferred = np.zeros(self._core.curves, dtype=self._precision)
        stress = np.zeros((6, self._cells), dtype=self._precision)
        self._core.arriving(populations, kept)
        self._core.deferred(deferred)
        self._core.stress(stress)
        return {
            "populations": populations[self._tiling.direction],
            "kept": kept,
            "deferred": deferred,
            "stress": stress,
            "steps": np.array(self._core.steps),
        }

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Continue from what `state` returned."""
        populations = np.empty_like(state["populations"], dtype=self._precision)
        populations[self._tiling.direction] = state["populations"]
        kept = np.ascontiguousarray(state["kept"].astype(self._precision))
        self._core.set_deferred(state["deferred"].astype(self._precision), int(state["steps"]))
        self._core.set_arriving(populations, kept)
        self._core.set_stress(np.ascontiguousarray(state["stress"].astype(self._precision)))

    @property
    def bytes_per_cell(self) -> int:
        """Memory moved in one update of a cell: tiles, neighbours, links, shared by fluid cells."""
        return self._bytes // self._cells

    @property
    def threads(self) -> int:
        """Threads that compute: few cells are not shared among many."""
        return self._core.threads

    def _set_tables(self, walls: WallLinks, openings: OpeningLinks, collision: Collision) -> None:
        walls = walls.as_type(self._precision)
        read = walls.back != 0
        behind = self._neighbour[OPPOSITE[walls.direction[read]], walls.cell[read]]
        assert np.array_equal(behind, walls.behind[read])
        recorded = openings.cell
        if openings.surface is not None:
            recorded = np.concatenate([openings.cell, openings.surface.behind])
        borders = border_tables(self._tiling, *self._links, recorded=recorded)
        tables = wall_tables(self._tiling, borders, walls)
        self._core.set_geometry(
            *(self._tiling.ahead, borders.border, borders.fluid, borders.link, tables.near),
            *(borders.record, tables.first_group),
        )
        self._core.set_walls(
            *(tables.block, tables.lanes, tables.rest, tables.here, tables.ratio),
            *(tables.press, tables.inverse),
            *(walls.windows.window, walls.windows.weight, walls.windows.share),
        )
        self._core.set_correction(CORRECTION_STEPS, CORRECTION_RATE)
        self._set_openings(borders, openings)
        self._core.set_rates(*(float(v) for v in collision.values(np.float64)))
        self._bytes = self._bytes_of(borders, tables)

    def _set_openings(self, borders: BorderTables, openings: OpeningLinks) -> None:
        walls = openings.surface
        assert walls is not None
        assert np.array_equal(walls.link, openings.link)
        self._core.set_openings(
            opening_offsets(self._tiling, borders, openings),
            self._tiling.direction[openings.direction].astype(np.int32),
            openings.opening.astype(np.int32),
            openings.solid,
            walls.share.astype(np.float64),
            openings.profile.astype(np.float64),
            np.ascontiguousarray(openings.normal[list(self._tiling.axes)]),
            openings.inlet.astype(np.uint8),
            borders.records,
        )

    def _bytes_of(self, borders: BorderTables, tables: WallTables) -> int:
        size, curved = np.dtype(self._precision).itemsize, len(tables.ratio) > 0
        values = 2 * Q + (3 if curved else 0)  # the stress has half the bits
        tile = values * self._tiling.lanes * size + self._tiling.ahead.shape[1] * 4 + 4
        link = 4 + 3 * size + (size if curved else 0)
        border = 88 * len(borders.tile) + 16 * len(tables.block) + link * borders.links
        return int(tile * self._tiling.tiles + border)
