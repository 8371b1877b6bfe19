"""What is true of a patient's airway: distance, planes, lumen, volume, areas, surface.

Everything is in the scanner's coordinates (LPS, mm).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from skimage import measure

from pipeline.core.geometry import VoxelGrid
from pipeline.core.planes import Plane
from stages.phantom.airway import (
    INSPIRATION,
    NOSTRIL_PLANE_MM,
    NOSTRIL_Y_MM,
    NOSTRIL_Z_MM,
    PHARYNX_PLANE_MM,
    nostril_height,
)
from stages.phantom.anatomy import as_numbers
from stages.phantom.coverage import LIPSCHITZ, cover
from stages.phantom.shapes import Distance, Numbers
from stages.phantom.tissues import Patient

SIDES = {"left": 1.0, "right": -1.0}

_GRADIENT_STEP_MM = 0.02
"""Step of the central differences: their error, h^2/6 of the third derivative, is below 1e-4."""
_NEAR_MM = 1.5
"""Farther from the wall the distance keeps its blended value: only its sign matters there."""
_BLOCK_POINTS = 1 << 18
_BLOCK = 4
_LUMEN_BOX = ((-26.0, 26.0), (-92.0, 34.0), (-26.0, 50.0))
"""Anatomical box (x, y, z ranges) that holds the lumen between the planes."""

_SECTION_STEP_MM = 0.25
_SECTION_WIDTH_MM = 20.0
"""Half the width of the part of a plane that is looked at: the airway lies within 16 mm of x = 0."""
_STATION_MM = 1.5
_FIRST_STATION_MM = 6.0
"""Sections before this one would be cut by the nostril plane."""
_STATIONS_MM = (
    (-72.0, 1.8),
    (-69.5, 11.0),
    (-64.0, 16.0),
    (-54.0, 16.5),
    (-30.0, 16.0),
    (-8.0, 14.0),
)
"""Path (y, z) along which the passages are cut: up through the valve, then back."""


@dataclass(frozen=True)
class Surface:
    """Hold a triangle surface, LPS, mm; normals point out of the air."""

    vertices_mm: Float[np.ndarray, "vertex 3"]
    faces: Int[np.ndarray, "face 3"]


def airway_distance_mm(
    patient: Patient, points_mm: Float[np.ndarray, "... 3"]
) -> Float[np.ndarray, "..."]:
    """Return the signed distance to the airway's wall, negative in air, mm.

    Notes
    -----
    Near the wall the blended distance is divided by the length of its gradient, which makes it
    exact to first order; the zero set is unchanged. The airway goes on below the nostrils into
    outside air and below the pharynx plane.
    """
    points = np.asarray(points_mm, dtype=np.float64)
    flat = points.reshape(-1, 3)
    found = np.empty(flat.shape[0])
    distance = patient.frame.posed(patient.airway.distance)
    for start in range(0, flat.shape[0], _BLOCK_POINTS):
        part = slice(start, start + _BLOCK_POINTS)
        found[part] = _normalised(distance, *np.ascontiguousarray(flat[part].T))
    return found.reshape(points.shape[:-1])


def _normalised(distance: Distance, x: Numbers, y: Numbers, z: Numbers) -> Numbers:
    value = distance(x, y, z)
    near = np.flatnonzero(np.abs(value) < _NEAR_MM)
    at = np.stack([x[near], y[near], z[near]])
    squared = np.zeros(near.size)
    for step in np.eye(3) * _GRADIENT_STEP_MM:
        ahead, behind = distance(*(at + step[:, None])), distance(*(at - step[:, None]))
        squared += ((ahead - behind) / (2 * _GRADIENT_STEP_MM)) ** 2
    # In creases the gradient vanishes; there the blended value stands.
    value[near] /= np.clip(np.sqrt(squared), 0.3, 3.0)
    return value


def true_planes(patient: Patient) -> dict[str, Plane]:
    """Return the nostril planes and the pharynx plane, normals in the direction of inspiration."""
    planes = {}
    y, z = _nostril_centre(patient)
    for name, side in SIDES.items():
        centre = _centroid(patient, (6.5 * side, y, z), INSPIRATION, 15.0, side)
        planes[f"nostril-{name}"] = _plane(patient, f"nostril-{name}", centre, INSPIRATION, 13.0)
    centre = _centroid(patient, PHARYNX_PLANE_MM, (0.0, 0.0, -1.0), 20.0, 0.0)
    planes["pharynx"] = _plane(patient, "pharynx", centre, (0.0, 0.0, -1.0), 22.0)
    return planes


def _nostril_centre(patient: Patient) -> tuple[float, float]:
    y = NOSTRIL_Y_MM - patient.anatomy.nose_length_mm + NOSTRIL_PLANE_MM * INSPIRATION[1]
    return y, NOSTRIL_Z_MM + NOSTRIL_PLANE_MM * INSPIRATION[2]


def _plane(
    patient: Patient,
    name: str,
    centre: tuple[float, float, float],
    normal: tuple[float, float, float],
    radius_mm: float,
) -> Plane:
    x, y, z = (float(v) for v in patient.frame.point_to_scanner(centre))
    i, j, k = (float(v) for v in patient.frame.rotation @ normal)
    return Plane(name, (x, y, z), (i, j, k), radius_mm * patient.frame.scale)


def section(
    patient: Patient,
    centre: tuple[float, float, float],
    normal: tuple[float, float, float],
    reach_mm: float,
    side: float,
) -> tuple[Bool[np.ndarray, "u v"], Float[np.ndarray, "3 u v"]]:
    """Return the part of a plane cut through the airway nearest to its centre, and its points.

    Parameters
    ----------
    patient
        The patient.
    centre, normal
        The plane in the anatomical frame; its first axis is x.
    reach_mm
        Half the height of the part that is looked at.
    side
        +1 left of the septum only, -1 right of it only, 0 both.
    """
    n = np.array(normal) / np.linalg.norm(normal)
    across = np.array([1.0, 0.0, 0.0])
    along = np.cross(n, across)
    width = min(reach_mm, _SECTION_WIDTH_MM)
    u, v = np.meshgrid(_steps(width), _steps(reach_mm), indexing="ij")
    points = np.array(centre)[:, None, None] + across[:, None, None] * u + along[:, None, None] * v
    where = patient.airway.locate(*points)
    air = patient.airway.distance(*points) < 0
    if side:
        air &= where.side == side
        rim = nostril_height(where.y, where.z, patient.anatomy) - NOSTRIL_PLANE_MM
        air &= np.maximum(rim, where.y + 60.0) > -1e-6
    labels, count = ndimage.label(air)
    if count == 0:
        return air, points
    nearest = np.where(air, u * u + v * v, np.inf).argmin()
    return labels == labels.ravel()[nearest], points


def _steps(reach_mm: float) -> Float[np.ndarray, " step"]:
    return np.arange(-reach_mm, reach_mm + _SECTION_STEP_MM / 2, _SECTION_STEP_MM)


def _centroid(
    patient: Patient,
    centre: tuple[float, float, float],
    normal: tuple[float, float, float],
    reach_mm: float,
    side: float,
) -> tuple[float, float, float]:
    found, points = section(patient, centre, normal, reach_mm, side)
    x, y, z = (float(p[found].mean()) for p in points)
    return x, y, z


def section_areas_mm2(patient: Patient, side: float) -> Float[np.ndarray, " station"]:
    """Return the areas of one passage's sections from the nostril to the choana, mm2."""
    nose = patient.anatomy.nose_length_mm
    path = np.array([(y - nose * (y < -60), z) for y, z in _STATIONS_MM])
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    stations = np.arange(_FIRST_STATION_MM, length[-1], _STATION_MM)
    y, z = (np.interp(stations, length, path[:, i]) for i in range(2))
    dy, dz = (ndimage.gaussian_filter1d(np.gradient(v), 2.7, mode="nearest") for v in (y, z))
    areas = [
        section(patient, (4.0 * side, cy, cz), (0.0, ny, nz), 32.0, side)[0].sum()
        for cy, cz, ny, nz in zip(y, z, dy, dz, strict=True)
    ]
    return np.array(areas) * (_SECTION_STEP_MM * patient.frame.scale) ** 2


