"""Choose what computes the lattice update."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np

from pipeline.core.errors import UsageError
from stages.flow.collision import Collision
from stages.flow.engine import NumbaEngine
from stages.flow.engine_interface import Engine
from stages.flow.openings import OpeningLinks
from stages.flow.voxels import SparseLattice
from stages.flow.walls import WallLinks

_COMPILED = "stages.flow.native._core"


def engine_name(asked: str) -> str:
    """Return the engine that computes, for the one asked for.

    Raises
    ------
    UsageError
        If the compiled engine is asked for and was not built.
    """
    if asked == "numba":
        return asked
    if find_spec(_COMPILED) is not None:
        return "native"
    if asked == "native":
        raise UsageError(
            "engine native: the compiled module is not installed; install a C++17 compiler and run "
            "pip install --no-deps --editable . again, or choose --engine numba.",
            engine=asked,
        )
    return "numba"


def engine_caveats(asked: str, used: str) -> list[str]:
    """Return a warning if a slower engine than usual computed."""
    if asked != "auto" or used == "native":
        return []
    return [
        "the compiled lattice engine is not installed, so that Numba computed: the same steady flow in "
        "several times the time; install a C++17 compiler and this package again."
    ]


def make_engine(
    name: str,
    lattice: SparseLattice,
    walls: WallLinks,
    openings: OpeningLinks,
    *,
    collision: Collision,
    precision: type[np.floating],
    threads: int,
) -> Engine:
    """Make the engine of a name that `engine_name` returned."""
    tables = (lattice.neighbour, lattice.link_cell, lattice.link_direction)
    if name == "numba":
        return NumbaEngine(
            *tables,
            walls=walls,
            openings=openings,
            collision=collision,
            precision=precision,
            threads=threads,
        )
    from stages.flow.native_engine import NativeEngine

    return NativeEngine(
        *tables,
        cells=lattice.cells,
        walls=walls,
        openings=openings,
        collision=collision,
        precision=precision,
        threads=threads,
    )
