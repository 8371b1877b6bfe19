"""How fast are the lattice engines, beside lbmpy's list kernel and the memory's speed?

    python benchmarks/flow_speed.py docs/flow_speed.md --surface SURFACE_DIR --surface-name "Real head"

Measures on a synthetic nose (winding slots three to eight cells wide in a box of 200 x 250 x 300 cells) and,
if given, on a surface folder, and writes a table. All are measured in turn, several rounds long, and the
best round counts: other work on the machine then hits all alike. The peer, lbmpy (AGPL), runs as a program
of its own in a virtual environment of its own, which is made on the first run. It does less: half-way walls,
no openings, one relaxation rate. About ten minutes.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import cyclopts
import numba
import numpy as np

from stages.flow.collision import Collision
from stages.flow.engine import NumbaEngine
from stages.flow.lattice import VELOCITIES
from stages.flow.mesh import WALL, assemble
from stages.flow.native_engine import NativeEngine, levels
from stages.flow.openings import Opening, OpeningLinks, OpeningState, make_openings, opening_links
from stages.flow.stage import read_patches
from stages.flow.voxels import SparseLattice, build_lattice
from stages.flow.walls import CORRECTION_STEPS, WallLinks, interpolated_walls

BOX = (200, 250, 300)
TAU = 0.502
ROUNDS = 8
STEPS = {"native": CORRECTION_STEPS, "numba": 6, "lbmpy": 6}
"""Steps of one measurement: of the compiled engine one whole turn between corrections of convection and
curved walls."""
PEER = """
import sys, time
import numpy as np, pystencils as ps
from lbmpy import LBMConfig, LBStencil, Method, Stencil, create_lb_collision_rule
from lbmpy.sparse import create_lb_update_rule_sparse, create_symbolic_list

