"""What a lattice does not resolve of its surface: gaps under two cells, and passages that it closes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from stages.flow.lattice import VELOCITIES
from stages.flow.mesh import WALL, PatchedSurface, area_vectors, enclosed_volume, is_inlet
from stages.flow.shells import joined
from stages.flow.voxels import SparseLattice
from stages.flow.wall_faces import halved

_NARROW_SHARE = 0.01
"""Share of cells in gaps under two cells above which the result needs a caveat."""
_LOST_SHARE = 0.002
"""Share of the wall's area without fluid before it above which the result needs a caveat."""
_FARTHEST_CELLS = 1.5
"""A piece of wall further from all ends of links than this has no fluid before it."""
_PIECE_CELLS = 2.0
_GAP_NEIGHBOURS = 5
"""Of the 18 cells around, those that are thin too in a gap; along a grazed wall there are two."""
_CUBE_CELLS = 4
"""Edge of the cubes by whose lost wall the place to name is chosen."""

Place = tuple[float, float, float]


@dataclass(frozen=True)
class Gaps:
    """Say what is not resolved, and where.

    Parameters
    ----------
    thin_cells, cells
        Fluid cells with walls on both sides along an axis, and all fluid cells.
    width_mm, place_mm
        Width of the thinnest gap along an axis, and the centre of a cell in it; none where thin cells only
        line edges and grazed walls.
    choked
        Openings all of whose flow passes such cells.
    lost_wall_mm2, wall_mm2
        Area of the wall that has no fluid before it, and all.
    lost_place_mm
        Where most of it lies together.
    surface_volume_mm3, fluid_volume_mm3
        Volume within the surface and of the fluid cells.
    """

    thin_cells: int
    cells: int
    width_mm: float | None
    place_mm: Place | None
    choked: tuple[str, ...]
    lost_wall_mm2: float
    wall_mm2: float
    lost_place_mm: Place | None
    surface_volume_mm3: float
    fluid_volume_mm3: float

    def record(self) -> dict[str, Any]:
        """Return what flow.json tells of the lattice."""
        return {
            "thin_gap_width_mm": self.width_mm,
            "thin_gap_place_mm": None if self.place_mm is None else list(self.place_mm),
            "thin_gap_openings": list(self.choked),
            "lost_wall_area_mm2": self.lost_wall_mm2,
            "lost_wall_place_mm": None if self.lost_place_mm is None else list(self.lost_place_mm),
            "surface_volume_mm3": self.surface_volume_mm3,
            "fluid_volume_mm3": self.fluid_volume_mm3,
        }

    def caveats(self) -> list[str]:
        """Return the warnings that this deserves."""
        found = []
        share = self.thin_cells / self.cells
        if self.place_mm is not None and (self.choked or share > _NARROW_SHARE):
            names = ", ".join(self.choked)
            through = f"; all flow through {names} passes them" if names else ""
            found.append(
                f"{100 * share:.3g} % of the fluid cells lie in gaps under two cells wide, the thinnest of "
                f"about {self.width_mm:.3g} mm {_near(self.place_mm)}{through}; the pressure loss there is "
                "not resolved: choose a smaller --spacing-mm."
            )
        lost = self.lost_wall_mm2 / self.wall_mm2
        if self.lost_place_mm is not None and lost > _LOST_SHARE:
            found.append(
                f"{self.lost_wall_mm2:.3g} mm2 of the wall ({100 * lost:.3g} %) have no fluid before them, "
                f"most of them {_near(self.lost_place_mm)}: passages there are narrower than a cell or do "
                "not join an inlet to an outlet; choose a smaller --spacing-mm if air should pass."
            )
        return found


def _near(place_mm: Place) -> str:
    return f"near ({place_mm[0]:.1f}, {place_mm[1]:.1f}, {place_mm[2]:.1f}) mm"


def find_gaps(surface: PatchedSurface, lattice: SparseLattice) -> Gaps:
    """Return what a lattice does not resolve of its surface."""
    thin = thin_cells(lattice)
    choked = _choked(lattice, thin) if thin.any() else ()
    width, place = _thinnest(lattice, thin, choked=bool(choked))
    lost, wall, lost_place = _lost_wall(surface, lattice)
    return Gaps(
        *(int(thin.sum()), len(thin), width, place, choked, lost, wall, lost_place),
        surface_volume_mm3=enclosed_volume(surface.triangles_mm),
        fluid_volume_mm3=len(thin) * lattice.spacing_mm**3,
    )


