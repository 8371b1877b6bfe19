"""Where walls conserve mass: smooth windows over blocks of cells.

Notes
-----
The links between fluid cells carry another share of the flux in each section of a passage: the rest would
move beyond the wall, from what links there take to what they return (`quadrature`). A block in which walls
return exactly what they took makes the links of its first and of its last section carry the same: then the
flow between is what that one section lets it be, and in gaps of two cells, where all of a section meets the
lattice in the same way, was 20 % more in one block than in the next and lost twice the pressure. Windows that
overlap and fade average over many sections. Their weights add up to one everywhere, so that all walls
together conserve mass to rounding.

Blocks take the defects of their cells; a window, a product of three tents with its peak at a node, the
blocks' defects times its weight there; and each block's wall cells take back from all windows over it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float, Int

_BLOCK_CELLS = 16
"""Edge of a block, at least as long as a tile of the compiled engine, which then lies in two at most."""
_WINDOW_CELLS = 32
"""From one window's peak to the next. In wider ones the sections of a nozzle carry up to 2 % more or less
than its flow, as what walls return too little changes from funnel to throat (64: +5 % of pressure, with 8
cells in the throat); in narrower ones oblique slits lose too much (16: +8 instead of +1 %, of 3 cells)."""
_SHORT_CELLS = 32
"""An axis along which the lattice has no more cells has one window for all of them: a mirrored lattice then
has the mirrored flow to rounding, which blocks that begin at one side do not grant."""


@dataclass(frozen=True)
class MassWindows:
    """Hold how the mass that walls return too little is given back.

    Parameters
    ----------
    window
        Windows over each block.
    weight
        Their weights there, which add up to 1.
    share
        For each window 1 over the weighted number of wall cells.
    """

    window: Int[np.ndarray, "block 8"]
    weight: Float[np.ndarray, "block 8"]
    share: Float[np.ndarray, "window"]

    def spread(self, defect: Float[np.ndarray, "block"]) -> Float[np.ndarray, "block"]:
        """Return what each wall cell of a block is given.

        Parameters
        ----------
        defect
            What the walls of each block returned less than they took.
        """
        taken = np.bincount(self.window.ravel(), (self.weight * defect[:, None]).ravel())
        part = (taken * self.share)[self.window]
        given: Float[np.ndarray, "block"] = (self.weight * part).sum(axis=1)
        return given


def mass_windows(
    cells: Int[np.ndarray, "wall_cell 3"],
) -> tuple[Int[np.ndarray, "wall_cell"], MassWindows]:
    """Return the block of each wall cell, and the windows over all blocks.

    Parameters
    ----------
    cells
        Indices (x, y, z) of the cells that have walls, each once.
    """
    corners = cells.astype(np.int64) // _BLOCK_CELLS
    size = corners.max(axis=0, initial=0) + 1
    key = np.ravel_multi_index(tuple(corners.T), tuple(size))
    _, first, block = np.unique(key, return_index=True, return_inverse=True)
    corner = corners[first]
    short = (np.ptp(cells, axis=0) if len(cells) else np.zeros(3)) < _SHORT_CELLS
    middle = np.where(short, 0.0, (corner + 0.5) * (_BLOCK_CELLS / _WINDOW_CELLS))
    node = np.floor(middle).astype(np.int64)
    past = middle - node
    side = np.array(list(product((0, 1), repeat=3)))
    weight = np.where(side, past[:, None], 1.0 - past[:, None]).prod(axis=2)
    nodes, window = np.unique((node[:, None] + side).reshape(-1, 3), axis=0, return_inverse=True)
    window = window.reshape(-1, 8)
    cells_of = np.bincount(block, minlength=len(corner))
    held = np.bincount(window.ravel(), (weight * cells_of[:, None]).ravel(), len(nodes))
    share = np.where(held > 0.0, 1.0 / np.maximum(held, 1e-30), 0.0)
    return block, MassWindows(window.astype(np.int32), weight, share)
