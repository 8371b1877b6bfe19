"""How triangles meet: edges, copies, and the shells that they make with their orientation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

Corners = Int[np.ndarray, "face 3"]


@dataclass(frozen=True)
class Edges:
    """Hold the sides of triangles, those of one edge together.

    Parameters
    ----------
    face, side
        Triangle and which of its sides: from corner `side` to the next one.
    forward
        Whether the triangle walks from the lower to the higher corner number.
    first
        First side of each edge.
    count
        Number of sides of each edge.
    """

    face: Int[np.ndarray, "side"]
    side: Int[np.ndarray, "side"]
    forward: Bool[np.ndarray, "side"]
    first: Int[np.ndarray, "edge"]
    count: Int[np.ndarray, "edge"]

    @classmethod
    def of(cls, corners: Corners) -> Edges:
        """Collect the sides of triangles by the corners that they join."""
        begin, end = corners.ravel(), np.roll(corners, -1, axis=1).ravel()
        size = int(corners.max(initial=0)) + 1
        key = np.minimum(begin, end).astype(np.int64) * size + np.maximum(begin, end)
        order = np.argsort(key, kind="stable")
        _, first, count = np.unique(key[order], return_index=True, return_counts=True)
        return cls(order // 3, order % 3, (begin < end)[order], first, count)

    @property
    def is_odd(self) -> Bool[np.ndarray, "edge"]:
        """Return which edges bound an odd number of triangles: there the surface is open."""
        return np.asarray(self.count % 2 == 1)


@dataclass(frozen=True)
class Shells:
    """Hold the parts of a surface that are closed without each other.

    Parameters
    ----------
    of_face
        Number of each triangle's shell.
    oriented
        Whether all triangles of a shell are wound alike, so that each edge is walked both ways.
    """

    of_face: Int[np.ndarray, "face"]
    oriented: Bool[np.ndarray, "shell"]


def find_shells(corners: Corners) -> Shells:
    """Return the shells of a closed surface: triangles that share an edge are of one shell.

    Parts that are closed without each other and touch along an edge are shells of their own, as they may be
    wound differently.
    """
    edges = Edges.of(corners)
    pair = edges.first[edges.count == 2]
    begin, end = edges.face[pair], edges.face[pair + 1]
    f, g = _unfinished(edges, joined(begin, end, len(corners)))
    shell = joined(np.concatenate([begin, f]), np.concatenate([end, g]), len(corners))
    balance = np.add.reduceat(np.where(edges.forward, 1, -1), edges.first)
    oriented = np.ones(int(shell.max()) + 1, dtype=bool)
    oriented[shell[edges.face[edges.first[balance != 0]]]] = False
    return Shells(shell, oriented)


def _unfinished(
    edges: Edges, part: Int[np.ndarray, "face"]
) -> tuple[Int[np.ndarray, "pair"], Int[np.ndarray, "pair"]]:
    """Return pairs of triangles by which parts go on in each other at edges of more than two.

    A part with an odd number of triangles there is not closed without another one.
    """
    edge = np.repeat(np.arange(len(edges.count)), edges.count)
    side = np.flatnonzero(edges.count[edge] > 2)
    key = edge[side] * (int(part.max()) + 1) + part[edges.face[side]]
    _, at, number = np.unique(key, return_index=True, return_counts=True)
    odd = side[at[number % 2 == 1]]
    same = edge[odd[1:]] == edge[odd[:-1]]
    return edges.face[odd[:-1][same]], edges.face[odd[1:][same]]


def faces_to_turn(corners: Corners, area: Float[np.ndarray, "face"]) -> Bool[np.ndarray, "face"]:
    """Return the triangles to turn so that neighbours are wound alike, those of the smaller area.

    Only edges of two triangles tell. Each triangle is two nodes of a graph, as given and turned; an edge
    joins the nodes that agree. A surface that has no two sides (a Moebius strip) stays as it is.
    """
    edges = Edges.of(corners)
    first = edges.first[edges.count == 2]
    f, g = edges.face[first], edges.face[first + 1]
    against = edges.forward[first] == edges.forward[first + 1]
    number = len(corners)
    if not against.any():
        return np.zeros(number, dtype=bool)
    low = np.concatenate([f, f + number])
    high = np.where(
        np.tile(against, 2), np.concatenate([g + number, g]), np.concatenate([g, g + number])
    )
    label = joined(low, high, 2 * number)
    given, turned = label[:number], label[number:]
    as_given = np.bincount(given, area, minlength=int(label.max()) + 1)
    more, same = as_given[turned] > as_given[given], as_given[turned] == as_given[given]
    return np.asarray(more | (same & (turned < given)))


def joined(
    a: Int[np.ndarray, "pair"], b: Int[np.ndarray, "pair"], number: int
) -> Int[np.ndarray, "node"]:
    """Return one label for all nodes that pairs join."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(a), np.int8), (a, b)), shape=(number, number))
    label: Int[np.ndarray, "node"] = connected_components(graph, directed=False)[1]
    return label


def without_copies(corners: Corners, rank: Int[np.ndarray, "face"]) -> Bool[np.ndarray, "face"]:
    """Return which triangles to keep so that none lies twice at one place.

    Of equal triangles the one of the lowest rank stays. Walls without thickness are two triangles at one
    place too: where the surface is closed with them only, they stay and only copies wound alike go, and
    where even those are needed, all stay.
    """
    group, order = np.sort(corners, axis=1), np.argsort(corners, axis=1)
    size = int(corners.max(initial=0)) + 1
    pair = np.unique(group[:, 0].astype(np.int64) * size + group[:, 1], return_inverse=True)[1]
    triple = np.unique(pair * size + group[:, 2], return_inverse=True)[1]
    single = _first_of_each(triple, rank)
    if single.all() or not Edges.of(corners[single]).is_odd.any():
        return single
    even = (order[:, 1] - order[:, 0]) % 3 == 1
    alike = _first_of_each(2 * triple + even, rank)
    if not Edges.of(corners[alike]).is_odd.any():
        return alike
    closed = not Edges.of(corners).is_odd.any()
    return np.ones(len(corners), dtype=bool) if closed else single


def _first_of_each(
    group: Int[np.ndarray, "face"], rank: Int[np.ndarray, "face"]
) -> Bool[np.ndarray, "face"]:
    order = np.lexsort((rank, group))
    kept = np.zeros(len(group), dtype=bool)
    kept[order[np.concatenate([[True], np.diff(group[order]) > 0])]] = True
    return kept