def lumen_distance(patient: Patient) -> Distance:
    """Return the distance to the airway between the nostril planes and the pharynx plane."""
    anatomy, bottom = patient.anatomy, PHARYNX_PLANE_MM[2]

    def anatomical(x: Numbers, y: Numbers, z: Numbers) -> Numbers:
        below_rim = np.maximum(nostril_height(y, z, anatomy) - NOSTRIL_PLANE_MM, y + 60.0)
        closed: Numbers = np.maximum(patient.airway.distance(x, y, z), -below_rim)
        cut: Numbers = np.maximum(closed, bottom - z)
        return cut

    return patient.frame.posed(anatomical)


def lumen_grid(patient: Patient, spacing_mm: float) -> VoxelGrid:
    """Return an axial grid that holds the lumen with a margin of two voxels."""
    corners = np.array(
        [
            patient.frame.point_to_scanner((x, y, z))
            for x in _LUMEN_BOX[0]
            for y in _LUMEN_BOX[1]
            for z in _LUMEN_BOX[2]
        ]
    )
    low = corners.min(axis=0) - 2 * spacing_mm
    count = np.ceil((corners.max(axis=0) + 2 * spacing_mm - low) / spacing_mm).astype(int)
    nx, ny, nz = (int(c) for c in count)
    x, y, z = (float(v) for v in low)
    return VoxelGrid((nz, ny, nx), (spacing_mm, spacing_mm, spacing_mm), (x, y, z))


