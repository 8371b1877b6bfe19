"""What the lattice and the time step make of a nose's pressure loss, with its pictures.

    python benchmarks/nose_flow.py SURFACE_DIR docs/nose_flow.md --name "HR of the real head"

Runs `ct2flow simulate refine` at each lattice velocity and writes a table of every lattice (loss, flow
split, state in time, steps, seconds, MLUPS), the discretisation error of each ladder, the change with the
lattice velocity, and two pictures beside the table, in `images/`. Flows that are done are kept in --work,
and a killed run goes on. The lattice of 0.18 mm alone took 50 minutes of one thread beside other work.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cyclopts
import matplotlib.pyplot as plt
import numpy as np
import pyvista

from pipeline.core.errors import UsageError
from stages.report import figures, renders, sections
from stages.report.stage import read_field

VIEW = (-1.0, -0.55, 0.25)
"""From the right, a little from the front and above; LPS."""
WINDOW = (1000, 700)

Record = dict[str, Any]


def measure(
    surface: Path,
    work: Path,
    spacings_mm: str,
    velocity: float,
    flow_rate_ml_s: float,
    threads: int,
) -> tuple[list[Record], Record]:
    """Return flow.json of every lattice, the coarsest first, and refinement.json."""
    output = work / f"lattice-velocity-{velocity:g}"
    options = {
        "--output": output,
        "--spacings-mm": spacings_mm,
        "--lattice-velocity": velocity,
        "--flow-rate-ml-s": flow_rate_ml_s,
        "--threads": threads,
    }
    words = [str(word) for pair in options.items() for word in pair]
    program = str(Path(sys.executable).parent / "ct2flow")
    command = [program, "simulate", "refine", str(surface), *words]
    subprocess.run(command, check=True)
    flows = [
        json.loads((output / f"{float(s):g}mm" / "flow.json").read_text())
        for s in sorted(spacings_mm.split(","), key=float, reverse=True)
    ]
    return flows, json.loads((output / "refinement.json").read_text())


def state_in_time(flow: Record) -> str:
    """Say how a run ended, with what its state in time leaves open."""
    end = flow["convergence"]
    if end["reached"]:
        return "steady"
    if end["statistically_steady"]:
        return f"unsteady, mean ± {100 * end['time_mean_error']:.1f} %"
    return f"not settled, {100 * end['pressure_loss_change']:.1f} % last change"


def row(velocity: float, flow: Record) -> list[str]:
    lattice, loss = flow["lattice"], flow["pressure_loss"]
    inlets = [o["flow_rate_ml_s"] for n, o in flow["openings"].items() if n.startswith("inlet")]
    return [
        f"{lattice['spacing_mm']:g}",
        f"{velocity:g}",
        f"{lattice['fluid_cells']:,}",
        f"{loss['total_pa']:.2f}",
        f"{loss['static_pa']:.2f}",
        " / ".join(f"{rate:.0f}" for rate in inlets),
        state_in_time(flow),
        f"{lattice['steps']:,}",
        f"{lattice['seconds']:.0f}",
        f"{lattice['mlups']:.0f}",
    ]


HEAD = (
    "lattice, mm",
    "lattice velocity",
    "cells",
    "total loss, Pa",
    "static loss, Pa",
    "inlets, ml/s",
    "state in time",
    "steps",
    "seconds",
    "MLUPS",
)


def errors(velocity: float, refinement: Record) -> str:
    total = refinement["pressure_loss"]["total_pa"]
    order, limit = total["observed_order"], total["extrapolated"]
    return (
        f"Lattice velocity {velocity:g}: error of the loss at {refinement['spacings_mm'][0]:g} mm "
        f"{total['error_percent']:.1f} % ({total['method']}; observed order "
        f"{'none' if order is None else f'{order:.1f}'}"
        + (f"; extrapolated {limit:.2f} Pa)." if limit is not None and order is not None else ").")
    )


def against_the_finest(flows: Sequence[Record]) -> str:
    losses = {f["lattice"]["spacing_mm"]: f["pressure_loss"]["total_pa"] for f in flows}
    finest = losses[min(losses)]
    return "; ".join(
        f"{dx:g} mm {100 * (loss / finest - 1):+.1f} %" for dx, loss in losses.items()
    )


def mach_changes(runs: dict[float, list[Record]]) -> list[str]:
    base, *others = runs
    loss = {
        v: {f["lattice"]["spacing_mm"]: f["pressure_loss"]["total_pa"] for f in flows}
        for v, flows in runs.items()
    }
    return [
        f"From lattice velocity {base:g} to {v:g} the loss changes by "
        + "; ".join(
            f"{100 * (loss[v][dx] / loss[base][dx] - 1):+.1f} % at {dx:g} mm"
            for dx in loss[base]
            if dx in loss[v]
        )
        + "."
        for v in others
    ]


def draw_sections(folder: Path, path: Path) -> None:
    field = read_field(folder)
    cuts = sections.cut_sections(field, sections.common_places(field))
    boxes = [sections.shown_box([cut]) for cut in cuts]
    widths = [(box[1] - box[0]) / (box[3] - box[2]) for box in boxes]
    figure, grid = plt.subplots(
        1, len(cuts), figsize=(14, 4), width_ratios=widths, layout="constrained"
    )
    low, high = figures.shared_range({"hr": cuts}, "speed")
    for axes, cut, box in zip(grid, cuts, boxes, strict=True):
        shown = axes.imshow(cut.speed, extent=cut.extent_mm, origin="lower", vmin=low, vmax=high)
        axes.set(
            title=cut.title, xlabel=cut.labels[0], ylabel=cut.labels[1], xlim=box[:2], ylim=box[2:]
        )
    figure.colorbar(shown, ax=grid, label="velocity magnitude, m/s")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def draw_lines(folder: Path, path: Path) -> None:
    """Draw streamlines by their speed within the wall by its shear stress."""
    wall, lines = (pyvista.read(folder / name) for name in ("wall.vtp", "streamlines.vtp"))
    shear = next(n for n in wall.array_names if "shear" in n and np.ndim(wall[n]) == 1)
    speed = next(n for n in lines.array_names if n in ("speed", "velocity"))
    lines["speed, m/s"] = (
        lines[speed] if np.ndim(lines[speed]) == 1 else np.linalg.norm(lines[speed], axis=1)
    )
    plotter = pyvista.Plotter(off_screen=True, window_size=WINDOW)
    plotter.set_background("white")
    high = float(np.quantile(wall[shear], 0.99))
    bar = {"title": "speed, m/s", "position_x": 0.25, "position_y": 0.03}
    plotter.add_mesh(
        wall, scalars=shear, cmap="Greys", clim=(0, high), opacity=0.25, show_scalar_bar=False
    )
    plotter.add_mesh(
        lines, scalars="speed, m/s", cmap="viridis", line_width=1.5, scalar_bar_args=bar
    )
    plotter.camera_position = [tuple(300 * np.array(VIEW) + wall.center), wall.center, (0, 0, 1)]
    plotter.enable_parallel_projection()
    plotter.reset_camera()
    plotter.camera.zoom(1.4)
    plotter.screenshot(path)
    plotter.close()


def main(
    surface: Path,
    report: Path,
    *,
    name: str = "a nose",
    spacings_mm: str = "0.5,0.35,0.25,0.18",
    lattice_velocities: str = "0.1,0.05",
    finest_of_others_mm: float = 0.25,
    picture_mm: float = 0.25,
    remark: str = "",
    flow_rate_ml_s: float = 250.0,
    work: Path = Path("out/nose_flow"),
    threads: int = 2,
) -> None:
    """Measure and write; lattice velocities after the first leave out lattices below one spacing.

    The pictures are of the first lattice velocity; the remark says what else a reader must know.
    """
    velocities = [float(v) for v in lattice_velocities.split(",")]
    coarser = ",".join(s for s in spacings_mm.split(",") if float(s) >= finest_of_others_mm)
    runs, told = {}, {}
    for k, velocity in enumerate(velocities):
        asked = spacings_mm if k == 0 else coarser
        runs[velocity], told[velocity] = measure(
            surface, work, asked, velocity, flow_rate_ml_s, threads
        )
    rows = [row(velocity, flow) for velocity, flows in runs.items() for flow in flows]
    base = velocities[0]
    lines = [
        f"# The lattice and the time step on {name}",
        "",
        f"Made by `python benchmarks/nose_flow.py`; {flow_rate_ml_s:g} ml/s, default settings but for the "
        "columns. Each lattice begins with the flow of the coarser one; the coarsest begins at rest.",
        "",
        "| " + " | ".join(HEAD) + " |",
        "|" + "---|" * len(HEAD),
        *("| " + " | ".join(cells) + " |" for cells in rows),
        "",
        f"Total loss against the finest lattice's: {against_the_finest(runs[base])}.",
        "",
        *(line for v in velocities for line in (errors(v, told[v]), "") if len(runs[v]) > 2),
        *mach_changes(runs),
        "",
        *((remark, "") if remark else ()),
    ]
    shown = min(runs[base], key=lambda f: abs(f["lattice"]["spacing_mm"] - picture_mm))
    folder = work / f"lattice-velocity-{base:g}" / f"{shown['lattice']['spacing_mm']:g}mm"
    images = report.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    draw_sections(folder, images / f"{report.stem}_sections.png")
    lines += [f"![Velocity magnitude on three sections](images/{report.stem}_sections.png)", ""]
    if renders.can_draw():
        draw_lines(folder, images / f"{report.stem}_lines.png")
        lines += [f"![Streamlines, coloured by speed](images/{report.stem}_lines.png)", ""]
    report.write_text("\n".join(lines))


if __name__ == "__main__":
    try:
        cyclopts.run(main)
    except (UsageError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
