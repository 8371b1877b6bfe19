"""Find where the two sides meet in front of the choanae: holes in the septum, real or false."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Int8
from scipy import ndimage, sparse
from scipy.sparse.csgraph import dijkstra

from pipeline.core.geometry import Triple, VoxelGrid

BEFORE_CHOANAE = 0.85
"""A meeting place nearer to the nostrils than this share of the farthest one lies before the choanae."""

FIRST_HALF = 0.45
"""The choanae lie behind this share of the way from nostril to pharynx; a meeting place before it is a hole
even if it is the only one (a side without a choana that breathes through the other)."""

LEAST_VOXELS = 2
"""Meeting places of fewer pairs of voxels are noise of the grid."""

_HALF_NEIGHBOURS = [
    (z, y, x) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1) if (z, y, x) > (0, 0, 0)
]


@dataclass(frozen=True)
class SeptumHole:
    """Hold a place where the sides meet before the choanae: its centre, LPS mm, and area, mm2."""

    place_mm: Triple
    area_mm2: float


@dataclass(frozen=True)
class Meeting:
    """Hold where the air of the two sides meets.

    Parameters
    ----------
    side
        1 where the left nostril is nearer, -1 where the right one is, 0 elsewhere.
    choanal
        Voxels at the meeting place behind the choanae.
    holes
        The meeting places before the choanae, the largest first.
    """

    side: Int8[np.ndarray, "z y x"]
    choanal: Bool[np.ndarray, "z y x"]
    holes: tuple[SeptumHole, ...]


def find_meeting(
    lumen: Bool[np.ndarray, "z y x"],
    left: Bool[np.ndarray, "z y x"],
    right: Bool[np.ndarray, "z y x"],
    pharynx: Bool[np.ndarray, "z y x"],
    grid: VoxelGrid,
) -> Meeting | None:
    """Return where the sides meet behind the choanae and before them; None if they do not.

    Parameters
    ----------
    lumen
        The airway between its planes.
    left, right, pharynx
        Layers of air at its openings.
    grid
        Their isotropic grid.

    Notes
    -----
    Every voxel is given to the nostril whose way through the lumen is shorter. In a sound nose the two
    parts share one surface, in the nasopharynx; each further one is a loop round a part of the
    septum. Its area is that of the vector sum of its voxel faces, which is exact for a flat surface
    however it lies on the grid.
    """
    if not (left.any() and right.any() and pharynx.any()):
        return None
    way, side = nearer_of(lumen | left | right | pharynx, left, right)
    border = _Border(side)
    labels, count = ndimage.label(border.voxels, np.ones((3, 3, 3)))
    if count == 0:
        return None
    places = range(1, count + 1)
    ways = {
        k: float(way[labels == k].mean()) for k in places if (labels == k).sum() >= LEAST_VOXELS
    }
    if not ways:
        return None
    last = max(ways, key=lambda k: ways[k])
    first_half = FIRST_HALF * float(way[pharynx].min())
    is_hole = {k: v < BEFORE_CHOANAE * ways[last] or v < first_half for k, v in ways.items()}
    holes = [border.hole(labels == k, grid) for k in ways if is_hole[k]]
    holes.sort(key=lambda hole: -hole.area_mm2)
    return Meeting(side, labels == last, tuple(holes))


def nearer_of(
    air: Bool[np.ndarray, "z y x"],
    first: Bool[np.ndarray, "z y x"],
    second: Bool[np.ndarray, "z y x"],
) -> tuple[Float[np.ndarray, "z y x"], Int8[np.ndarray, "z y x"]]:
    """Return the way through the air to the nearer of two places, voxels, and which: 1 first, -1 second.

    Air that no way reaches is infinitely far, and 0.
    """
    number = np.full(air.shape, -1)
    number[air] = np.arange(int(air.sum()))
    sources = np.concatenate([number[first], number[second]])
    found, _, source = dijkstra(
        _ways(air, number),
        directed=False,
        indices=sources,
        min_only=True,
        return_predecessors=True,
    )
    way, side = np.full(air.shape, np.inf), np.zeros(air.shape, dtype=np.int8)
    way[air] = found
    side[air] = np.where(np.isin(source, number[first]), 1, -1)
    side[~np.isfinite(way)] = 0
    return way, side


class _Border:
    """The surface between the voxels of the left and of the right side."""

    def __init__(self, side: Int8[np.ndarray, "z y x"]) -> None:
        self.voxels = np.zeros(side.shape, dtype=bool)
        self._faces: list[Int[np.ndarray, "z y x"]] = []
        for axis in range(3):
            low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
            high = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
            differs = side[low] * side[high] == -1
            faces = np.zeros(side.shape, dtype=np.int64)
            faces[low] = np.where(differs, side[low], 0)
            self.voxels[low] |= differs
            self.voxels[high] |= differs
            self._faces.append(faces)

    def hole(self, part: Bool[np.ndarray, "z y x"], grid: VoxelGrid) -> SeptumHole:
        vector = [float(faces[part].sum()) for faces in self._faces]
        area = float(np.linalg.norm(vector)) * grid.spacing_mm[0] ** 2
        x, y, z = (float(v) for v in grid.to_world_mm(np.argwhere(part).mean(axis=0)))
        return SeptumHole((x, y, z), area)


def _ways(air: Bool[np.ndarray, "z y x"], number: Int[np.ndarray, "z y x"]) -> sparse.csr_matrix:
    """Return the graph of neighbouring voxels of air, with their distances in voxels."""
    first, second, length = [], [], []
    for offset in _HALF_NEIGHBOURS:
        here = tuple(slice(max(-d, 0), min(-d, 0) or None) for d in offset)
        there = tuple(slice(max(d, 0), min(d, 0) or None) for d in offset)
        both = air[here] & air[there]
        first.append(number[here][both])
        second.append(number[there][both])
        length.append(np.full(int(both.sum()), np.sqrt(sum(d * d for d in offset))))
    size = int(air.sum())
    return sparse.csr_matrix(
        (np.concatenate(length), (np.concatenate(first), np.concatenate(second))), (size, size)
    )
