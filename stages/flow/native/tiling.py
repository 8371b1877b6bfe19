"""Lay fluid cells out in tiles of neighbours along one axis and translate links to them.

Notes
-----
A tile holds the 19 populations of 8 or 16 neighbouring cells of a row one after the other, so that the
compiler's vectors need no gathering. The rows follow the axis along which the fewest tiles hold all
cells. Directions are renumbered so that the kernel's x is that axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from stages.flow.lattice import OPPOSITE, VELOCITIES, Q
from stages.flow.openings import OpeningLinks
from stages.flow.walls import WallLinks


@dataclass(frozen=True)
class Tiling:
    """Hold where each cell lies.

    Parameters
    ----------
    axes
        The lattice's axes in the kernel's order; the first one runs along the rows.
    tile, lane
        Tile of each cell and its place there.
    ahead
        For each direction that moves, the place of the cell ahead of the tile's first lane, as if rows
        were whole; links that end at the surface read other places than that.
    lanes
        Cells of a tile.
    """

    axes: tuple[int, int, int]
    tile: Int[np.ndarray, "cell"]
    lane: Int[np.ndarray, "cell"]
    ahead: Int[np.ndarray, "tile q"]
    lanes: int

    @property
    def tiles(self) -> int:
        """Return the number of tiles."""
        return len(self.ahead)

    @property
    def place(self) -> Int[np.ndarray, "cell"]:
        """Return the number of each cell's lane among those of all tiles."""
        place: Int[np.ndarray, "cell"] = self.tile * self.lanes + self.lane
        return place

    @cached_property
    def direction(self) -> Int[np.ndarray, "q"]:
        """Return the kernel's number of each direction."""
        turned = VELOCITIES[:, self.axes]
        same = (turned[:, None, :] == VELOCITIES[None, :, :]).all(axis=2)
        number: Int[np.ndarray, "q"] = np.argmax(same, axis=1)
        return number


def make_tiling(cells: Int[np.ndarray, "cell 3"], lanes: int) -> Tiling:
    """Choose the axis of the rows and number the tiles row by row.

    Parameters
    ----------
    cells
        Indices (x, y, z) of the fluid cells.
    lanes
        Cells of a tile.
    """
    best: tuple[int, int, int] | None = None
    keys: Int[np.ndarray, "tile"] | None = None
    for axis in range(3):
        axes = (axis, *(d for d in (0, 1, 2) if d != axis))
        found = np.unique(
            _key(_tile_index(cells, axes, lanes), cells.max(axis=0)[list(axes)], lanes)
        )
        if keys is None or len(found) < len(keys):
            best, keys = (axes[0], axes[1], axes[2]), found
    assert best is not None
    assert keys is not None
    index = _tile_index(cells, best, lanes)
    limit = cells.max(axis=0)[list(best)]
    key = _key(index, limit, lanes)
    tile = np.searchsorted(keys, key)
    first = np.empty(len(keys), dtype=np.int64)
    first[tile] = np.arange(len(cells))
    return Tiling(
        best, tile, cells[:, best[0]] % lanes, _ahead(index[first], keys, limit, lanes), lanes
    )


def _tile_index(
    cells: Int[np.ndarray, "cell 3"], axes: tuple[int, ...], lanes: int
) -> Int[np.ndarray, "cell 3"]:
    index = cells[:, axes].astype(np.int64)
    index[:, 0] //= lanes
    return index


def _key(
    index: Int[np.ndarray, "cell 3"], limit: Int[np.ndarray, "3"], lanes: int
) -> Int[np.ndarray, "cell"]:
    """Number places row by row, with a margin of one on all sides."""
    width, height = int(limit[0]) // lanes + 3, int(limit[1]) + 3
    key: Int[np.ndarray, "cell"] = (
        index[:, 0] + 1 + width * (index[:, 1] + 1 + height * (index[:, 2] + 1))
    )
    return key


