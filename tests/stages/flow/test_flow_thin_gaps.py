"""Passages of one to six cells: gaps of one cell, pipes that have rows of one, and what they carry."""

from __future__ import annotations

import numpy as np
import pytest
from flow_engines import closed_box, every_engine
from jaxtyping import Float

from pipeline.core.planes import Plane
from stages.flow.lattice import OPPOSITE, VELOCITIES, WEIGHTS
from stages.flow.sampling import NodeTable
from stages.flow.sections import section_inside
from stages.flow.validation.flows import NU_M2_S, RHO_KG_M3, Bench, Solved
from stages.flow.validation.pipes import at_place, pipe_flow
from stages.flow.validation.references import rectangle_conductance
from stages.flow.validation.shapes import rectangle, rotation, tube
from stages.flow.walls import interpolated_walls, pair_friction

ALIGNED, OBLIQUE = rotation(0.0, 0.0, 0.0), rotation(30.0, 20.0, 10.0)
ONE_CELL_ROWS = (0.29, 0.61, 0.47)
"""Place of a pipe along z at which some of its rows are one cell wide along x or y."""


@pytest.mark.parametrize("height", [0.8, 1.0, 1.4])
def test_gaps_of_one_cell_along_an_axis_have_the_friction_of_a_slit(height: float) -> None:
    """Linear walls all but close them: twelve times the pressure gradient and more."""
    width, velocity = 24.0, 20.0 * NU_M2_S / 1e-3
    slit = at_place(tube(rectangle(width, height), 40.0, turn=ALIGNED), 1.0, (0.0, 0.3, 0.0))
    if height > 1.0:
        slit = tube(rectangle(width, height), 40.0, turn=ALIGNED)
    solved = Bench(threads=1).solve(slit, 1.0, velocity * width * height)
    assert len(np.unique(solved.lattice.cells[:, 1])) == 1
    conductance = rectangle_conductance(width * 1e-3, height * 1e-3)
    exact = RHO_KG_M3 * NU_M2_S * velocity * width * height * 1e-6 / conductance * 1e-3
    found = solved.gradient_pa_mm(ALIGNED[:, 2], 10.0, 30.0)
    assert found == pytest.approx(exact, rel=0.03)


@every_engine
@pytest.mark.parametrize("distance", [0.2, 0.5])
def test_velocity_across_a_gap_of_one_cell_dies_away(name: str, distance: float) -> None:
    """With linear walls it turns round in each step and stays."""
    speeds = {}
    for curvature in (0.0, 1.0):
        box = closed_box(np.ones((9, 8, 1), bool), distance, curvature, tau=0.505)
        fields = np.zeros((4, len(box.lattice.cells)))
        fields[3] = 0.01
        engine, state = box.started(name, np.float64, fields)
        engine.advance(2000, state)
        speeds[curvature] = np.abs(engine.macroscopic()[3]).max()
    assert speeds[0.0] > 5e-3
    assert speeds[1.0] < 1e-6


def test_pairs_of_links_keep_their_mass_and_take_the_friction_of_a_slit() -> None:
    box = closed_box(np.ones((5, 5, 1), bool), 0.3, 1.0, tau=0.51)
    lattice = box.lattice
    distance = np.full(len(lattice.link_cell), 0.3)
    friction = pair_friction(
        lattice.link_cell, lattice.link_direction, distance, lattice.neighbour
    )
    middle = lattice.link_cell == 12
    direction = lattice.link_direction[middle]
    across = np.abs(VELOCITIES[direction]).sum(axis=1) == 1
    assert np.isinf(friction[middle][across]).all()
    # A slit 0.6 cells wide; two thirds of the cell's links feel the pressure gradient.
    along = friction[middle][~across]
    np.testing.assert_allclose(along, 36.0 * (2.0 / 3.0) / 0.6**2, rtol=1e-6)
    mine = box.walls.cell == 12
    np.testing.assert_array_equal(box.walls.share[mine], 0.5)
    assert not box.walls.near[mine].any()
    taken = np.sum(WEIGHTS[direction] * VELOCITIES[direction][:, 0] ** 2 * 3.0)
    back = -box.walls.here[mine]
    given = np.sum(back * VELOCITIES[box.walls.direction[mine]][:, 0] ** 2)
    viscosity = 0.01 / 3.0
    assert taken - given == pytest.approx(12.0 * viscosity / 0.6**2 * (2.0 / 3.0), rel=1e-6)


