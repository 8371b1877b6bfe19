"""From a closed triangle surface to a sparse lattice: fluid cells and exact wall distances.

Notes
-----
A cell is fluid if a ray from it along +x crosses the surface an odd number of times. A link from a
fluid cell towards a neighbour ends at the surface if a triangle cuts it; the cut's distance, in
link lengths, is what interpolated walls need. A cut ends a link even if the neighbour is fluid,
so walls thinner than a cell do not leak. Time and memory go with the fluid cells and the triangles, not with
their bounding box.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from pipeline.core.errors import InputError
from stages.flow.cell_table import CellTable, neighbours
from stages.flow.crossings import Crossings, cells_inside, count_inside, find_crossings
from stages.flow.cuts import nearest_cuts
from stages.flow.lattice import OPPOSITE, Q
from stages.flow.mesh import PatchedSurface, enclosed_volume, is_inlet, is_outlet
from stages.flow.overlaps import Overlap, find_overlap

OFFSET = np.array([0.50130, 0.50217, 0.50391])
"""Irrational-looking shift of the lattice, in cells, so that no ray meets a vertex of a mesh with
round coordinates."""

MAX_FLUID_CELLS = 100_000_000
"""Populations of a cell and the links that end at the surface share numbers of 32 bits."""
_MAX_PLACES = 2**62
"""Places of the bounding box are numbered with 64 bits."""


@dataclass(frozen=True)
class SparseLattice:
    """Hold the fluid cells of a lattice and the links that end at the surface.

    Parameters
    ----------
    origin_mm
        Centre of cell (0, 0, 0), world (x, y, z).
    spacing_mm
        Edge of a cell, mm.
    shape
        Cells of the bounding box along x, y, z.
    cells
        Indices (x, y, z) of the fluid cells in the order of the populations.
    neighbour
        For each direction and cell the cell one link ahead, or -1.
    link_cell, link_direction, link_distance, link_patch
        For each link that ends at the surface: its fluid cell, its outward direction, the
        distance to the surface in link lengths (0, 1], and the patch that it meets.
    names
        Patch names.
    overlap
        Cells that parts of the surface share, if there are: a few may be solid.
    """

    origin_mm: Float[np.ndarray, "3"]
    spacing_mm: float
    shape: tuple[int, int, int]
    cells: Int[np.ndarray, "cell 3"]
    neighbour: Int[np.ndarray, "q cell"]
    link_cell: Int[np.ndarray, "link"]
    link_direction: Int[np.ndarray, "link"]
    link_distance: Float[np.ndarray, "link"]
    link_patch: Int[np.ndarray, "link"]
    names: tuple[str, ...]
    overlap: Overlap | None = None

    @property
    def centres_mm(self) -> Float[np.ndarray, "cell 3"]:
        """Return the centres of the fluid cells, world (x, y, z), mm."""
        return self.origin_mm + self.cells * self.spacing_mm

    def links_of(self, name: str) -> Int[np.ndarray, "link"]:
        """Return the numbers of the links that end at a patch."""
        return np.flatnonzero(self.link_patch == self.names.index(name))

    def blocks(self, edge: int) -> Int[np.ndarray, "cell"]:
        """Return the number of the cube of some cells' edge in which each cell lies."""
        corner = self.cells // edge
        key = np.ravel_multi_index(tuple(corner.T), tuple(n // edge + 1 for n in self.shape))
        return np.unique(key, return_inverse=True)[1]

    def dense_index(self) -> Int[np.ndarray, "x y z"]:
        """Return the number of the fluid cell at each place of the box, -1 elsewhere."""
        index = np.full(self.shape, -1, dtype=np.int32)
        index[tuple(self.cells.T)] = np.arange(len(self.cells), dtype=np.int32)
        return index


def build_lattice(surface: PatchedSurface, spacing_mm: float) -> SparseLattice:
    """Place a lattice in a surface and keep what connects an inlet to an outlet.

    Raises
    ------
    InputError
        If the lattice would be too large, holds no fluid, parts of the surface overlap, or no inlet reaches
        an outlet.
    """
    _check_size(enclosed_volume(surface.triangles_mm) / spacing_mm**3, spacing_mm)
    points = surface.triangles_mm.reshape(-1, 3)
    low, high = points.min(axis=0), points.max(axis=0)
    extent = np.ceil((high - low) / spacing_mm) + 3
    if np.prod(extent) > _MAX_PLACES:
        raise InputError(
            f"the surface is {float((high - low).max()):.3g} mm long, too long for a lattice of "
            f"{spacing_mm} mm; choose a larger --spacing-mm, and check that lengths are in mm.",
        )
    x, y, z = (int(n) for n in extent)
    origin = low - (2.0 - OFFSET) * spacing_mm
    triangles = (surface.triangles_mm - origin) / spacing_mm
    crossings = find_crossings(triangles, (x, y, z))
    cells = _cells(crossings, spacing_mm)
    overlap = find_overlap(crossings, triangles, surface.shells, origin, spacing_mm)
    del crossings
    neighbour, cell, direction, distance, met = _links(
        cells, CellTable.of(cells, x), triangles, surface.patch
    )
    return _connected(
        SparseLattice(
            *(origin, spacing_mm, (x, y, z), cells, neighbour),
            *(cell, direction, distance, met, surface.names),
            overlap=overlap,
        )
    )


def _check_size(cells: float, spacing_mm: float) -> None:
    """Refuse a lattice of too many fluid cells.

    Raises
    ------
    InputError
        If there are more than can be numbered.
    """
    if cells > MAX_FLUID_CELLS:
        raise InputError(
            f"a lattice of {spacing_mm} mm needs about {cells:.3g} fluid cells for this surface and may have "
            f"{MAX_FLUID_CELLS:.3g}; choose a larger --spacing-mm, and check that lengths are in mm.",
            fluid_cells=cells,
        )


def _cells(crossings: Crossings, spacing_mm: float) -> Int[np.ndarray, "cell 3"]:
    slab = count_inside(crossings)
    if not slab.any():
        raise InputError(
            f"no lattice cell lies inside the surface at {spacing_mm} mm; choose a smaller "
            "--spacing-mm, and check that lengths are in mm.",
            spacing_mm=spacing_mm,
        )
    _check_size(float(slab.sum()), spacing_mm)
    return cells_inside(crossings, slab)


def _links(
    cells: Int[np.ndarray, "cell 3"],
    table: CellTable,
    triangles: Float[np.ndarray, "face 3 3"],
    patch: Int[np.ndarray, "face"],
) -> tuple[np.ndarray, ...]:
    """Turn cuts into neighbours and a list of links that end at the surface.

    A cut found from one side only (rounding at an edge) is completed from the other, and a
    link that leaves the fluid without a cut ends half-way.
    """
    cut, cut_patch = nearest_cuts(triangles, patch, table)
    neighbour = neighbours(cells, table)
    for q in range(1, Q):
        cut[q, (neighbour[q] < 0) & ~np.isfinite(cut[q])] = 0.5
        neighbour[q, np.isfinite(cut[q])] = -1
    for q in range(1, Q):
        back = cut[OPPOSITE[q], neighbour[q]]
        one_sided = np.flatnonzero((neighbour[q] >= 0) & np.isfinite(back))
        other = neighbour[q, one_sided]
        cut[q, one_sided] = 1.0 - back[one_sided]
        cut_patch[q, one_sided] = cut_patch[OPPOSITE[q], other]
        neighbour[q, one_sided] = -1
    direction, cell = np.nonzero(np.isfinite(cut))
    distance = np.clip(cut[direction, cell], 1e-3, 1.0).astype(np.float64)
    met = np.maximum(cut_patch[direction, cell], 0).astype(np.int64)
    return neighbour, cell, direction, distance, met


def _connected(lattice: SparseLattice) -> SparseLattice:
    """Keep the components that touch both an inlet and an outlet.

    Raises
    ------
    InputError
        If there is none.
    """
    label = _components(lattice)
    touches = {
        kind: np.unique(label[lattice.link_cell[np.isin(lattice.link_patch, numbers)]])
        for kind, numbers in {
            "inlet": [i for i, name in enumerate(lattice.names) if is_inlet(name)],
            "outlet": [i for i, name in enumerate(lattice.names) if is_outlet(name)],
        }.items()
    }
    both = np.intersect1d(touches["inlet"], touches["outlet"])
    if len(both) == 0:
        raise InputError(
            f"no inlet is connected to an outlet by fluid cells at {lattice.spacing_mm} mm; the "
            "passage is closed or narrower than a cell: choose a smaller --spacing-mm.",
            spacing_mm=lattice.spacing_mm,
        )
    keep = np.isin(label, both)
    return lattice if keep.all() else _select(lattice, keep)


def _components(lattice: SparseLattice) -> Int[np.ndarray, "cell"]:
    """Label face-connected fluid cells; links cut by a wall do not connect."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    number = len(lattice.cells)
    pairs = [(np.flatnonzero(n >= 0), n[n >= 0]) for n in lattice.neighbour[1:7:2]]
    rows = np.concatenate([a for a, _ in pairs])
    columns = np.concatenate([b for _, b in pairs])
    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(number, number))
    label: Int[np.ndarray, "cell"] = connected_components(graph, directed=False)[1]
    return label


def _select(lattice: SparseLattice, keep: Bool[np.ndarray, "cell"]) -> SparseLattice:
    number = np.full(len(keep) + 1, -1, dtype=np.int32)
    number[:-1][keep] = np.arange(keep.sum(), dtype=np.int32)
    link = keep[lattice.link_cell]
    neighbour = np.ascontiguousarray(number[lattice.neighbour[:, keep]])
    diagonal = _dropped_links(lattice, keep, neighbour)
    return SparseLattice(
        lattice.origin_mm,
        lattice.spacing_mm,
        lattice.shape,
        lattice.cells[keep],
        neighbour,
        np.concatenate([number[lattice.link_cell[link]], diagonal[1]]),
        np.concatenate([lattice.link_direction[link], diagonal[0]]),
        np.concatenate([lattice.link_distance[link], np.full(len(diagonal[0]), 0.5)]),
        np.concatenate([lattice.link_patch[link], np.zeros(len(diagonal[0]), np.int64)]),
        lattice.names,
        lattice.overlap,
    )


def _dropped_links(
    lattice: SparseLattice,
    keep: Bool[np.ndarray, "cell"],
    neighbour: Int[np.ndarray, "q cell"],
) -> tuple[Int[np.ndarray, "link"], Int[np.ndarray, "link"]]:
    """List links to cells that were dropped (met across an edge only): they become walls."""
    direction, cell = np.nonzero((lattice.neighbour[:, keep] >= 0) & (neighbour < 0))
    return direction, cell