data, dtype, threads, steps = np.load(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
neighbour, n = data["neighbour"], data["neighbour"].shape[1]
stencil = LBStencil(Stencil.D3Q19)
number = {tuple(c): q for q, c in enumerate(data["velocities"].tolist())}
ours = [number[tuple(int(v) for v in c)] for c in stencil]
opposite = [ours.index(number[tuple(-int(v) for v in c)]) for c in stencil]
index = np.empty((18, n), dtype=np.uint32)
for q in range(1, 19):
    behind = neighbour[ours[opposite[q]]].astype(np.int64)
    index[q - 1] = np.where(behind >= 0, q * n + behind, opposite[q] * n + np.arange(n))
model = LBMConfig(stencil=stencil, method=Method.SRT, relaxation_rate=1.9, compressible=False)
src, dst = (create_symbolic_list(name, n, 19, dtype, "SoA") for name in ("src", "dst"))
idx = create_symbolic_list("idx", n, 18, "uint32", "SoA")
update = create_lb_update_rule_sparse(create_lb_collision_rule(lbm_config=model), src, dst, idx)
config = ps.CreateKernelConfig(target=ps.Target.CPU, default_dtype=dtype)
config.cpu.openmp.enable, config.cpu.openmp.num_threads = threads > 1, threads
kernel = ps.create_kernel(update, config).compile()
old, new = (np.zeros((19, n), dtype=dtype).T for _ in range(2))
for _ in sys.stdin:
    start = time.perf_counter()
    for _ in range(steps):
        kernel(src=old, dst=new, idx=index.T)
        old, new = new, old
    print(n * steps / (time.perf_counter() - start) / 1e6, flush=True)
"""


@dataclass
class Row:
    """One thing that is measured: a call, what it says and the best figure so far."""

    name: str
    precision: str
    threads: int
    call: Callable[[], float]
    bytes_per_cell: int = 0
    figures: list[float] = field(default_factory=list)

    @property
    def best(self) -> float:
        return max(self.figures)


def synthetic_nose() -> tuple[SparseLattice, tuple[Opening, ...]]:
    """Return winding slots between two open ends."""
    x, y, z = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in BOX), indexing="ij")
    inside = np.zeros(BOX, dtype=bool)
    for k in range(6):
        bend = 9 * np.sin(y / 19 + k) + 7 * np.cos(z / 27 - 2 * k)
        width = 5.5 + 2.5 * np.sin(y / 31 - k) * np.cos(z / 41 + k)
        side = np.abs(y - 125 - 30 * np.sin(z / 60 + k)) < 80
        inside |= (np.abs(x - 30 - 28 * k - bend) < width / 2) & side
    return lattice_of(inside)


def lattice_of(inside: np.ndarray) -> tuple[SparseLattice, tuple[Opening, ...]]:
    """Return a lattice that is open at both ends of z; other walls lie at random distances."""
    cells = np.argwhere(inside)
    index = np.full(np.array(inside.shape) + 2, -1, dtype=np.int32)
    index[tuple((cells + 1).T)] = np.arange(len(cells))
    neighbour = np.stack([index[tuple((cells + 1 + c).T)] for c in VELOCITIES])
    direction, cell = np.nonzero(neighbour < 0)
    ahead = cells[cell, 2] + VELOCITIES[direction, 2]
    patch = np.where(ahead < 0, 1, np.where(ahead >= inside.shape[2], 2, 0))
    distance = np.random.default_rng(0).uniform(0.05, 1.0, len(cell))
    names = (WALL, "inlet", "outlet")
    lattice = SparseLattice(
        *(np.zeros(3), 1.0, inside.shape, cells, neighbour, cell, direction, distance),
        *(patch, names),
    )
    openings = tuple(
        Opening(
            *(name, name == "inlet", float((patch == k).sum() / 5), np.array([0.0, 0.0, z])),
            *(np.array([0.0, 0.0, 1.0]), np.zeros((0, 3, 3)), np.flatnonzero(patch == k)),
        )
        for k, name, z in ((1, "inlet", 0.0), (2, "outlet", float(BOX[2])))
    )
    return lattice, openings


def surface_lattice(folder: Path, spacing_mm: float) -> tuple[SparseLattice, tuple[Opening, ...]]:
    surface = assemble(read_patches(folder))
    lattice = build_lattice(surface, spacing_mm)
    return lattice, make_openings(surface, lattice)


def wall_links(lattice: SparseLattice, link: np.ndarray, curvature: float) -> WallLinks:
    return interpolated_walls(
        *(link, lattice.link_cell[link], lattice.link_direction[link]),
        *(lattice.link_distance[link], lattice.neighbour),
        cells=lattice.cells,
        relaxation_time=TAU,
        curvature=curvature,
    )


def engine_parts(
    lattice: SparseLattice, openings: tuple[Opening, ...], walls: str
) -> dict[str, WallLinks | OpeningLinks]:
    """Return walls and openings; with `none` what links return stays as it was."""
    none = np.zeros(0, dtype=np.int32)
    if walls == "none":
        empty = wall_links(lattice, none, 0.0)
        links = OpeningLinks(
            *(none, none, none, none, np.zeros(0), np.zeros(0, bool), empty),
            *(np.zeros((3, 0)), np.zeros(0, bool)),
        )
        return {"walls": empty, "openings": links}
    links, _ = opening_links(openings, lattice, developed=False)
    links = links.with_surface(wall_links(lattice, links.link, 0.0))
    wall = np.setdiff1d(lattice.links_of(WALL), links.link)
    curvature = 1.0 if walls == "quadratic" else 0.0
    return {"walls": wall_links(lattice, wall, curvature), "openings": links}


def engine_row(
    name: str,
    lattice: SparseLattice,
    openings: tuple[Opening, ...],
    *,
    walls: str,
    precision: str,
    threads: int,
) -> Row:
    made = {"native": NativeEngine, "numba": NumbaEngine}[name]
    parts = engine_parts(lattice, openings, walls)
    more = {"cells": lattice.cells} if name == "native" else {}
    collision = Collision(1 / TAU)
    engine = made(
        *(lattice.neighbour, lattice.link_cell, lattice.link_direction),
        **parts,
        **more,
        collision=collision,
        precision=np.dtype(precision).type,
        threads=threads,
    )
    fields = 1e-3 * np.random.default_rng(1).standard_normal((4, len(lattice.cells)))
    engine.restart(fields.astype(precision), parts["walls"], parts["openings"], collision)
    zeros = np.zeros(len(parts["openings"].inlet))
    state = OpeningState(
        given_velocity=False,
        level=zeros,
        speed=zeros.copy(),
        flux=zeros.copy(),
        outlet=np.zeros(6),
    )
    engine.advance(2, state)

    def call() -> float:
        if name == "numba":
            numba.set_num_threads(threads)
        start = time.perf_counter()
        engine.advance(STEPS[name], state)
        return len(lattice.cells) * STEPS[name] / (time.perf_counter() - start) / 1e6

    return Row(f"{name}, {walls} walls", precision, threads, call, engine.bytes_per_cell)


@numba.njit(parallel=True)
def _triad(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    for i in numba.prange(len(a)):
        a[i] = b[i] + 0.4 * c[i]


@numba.njit(parallel=True)
def _scale(a: np.ndarray) -> None:
    for i in numba.prange(len(a)):
        a[i] = a[i] * 0.999


def memory_row(name: str, threads: int) -> Row:
    """Return the memory's speed, GB/s: a triad (its store reads the line first), or in place."""
    arrays = [np.ones(12_000_000) for _ in range(3 if name == "triad" else 1)]
    kernel = _triad if name == "triad" else _scale
    moved = (4 if name == "triad" else 2) * arrays[0].nbytes / 1e9

    def call() -> float:
        numba.set_num_threads(threads)
        start = time.perf_counter()
        kernel(*arrays)
        return moved / (time.perf_counter() - start)

    call()
    return Row(name, "float64", threads, call)


def peer_row(folder: Path, tables: Path, precision: str, threads: int) -> Row:
    program = [folder / "bin" / "python", "-c", PEER, tables, precision, threads, STEPS["lbmpy"]]
    process = subprocess.Popen(
        [str(word) for word in program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def call() -> float:
        process.stdin.write("\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    call()
    return Row("lbmpy, half-way walls, no openings", precision, threads, call)


def make_peer(folder: Path) -> None:
    if (folder / "bin" / "python").exists():
        return
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", "lbmpy==2.0"], check=True)


def measure(rows: list[Row], rounds: int) -> None:
    for _ in range(rounds):
        for row in rows:
            row.figures.append(row.call())


def report(title: str, lattice: SparseLattice, rows: list[Row]) -> str:
    """Return a table of one geometry."""
    speeds = {
        t: max(
            r.best
            for r in rows
            if not r.bytes_per_cell and r.threads == t and r.name in ("triad", "in place")
        )
        for t in (1, 2)
    }
    best = {(r.name, r.precision, r.threads): r.best for r in rows}
    links = len(lattice.link_cell) / len(lattice.cells)
    lines = [
        f"## {title}\n",
        f"{len(lattice.cells)} fluid cells in a box of {' x '.join(map(str, lattice.shape))}, "
        f"{links:.2f} links to the surface per cell. Memory: {speeds[1]:.1f} GB/s with one thread, "
        f"{speeds[2]:.1f} with two (the better of a triad and an update in place).\n",
        "| engine | precision | threads | MLUPS | of lbmpy | bytes a cell | share of the bound | "
        "walls and openings, share of the step |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.name in ("triad", "in place"):
            continue
        key = (row.precision, row.threads)
        peer = best.get(("lbmpy, half-way walls, no openings", *key))
        bound = 1e3 * speeds[row.threads] / row.bytes_per_cell if row.bytes_per_cell else 0
        free = best.get(("native, none walls", *key))
        cost = (
            ""
            if not row.name.startswith("native") or "none" in row.name
            else (f"{100 * (1 - row.best / free):.0f} %")
        )
        lines.append(
            f"| {row.name} | {row.precision} | {row.threads} | {row.best:.1f} | "
            f"{'' if peer is None else f'{row.best / peer:.1f}'} | {row.bytes_per_cell or ''} | "
            f"{f'{row.best / bound:.2f}' if bound else ''} | {cost} |"
        )
    return "\n".join(lines) + "\n"


def command_line(surface_name: str | None, spacing_mm: float, more: str) -> str:
    """Return what is typed to make the table again; folders of this machine are not named."""
    named = f' --surface SURFACE_DIR --surface-name "{surface_name}" --spacing-mm {spacing_mm:g}'
    return (
        f"python benchmarks/flow_speed.py docs/flow_speed.md{named if surface_name else ''}{more}"
    )


def introduction(command: str) -> list[str]:
    """Return what stands above the tables."""
    return [
        "# Speed of the lattice engines\n",
        f"Made by `{command}`; what is compared is said there.",
        f"Instruction set: {levels()[-1]}. MLUPS: million updates of fluid cells a second. "
        "Quadratic walls come with corrected convection, which linear ones cannot have: its cost counts as "
        "theirs in the last column.",
        "The Numba rows are this project's own fallback where no compiler is: a plain kernel over lists of "
        "cells, not tuned, and no measure of what Numba can do.",
        "OpenLB and Palabos are not in the table: they are GPL and AGPL, so that nothing of them may be "
        "linked here, and unlike lbmpy pip does not install them: each needs an MPI build of its own.\n",
    ]


def benchmark(
    title: str,
    lattice: SparseLattice,
    openings: tuple[Opening, ...],
    peer: Path | None,
    scratch: Path,
    rounds: int,
) -> str:
    rows = [memory_row(name, t) for t in (1, 2) for name in ("triad", "in place")]
    tables = scratch / "flow_speed_tables.npz"
    if peer is not None:
        np.savez(tables, neighbour=lattice.neighbour, velocities=VELOCITIES)
    native = [("native", walls) for walls in ("none", "linear", "quadratic")]
    for precision, threads in product(("float32", "float64"), (1, 2)):
        rows += [
            engine_row(
                *(name, lattice, openings), walls=walls, precision=precision, threads=threads
            )
            for name, walls in (*native, ("numba", "linear"))
        ]
        if peer is not None:
            rows.append(peer_row(peer, tables, precision, threads))
    tables.unlink(missing_ok=True)
    measure(rows, rounds)
    return report(title, lattice, rows)


app = cyclopts.App(help=__doc__)


@app.default
def main(
    output: Path,
    *,
    surface: Path | None = None,
    surface_name: str | None = None,
    spacing_mm: float = 0.3,
    peer: Path | None = Path("out/lbmpy"),
    rounds: int = ROUNDS,
) -> None:
    """Measure and write a table.

    Parameters
    ----------
    output
        Markdown file to write.
    surface
        Surface folder to measure on besides the synthetic nose.
    surface_name
        What the table calls it; the folder's name if none is given.
    spacing_mm
        Edge of a lattice cell there, mm.
    peer
        Virtual environment of lbmpy; it is made if missing. `--no-peer` leaves lbmpy out.
    rounds
        Measurements of each; the best one counts.
    """
    if peer is not None:
        make_peer(peer)
    output.parent.mkdir(parents=True, exist_ok=True)
    cases = [("Synthetic nose", *synthetic_nose())]
    name = surface and (surface_name or surface.name)
    if surface is not None:
        cases.append((f"{name} at {spacing_mm:g} mm", *surface_lattice(surface, spacing_mm)))
    more = ("" if peer else " --no-peer") + (f" --rounds {rounds}" if rounds != ROUNDS else "")
    text = introduction(command_line(name, spacing_mm, more))
    for title, lattice, openings in cases:
        text.append(benchmark(title, lattice, openings, peer, output.parent, rounds))
        print(text[-1], flush=True)
    output.write_text("\n".join(text))


if __name__ == "__main__":
    app()
