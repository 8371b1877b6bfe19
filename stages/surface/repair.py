"""Repair the small defects that meshes of other programs have, and say what was done.

Vertices that lie at one place up to rounding are welded, triangles without area and copies are
dropped, triangles are turned so that neighbours agree, and small holes are closed by a fan. A
large hole, three triangles at one edge or triangles that cross are not guessed at: they stay and the
checks name them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.sparse.csgraph import breadth_first_order, connected_components
from scipy.spatial import cKDTree

from stages.surface.mesh import Mesh, volume_mm3

WELD = 1e-5
"""Vertices closer than this share of the surface's extent are one: STL stores 24-bit mantissas."""

LEAST_EDGES = 3

Faces = Int[np.ndarray, "face 3"]


@dataclass(frozen=True)
class Repaired:
    """Hold repaired patches and one sentence for each kind of repair."""

    patches: dict[str, Mesh]
    sentences: list[str]


def repair_patches(patches: dict[str, Mesh], *, hole_mm: float) -> Repaired:
    """Return patches without the defects that need no guess.

    Parameters
    ----------
    patches
        By file name without suffix; lengths in mm.
    hole_mm
        Longest perimeter of a hole that is closed.
    """
    names = sorted(patches, key=lambda name: (name != "wall", name))
    points = np.concatenate([patches[n].points for n in names])
    starts = np.cumsum([0] + [len(patches[n].points) for n in names[:-1]])
    faces = np.concatenate([patches[n].faces + s for n, s in zip(names, starts, strict=True)])
    owner = np.repeat(np.arange(len(names)), [len(patches[n].faces) for n in names])
    sentences: list[str] = []
    points, faces = _welded(points, faces, sentences)
    faces, owner = _without_waste(faces, owner, sentences)
    faces = _turned(Mesh(points, faces), sentences)
    points, faces, owner = _filled(points, faces, owner, hole_mm, sentences)
    whole = Mesh(points, faces)
    return Repaired({n: whole.part(owner == i) for i, n in enumerate(names)}, sentences)


def _welded(
    points: Float[np.ndarray, "vertex 3"], faces: Faces, sentences: list[str]
) -> tuple[Float[np.ndarray, "vertex 3"], Faces]:
    exact, index = np.unique(points, axis=0, return_inverse=True)
    faces = index.reshape(-1)[faces]
    reach = WELD * float(np.ptp(exact, axis=0).max())
    pairs = cKDTree(exact).query_pairs(reach, output_type="ndarray")
    if not len(pairs):
        return exact, faces
    count = len(exact)
    graph = sparse.coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (count, count))
    parts, label = connected_components(graph, directed=False)
    # The first vertex of each group stands for it: means would move points that were right.
    first = np.full(parts, count)
    np.minimum.at(first, label, np.arange(count))
    sentences.append(f"welded {count - parts} vertices closer than {reach:.2g} mm to another")
    return exact[first], label[faces]


def _without_waste(
    faces: Faces, owner: Int[np.ndarray, "face"], sentences: list[str]
) -> tuple[Faces, Int[np.ndarray, "face"]]:
    a, b, c = faces.T
    flat = (a == b) | (b == c) | (c == a)
    _, first = np.unique(np.sort(faces, axis=1), axis=0, return_index=True)
    single = np.zeros(len(faces), dtype=bool)
    single[first] = True
    kept = single & ~flat
    if flat.any():
        sentences.append(f"dropped {int(flat.sum())} triangles without area")
    if (~single & ~flat).any():
        sentences.append(f"dropped {int((~single & ~flat).sum())} copies of triangles")
    return faces[kept], owner[kept]


