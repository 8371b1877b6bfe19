"""What the lattice gets wrong in what flow carries along, oblique to its axes, is taken out."""

from __future__ import annotations

import numpy as np
import pytest
from flow_meshes import rotation, tube
from flow_runs import NU

from stages.flow.convection import SMALLEST_DISTANCE, convection_weight, correct_stress
from stages.flow.gathering import source_table
from stages.flow.lattice import VELOCITIES, WEIGHTS
from stages.flow.mesh import assemble
from stages.flow.openings import make_openings
from stages.flow.settings import FlowSettings
from stages.flow.simulation import Simulation
from stages.flow.validation.references import rectangle_conductance
from stages.flow.validation.shapes import rectangle
from stages.flow.voxels import SparseLattice, build_lattice

RHO = 1.14
OBLIQUE = rotation(35.0, 20.0, 10.0)


def block(edge: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the cells of a cube that is periodic and the cell one link ahead in each direction."""
    cells = np.argwhere(np.ones((edge, edge, edge), dtype=bool))
    number = np.arange(len(cells)).reshape(edge, edge, edge)
    ahead = [number[tuple(((cells + c) % edge).T)] for c in VELOCITIES]
    return cells, np.array(ahead)


def stress_of(velocity: np.ndarray, neighbour: np.ndarray, weight: float = 1.0) -> np.ndarray:
    """Return the extra stress of a periodic block."""
    fields = np.concatenate([np.zeros((1, velocity.shape[1])), velocity])
    none = np.zeros(0, dtype=int)
    stress = np.zeros((6, velocity.shape[1]))
    source = source_table(neighbour, none, none)
    correct_stress(fields, source, np.zeros(1), stress, weight, 1.0)
    return stress


def moments(velocity: np.ndarray) -> np.ndarray:
    """Return sum_i w_i c_a c_b c_c c_d (9/2 (c_i . u)^2 - 3/2 u^2) of each cell, (3, 3, 3, 3, cell)."""
    c = VELOCITIES.astype(float)
    even = 4.5 * (c @ velocity) ** 2 - 1.5 * (velocity**2).sum(axis=0)
    return np.einsum("i,ia,ib,ic,id,in->abcdn", WEIGHTS, c, c, c, c, even)


def stress_error(edge: int) -> float:
    """Return the largest difference of the stress from the fourth moment's second derivative."""
    cells, neighbour = block(edge)
    x, y, z = 2 * np.pi / edge * cells.T
    velocity = 0.05 * np.array([np.sin(y), 0.3 + np.cos(x + z), np.sin(z) * np.cos(y)])
    transform = np.fft.fftn(
        moments(velocity).reshape(3, 3, 3, 3, edge, edge, edge), axes=(4, 5, 6)
    )
    waves = np.meshgrid(*[2 * np.pi * np.fft.fftfreq(edge)] * 3, indexing="ij")
    wanted = np.zeros((3, 3, edge, edge, edge))
    for c in range(3):
        for d in range(3):
            second = -waves[c] * waves[d] * transform[:, :, c, d]
            wanted += np.fft.ifftn(second, axes=(2, 3, 4)).real
    found = stress_of(velocity, neighbour).reshape(6, edge, edge, edge)
    pairs = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]
    errors = [np.abs(found[k] - wanted[a, b]).max() for k, (a, b) in enumerate(pairs)]
    return float(max(errors) / np.abs(wanted).max())


def test_the_stress_is_the_second_derivative_of_the_lattice_s_fourth_moment():
    coarse, fine = stress_error(10), stress_error(20)
    assert fine < 0.07
    assert coarse / fine > 3.5  # second order


def test_a_uniform_flow_has_no_stress_and_a_turned_one_the_turned_stress():
    edge = 8
    cells, neighbour = block(edge)
    uniform = np.tile(np.array([[0.03], [-0.05], [0.02]]), len(cells))
    np.testing.assert_allclose(stress_of(uniform, neighbour), 0.0, atol=1e-17)
    rng = np.random.default_rng(4)
    velocity = 0.05 * rng.standard_normal((3, edge, edge, edge))
    turned = np.array([velocity[2], velocity[0], velocity[1]]).transpose(0, 3, 1, 2)
    plain = stress_of(velocity.reshape(3, -1), neighbour).reshape(6, edge, edge, edge)
    other = stress_of(turned.reshape(3, -1), neighbour).reshape(6, edge, edge, edge)
    # x -> y -> z -> x: xx -> yy, xy -> yz, xz -> xy.
    for k, image in {0: 1, 1: 2, 2: 0, 3: 5, 5: 4, 4: 3}.items():
        np.testing.assert_allclose(other[image], plain[k].transpose(2, 0, 1), atol=1e-15)