def lumen_shares(patient: Patient, grid: VoxelGrid) -> Float[np.ndarray, "z y x"]:
    """Return the share of each voxel that the lumen fills."""
    x0, y0, z0 = grid.origin_mm
    z, y, x = (
        o + s * np.arange(n)
        for o, s, n in zip((z0, y0, x0), grid.spacing_mm, grid.shape, strict=True)
    )
    shares = np.zeros(grid.shape, dtype=np.float32)
    bounds = tuple((float(a[0]), float(a[-1])) for a in (x, y, z))
    covered = cover(
        lumen_distance(patient),
        (z, y, x),
        (bounds[0], bounds[1], bounds[2]),
        thickness_mm=grid.spacing_mm[0],
    )
    if covered is not None:
        shares[covered[0]] = covered[1]
    return shares


def volume_ml(shares: Float[np.ndarray, "z y x"], grid: VoxelGrid) -> float:
    """Return the volume that shares of voxels make up, ml."""
    return float(shares.sum(dtype=np.float64)) * grid.voxel_volume_mm3 / 1000.0


def lumen_surface(patient: Patient, spacing_mm: float) -> Surface:
    """Return the closed surface of the lumen between the planes by marching cubes.

    Notes
    -----
    The distance is clipped at two voxels, which leaves the zero set as it is; the planes' edges
    are bevelled by less than a voxel.
    """
    grid = lumen_grid(patient, spacing_mm)
    values = _sampled(lumen_distance(patient), grid)
    vertices, faces, _, _ = measure.marching_cubes(values, 0.0, gradient_direction="ascent")
    return Surface(grid.to_world_mm(vertices), _outwards(grid.to_world_mm(vertices), faces))


