"""Where cells of a list find what arrives."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from stages.flow.lattice import OPPOSITE, Q


def source_table(
    neighbour: Int[np.ndarray, "q cell"],
    link_cell: Int[np.ndarray, "link"],
    link_direction: Int[np.ndarray, "link"],
) -> Int[np.ndarray, "q cell"]:
    """Return where each cell finds the population of each direction after streaming.

    Values below 19 n point into the populations (q, cell) of the last step, others to the link
    whose surface returns the population.
    """
    number = neighbour.shape[1]
    source = np.empty((Q, number), dtype=np.int32)
    for q in range(Q):
        behind = neighbour[OPPOSITE[q]].astype(np.int64)
        source[q] = np.where(behind >= 0, q * number + behind, -1)
    link = np.arange(len(link_cell))
    source[OPPOSITE[link_direction], link_cell] = Q * number + link
    assert source.min() >= 0
    return source