def test_the_weight_vanishes_at_the_rates_that_need_no_correction():
    """At (tau - 1/2)(tau_3 - 1/2) = 1/12 two-rate models have no third-order error in what they carry."""
    tau_third = 1.0
    tau = 0.5 + 1.0 / 12.0 / (tau_third - 0.5)
    assert convection_weight(1.0 / tau, 1.0 / tau_third) == pytest.approx(0.0, abs=1e-15)
    assert convection_weight(1.999, 1.0) == pytest.approx(1.0 / 12.0, rel=0.01)


def test_walls_count_as_rest_where_they_are():
    """(q - s)^2 along a link bends by 2 whatever the distance q to the wall."""
    _, neighbour = block(4)
    lattice_cells = neighbour.shape[1]
    ahead = neighbour.copy()
    cell, q = 0, 1
    ahead[q, cell] = -1
    link_cell, link_direction = np.array([cell]), np.array([q])
    source = source_table(ahead, link_cell, link_direction)
    for distance in (SMALLEST_DISTANCE, 0.4, 1.0):
        fields = np.zeros((4, lattice_cells))
        fields[1, cell] = distance
        fields[1, ahead[q + 1, cell]] = 1.0 + distance
        stress = np.zeros((6, lattice_cells))
        correct_stress(fields, source, np.array([1.0 / distance]), stress, 1.0, 1.0)
        along = 2.0 * WEIGHTS[q] * (4.5 - 1.5) * 2.0
        others = _stress_of_other_links(fields, ahead, cell, q)
        assert stress[0, cell] == pytest.approx(along + others, rel=1e-12)


def _stress_of_other_links(fields: np.ndarray, ahead: np.ndarray, cell: int, cut: int) -> float:
    total = 0.0
    c = VELOCITIES.astype(float)

    def even(k: int, place: int) -> float:
        u = fields[1:, place]
        return float(4.5 * (c[k] @ u) ** 2 - 1.5 * u @ u)

    for k in range(1, 19, 2):
        if k == cut:
            continue
        bend = even(k, ahead[k, cell]) + even(k, ahead[k + 1, cell]) - 2 * even(k, cell)
        total += 2 * WEIGHTS[k] * c[k, 0] ** 2 * bend
    return total


def slit(lattice_cells: float, **settings) -> tuple[float, float]:
    """Return gradient over the exact one and cross-flow over the mean of an oblique slit 10 cells wide."""
    width, length, reynolds = 10.0, 50.0, 20.0
    surface = assemble(tube(rectangle(width, lattice_cells), length, turn=OBLIQUE))
    lattice: SparseLattice = build_lattice(surface, 1.0)
    mean_m_s = reynolds * NU / 1e-3
    flow_ml_s = mean_m_s * width * lattice_cells
    chosen = FlowSettings(
        flow_rate_ml_s=flow_ml_s, spacing_mm=1.0, threads=1, inlet="developed", **settings
    )
    result = Simulation(lattice, make_openings(surface, lattice), chosen).run()
    place = lattice.centres_mm @ OBLIQUE
    inside = (place[:, 2] > 0.4 * length) & (place[:, 2] < 0.85 * length)
    middle = inside & (np.abs(place[:, 0]) < 0.25 * width)
    gradient = -np.polyfit(place[inside, 2], result.pressure_pa[inside], 1)[0] * 1e3
    exact = RHO * NU * flow_ml_s * 1e-6 / rectangle_conductance(width * 1e-3, lattice_cells * 1e-3)
    across = (result.velocity_m_s.T @ OBLIQUE)[middle, 0] / mean_m_s
    upper = place[middle, 1] > 0
    return gradient / exact, float(abs(across[upper].mean() - across[~upper].mean()))


def test_an_oblique_slit_carries_little_across_and_loses_what_it_should():
    plain, across_plain = slit(3.0, convection="plain")
    corrected, across = slit(3.0)
    assert plain > 1.06
    assert 0.97 < corrected < 1.04
    assert across_plain > 0.09
    assert across < 0.55 * across_plain


def test_both_engines_come_to_the_same_corrected_flow():
    steady = {"precision": "float64", "tolerance": 1e-7, "flow_throughs": 20.0}
    (one, across), (two, other) = (slit(4.0, engine=e, **steady) for e in ("native", "numba"))
    assert two == pytest.approx(one, rel=1e-4)
    assert other == pytest.approx(across, rel=1e-2)