def _sampled(distance: Distance, grid: VoxelGrid) -> Float[np.ndarray, "z y x"]:
    """Sample a distance, clipped at two voxels; blocks far from the surface by their centres."""
    limit = 2.0 * max(grid.spacing_mm)
    centres = [np.arange(0.5 * (_BLOCK - 1), n + _BLOCK - 1, _BLOCK) for n in grid.shape]
    index = np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1)
    coarse = distance(*np.moveaxis(grid.to_world_mm(index), -1, 0))
    dense = coarse.repeat(_BLOCK, 0).repeat(_BLOCK, 1).repeat(_BLOCK, 2)
    nz, ny, nx = grid.shape
    values = np.clip(dense[:nz, :ny, :nx], -limit, limit)
    reach = LIPSCHITZ * 0.5 * _BLOCK * float(np.linalg.norm(grid.spacing_mm)) + limit
    for k in range(nz):
        near = np.argwhere(np.abs(dense[k, :ny, :nx]) <= reach)
        at = grid.to_world_mm(np.column_stack([np.full(len(near), k), near]))
        found = distance(*np.ascontiguousarray(at.T))
        values[k, near[:, 0], near[:, 1]] = np.clip(found, -limit, limit)
    return values


def _outwards(
    vertices: Float[np.ndarray, "vertex 3"], faces: Int[np.ndarray, "face 3"]
) -> Int[np.ndarray, "face 3"]:
    """Turn the triangles so that the enclosed volume is positive."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    volume = np.einsum("fi,fi->", a, np.cross(b, c))
    return faces if volume > 0 else faces[:, ::-1]


def surface_area_mm2(surface: Surface) -> float:
    """Return the area of a surface."""
    a, b, c = (surface.vertices_mm[surface.faces[:, i]] for i in range(3))
    return float(0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum())


def open_sides(
    patient: Patient, shares: Float[np.ndarray, "z y x"], grid: VoxelGrid
) -> dict[str, bool]:
    """Say for each nostril whether air leads from it to the pharynx plane."""
    labels, _ = ndimage.label(shares >= 0.5)
    planes = true_planes(patient)
    throat = set(_labels_at(labels, planes["pharynx"], grid))
    return {
        side: bool(throat & set(_labels_at(labels, planes[f"nostril-{side}"], grid)))
        for side in SIDES
    }


def _labels_at(labels: Int[np.ndarray, "z y x"], plane: Plane, grid: VoxelGrid) -> list[int]:
    """Return the labels of the lumen near a plane's centre, just inside the lumen."""
    inwards = -1.0 if plane.name == "pharynx" else 1.0
    steps = inwards * np.arange(0.0, 3.0, 0.25)
    points = np.array(plane.centre_mm) + steps[:, None] * np.array(plane.normal)
    index = np.rint(grid.to_index(points)).astype(int)
    found = labels[tuple(np.clip(index, 0, np.array(labels.shape) - 1).T)]
    return [int(label) for label in found if label]


def measures(
    patient: Patient,
    shares: Float[np.ndarray, "z y x"],
    grid: VoxelGrid,
    surface: Surface,
) -> dict[str, object]:
    """Return the figures of an airway by name, units in the names."""
    areas = {name: section_areas_mm2(patient, side) for name, side in SIDES.items()}
    planes = true_planes(patient)
    return {
        "volume_ml": volume_ml(shares, grid),
        "surface_area_mm2": surface_area_mm2(surface),
        "spacing_mm": grid.spacing_mm[0],
        "open": open_sides(patient, shares, grid),
        "opening_area_mm2": {
            name: plane_area_mm2(patient, plane) for name, plane in planes.items()
        },
        "section_area_mm2": {name: [round(float(a), 2) for a in v] for name, v in areas.items()},
        "minimal_area_mm2": {name: float(v.min()) for name, v in areas.items()},
        "anatomy": as_numbers(patient.anatomy),
    }


def plane_area_mm2(patient: Patient, plane: Plane) -> float:
    """Return the area of the part of a plane's cut that is connected to its centre, mm2."""
    frame = patient.frame
    x, y, z = (float(v[0]) for v in frame.to_anatomy(*np.array(plane.centre_mm)[:, None]))
    i, j, k = (float(v) for v in frame.rotation.T @ np.array(plane.normal))
    side = {"nostril-left": 1.0, "nostril-right": -1.0}.get(plane.name, 0.0)
    found, _ = section(patient, (x, y, z), (i, j, k), plane.radius_mm / frame.scale, side)
    return float(found.sum()) * (_SECTION_STEP_MM * frame.scale) ** 2
