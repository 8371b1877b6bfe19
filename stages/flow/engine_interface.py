"""What every engine offers: the lattice update behind one interface.

An engine takes tables, not geometry: index lists, wall links and opening links go in, density and velocity
come out. Engines in Numba and C++ pass the same contract tests; one for a GPU would be a third.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from jaxtyping import Float

from stages.flow.collision import Collision
from stages.flow.openings import OpeningLinks, OpeningState
from stages.flow.walls import WallLinks


class Engine(Protocol):
    """What the simulation needs of an engine; arrays may live on any device until read."""

    def advance(self, steps: int, openings: OpeningState) -> None:
        """Advance some steps; the fluxes through the openings are left in `openings`."""

    def macroscopic(self) -> Float[np.ndarray, "4 cell"]:
        """Return density deviation and velocity of every cell, lattice units."""

    def restart(
        self,
        macroscopic: Float[np.ndarray, "4 cell"],
        walls: WallLinks,
        openings: OpeningLinks,
        collision: Collision,
    ) -> None:
        """Set every cell to the equilibrium of a state and continue with other rates."""

    def state(self) -> dict[str, np.ndarray]:
        """Return all that changes from step to step; `load` continues from it bit by bit."""

    def load(self, state: dict[str, np.ndarray]) -> None:
        """Continue from what `state` returned in an engine of the same tables."""

    @property
    def bytes_per_cell(self) -> int:
        """Memory moved in one update of one cell."""