def _turned(mesh: Mesh, sentences: list[str]) -> Faces:
    """Turn triangles so that neighbours pass their edge in opposite directions."""
    faces = mesh.faces
    pairs, agree = _neighbours(faces)
    count = len(faces)
    sign = np.ones(count, dtype=int)
    graph = sparse.coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (count, count))
    lookup = sparse.coo_matrix((agree + 2, (pairs[:, 0], pairs[:, 1])), (count, count))
    both = (lookup + lookup.T).tocsr()
    _, part = connected_components(graph, directed=False)
    for label, start in enumerate(np.unique(part, return_index=True)[1]):
        order, before = breadth_first_order(graph, start, directed=False)
        steps = np.asarray(both[before[order[1:]], order[1:]]).ravel() - 2
        for face, step in zip(order[1:], steps, strict=True):
            sign[face] = sign[before[face]] * int(step)
        own = part == label
        # Of the two ways to agree, take the one that turns fewer triangles.
        if (sign[own] < 0).sum() > own.sum() / 2:
            sign[own] *= -1
    turned = np.where((sign < 0)[:, None], faces[:, ::-1], faces)
    if (sign < 0).any():
        sentences.append(
            f"turned {int((sign < 0).sum())} triangles to agree with their neighbours"
        )
    if volume_mm3(Mesh(mesh.points, turned)) < 0:
        sentences.append("turned the whole surface, whose normals pointed inward")
        turned = turned[:, ::-1]
    return turned


def _neighbours(faces: Faces) -> tuple[Int[np.ndarray, "pair 2"], Int[np.ndarray, "pair"]]:
    """Return the faces at each edge that has exactly two, and +1 if they agree there, else -1."""
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    owner = np.tile(np.arange(len(faces)), 3)
    forward = directed[:, 0] < directed[:, 1]
    _, edge, count = np.unique(
        np.sort(directed, axis=1), axis=0, return_inverse=True, return_counts=True
    )
    order = np.argsort(edge.ravel(), kind="stable")
    two = order[count[edge.ravel()[order]] == 2].reshape(-1, 2)
    agree = np.where(forward[two[:, 0]] != forward[two[:, 1]], 1, -1)
    pairs, first = np.unique(np.sort(owner[two], axis=1), axis=0, return_index=True)
    return pairs, agree[first]


def _filled(
    points: Float[np.ndarray, "vertex 3"],
    faces: Faces,
    owner: Int[np.ndarray, "face"],
    hole_mm: float,
    sentences: list[str],
) -> tuple[Float[np.ndarray, "vertex 3"], Faces, Int[np.ndarray, "face"]]:
    centres: list[Float[np.ndarray, "3"]] = []
    new_faces: list[Faces] = []
    new_owner: list[Int[np.ndarray, "face"]] = []
    largest = 0.0
    for loop, patch in _holes(faces, owner):
        corners = points[loop]
        perimeter = float(np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1).sum())
        if perimeter > hole_mm:
            continue
        largest = max(largest, perimeter)
        if len(loop) == 3:
            new_faces.append(np.array([loop]))
        else:
            centre = len(points) + len(centres)
            centres.append(corners.mean(axis=0))
            fan = [(loop[i], loop[(i + 1) % len(loop)], centre) for i in range(len(loop))]
            new_faces.append(np.array(fan))
        new_owner.append(np.full(len(new_faces[-1]), patch))
    if not new_faces:
        return points, faces, owner
    sentences.append(f"closed {len(new_faces)} holes of up to {largest:.2g} mm around")
    points = np.concatenate([points, np.array(centres).reshape(-1, 3)])
    return points, np.concatenate([faces, *new_faces]), np.concatenate([owner, *new_owner])


def _holes(faces: Faces, owner: Int[np.ndarray, "face"]) -> list[tuple[list[int], int]]:
    """Return simple loops of edges that one triangle has alone, in the sense that closes them."""
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    patch = np.tile(owner, 3)
    _, edge, count = np.unique(
        np.sort(directed, axis=1), axis=0, return_inverse=True, return_counts=True
    )
    alone = count[edge.ravel()] == 1
    follow: dict[int, list[tuple[int, int]]] = {}
    for (start, end), own in zip(directed[alone], patch[alone], strict=True):
        follow.setdefault(int(end), []).append((int(start), int(own)))
    loops: list[tuple[list[int], int]] = []
    while follow:
        at = next(iter(follow))
        path: list[tuple[int, int]] = []
        while at in follow:
            step, own = follow[at].pop()
            if not follow[at]:
                del follow[at]
            path.append((at, own))
            at = step
            # Holes may touch at a vertex: each is taken out where its own round ends.
            seen = [vertex for vertex, _ in path]
            if at in seen:
                ring, path = path[seen.index(at) :], path[: seen.index(at)]
                if len(ring) >= LEAST_EDGES:
                    patches = np.bincount([own for _, own in ring])
                    loops.append(([vertex for vertex, _ in ring], int(patches.argmax())))
    return loops