def thin_cells(lattice: SparseLattice) -> Bool[np.ndarray, "cell"]:
    """Return the cells that have walls on both sides along an axis: gaps under two cells wide."""
    blocked = lattice.neighbour[1:7] < 0
    return np.asarray((blocked[0::2] & blocked[1::2]).any(axis=0))


def _thinnest(
    lattice: SparseLattice, thin: Bool[np.ndarray, "cell"], *, choked: bool
) -> tuple[float | None, Place | None]:
    """Return the width of the thinnest gap, mm, and a cell in it.

    Where an axis grazes a round wall a cell is thin too. Gaps extend to two sides, so that most cells around
    are thin, but for a channel that chokes the flow. The width is the median of the distances along an axis
    from wall to wall around the cell.
    """
    cell = np.flatnonzero(thin)
    reach = np.full((6, len(thin)), np.nan)
    link = lattice.links_of(WALL)
    link = link[lattice.link_direction[link] <= len(reach)]
    reach[lattice.link_direction[link] - 1, lattice.link_cell[link]] = lattice.link_distance[link]
    width = np.fmin.reduce(reach[0::2] + reach[1::2], axis=0)
    around = lattice.neighbour[:, cell]
    near = (around >= 0) & np.isfinite(width[around])
    cell, around, near = cell[near[0]], around[:, near[0]], near[:, near[0]]
    alike = near[1:].sum(axis=0)
    most = int(alike.max(initial=0))
    chosen = np.flatnonzero(alike >= (min(_GAP_NEIGHBOURS, most) if choked else _GAP_NEIGHBOURS))
    if len(chosen) == 0:
        return None, None
    middle = np.nanmedian(np.where(near, width[around], np.nan)[:, chosen], axis=0)
    least = int(middle.argmin())
    place = _place(lattice.centres_mm[cell[chosen[least]]])
    return float(middle[least]) * lattice.spacing_mm, place


def _place(point: Float[np.ndarray, "3"]) -> Place:
    x, y, z = (round(float(v), 3) for v in point)
    return x, y, z


def _choked(lattice: SparseLattice, thin: Bool[np.ndarray, "cell"]) -> tuple[str, ...]:
    """Return the openings that wide cells alone do not join to one of the other kind."""
    pairs = []
    for ahead in lattice.neighbour[1:7:2]:
        cell = np.flatnonzero((ahead >= 0) & ~thin & ~thin[ahead])
        pairs.append(np.stack([cell, ahead[cell]]))
    cell, ahead = np.concatenate(pairs, axis=1)
    label = joined(cell, ahead, len(thin))
    reached = {}
    for name in lattice.names:
        cell = lattice.link_cell[lattice.links_of(name)]
        if name != WALL and len(cell):
            reached[name] = np.unique(label[cell[~thin[cell]]])
    return tuple(
        name
        for name, own in reached.items()
        if not any(
            np.isin(own, others).any()
            for other, others in reached.items()
            if is_inlet(other) != is_inlet(name)
        )
    )


def _lost_wall(
    surface: PatchedSurface, lattice: SparseLattice
) -> tuple[float, float, Place | None]:
    """Return the wall's area without fluid before it, all its area, mm2, and the place of most of it."""
    pieces = halved(surface.faces_of(WALL), _PIECE_CELLS * lattice.spacing_mm)
    area = np.linalg.norm(area_vectors(pieces), axis=1)
    centre = (pieces.mean(axis=1) - lattice.origin_mm) / lattice.spacing_mm
    link = lattice.links_of(WALL)
    way = VELOCITIES[lattice.link_direction[link]] * lattice.link_distance[link][:, None]
    ends = lattice.cells[lattice.link_cell[link]] + way
    near, _ = cKDTree(ends).query(centre, distance_upper_bound=_FARTHEST_CELLS)
    lost = ~np.isfinite(near)
    if not lost.any():
        return 0.0, float(area.sum()), None
    centre, lost_area = centre[lost], area[lost]
    most = _fullest_cube(centre, lost_area)
    middle = np.average(centre[most], axis=0, weights=lost_area[most])
    nearest = np.linalg.norm(centre[most] - middle, axis=1).argmin()
    place = lattice.origin_mm + centre[most][nearest] * lattice.spacing_mm
    return float(lost_area.sum()), float(area.sum()), _place(place)


def _fullest_cube(
    points: Float[np.ndarray, "point 3"], weight: Float[np.ndarray, "point"]
) -> Int[np.ndarray, "chosen"]:
    cubes, number = np.unique(
        np.floor(points / _CUBE_CELLS).astype(np.int64), axis=0, return_inverse=True
    )
    total = np.bincount(number.ravel(), weight, minlength=len(cubes))
    return np.flatnonzero(number.ravel() == total.argmax())