def _ahead(
    index: Int[np.ndarray, "tile 3"],
    keys: Int[np.ndarray, "tile"],
    limit: Int[np.ndarray, "3"],
    lanes: int,
) -> Int[np.ndarray, "tile q"]:
    table = np.empty((len(keys), Q - 1), dtype=np.int32)
    for q, step in enumerate(VELOCITIES[1:]):
        beside = _find(_key(index + step * (0, 1, 1), limit, lanes), keys)
        past = _find(_key(index + step, limit, lanes), keys) - step[0]
        known = np.where(beside < len(keys), beside, past)
        table[:, q] = np.minimum(known, len(keys)) * lanes + step[0]
    return table


def _find(
    wanted: Int[np.ndarray, "tile"], keys: Int[np.ndarray, "tile"]
) -> Int[np.ndarray, "tile"]:
    """Return the places of some keys; far beyond the end for those that are missing."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, at, 2 * len(keys) + 1)


@dataclass(frozen=True)
class BorderTables:
    """Hold the tiles that are not all fluid, touch the surface or are read by others.

    Parameters
    ----------
    border
        Number of each tile among them, or -1.
    tile
        Their tiles.
    fluid
        Lanes that are fluid, as bits.
    link
        Lanes whose link ends at the surface, (border, kernel direction).
    record, records
        Where openings read this tile's populations, or -1, and how many there are.
    """

    border: Int[np.ndarray, "tile"]
    tile: Int[np.ndarray, "border"]
    fluid: Int[np.ndarray, "border"]
    link: Int[np.ndarray, "border q"]
    record: Int[np.ndarray, "border"]
    records: int

    @property
    def links(self) -> int:
        """Return the number of links that end at the surface."""
        return int(np.bitwise_count(self.link).sum())

    def place(
        self,
        tile: Int[np.ndarray, "link"],
        lane: Int[np.ndarray, "link"],
        direction: Int[np.ndarray, "link"],
    ) -> Int[np.ndarray, "link"]:
        """Return the places of some links in a list by border tile, kernel direction and lane."""
        row = self.border[tile]
        count = np.bitwise_count(self.link).astype(np.int64)
        first = (np.cumsum(count) - count.ravel()).reshape(count.shape)
        before = np.bitwise_count(self.link[row, direction] & ((1 << lane) - 1))
        return np.asarray(first[row, direction] + before, dtype=np.int64)


def border_tables(
    tiling: Tiling,
    link_cell: Int[np.ndarray, "link"],
    link_direction: Int[np.ndarray, "link"],
    *,
    recorded: Int[np.ndarray, "recorded"],
) -> BorderTables:
    """Tell which tiles need more than the plain update.

    Parameters
    ----------
    tiling
        Where each cell lies.
    link_cell, link_direction
        All links that end at the surface.
    recorded
        Cells that openings read.
    """
    tiles = tiling.tiles
    fluid = _bits(tiling, np.arange(len(tiling.tile)))
    special = fluid != 2**tiling.lanes - 1
    for cells in (link_cell, recorded):
        special[tiling.tile[cells]] = True
    tile = np.flatnonzero(special)
    border = np.full(tiles, -1, dtype=np.int32)
    border[tile] = np.arange(len(tile), dtype=np.int32)
    where = border[tiling.tile[link_cell]].astype(np.int64) * Q + tiling.direction[link_direction]
    weight = np.exp2(tiling.lane[link_cell])
    link = np.bincount(where, weight, len(tile) * Q).reshape(-1, Q)
    holds = np.zeros(tiles, dtype=bool)
    holds[tiling.tile[recorded]] = True
    record = np.where(holds[tile], np.cumsum(holds[tile]) - 1, -1)
    return BorderTables(
        border,
        tile,
        fluid[tile],
        link.astype(np.uint16),
        record.astype(np.int32),
        int(holds.sum()),
    )


def _bits(tiling: Tiling, cells: Int[np.ndarray, "some"]) -> Int[np.ndarray, "tile"]:
    """Return the lanes of some different cells as bits of each tile."""
    weight = np.exp2(tiling.lane[cells])
    return np.bincount(tiling.tile[cells], weight, tiling.tiles).astype(np.uint16)


@dataclass(frozen=True)
class WallTables:
    """Hold what the surface weighs, link by link in the order of `BorderTables.place`.

    Parameters
    ----------
    first_group
        First group of each border tile, and the end.
    block, lanes
        Block of each group of wall cells in one tile, and the cells as bits.
    near
        Lanes whose second population is what arrived along the link, (border, kernel direction).
    rest
        Weight of the second population.
    here, ratio
        Weight of the cell's velocity along the link, and the weight of the velocity behind over that; empty
        for linear walls.
    press
        Weight of the density in the cell less that behind; empty for linear walls.
    inverse
        1 over the distance to the wall, 0 where the link ends at an opening; empty for linear walls.
    """

    first_group: Int[np.ndarray, "border"]
    block: Int[np.ndarray, "group"]
    lanes: Int[np.ndarray, "group"]
    near: Int[np.ndarray, "border q"]
    rest: Float[np.ndarray, "link"]
    here: Float[np.ndarray, "curved"]
    ratio: Float[np.ndarray, "curved"]
    press: Float[np.ndarray, "curved"]
    inverse: Float[np.ndarray, "curved"]


def wall_tables(tiling: Tiling, borders: BorderTables, walls: WallLinks) -> WallTables:
    """Sort wall cells by tile and block, and weights by tile, direction and lane."""
    tile, lane = tiling.tile[walls.cell], tiling.lane[walls.cell]
    q = tiling.direction[walls.direction]
    place = borders.place(tile, lane, q)
    rest = np.zeros(borders.links, dtype=walls.share.dtype)
    rest[place] = 1 - walls.share
    where = borders.border[tile].astype(np.int64) * Q + q
    near = np.bincount(where, np.exp2(lane) * walls.near, len(borders.tile) * Q).reshape(-1, Q)
    here, ratio, press, inverse = _curves(walls, place, borders.links)
    blocks = len(walls.first) - 1
    block = np.repeat(np.arange(blocks), np.diff(walls.first))
    cells = np.unique((tile * blocks + block) * tiling.lanes + lane)
    group, number = np.unique(cells // tiling.lanes, return_inverse=True)
    lanes = np.bincount(number, np.exp2(cells % tiling.lanes), len(group))
    first = np.searchsorted(group // max(blocks, 1), borders.tile)
    return WallTables(
        np.append(first, len(group)).astype(np.int32),
        (group % max(blocks, 1)).astype(np.int32),
        lanes.astype(np.uint16),
        near.astype(np.uint16),
        rest,
        here,
        ratio,
        press,
        inverse,
    )


def _curves(
    walls: WallLinks, place: Int[np.ndarray, "wall"], links: int
) -> Float[np.ndarray, "4 curved"]:
    """Return the weights of velocities and densities and the inverse distances.

    The kernel takes the velocity behind from the opposite cell.
    """
    kind = walls.here.dtype
    if not walls.is_curved:
        return np.zeros((4, 0), dtype=kind)
    assert not np.any(walls.back[walls.here == 0])
    here, ratio, press, inverse = found = np.zeros((4, links), dtype=kind)
    press[place], inverse[place] = walls.press, walls.inverse
    here[place] = walls.here
    ratio[place] = walls.back / np.where(walls.here == 0, 1, walls.here)
    return found


def opening_offsets(
    tiling: Tiling, borders: BorderTables, links: OpeningLinks
) -> Int[np.ndarray, "5 link"]:
    """Return where each opening link finds its populations and leaves what it returns.

    Parameters
    ----------
    tiling, borders
        Where cells lie and which tiles are recorded.
    links
        Links of all openings.
    """
    walls = links.surface
    assert walls is not None
    q = tiling.direction[links.direction]
    tile, lane = tiling.tile[links.cell], tiling.lane[links.cell]
    behind = walls.behind
    rows, lanes = 2 * Q + 4, tiling.lanes
    base = borders.record[borders.border[tile]].astype(np.int64) * rows * lanes
    base_behind = borders.record[borders.border[tiling.tile[behind]]].astype(np.int64) * rows
    second = np.where(walls.near, q, Q + OPPOSITE[q])
    return np.stack(
        [
            borders.place(tile, lane, q),
            base + (Q + q) * lanes + lane,
            base + second * lanes + lane,
            base + 2 * Q * lanes + lane,
            (base_behind + 2 * Q) * lanes + tiling.lane[behind],
        ]
    )
