"""Find the nearest point of a surface, on the sheet that faces the same way."""

from __future__ import annotations

import numba
import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

from stages.surface.mesh import Mesh, Points, normals_mm2

CANDIDATES = 5
"""Vertices whose triangles are tried: the nearest triangle of an even mesh touches one of them."""

RIM_CANDIDATES = 8

Vector = tuple[float, float, float]


class Nearest:
    """Hold a surface and what finds its vertices and their triangles."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.normals = normals_mm2(mesh)
        self.tree = cKDTree(mesh.points)
        order = np.argsort(mesh.faces.ravel(), kind="stable")
        self.around = order // 3
        counts = np.bincount(mesh.faces.ravel(), minlength=len(mesh.points))
        self.first = np.concatenate([[0], np.cumsum(counts)])


class Rim:
    """Hold the directed edges between patches of a surface and what finds the nearest ones."""

    def __init__(
        self, start: Float[np.ndarray, "edge 3"], end: Float[np.ndarray, "edge 3"]
    ) -> None:
        self.start, self.way = start, end - start
        self.tree = cKDTree(0.5 * (start + end))

    def nearest(self, points: Points, along: Points) -> Points:
        """Return the nearest points of edges that run the same way as the points' own.

        Parameters
        ----------
        points
            Points near the rim, mm.
        along
            Direction of the rim there: the rim of an island beside runs the other way.
        """
        if len(points) == 0:
            return points
        count = min(RIM_CANDIDATES, len(self.start))
        _, index = self.tree.query(points, k=count)
        index = index.reshape(len(points), -1)
        start, way = self.start[index], self.way[index]
        length = np.maximum((way**2).sum(axis=2), 1e-30)
        share = ((points[:, None] - start) * way).sum(axis=2) / length
        at = start + np.clip(share, 0.0, 1.0)[:, :, None] * way
        away = np.linalg.norm(at - points[:, None], axis=2)
        away[(way * along[:, None]).sum(axis=2) <= 0.0] = np.inf
        best = away.argmin(axis=1)
        rows = np.arange(len(points))
        found = np.isfinite(away[rows, best])[:, None]
        nearest: Points = np.where(found, at[rows, best], points)
        return nearest


def nearest_on(nearest: Nearest, points: Points, normals: Points) -> Points:
    """Return the nearest points of a surface whose normals agree; a point without one stays.

    Parameters
    ----------
    nearest
        The surface.
    points
        Points near the surface, mm.
    normals
        Unit normals at the points: the other side of a thin wall is passed over.
    """
    if len(points) == 0:
        return points
    count = min(CANDIDATES, len(nearest.mesh.points))
    _, index = nearest.tree.query(points, k=count)
    found: Points = _nearest(
        nearest.mesh.points,
        nearest.mesh.faces,
        nearest.normals,
        nearest.around,
        nearest.first,
        index.reshape(len(points), -1),
        points,
        normals,
    )
    return found


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _nearest(
    vertices: np.ndarray,
    faces: np.ndarray,
    face_normals: np.ndarray,
    around: np.ndarray,
    first: np.ndarray,
    index: np.ndarray,
    points: np.ndarray,
    normals: np.ndarray,
) -> np.ndarray:
    result = points.copy()
    for i in range(len(points)):
        best = np.inf
        p = (points[i, 0], points[i, 1], points[i, 2])
        n = (normals[i, 0], normals[i, 1], normals[i, 2])
        for v in index[i]:
            for k in range(first[v], first[v + 1]):
                f = around[k]
                m = (face_normals[f, 0], face_normals[f, 1], face_normals[f, 2])
                if _dot(m, n) <= 0.0:
                    continue
                at = closest(
                    p,
                    _row(vertices, faces[f, 0]),
                    _row(vertices, faces[f, 1]),
                    _row(vertices, faces[f, 2]),
                )
                away = _minus(at, p)
                if _dot(away, away) < best:
                    best = _dot(away, away)
                    result[i, 0], result[i, 1], result[i, 2] = at
    return result


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _row(points: np.ndarray, i: int) -> Vector:
    return points[i, 0], points[i, 1], points[i, 2]


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _minus(a: Vector, b: Vector) -> Vector:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def closest(p: Vector, a: Vector, b: Vector, c: Vector) -> Vector:
    """Return the point of a triangle nearest to a point.

    References
    ----------
    Ericson, Real-Time Collision Detection, 2005, section 5.1.5 (regions of Voronoi).
    """
    ab, ac = _minus(b, a), _minus(c, a)
    ap, bp, cp = _minus(p, a), _minus(p, b), _minus(p, c)
    d1, d2 = _dot(ab, ap), _dot(ac, ap)
    d3, d4 = _dot(ab, bp), _dot(ac, bp)
    d5, d6 = _dot(ab, cp), _dot(ac, cp)
    u, v, w = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    # Barycentric weights of b and c.
    if d1 <= 0 and d2 <= 0:
        s, t = 0.0, 0.0
    elif d3 >= 0 and d4 <= d3:
        s, t = 1.0, 0.0
    elif d6 >= 0 and d5 <= d6:
        s, t = 0.0, 1.0
    elif w <= 0 and d1 >= 0 and d3 <= 0:
        s, t = d1 / (d1 - d3), 0.0
    elif v <= 0 and d2 >= 0 and d6 <= 0:
        s, t = 0.0, d2 / (d2 - d6)
    elif u <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0:
        t = (d4 - d3) / ((d4 - d3) + (d5 - d6))
        s = 1.0 - t
    else:
        s, t = v / (u + v + w), w / (u + v + w)
    return a[0] + s * ab[0] + t * ac[0], a[1] + s * ab[1] + t * ac[1], a[2] + s * ab[2] + t * ac[2]
