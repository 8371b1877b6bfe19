"""What a converged solution says of the FDA nozzle at throat Reynolds number 500, beside the lattice.

    pip install scikit-fem   # BSD, in an environment of its own
    python benchmarks/fda_nozzle_reference.py docs/flow_validation.json

Axisymmetric steady Navier-Stokes equations on quadrilaterals, velocity of second and pressure of first
order (Taylor-Hood), Newton's method with the Reynolds number raised in steps. The lattice's velocities on
the axis are those of the validation's record. Five minutes and 2 GB.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.sparse import bmat
from scipy.sparse.linalg import splu
from skfem import (
    Basis,
    BilinearForm,
    ElementQuad1,
    ElementQuad2,
    ElementVector,
    LinearForm,
    MeshQuad,
)
from skfem.helpers import ddot, grad, mul

VISCOSITY_PA_S, DENSITY_KG_M3, FLOW_ML_S = 0.0035, 1056.0, 5.20624
START_MM, CONE_MM, THROAT_MM, END_MM = -96.0, -62.685, -40.0, 120.0
WIDE_MM, NARROW_MM = 6.0, 2.0
PLACES_MM = (-88.0, -48.0, -20.0, -8.0, 0.0, 8.0, 16.0, 32.0, 60.0, 80.0)
PRESSURE_PLACES_MM = (-90.32, 32.0)
RAISED = (20.0, 5.0, 2.0, 1.0)
"""Times the viscosity, on the way to the Reynolds number."""


def graded(low: float, high: float, first: float, last: float) -> np.ndarray:
    """Return places from low to high, the distance between them growing geometrically."""
    share = np.linspace(0.0, 1.0, 2000)
    density = (last / first) ** -share / first
    done = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    count = max(2, round(float(np.trapezoid(density, share) * (high - low))))
    return low + (high - low) * np.interp(np.linspace(0, 1, count + 1), done / done[-1], share)


def make_mesh(fineness: float) -> MeshQuad:
    """Return quadrilaterals (z, r), mm, narrow at walls, in the throat and behind its end."""

    def piece(low: float, high: float, first: float, last: float) -> np.ndarray:
        return graded(low, high, first / fineness, last / fineness)

    before = [
        piece(START_MM, CONE_MM, 2.0, 1.0),
        piece(CONE_MM, THROAT_MM, 1.0, 0.3),
        piece(THROAT_MM, -20.0, 0.3, 0.8),
        piece(-20.0, 0.0, 0.8, 0.15),
    ]
    up = np.concatenate([before[0], *(part[1:] for part in before[1:])])
    down = np.concatenate([piece(0.0, 20.0, 0.15, 0.8), piece(20.0, END_MM, 0.8, 2.0)[1:]])
    share = np.linspace(0.0, 1.0, round(14 * fineness) + 1)
    share = 0.5 * np.sin(share * np.pi / 2) + 0.5 * share
    beside = NARROW_MM + piece(0.0, WIDE_MM - NARROW_MM, 0.08, 0.5)[1:]
    numbers: dict[tuple[float, float], int] = {}

    def node(z: float, r: float) -> int:
        return numbers.setdefault((round(z, 9), round(r, 9)), len(numbers))

    def strip(a: float, b: float, at_a: np.ndarray, at_b: np.ndarray) -> list[list[int]]:
        return [
            [node(a, at_a[k]), node(b, at_b[k]), node(b, at_b[k + 1]), node(a, at_a[k + 1])]
            for k in range(len(at_a) - 1)
        ]

    def radius(z: float) -> float:
        return float(np.interp(z, [CONE_MM, THROAT_MM], [WIDE_MM, NARROW_MM]))

    faces = []
    for a, b in pairwise(up):
        faces += strip(a, b, share * radius(a), share * radius(b))
    whole = np.concatenate([share * NARROW_MM, beside])
    for a, b in pairwise(down):
        faces += strip(a, b, whole, whole)
    return MeshQuad(np.array(list(numbers)).T, np.array(faces).T)


@BilinearForm
def friction(u, v, w):  # noqa: ANN001, ANN201
    r = w.x[1]
    return w.nu * (ddot(grad(u), grad(v)) * r + u[1] * v[1] / np.maximum(r, 1e-12))


@BilinearForm
def sources(u, q, w):  # noqa: ANN001, ANN201
    return -q * ((u.grad[0][0] + u.grad[1][1]) * w.x[1] + u[1])


@BilinearForm
def carried(u, v, w):  # noqa: ANN001, ANN201
    change = mul(grad(u), w["a"]) + mul(w["a"].grad, u)
    return (change[0] * v[0] + change[1] * v[1]) * w.x[1]


@LinearForm
def carried_itself(v, w):  # noqa: ANN001, ANN201
    change = mul(w["a"].grad, w["a"])
    return (change[0] * v[0] + change[1] * v[1]) * w.x[1]


def solve(fineness: float) -> tuple[np.ndarray, float]:
    """Return velocities on the axis, m/s, and the pressure drop, Pa."""
    mesh = make_mesh(fineness)
    velocity = Basis(mesh, ElementVector(ElementQuad2()), intorder=6)
    pressure = velocity.with_element(ElementQuad1())
    edges = mesh.boundary_facets()
    z, r = mesh.p[:, mesh.facets[:, edges]].mean(axis=1)
    begin, end, axis = (np.abs(x) < 1e-6 for x in (z - START_MM, z - END_MM, r))
    inlet = velocity.get_dofs(edges[begin]).all(["u^1"])
    fixed = [
        velocity.get_dofs(edges[begin]).all(),
        velocity.get_dofs(edges[~(begin | end | axis)]).all(),
        velocity.get_dofs(edges[axis]).all(["u^2"]),
    ]
    found = np.zeros(velocity.N + pressure.N)
    mean = FLOW_ML_S / (np.pi * WIDE_MM**2)
    found[inlet] = 2 * mean * (1 - (velocity.doflocs[1, inlet] / WIDE_MM) ** 2)
    free = np.setdiff1d(np.arange(len(found)), np.concatenate(fixed))
    balance = sources.assemble(velocity, pressure)
    for times in RAISED:
        # Lengths in mm and velocities in m/s: viscosity in mm m/s, pressure over density in m2/s2.
        nu = 1e3 * times * VISCOSITY_PA_S / DENSITY_KG_M3
        stiff = friction.assemble(velocity, nu=nu)
        for _ in range(15):
            now = velocity.interpolate(found[: velocity.N])
            momentum = stiff @ found[: velocity.N] + carried_itself.assemble(velocity, a=now)
            rest = np.concatenate(
                [
                    momentum + balance.T @ found[velocity.N :],
                    balance @ found[: velocity.N],
                ]
            )
            slope = stiff + carried.assemble(velocity, a=now)
            whole = bmat([[slope, balance.T], [balance, None]]).tocsc()
            step = splu(whole[free][:, free]).solve(-rest[free])
            found[free] += step
            if np.abs(step).max() < 1e-9:
                break
    on_axis = np.vstack([PLACES_MM, np.full(len(PLACES_MM), 1e-9)])
    speeds = velocity.probes(on_axis) @ found[: velocity.N]
    ends = np.vstack([PRESSURE_PLACES_MM, [NARROW_MM / 2] * 2])
    high, low = pressure.probes(ends) @ found[velocity.N :]
    return speeds[: len(PLACES_MM)], float(high - low) * DENSITY_KG_M3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("record", type=Path, help="the validation's JSON")
    parser.add_argument("--fineness", type=float, nargs="+", default=[0.7, 1.0])
    given = parser.parse_args()
    if min(given.fineness) < 0.2 or max(given.fineness) > 4:
        parser.error(f"--fineness {given.fineness}: needed are numbers from 0.2 to 4")
    try:
        cases = json.loads(given.record.read_text())["cases"]
        nozzle = next(
            c for c in cases if c["name"] == "fda-nozzle" and c["precision"] == "float32"
        )
    except (OSError, ValueError, TypeError, KeyError, StopIteration):
        parser.error(
            f"{given.record}: needed is the JSON of 'ct2flow simulate validate' with fda-nozzle in float32"
        )
    lines = {name: dict(line) for name, line in nozzle["curves"][0]["lines"].items()}
    ranges = {
        place: (low, high) for place, low, high in nozzle["curves"][0]["bars"]["five laboratories"]
    }
    solved = {fineness: solve(fineness) for fineness in given.fineness}
    for fineness, (_, drop) in solved.items():
        print(f"mesh {fineness:g}: pressure drop {drop:.2f} Pa")
    head = ["z, mm", "laboratories", *(f"mesh {f:g}" for f in solved), *lines]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for k, place in enumerate(PLACES_MM):
        exact = solved[max(solved)][0][k]
        cells = [f"{place:g}", "{:.3f} to {:.3f}".format(*ranges[place])]
        cells += [f"{speeds[k]:.4f}" for speeds, _ in solved.values()]
        cells += [f"{100 * (line[place] / exact - 1):+.1f} %" for line in lines.values()]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
