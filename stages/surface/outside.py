"""A ball of outside air before the nostrils, whose surface is the inlet and in which the face is wall.

References
----------
Taylor, Doorly & Schroter, Inflow boundary profile prescription for numerical simulation of nasal airflow,
J. R. Soc. Interface 2009, doi:10.1098/rsif.2009.0306.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components

from pipeline.core.errors import InputError
from pipeline.core.geometry import VoxelGrid
from pipeline.core.planes import Plane
from stages.surface.cutting import crossed_edges, crossing_points, kept_parts
from stages.surface.mesh import Mesh

BLOCK_VOXELS = 2.0
"""Half the thickness of the slab that closes a nostril while outside air is told from the nose's."""

REACH_VOXELS = 1.5
"""How far beyond its voxels outside air may be drawn: to the wall between them and their neighbours."""

RIM_VOXELS = 0.5
"""Depth below the ball's surface at which wall and inlet meet: the smoothed edge between face and ball."""

LEAST_VALUE_MM = 0.02
"""Vertices count as at least this far from the rim: no triangle of the division is degenerate."""


@dataclass(frozen=True)
class Ball:
    """Hold centre (x, y, z) and radius of the outside air, mm."""

    centre_mm: Float[np.ndarray, "3"]
    radius_mm: float


def ball_before(nostrils: list[Plane], radius_mm: float) -> Ball:
    """Return the ball around the middle of the nostrils.

    Raises
    ------
    InputError
        If it would not hold the nostrils.
    """
    centres = np.array([plane.centre_mm for plane in nostrils])
    centre = centres.mean(axis=0)
    needed = float(np.linalg.norm(centres - centre, axis=1).max())
    needed += max(plane.radius_mm for plane in nostrils) / 2.0
    if radius_mm < needed:
        raise InputError(
            f"outside_air_mm is {radius_mm:g}; at least {needed:.0f} mm are needed to hold the nostrils."
        )
    return Ball(centre, radius_mm)


def with_outside_air(
    above_level: Float[np.ndarray, "z y x"],
    airway: Float[np.ndarray, "z y x"],
    grid: VoxelGrid,
    nostrils: list[Plane],
    ball: Ball,
    *,
    slope_hu_per_mm: float,
) -> Float[np.ndarray, "z y x"]:
    """Return a field that is negative in the nose and in outside air within the ball, else positive.

    Parameters
    ----------
    above_level
        HU less the isolevel.
    airway
        The airway's own field, negative within and in what continues it before the nostrils.
    grid
        Grid of both.
    nostrils, ball
        Where the airway begins and how far the outside air reaches.
    slope_hu_per_mm
        How steeply the field rises outside the ball.

    Raises
    ------
    InputError
        If air leads from outside into the nose past the nostrils.
    """
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    points = grid.to_world_mm(index).astype(np.float32)
    away = np.linalg.norm(points - ball.centre_mm.astype(np.float32), axis=-1) - ball.radius_mm
    spacing = grid.spacing_mm[0]
    closed, heights = _sections(airway < 0, points, nostrils, spacing)
    del points
    outside = _before((above_level < 0) & (away < 2.0 * spacing), closed, heights)
    continued = _before(airway < 0, closed, heights) & ~closed
    beyond = ndimage.distance_transform_edt(~outside) * spacing - REACH_VOXELS * spacing
    ahead = np.maximum(above_level, slope_hu_per_mm * np.maximum(away, beyond))
    # What continued the airway before the nostrils may reach past the ball; its rim's values bend the ball.
    continued = ndimage.binary_dilation(continued, iterations=2) & ~closed
    union: Float[np.ndarray, "z y x"] = np.where(continued, ahead, np.minimum(airway, ahead))
    return union


Mask = Bool[np.ndarray, "z y x"]


def _sections(
    airway: Mask,
    points: Float[np.ndarray, "z y x 3"],
    nostrils: list[Plane],
    spacing_mm: float,
) -> tuple[Mask, list[tuple[Mask, Float[np.ndarray, "z y x"]]]]:
    """Return the slab that closes the nostrils; and each one's own, with heights over its plane."""
    found = []
    for plane in nostrils:
        offset = points - np.array(plane.centre_mm, dtype=np.float32)
        height = offset @ np.array(plane.normal, dtype=np.float32)
        slab = airway & (np.abs(height) <= BLOCK_VOXELS * spacing_mm)
        slab &= np.linalg.norm(offset, axis=-1) <= plane.radius_mm
        found.append((_nearest_part(slab, offset, plane), height))
    return np.logical_or.reduce([section for section, _ in found]), found


