"""Time what a flow folder holds beside the pressure loss, beside the flow itself and VTK's streamlines.

    python benchmarks/flow_fields.py SURFACE_DIR --spacing-mm 0.7 --flow-rate-ml-s 250

All in one run: the flow, then its temperature, wall fields and lines, each as a share of the flow's
processor time. VTK's vtkStreamTracer follows the same seeds through the same velocity (zero outside the
fluid) with the same longest step; a line counts as through if it ends within two cells of an outlet.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyvista
from scipy.spatial import cKDTree

from stages.flow.derived import _temperature, _wall
from stages.flow.mesh import assemble
from stages.flow.openings import make_openings
from stages.flow.readings import patch_points
from stages.flow.sampling import NodeTable
from stages.flow.settings import FlowSettings
from stages.flow.simulation import Simulation
from stages.flow.stage import read_patches
from stages.flow.streamlines import Streamlines, streamlines
from stages.flow.voxels import SparseLattice, build_lattice


def timed(action: Callable[[], object]) -> tuple[object, float]:
    start = time.process_time()
    found = action()
    return found, time.process_time() - start


def velocity_image(lattice: SparseLattice, velocity: np.ndarray) -> pyvista.ImageData:
    image = pyvista.ImageData(
        dimensions=lattice.shape, spacing=(lattice.spacing_mm,) * 3, origin=lattice.origin_mm
    )
    values = np.zeros((*lattice.shape, 3), dtype=np.float32)
    values[tuple(lattice.cells.T)] = velocity.T
    image["velocity"] = values.transpose(2, 1, 0, 3).reshape(-1, 3)
    return image


def vtk_lines(image: pyvista.ImageData, seeds: np.ndarray) -> pyvista.PolyData:
    return image.streamlines_from_source(
        pyvista.PolyData(seeds),
        vectors="velocity",
        integrator_type=45,
        integration_direction="forward",
        step_unit="cl",
        initial_step_length=0.1,
        max_step_length=0.3,  # of a cell's diagonal: half an edge
        max_length=1e4,
        max_steps=40_000,
        terminal_speed=1e-6,
    )


def through(ends: np.ndarray, outlets: np.ndarray, reach_mm: float) -> float:
    return float((cKDTree(outlets).query(ends)[0] < reach_mm).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("surface", type=Path)
    parser.add_argument("--spacing-mm", type=float, default=0.7)
    parser.add_argument("--flow-rate-ml-s", type=float, default=250.0)
    parser.add_argument("--lines", type=int, default=400)
    given = parser.parse_args()
    settings = FlowSettings(
        spacing_mm=given.spacing_mm, flow_rate_ml_s=given.flow_rate_ml_s, threads=1
    )
    surface = assemble(read_patches(given.surface))
    lattice = build_lattice(surface, given.spacing_mm)
    openings = make_openings(surface, lattice)
    flow, flow_s = timed(Simulation(lattice, openings, settings).run)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{len(lattice.cells)} cells; flow {flow_s:.1f} s of one processor")
    nodes = NodeTable(lattice)
    fields = (flow.velocity_m_s, flow.pressure_pa)

    def lines(count: int) -> Streamlines:
        return streamlines(lattice, openings, nodes, *fields, count=count)

    lines(1)  # compiled or loaded
    parts = {
        "temperature": lambda: _temperature(lattice, openings, flow, settings)[0],
        "wall": lambda: _wall(surface, lattice, flow, settings, None),
        f"{given.lines} lines": lambda: lines(given.lines),
    }
    found = {}
    for name, part in parts.items():
        found[name], seconds = timed(part)
        print(f"{name}: {seconds:.1f} s, {seconds / flow_s:.3f} of the flow")
    heat, ours = found["temperature"], found[f"{given.lines} lines"]
    print(f"heat balance {100 * heat.imbalance:.4f} %, iterates {heat.iterations}")
    seeds = ours.points_mm[ours.first[:-1]]
    image = velocity_image(lattice, flow.velocity_m_s)
    peer, peer_s = timed(lambda: vtk_lines(image, seeds))
    outlets = np.concatenate(
        [patch_points(o.triangles_mm, given.spacing_mm)[0] for o in openings if not o.inlet]
    )
    reach = 2 * given.spacing_mm
    theirs = np.array([peer.get_cell(k).points[-1] for k in range(peer.n_cells)])
    mine = ours.points_mm[ours.first[1:] - 1]
    print(f"lines through: ours {through(mine, outlets, reach):.4f}, ", end="")
    print(f"VTK {through(theirs, outlets, reach):.4f} in {peer_s:.1f} s")
    print(f"peak memory {memory / 1e6:.2f} GB with the flow alone, ", end="")
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB with all")


if __name__ == "__main__":
    main()
