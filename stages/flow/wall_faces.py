"""The wall's triangles, fine enough to carry a field, and the fluid cell in front of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from stages.flow.lattice import VELOCITIES
from stages.flow.mesh import WALL, PatchedSurface, area_vectors
from stages.flow.voxels import SparseLattice

_LONGEST_EDGE_CELLS = 2.0
"""Longer edges are halved: surfaces from CAD have triangles as long as the passage."""
_MOST_FACES = 5_000_000
_CANDIDATES = 8
"""Wall links near a triangle among which the nearest cell on the fluid's side is sought."""
_FARTHEST_CELLS = 1.5
"""A triangle further from all crossings of links than this has no fluid in front of it."""


@dataclass(frozen=True)
class WallFaces:
    """Hold triangles of the wall.

    Parameters
    ----------
    triangles_mm
        Corners (face, corner, xyz), world LPS, mm.
    area_mm2
        Area of each.
    normal
        Unit normal out of the fluid.
    cell
        A fluid cell in front of each triangle, or -1.
    """

    triangles_mm: Float[np.ndarray, "face 3 3"]
    area_mm2: Float[np.ndarray, "face"]
    normal: Float[np.ndarray, "face 3"]
    cell: Int[np.ndarray, "face"]

    @property
    def centres_mm(self) -> Float[np.ndarray, "face 3"]:
        """Return the centroids, world (x, y, z), mm."""
        return np.asarray(self.triangles_mm.mean(axis=1))


def wall_faces(surface: PatchedSurface, lattice: SparseLattice) -> WallFaces:
    """Return the wall's triangles with edges of two cells at most, and the cells in front of them."""
    triangles = halved(surface.faces_of(WALL), _LONGEST_EDGE_CELLS * lattice.spacing_mm)
    vectors = area_vectors(triangles)
    area = np.linalg.norm(vectors, axis=1)
    triangles, area, vectors = (a[area > 0.0] for a in (triangles, area, vectors))
    normal = vectors / area[:, None]
    return WallFaces(triangles, area, normal, _cells_in_front(triangles, normal, lattice))


def halved(
    triangles: Float[np.ndarray, "face 3 3"], longest: float
) -> Float[np.ndarray, "part 3 3"]:
    """Halve the longest edges of triangles until none is longer; neighbours stay matched.

    Each edge longer than the limit is halved from both its triangles at the same points, whatever
    their order (Rivara 1984, doi:10.1002/nme.1620200412).
    """
    done: list[np.ndarray] = []
    left = triangles
    while len(left) and sum(len(d) for d in done) + len(left) < _MOST_FACES:
        edges = np.linalg.norm(np.roll(left, -1, axis=1) - left, axis=2)
        long = edges.max(axis=1) > longest
        done.append(left[~long])
        left, edges = left[long], edges[long]
        rows, first = np.arange(len(left)), edges.argmax(axis=1)
        a, b, c = (left[rows, (first + k) % 3] for k in range(3))
        middle = 0.5 * (a + b)
        left = np.concatenate([np.stack([a, middle, c], axis=1), np.stack([middle, b, c], axis=1)])
    return np.concatenate([*done, left])


def _cells_in_front(
    triangles: Float[np.ndarray, "face 3 3"],
    normal: Float[np.ndarray, "face 3"],
    lattice: SparseLattice,
) -> Int[np.ndarray, "face"]:
    link = lattice.links_of(WALL)
    way = VELOCITIES[lattice.link_direction[link]].astype(np.float64)
    start = lattice.cells[lattice.link_cell[link]]
    crossing = start + way * lattice.link_distance[link][:, None]
    centres = (triangles.mean(axis=1) - lattice.origin_mm) / lattice.spacing_mm
    count = min(_CANDIDATES, len(link))
    _, near = cKDTree(crossing).query(
        centres, k=np.arange(1, count + 1), distance_upper_bound=_FARTHEST_CELLS
    )
    found = near < len(link)
    near = np.where(found, near, 0)
    outward = np.einsum("fkx,fx->fk", way[near], normal) > 0.0
    suits = found & outward
    away = np.linalg.norm(start[near] - centres[:, None], axis=2)
    nearest = np.where(suits, away, np.inf).argmin(axis=1)
    rows = np.arange(len(triangles))
    cell = lattice.link_cell[link[near[rows, nearest]]]
    return np.where(suits[rows, nearest], cell, -1).astype(np.int64)