def _before(
    air: Mask, closed: Mask, sections: list[tuple[Mask, Float[np.ndarray, "z y x"]]]
) -> Mask:
    """Return the air connected to the nostrils from before, their own sections included."""
    labels, _ = ndimage.label(air & ~closed)
    inside, before = set[int](), set[int]()
    for section, height in sections:
        beside = ndimage.binary_dilation(section) & ~closed
        inside |= {int(n) for n in np.unique(labels[beside & (height > 0)])} - {0}
        before |= {int(n) for n in np.unique(labels[beside & (height < 0)])} - {0}
    if inside & before or not before:
        raise InputError(
            "Outside air cannot be told from the nose's: air passes beside a nostril's plane or through the "
            "mouth, or none lies before it; give a smaller outside_air_mm or planes farther inwards."
        )
    found: Mask = np.isin(labels, list(before)) | closed
    return found


def _nearest_part(
    slab: Bool[np.ndarray, "z y x"], offset: Float[np.ndarray, "z y x 3"], plane: Plane
) -> Bool[np.ndarray, "z y x"]:
    labels, count = ndimage.label(slab)
    if count == 0:
        raise InputError(f"Plane '{plane.name}' meets no air; move it.", plane=plane.name)
    nearest = np.where(slab, (offset**2).sum(axis=-1), np.inf).argmin()
    part: Bool[np.ndarray, "z y x"] = labels == labels.ravel()[nearest]
    return part


def divide_at_ball(mesh: Mesh, ball: Ball, spacing_mm: float) -> tuple[Mesh, Mesh]:
    """Divide a surface into the wall and the ball's part, which share their rim's vertices.

    Raises
    ------
    InputError
        If nothing of the ball's surface is left.
    """
    away = np.linalg.norm(mesh.points - ball.centre_mm, axis=1) - ball.radius_mm
    height = away + RIM_VOXELS * spacing_mm
    height = np.where(height >= 0, 1.0, -1.0) * np.maximum(np.abs(height), LEAST_VALUE_MM)
    on_ball = _on_ball(mesh, height > 0, away < RIM_VOXELS * spacing_mm)
    if not on_ball.any():
        raise InputError("The ball of outside air lies within the head; enlarge outside_air_mm.")
    count = on_ball[mesh.faces].sum(axis=1)
    crossing = np.flatnonzero((count == 1) | (count == 2))
    edges, ends = crossed_edges(mesh.faces[crossing], on_ball)
    points = np.concatenate([mesh.points, crossing_points(mesh.points, height, edges)])
    numbers = len(mesh.points) + ends
    sides = []
    for ahead in (False, True):
        parts = kept_parts(mesh.faces[crossing], on_ball, numbers, keep_ahead=ahead)
        faces = np.concatenate([mesh.faces[count == (3 if ahead else 0)], parts])
        side = Mesh(points, faces)
        sides.append(side.part(np.ones(len(faces), dtype=bool)))
    return sides[0], sides[1]


def _on_ball(
    mesh: Mesh, outer: Bool[np.ndarray, "vertex"], near: Bool[np.ndarray, "vertex"]
) -> Bool[np.ndarray, "vertex"]:
    """Return the largest connected part of the outer vertices that nowhere leaves the ball.

    Parts that leave it are the nose's own walls farther back. Small ones are air behind the lips that
    the ball's surface cuts: open there, the mouth would breathe.
    """
    i = mesh.faces.ravel()
    j = np.roll(mesh.faces, -1, axis=1).ravel()
    both = outer[i] & outer[j]
    count = len(mesh.points)
    graph = sparse.coo_matrix((np.ones(both.sum(), np.int8), (i[both], j[both])), (count, count))
    _, label = connected_components(graph, directed=False)
    strays = np.zeros(count, dtype=bool)
    strays[label[outer & ~near]] = True
    whole: Bool[np.ndarray, "vertex"] = outer & ~strays[label]
    if not whole.any():
        return whole
    largest: Bool[np.ndarray, "vertex"] = whole & (label == np.bincount(label[whole]).argmax())
    return largest
