"""The temperature that a known flow carries, against series, symmetry and balances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from flow_meshes import blocks, circle, rectangle, rotation, tube
from scipy.linalg import eigh_tridiagonal
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import spsolve
from scipy.special import jn_zeros

from stages.flow.heat.faces import OPEN, OUTLET, SOLID, cell_sides
from stages.flow.heat.fluxes import conservative_fluxes
from stages.flow.heat.krylov import solve
from stages.flow.heat.temperature import Air, Temperature, steady_temperature
from stages.flow.heat.transport import assemble, steady_scalar
from stages.flow.mesh import assemble as assemble_surface
from stages.flow.voxels import SparseLattice, build_lattice

DIAMETER_MM, DIFFUSIVITY = 8.0, 2e-5
STRAIGHT, OBLIQUE = (0.0, 0.0, 0.0), (30.0, 20.0, 10.0)


@dataclass(frozen=True)
class Pipe:
    lattice: SparseLattice
    heat: Temperature
    turn: np.ndarray
    peclet: float
    length_mm: float

    @property
    def along_pipe(self) -> np.ndarray:
        return self.lattice.centres_mm @ self.turn


def heated_pipe(
    cells: int, peclet: float, angles, *, length_mm: float = 48.0, slug: bool = False
) -> Pipe:
    """Carry fluid of temperature 1 through a pipe with walls of temperature 0."""
    turn = rotation(*angles)
    surface = assemble_surface(tube(circle(DIAMETER_MM), length_mm, turn=turn))
    lattice = build_lattice(surface, DIAMETER_MM / cells)
    mean = peclet * DIFFUSIVITY / (DIAMETER_MM * 1e-3)
    place = lattice.centres_mm @ turn
    radius = np.hypot(place[:, 0], place[:, 1]) / (DIAMETER_MM / 2)
    profile = np.ones(len(radius)) if slug else 2 * np.maximum(1 - radius**2, 0)
    velocity = mean * turn[:, 2][:, None] * profile
    flow = {"inlet": mean * np.pi * (DIAMETER_MM * 1e-3) ** 2 / 4}
    air = Air(1.0, 0.0, DIFFUSIVITY, 1e3)
    return Pipe(lattice, steady_temperature(lattice, velocity, flow, air), turn, peclet, length_mm)


def graetz(peclet: float, count: int = 12, points: int = 400):
    """Return Graetz's eigenvalues and weights: the bulk is sum(weight exp(-rate x / R)), no axial conduction.

    Finite volumes in the radius: an independent solution of (1/r)(r f')' + rate Pe (1 - r^2) f = 0.
    """
    edge = np.linspace(0, 1, points + 1)
    r = 0.5 * (edge[1:] + edge[:-1])
    step = edge[1]
    inner = edge[1:-1] / step
    diagonal = np.zeros(points)
    diagonal[:-1] += inner
    diagonal[1:] += inner
    diagonal[-1] += 2 / step
    mass = peclet * (1 - r**2) * r * step
    root = np.sqrt(mass)
    rates, modes = eigh_tridiagonal(
        diagonal / mass, -inner / (root[1:] * root[:-1]), select="i", select_range=(0, count - 1)
    )
    modes = modes / root[:, None]
    first = modes.T @ mass  # coefficients of a uniform inlet
    return rates, first**2 / mass.sum(), modes, r


def local_nusselt(pipe: Pipe, low_mm: float, high_mm: float) -> float:
    """Return the Nusselt number from the decay of the temperature near the axis."""
    x, y, z = pipe.along_pipe.T
    near = (np.hypot(x, y) < 1.5) & (z > low_mm) & (z < high_mm)
    square = x[near] ** 2 + y[near] ** 2
    columns = np.stack([np.ones(near.sum()), z[near], square, square**2], axis=1)
    fall = -np.linalg.lstsq(columns, np.log(pipe.heat.values_c[near]), rcond=None)[0][1]
    return float(fall * DIAMETER_MM * pipe.peclet / 4)


def exact_nusselt(peclet: float) -> float:
    """Return the fully developed number of Graetz's problem with axial conduction to first order."""
    rates, _, modes, r = graetz(peclet)
    rate, mode = rates[0], modes[:, 0]
    conducted = (mode**2 * r).sum() / (peclet * (mode**2 * (1 - r**2) * r).sum())
    return float(rate * (1 - rate * conducted) * peclet / 2)


def test_the_independent_series_has_the_nusselt_number_of_the_textbooks():
    rates = graetz(1.0)[0]
    assert rates[0] / 2 == pytest.approx(3.6568, abs=1e-3)
    assert exact_nusselt(1e4) == pytest.approx(3.6568, abs=1e-3)


@pytest.mark.parametrize("angles", [STRAIGHT, OBLIQUE])
def test_fully_developed_nusselt_number_of_a_pipe_of_eight_cells_is_right_to_three_percent(angles):
    assert local_nusselt(heated_pipe(8, 40.0, angles), 28.0, 42.0) == pytest.approx(
        exact_nusselt(40.0), rel=0.03
    )


@pytest.mark.parametrize("angles", [STRAIGHT, OBLIQUE])
def test_fully_developed_nusselt_number_converges_at_second_order(angles):
    exact = exact_nusselt(40.0)
    errors = [
        abs(local_nusselt(heated_pipe(n, 40.0, angles, length_mm=40.0), 24.0, 36.0) / exact - 1)
        for n in (6, 12)
    ]
    assert np.log2(errors[0] / errors[1]) > 1.6
    assert errors[1] < 0.012


@pytest.mark.parametrize("angles", [STRAIGHT, OBLIQUE])
def test_thermal_entry_follows_graetz_series(angles):
    pipe = heated_pipe(12, 200.0, angles, length_mm=32.0)
    rates, weights, _, _ = graetz(200.0, count=60)
    exact = float(weights @ np.exp(-rates * pipe.length_mm / (DIAMETER_MM / 2)))
    assert pipe.heat.openings_c["outlet"] == pytest.approx(exact, abs=0.012)


def test_slug_flow_follows_its_series():
    pipe = heated_pipe(12, 100.0, STRAIGHT, length_mm=32.0, slug=True)
    roots = jn_zeros(0, 40)
    x = pipe.length_mm / (DIAMETER_MM / 2) / (100.0 / 2)
    exact = float(np.sum(4 / roots**2 * np.exp(-(roots**2) * x)))
    assert pipe.heat.openings_c["outlet"] == pytest.approx(exact, abs=0.012)


def test_conduction_into_a_still_square_duct_follows_its_series():
    edge, turn = 8.0, rotation(*OBLIQUE)
    surface = assemble_surface(tube(rectangle(edge, edge), 24.0, turn=turn))
    lattice = build_lattice(surface, 0.8)
    still = np.zeros((3, len(lattice.cells)))
    heat = steady_temperature(lattice, still, {"inlet": 0.0}, Air(1.0, 0.0, DIFFUSIVITY, 1e3))
    x, y, z = (lattice.centres_mm @ turn).T
    exact = np.zeros(len(z))
    for m in range(1, 60, 2):
        for n in range(1, 60, 2):
            shape = np.cos(m * np.pi * x / edge) * np.cos(n * np.pi * y / edge)
            sign = (-1) ** ((m + n) // 2 - 1)
            fall = np.exp(-np.hypot(m, n) * np.pi * z / edge)
            exact += 16 / np.pi**2 / (m * n) * sign * shape * fall
    away = (z > 2.5) & (z < 12.0)
    assert np.abs(heat.values_c - exact)[away].max() < 0.012


def test_a_uniform_temperature_stays_uniform_to_rounding():
    pipe = heated_pipe(8, 100.0, OBLIQUE, length_mm=16.0)
    sides = cell_sides(pipe.lattice)
    noise = np.random.default_rng(0).normal(size=sides.kind.shape)  # fluxes that balance nowhere
    noise *= sides.kind != SOLID
    found = steady_scalar(sides, noise * 1e-9, DIFFUSIVITY, wall=30.0, inlet=30.0, tolerance=1e-4)
    np.testing.assert_allclose(found.values, 30.0, rtol=1e-14)


def jet_into_a_box(peclet: float):
    """Return a wide box with narrow openings and a wild velocity field in it."""
    occupied = np.zeros((7, 7, 12), dtype=bool)
    occupied[:, :, 3:9] = True
    occupied[2:4, 2:4, :3] = True
    occupied[4:6, 3:5, 9:] = True

    def name_of(centre, normal):
        if normal[2] and centre[2] in {0.0, 12.0}:
            return "inlet" if centre[2] == 0.0 else "outlet"
        return "wall"

    lattice = build_lattice(
        assemble_surface(blocks(occupied, 1.0, name_of, turn=rotation(*OBLIQUE))), 0.45
    )
    velocity = np.random.default_rng(1).normal(size=(3, len(lattice.cells)))
    velocity += 1.5 * rotation(*OBLIQUE)[:, 2][:, None]
    return lattice, velocity * peclet * DIFFUSIVITY / 0.45e-3


# A velocity that is random from cell to cell is the worst case for a limiter; noses have 1 to 30.
@pytest.mark.parametrize(("peclet", "cut"), [(1.0, 1e-9), (30.0, 1e-3), (1000.0, 5e-3)])
def test_no_temperature_lies_beyond_wall_and_inlet_and_no_heat_is_lost(peclet, cut):
    lattice, velocity = jet_into_a_box(peclet)
    flow = {"inlet": 1.5 * peclet * DIFFUSIVITY / 0.45e-3 * 4e-6}
    heat = steady_temperature(lattice, velocity, flow, Air(20.0, 34.0, DIFFUSIVITY, 1150.0))
    assert heat.values_c.min() >= 20.0
    assert heat.values_c.max() <= 34.0
    assert heat.overshoot < cut
    assert abs(heat.imbalance) < 5e-3
    assert heat.heat_flow_w > 0


def test_fluxes_of_any_velocity_are_made_free_of_sources():
    lattice, velocity = jet_into_a_box(30.0)
    sides = cell_sides(lattice)
    patch = lattice.names.index("inlet")
    flux = conservative_fluxes(sides, velocity, lattice.blocks(6), {patch: 3e-6})
    typical = 3e-6 / (sides.patch == patch).sum()
    assert np.sqrt(np.square(flux.sum(axis=1)).mean()) < 2e-6 * typical
    assert flux[sides.patch == patch].sum() == pytest.approx(-3e-6, rel=1e-12)
    assert flux[sides.kind == OUTLET].sum() == pytest.approx(3e-6, rel=1e-5)
    assert (flux[sides.kind == SOLID] == 0).all()
    cell, side = np.nonzero(sides.kind == OPEN)
    back = flux[sides.neighbour[cell, side], side ^ 1]
    np.testing.assert_allclose(flux[cell, side], -back, rtol=0, atol=1e-12 * typical * 1e3)


@pytest.mark.parametrize("entering", [0.0, 1e-24])
def test_fluxes_are_balanced_when_next_to_nothing_enters(entering):
    lattice, velocity = jet_into_a_box(30.0)
    sides = cell_sides(lattice)
    patch = lattice.names.index("inlet")
    flux = conservative_fluxes(sides, velocity, lattice.blocks(6), {patch: entering})
    assert np.abs(flux.sum(axis=1)).max() < 1e-9 * np.abs(flux).max()
    assert flux[sides.patch == patch].sum() == pytest.approx(
        -entering, abs=1e-12 * np.abs(flux).max()
    )


def test_fluxes_that_balance_already_are_kept():
    pipe = heated_pipe(8, 100.0, STRAIGHT, length_mm=16.0)
    sides = cell_sides(pipe.lattice)
    x, y, _ = pipe.along_pipe.T
    profile = np.maximum(1 - (x**2 + y**2) / 16, 0)
    velocity = np.stack([np.zeros(len(x)), np.zeros(len(x)), profile])
    inlet = pipe.lattice.names.index("inlet")
    flow = (profile[(sides.patch == inlet).any(axis=1)] * sides.spacing_m**2).sum()
    flux = conservative_fluxes(sides, velocity, pipe.lattice.blocks(6), {inlet: float(flow)})
    np.testing.assert_allclose(flux[:, 4], profile * sides.spacing_m**2, rtol=0, atol=1e-11)


def test_the_linear_solver_agrees_with_a_direct_one():
    lattice, velocity = jet_into_a_box(30.0)
    sides = cell_sides(lattice)
    patch = lattice.names.index("inlet")
    flux = conservative_fluxes(sides, velocity, lattice.blocks(6), {patch: 3e-6})
    across, (diagonal, right) = np.empty(flux.shape), np.empty((2, len(flux)))
    assemble(sides.kind, sides.distance, flux, DIFFUSIVITY * 0.45e-3, across, diagonal, right)
    rows, side = np.nonzero(sides.kind == OPEN)
    columns = sides.neighbour[rows, side]
    matrix = diags(diagonal) - csr_matrix((across[rows, side], (rows, columns)))
    start = np.zeros(len(right))
    found, _ = solve(*(sides.neighbour, across, diagonal, right, start), reduction=1e-12, most=200)
    np.testing.assert_allclose(found, spsolve(matrix.tocsc(), right), rtol=0, atol=1e-9)
