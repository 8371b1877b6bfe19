"""A triangle mesh and its measures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.sparse.csgraph import connected_components

Points = Float[np.ndarray, "vertex 3"]
Faces = Int[np.ndarray, "face 3"]


@dataclass(frozen=True)
class Mesh:
    """Hold triangles.

    Parameters
    ----------
    points
        Vertices (x, y, z), mm, LPS.
    faces
        Vertex numbers, counter-clockwise seen from outside.
    """

    points: Points
    faces: Faces

    def part(self, chosen: Bool[np.ndarray, "face"]) -> Mesh:
        """Return the chosen faces without unused vertices."""
        used, faces = np.unique(self.faces[chosen], return_inverse=True)
        return Mesh(self.points[used], faces.reshape(-1, 3))


def normals_mm2(mesh: Mesh) -> Float[np.ndarray, "face 3"]:
    """Return the normal of each face times its area, mm2."""
    a, b, c = (mesh.points[mesh.faces[:, i]] for i in range(3))
    return 0.5 * np.cross(b - a, c - a)


def area_mm2(mesh: Mesh) -> float:
    """Return the area of all faces, mm2."""
    return float(np.linalg.norm(normals_mm2(mesh), axis=1).sum())


def volume_mm3(mesh: Mesh) -> float:
    """Return the enclosed volume by the divergence theorem, mm3; the mesh must be closed."""
    origin = mesh.points.mean(axis=0)
    centres = (mesh.points - origin)[mesh.faces].mean(axis=1)
    return float(np.einsum("ij,ij->", centres, normals_mm2(mesh)) / 3.0)


def edge_faults(faces: Faces) -> tuple[int, int]:
    """Return the number of edges without exactly two faces and of those passed twice the same way."""
    start, end = (np.concatenate([faces[:, i] for i in order]) for order in ((0, 1, 2), (1, 2, 0)))
    size = np.int64(faces.max(initial=0)) + 1
    # One integer per edge: rows sort ten times slower.
    _, repeats = np.unique(start * size + end, return_counts=True)
    both = np.minimum(start, end) * size + np.maximum(start, end)
    _, counts = np.unique(both, return_counts=True)
    return int((counts != 2).sum()), int((repeats != 1).sum())


def is_closed(mesh: Mesh) -> bool:
    """Say whether every edge is shared by two faces that pass it in opposite directions."""
    return len(mesh.faces) > 0 and edge_faults(mesh.faces) == (0, 0)


def components(faces: Faces, count: int) -> Int[np.ndarray, "vertex"]:
    """Return the connected component of each of `count` vertices."""
    i = np.concatenate([faces[:, 0], faces[:, 1]])
    j = np.concatenate([faces[:, 1], faces[:, 2]])
    graph = sparse.coo_matrix((np.ones(len(i), dtype=np.int8), (i, j)), shape=(count, count))
    labels: Int[np.ndarray, "vertex"] = connected_components(graph, directed=False)[1]
    return labels


def join(meshes: list[Mesh]) -> Mesh:
    """Put meshes together; vertices at equal places become one."""
    points = np.concatenate([mesh.points for mesh in meshes])
    starts = np.cumsum([0] + [len(mesh.points) for mesh in meshes[:-1]])
    faces = np.concatenate([mesh.faces + s for mesh, s in zip(meshes, starts, strict=True)])
    unique, index = np.unique(points, axis=0, return_inverse=True)
    return Mesh(unique, index.reshape(-1)[faces])
