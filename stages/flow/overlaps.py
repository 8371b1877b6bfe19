"""Parts of a surface that lie in one another: cells whose winding number is neither 0 nor 1.

Notes
-----
The winding number of a cell is the sum of the crossings before it, 1 where the surface is entered and -1
where it is left (Jacobson, Kavan & Sorkine-Hornung 2013, doi:10.1145/2461912.2461916). Shells are taken as
outward at even and inward at odd depth, so that islands may be wound either way: closed surfaces that do not
cross then have 0 outside and 1 inside. Where shells, or a shell and itself, cross, 2 or -1 come up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from pipeline.core.errors import InputError
from stages.flow.cell_table import CellTable, neighbours
from stages.flow.crossings import Crossings
from stages.flow.mesh import area_vectors
from stages.flow.shells import Shells

_THICK = slice(1, 7)
"""Directions along the axes: an overlap is more than two cells thick where they all stay in it."""


@dataclass(frozen=True)
class Overlap:
    """Say how many cells lie in an overlap, and where one of them is.

    Parameters
    ----------
    cells
        Their number.
    place_mm
        Centre of one, world (x, y, z).
    """

    cells: int
    place_mm: tuple[float, float, float]


def find_overlap(
    crossings: Crossings,
    triangles: Float[np.ndarray, "face 3 3"],
    shells: Shells,
    origin_mm: Float[np.ndarray, "3"],
    spacing_mm: float,
) -> Overlap | None:
    """Return where parts of the surface overlap by cells, if they do.

    Triangles are in cells. Overlaps up to two cells thick (walls that touch after smoothing) become solid
    and are told; what a thicker one should be cannot be known.

    Raises
    ------
    InputError
        If an overlap is more than two cells thick.
    """
    cells = _doubtful_cells(crossings, _steps(crossings, triangles, shells))
    if len(cells) == 0:
        return None
    ahead = neighbours(cells, CellTable.of(cells, crossings.shape[0]))
    thick = (ahead[_THICK] >= 0).all(axis=0)
    shown = cells[thick] if thick.any() else cells
    nearest = np.linalg.norm(shown - shown.mean(axis=0), axis=1).argmin()
    x, y, z = (float(v) for v in origin_mm + shown[nearest] * spacing_mm)
    if thick.any():
        raise InputError(
            f"two parts of the surface overlap near ({x:.1f}, {y:.1f}, {z:.1f}) mm: {len(cells)} cells of "
            f"{spacing_mm} mm lie in both, and whether they are fluid cannot be known; unite the parts where "
            "the mesh was made (`ct2flow surface check SURFACE_DIR` names triangles that cross, --repair "
            "REPAIRED_DIR mends what needs no guess).",
            cells=len(cells),
            place_mm=(x, y, z),
        )
    return Overlap(len(cells), (x, y, z))


def _steps(
    crossings: Crossings, triangles: Float[np.ndarray, "face 3 3"], shells: Shells
) -> Int[np.ndarray, "crossing"]:
    """Return by how much each crossing changes the winding number."""
    shell = shells.of_face[crossings.face]
    moments = np.einsum(
        "fi,fi->f", (triangles - triangles.mean(axis=(0, 1))).mean(axis=1), area_vectors(triangles)
    )
    outward = np.where(np.bincount(shells.of_face, moments) < 0, -1, 1)
    step = -crossings.side * outward[shell]
    if len(shells.oriented) == 1 and shells.oriented.all():
        return np.asarray(step)
    whole, own = _ranks(crossings.line), _ranks(crossings.line, shell)
    step = np.where(shells.oriented[shell], step, 1 - 2 * (own % 2))
    number = len(shells.oriented)
    odd = np.bincount(shell, (whole - own) % 2, minlength=number)
    inward = 2 * odd > np.bincount(shell, minlength=number)
    return np.asarray(np.where(inward[shell], -step, step))


def _ranks(
    line: Int[np.ndarray, "crossing"], shell: Int[np.ndarray, "crossing"] | None = None
) -> Int[np.ndarray, "crossing"]:
    """Return how many crossings, of the same shell if given, come before each on its line."""
    number = np.arange(len(line))
    order = number if shell is None else np.lexsort((number, shell, line))
    new = np.diff(line[order], prepend=-1) != 0
    if shell is not None:
        new |= np.diff(shell[order], prepend=-1) != 0
    rank = np.empty(len(line), dtype=np.int64)
    rank[order] = number - np.maximum.accumulate(np.where(new, number, 0))
    return rank


def _doubtful_cells(
    crossings: Crossings, step: Int[np.ndarray, "crossing"]
) -> Int[np.ndarray, "cell 3"]:
    """Return the cells whose winding number is neither 0 nor 1, sorted by x, then y, then z."""
    line, beyond = crossings.line, crossings.beyond.astype(np.int64)
    total = np.cumsum(step, dtype=np.int64)
    winding = total - (total - step)[np.arange(len(line)) - _ranks(line)]
    same = np.append(line[1:] == line[:-1], False)
    length = np.where(same, np.append(beyond[1:], 0) - beyond, 0)
    run = np.flatnonzero(_is_doubtful(winding) & (length > 0))
    length = length[run]
    within = np.arange(int(length.sum())) - np.repeat(np.cumsum(length) - length, length)
    x = np.repeat(beyond[run], length) + within
    y, z = np.divmod(np.repeat(line[run], length), crossings.shape[2])
    cells = np.stack([x, y, z], axis=1)
    return cells[np.lexsort((z, y, x))]


def _is_doubtful(winding: Int[np.ndarray, "crossing"]) -> Bool[np.ndarray, "crossing"]:
    return np.asarray((winding < 0) | (winding > 1))
