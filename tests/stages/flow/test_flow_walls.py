"""Conservation of the lattice update itself."""

from __future__ import annotations

import numpy as np
import pytest
from flow_meshes import circle, rotation, tube

from stages.flow.collision import Collision, collide
from stages.flow.gathering import source_table
from stages.flow.lattice import VELOCITIES, WEIGHTS

NONE = (0.0,) * 6


@pytest.mark.parametrize(("third", "recursive"), [(1.0, 1.0), (1.0, 0.0), (0.7, 1.0)])
def test_collision_conserves_mass_and_momentum(third, recursive):
    arriving = 0.01 * np.random.default_rng(1).standard_normal(19)
    extra = tuple(1e-3 * np.arange(1.0, 7.0))
    state, leaving = collide(tuple(arriving), extra, 1.97, third, recursive)
    np.testing.assert_allclose(np.sum(leaving), np.sum(arriving), rtol=0, atol=1e-15)
    np.testing.assert_allclose(VELOCITIES.T @ leaving, VELOCITIES.T @ arriving, atol=1e-15)
    np.testing.assert_allclose(state[1:], VELOCITIES.T @ arriving, atol=1e-15)


def test_equilibrium_is_a_fixed_point_of_the_collision():
    rho, u = 0.01, np.array([0.03, -0.02, 0.05])
    cu = VELOCITIES @ u
    second = WEIGHTS * (rho + 3 * cu + 4.5 * cu**2 - 1.5 * u @ u)
    _, once = collide(tuple(second), NONE, 1.9, 1.0, 1.0)
    _, twice = collide(once, NONE, 1.9, 1.0, 1.0)
    np.testing.assert_allclose(twice, once, atol=1e-15)


def test_rotated_populations_collide_to_rotated_populations():
    turn = np.array([(0, 1, 0), (0, 0, 1), (1, 0, 0)])
    where = [int(np.flatnonzero((c @ turn.T == VELOCITIES).all(axis=1))[0]) for c in VELOCITIES]
    arriving = 0.01 * np.random.default_rng(2).standard_normal(19)
    turned = np.empty(19)
    turned[where] = arriving
    _, leaving = collide(tuple(arriving), NONE, 1.95, 0.8, 1.0)
    _, leaving_turned = collide(tuple(turned), NONE, 1.95, 0.8, 1.0)
    np.testing.assert_allclose(np.array(leaving_turned)[where], leaving, atol=1e-15)


def test_interpolated_walls_return_exactly_the_mass_they_took(monkeypatch):
    from stages.flow import engine, mass_windows
    from stages.flow.mesh import assemble
    from stages.flow.voxels import build_lattice
    from stages.flow.walls import interpolated_walls

    lattice = build_lattice(
        assemble(tube(circle(8.0), 12.0, turn=rotation(30.0, 20.0, 10.0))), 1.0
    )
    for size, cells in (("_BLOCK_CELLS", 4), ("_WINDOW_CELLS", 8), ("_SHORT_CELLS", 0)):
        monkeypatch.setattr(mass_windows, size, cells)
    link = np.arange(len(lattice.link_cell))
    walls = interpolated_walls(
        *(link, lattice.link_cell, lattice.link_direction, lattice.link_distance),
        lattice.neighbour,
        cells=lattice.cells,
        relaxation_time=0.51,
        curvature=1.0,
    )
    number = len(lattice.cells)
    source = source_table(lattice.neighbour, lattice.link_cell, lattice.link_direction)
    rng = np.random.default_rng(3)
    old, new = 0.01 * rng.standard_normal((2, 19 * number + len(link)))
    deferred = 0.001 * rng.standard_normal(len(link))
    fields = 0.01 * rng.standard_normal((4, number))
    rates = Collision(1.9).values(np.float64)
    stress = 1e-3 * rng.standard_normal((6, number))
    totals = []
    lacking = np.zeros(len(walls.first) - 1)
    assert len(walls.windows.share) > 8
    for _ in range(50):
        engine.stream_and_collide(old, new, source, rates, stress, fields)
        engine.return_from_walls(
            *(old, new, source, walls.first, walls.link, walls.cell, walls.direction, walls.near),
            *(walls.share, deferred, lacking),
        )
        engine.give_back(new, walls.first, walls.cell, walls.windows.spread(lacking))
        old, new = new, old
        totals.append(old[source].sum())
    np.testing.assert_allclose(totals, totals[0], rtol=1e-9)