def test_pairs_of_links_return_the_stress_of_a_parabola() -> None:
    """Of creeping flow through an oblique slit they hand back the stress that should arrive."""
    tau, height, size = 0.51, 2.0, 20
    turn = rotation(35.0, 20.0, 10.0)
    along, normal = turn[:, 2], turn[:, 1]
    places = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    height_of = (places - size / 2) @ normal - 0.3
    inside = np.abs(height_of) < height / 2
    cells, y = places[inside], height_of[inside]
    index = np.full((size + 2,) * 3, -1)
    index[tuple((cells + 1).T)] = np.arange(len(cells))
    neighbour = np.stack([index[tuple((cells + 1 + c).T)] for c in VELOCITIES])
    direction, cell = np.nonzero(neighbour < 0)
    middle = ((cells > 2) & (cells < size - 3)).all(axis=1)[cell]
    direction, cell = direction[middle], cell[middle]
    steep = VELOCITIES[direction] @ normal
    distance = (np.sign(steep) * height / 2 - y[cell]) / steep
    walls = interpolated_walls(
        *(np.arange(len(cell)), cell, direction, distance, neighbour),
        cells=cells,
        relaxation_time=tau,
        curvature=1.0,
    )
    speed = height**2 / 4 - np.square(y)
    pairs = neighbour[OPPOSITE[walls.direction], walls.cell] < 0
    returned: dict[tuple[int, int], float] = {}
    for k in np.flatnonzero(pairs):
        c, x = VELOCITIES[walls.direction[k]], walls.cell[k]
        phi, slope = c @ along * speed[x], (c @ along) * (c @ normal) * -2.0 * y[x]
        weight = WEIGHTS[walls.direction[k]]
        leaving = weight * np.array([3 * phi, -3 * phi]) - 3 * weight * (tau - 1) * slope
        returned[int(x), int(walls.direction[k])] = leaving.mean() + walls.here[k] * phi
    product = distance * (2.0 / np.abs(steep) - distance)
    sure = {(x, d) for x, d, p in zip(cell, direction, product, strict=True) if p > 0.26}
    compared = 0
    for (x, d), one in returned.items():
        if d % 2 == 0 or (x, d) not in sure:
            continue
        slope = (VELOCITIES[d] @ along) * (VELOCITIES[d] @ normal) * -2.0 * y[x]
        both = one + returned[x, int(OPPOSITE[d])]
        assert both == pytest.approx(-6.0 * WEIGHTS[d] * tau * slope, abs=1e-6)
        compared += abs(slope) > 0.05
    assert compared > 50


def test_calm_cells_keep_linear_walls() -> None:
    box = closed_box(np.ones((5, 5, 1), bool), 0.3, 0.0, tau=0.51)
    np.testing.assert_allclose(box.walls.share, 0.6)
    assert box.walls.near.all()
    assert not box.walls.is_curved


def test_only_links_without_a_cell_behind_are_pairs() -> None:
    box = closed_box(np.ones((5, 5, 2), bool), 0.3, 1.0, tau=0.51)
    lattice, walls = box.lattice, box.walls
    alone = lattice.neighbour[OPPOSITE[walls.direction], walls.cell] < 0
    assert alone.any()
    assert (walls.share[alone] == 0.5).all()
    assert (walls.share[~alone] != 0.5).all()


@pytest.mark.parametrize(("cells", "bound"), [(4, 0.05), (6, 0.02)])
def test_pipes_with_rows_of_one_cell_have_poiseuilles_gradient(cells: int, bound: float) -> None:
    """With linear walls in these rows the gradient was 22 % too high at 4 cells and 5.7 % at 6."""
    _, error = pipe_flow(Bench(threads=1), cells, 100.0, turn=ALIGNED, place=ONE_CELL_ROWS)
    assert abs(error) < bound


def _flow_of_sections(solved: Solved, axis: Float[np.ndarray, "3"], radius_mm: float) -> float:
    """Return the mean flow that sections in the middle of a passage carry, ml/s."""
    triangles, step = solved.surface.triangles_mm, solved.lattice.spacing_mm / 10
    corners = triangles.reshape(-1, 3)
    centre = (corners.max(axis=0) + corners.min(axis=0)) / 2
    nodes, flows = NodeTable(solved.lattice), []
    for along in np.linspace(-16.0, 16.0, 9):
        x, y, z = centre + along * axis
        plane = Plane("section", (x, y, z), tuple(axis), 1.5 * radius_mm)
        points, area = section_inside(triangles, plane, step, margin_mm=step)
        velocity = nodes.sampler(points).velocity(1e3 * solved.result.velocity_m_s)
        flows.append(np.nansum(axis @ velocity) * area * 1e-3)
    return float(np.mean(flows))


@pytest.mark.parametrize(
    ("turn", "cells", "place", "bound"),
    [
        (ALIGNED, 4, (0.0, 0.0, 0.0), 0.015),
        (ALIGNED, 6, (0.0, 0.0, 0.0), 0.01),
        (OBLIQUE, 4, (0.71, 0.17, 0.83), 0.021),
    ],
)
def test_sections_carry_what_openings_count(
    turn: Float[np.ndarray, "3 3"], cells: int, place: tuple[float, float, float], bound: float
) -> None:
    """Counted as the cells' sum they carried 5.6 % more, 3 % less and 2.3 % more."""
    reynolds, diameter_mm = 100.0, 8.0
    solved, _ = pipe_flow(Bench(threads=1), cells, reynolds, turn=turn, place=place)
    flow = reynolds * NU_M2_S * np.pi * diameter_mm * 1e-3 / 4 * 1e6
    carried = _flow_of_sections(solved, turn[:, 2], diameter_mm / 2)
    assert carried == pytest.approx(flow, rel=bound)
