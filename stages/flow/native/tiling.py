"""Lay fluid cells out in tiles of neighbours along one axis and translate links to them.

Notes
-----
A tile holds the 19 populations of 8 or 16 neighbouring cells of a row one after the other, so that the
compiler's vectors need no gathering. Its first cell is the first fluid one of its row, or follows a tile or a
gap as long as a tile: for a nose an eighth fewer tiles than at multiples of their length. The rows follow the
axis along which the fewest tiles hold all cells. Directions are numbered as if the kernel's x were that axis.
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
        Indices (x, y, z) of the fluid cells, each once.
    lanes
        Cells of a tile.
    """
    orders = ((0, 1, 2), (1, 0, 2), (2, 0, 1))
    axes = min(orders, key=lambda axes: _Runs.of(cells[:, axes], lanes).tiles)
    index = cells[:, axes].astype(np.int64)
    runs = _Runs.of(index, lanes)
    place = runs.place(index)
    first = np.empty(runs.tiles, dtype=np.int64)
    first[place // lanes] = np.arange(len(cells))
    corner = index[first]
    corner[:, 0] -= place[first] % lanes
    return Tiling(axes, place // lanes, place % lanes, _ahead(runs, corner), lanes)


@dataclass(frozen=True)
class _Runs:
    """Hold pieces of rows with gaps shorter than a tile; each begins with a tile of its own.

    A tile's neighbours in the row beside belong to one run at most, and lie there as they do in the row.

    Parameters
    ----------
    first, last
        Numbers, row by row, of the first and of the last cell of each run.
    start
        Number where its first tile begins: the roundest for which the fewest tiles hold the run, so that
        most tiles begin where those beside them do and are read without crossing cache lines.
    tile
        First tile of each run, and the number of all tiles.
    size
        Cells of a row and rows of a layer, with margins.
    """

    first: Int[np.ndarray, "run"]
    last: Int[np.ndarray, "run"]
    start: Int[np.ndarray, "run"]
    tile: Int[np.ndarray, "run_and_end"]
    size: tuple[int, int]
    lanes: int

    @property
    def tiles(self) -> int:
        """Return the number of tiles."""
        return int(self.tile[-1])

    @classmethod
    def of(cls, index: Int[np.ndarray, "cell 3"], lanes: int) -> _Runs:
        """Cut rows along the first axis where no tile reaches from one cell to the next."""
        top = index.max(axis=0)
        size = (int(top[0]) + 1 + 2 * lanes, int(top[1]) + 3)
        key = np.sort(_key(index, size, lanes))
        cut = np.flatnonzero(np.diff(key) >= lanes)
        first, last = key[np.append(0, cut + 1)], key[np.append(cut, len(key) - 1)]
        count = (last - first) // lanes + 1
        room = count * lanes - (last - first + 1)
        start, step = first, 1
        while step <= lanes:
            past = first % size[0] % step
            start = np.where(past <= room, first - past, start)
            step *= 2
        return cls(first, last, start, np.append(0, np.cumsum(count)), size, lanes)

    def place(self, index: Int[np.ndarray, "some 3"]) -> Int[np.ndarray, "some"]:
        """Return where `lanes` neighbours along a row begin; far beyond the end where none is fluid."""
        key = _key(index, self.size, self.lanes)
        run = np.maximum(np.searchsorted(self.first, key + self.lanes - 1, side="right") - 1, 0)
        some = (self.first[run] < key + self.lanes) & (self.last[run] >= key)
        inside: Int[np.ndarray, "some"] = self.tile[run] * self.lanes + key - self.start[run]
        found: Int[np.ndarray, "some"] = np.where(some, inside, self.tiles * self.lanes)
        return found


def _key(
    index: Int[np.ndarray, "cell 3"], size: tuple[int, int], lanes: int
) -> Int[np.ndarray, "cell"]:
    """Number places row by row; rows end farther apart than a tile reaches."""
    layer, row, place = index[:, 2].astype(np.int64) + 1, index[:, 1] + 1, index[:, 0] + lanes
    key: Int[np.ndarray, "cell"] = (layer * size[1] + row) * size[0] + place
    return key


def _ahead(runs: _Runs, corner: Int[np.ndarray, "tile 3"]) -> Int[np.ndarray, "tile q"]:
    """Return for each tile and direction where what lies ahead of it begins."""
    table = np.empty((len(corner), Q - 1), dtype=np.int32)
    for q, step in enumerate(VELOCITIES[1:]):
        table[:, q] = runs.place(corner + step)
    return table


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
