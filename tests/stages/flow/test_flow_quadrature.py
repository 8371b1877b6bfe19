"""The flux of passages from the cells' velocities: exact profiles on lattices, and computed flows."""

from __future__ import annotations

import numpy as np
import pytest
from jaxtyping import Float

from stages.flow.mesh import assemble
from stages.flow.quadrature import FluxQuadrature, gap_weights, quadrature_weights
from stages.flow.validation.flows import NU_M2_S, RHO_KG_M3, Bench
from stages.flow.validation.pipes import at_place
from stages.flow.validation.references import rectangle_friction_reynolds
from stages.flow.validation.shapes import circle, rectangle, rotation, tube
from stages.flow.voxels import SparseLattice, build_lattice


@pytest.mark.parametrize("distance", [0.1, 0.3, 0.5, 0.77, 1.0])
def test_weights_complete_the_midpoint_rule_for_any_parabola(distance: float) -> None:
    def profile(x: Float[np.ndarray, "x"]) -> Float[np.ndarray, "x"]:
        return 2.0 * x - 0.11 * x**2

    cells = distance + np.arange(6)
    end = cells[-1] + 0.5
    exact = end**2 - 0.11 * end**3 / 3
    here, back = quadrature_weights(np.array([distance]))
    # The far end belongs to cells beyond: its own share of the Euler-Maclaurin formula.
    far = (2.0 - 0.22 * end) / 24
    found = profile(cells).sum() + here[0] * profile(cells)[0] + back[0] * profile(cells)[1] + far
    assert found == pytest.approx(exact, rel=1e-12)


def test_cells_on_the_wall_take_the_slope_from_behind() -> None:
    distance = 1e-4
    here, back = quadrature_weights(np.array([distance]))
    straight = here[0] * distance + back[0] * (1 + distance)
    assert straight == pytest.approx((distance - 0.5) ** 2 / 2 - 1 / 24, abs=1e-12)
    assert abs(here[0] + 1.0) < 1e-12


@pytest.mark.parametrize(("distance", "across"), [(0.5, 0.5), (0.2, 0.7), (0.9, 0.35)])
def test_one_cell_between_two_walls_stands_for_the_whole_gap(
    distance: float, across: float
) -> None:
    here, there = np.array([distance]), np.array([across])
    both = gap_weights(here, there) + gap_weights(there, here)
    assert 1.0 + both[0] == pytest.approx(distance + across, rel=1e-12)


def _lattice(cells: float, turn: Float[np.ndarray, "3 3"], place: tuple[float, float, float],
             section: Float[np.ndarray, "corner 2"]) -> SparseLattice:  # fmt: skip
    spacing = 8.0 / cells
    passage = tube(section, 24.0, turn=turn)
    return build_lattice(assemble(at_place(passage, spacing, place)), spacing)


def _poiseuille(
    lattice: SparseLattice, turn: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "3 cell"]:
    """Return the flow through a pipe of 8 mm with a mean velocity of one."""
    x, y, _ = (lattice.centres_mm @ turn).T
    speed = 2.0 * np.maximum(1.0 - (x**2 + y**2) / 16.0, 0.0)
    return speed * turn[:, 2:3]


def _flux(
    lattice: SparseLattice, velocity: Float[np.ndarray, "3 cell"], axis: Float[np.ndarray, "3"]
) -> float:
    """Return the mean flux of the cells through sections in the middle, mm2 times the unit of velocity."""
    along = lattice.centres_mm @ axis
    middle = (along > 4.0) & (along < 20.0)
    return float((axis @ velocity[:, middle]).sum()) * lattice.spacing_mm**3 / 16.0


@pytest.mark.parametrize("place", [(0.0, 0.0, 0.0), (0.29, 0.61, 0.47)])
def test_round_pipes_along_an_axis_carry_their_flux(place: tuple[float, float, float]) -> None:
    turn = rotation(0.0, 0.0, 0.0)
    lattice = _lattice(8, turn, place, circle(8.0, 400))
    velocity = _poiseuille(lattice, turn)
    missed = FluxQuadrature.of(lattice).missed(velocity)
    plain = _flux(lattice, velocity, turn[:, 2]) / (16.0 * np.pi)
    assert plain * (1.0 + missed) == pytest.approx(1.0, abs=2e-3)
    if place == (0.0, 0.0, 0.0):
        assert plain - 1.0 > 9e-3


def test_the_midpoint_rule_is_right_for_oblique_pipes() -> None:
    turn = rotation(30.0, 20.0, 10.0)
    lattice = _lattice(8, turn, (0.0, 0.0, 0.0), circle(8.0, 400))
    assert abs(FluxQuadrature.of(lattice).missed(_poiseuille(lattice, turn))) < 3e-3


def test_flux_that_ends_at_walls_falls_with_the_cells_across_at_second_order() -> None:
    turn = rotation(30.0, 20.0, 10.0)
    idle = []
    for cells in (4, 8, 16):
        lattice = _lattice(cells, turn, (0.29, 0.61, 0.47), circle(8.0, 400))
        idle.append(FluxQuadrature.of(lattice).idle(_poiseuille(lattice, turn), 0.505))
    assert 0.015 < idle[0] < 0.04
    assert idle[0] / idle[1] > 2.5
    assert idle[1] / idle[2] > 2.5


@pytest.mark.parametrize("cells", [2.0, 3.0])
def test_the_midpoint_rule_is_right_for_narrow_oblique_slits(cells: float) -> None:
    turn = rotation(35.0, 20.0, 10.0)
    slit = tube(rectangle(24.0, cells), 40.0, turn=turn)
    lattice = build_lattice(assemble(slit), 1.0)
    x, y, _ = (lattice.centres_mm @ turn).T
    profile = np.maximum(1 - (2 * y / cells) ** 2, 0) * np.maximum(1 - (x / 12) ** 2, 0)
    missed = FluxQuadrature.of(lattice).missed(profile * turn[:, 2:3])
    assert abs(missed) < 0.02


def test_slits_with_walls_halfway_carry_less_than_their_cells() -> None:
    """Midpoints of n cells see 1 + 1 / (2 n^2) of a parabola's flux."""
    turn = rotation(0.0, 0.0, 0.0)
    lattice = _lattice(8, turn, (0.0, 0.0, 0.0), rectangle(160.0, 8.0))
    x, y, _ = lattice.centres_mm.T
    velocity = np.zeros((3, len(y)))
    velocity[2] = (1.0 - (y / 4.0) ** 2) * (1.0 - (x / 80.0) ** 2)
    missed = FluxQuadrature.of(lattice).missed(velocity)
    assert 1.0 + missed == pytest.approx(1.0 / (1.0 + 1.0 / 128.0), abs=5e-4)


def test_air_at_rest_has_no_factor() -> None:
    lattice = _lattice(8, rotation(0.0, 0.0, 0.0), (0.0, 0.0, 0.0), circle(8.0, 24))
    quadrature = FluxQuadrature.of(lattice)
    assert quadrature.factor(np.zeros((3, len(lattice.cells))), 0.51) == 1.0


def test_square_ducts_along_an_axis_have_their_friction() -> None:
    """Without the factor f Re of 8 cells is 2.9 % too low: the walls lie half-way all around."""
    turn, edge, velocity = rotation(0.0, 0.0, 0.0), 8.0, 100.0 * NU_M2_S / 8e-3
    duct = tube(rectangle(edge, edge), 10 * edge, turn=turn)
    solved = Bench(threads=1).solve(duct, 1.0, velocity * edge**2)
    gradient = solved.gradient_pa_mm(turn[:, 2], 2 * edge, 9 * edge) * 1e3
    found = 2 * gradient * (edge * 1e-3) ** 2 / (RHO_KG_M3 * NU_M2_S * velocity)
    assert found == pytest.approx(rectangle_friction_reynolds(edge, edge), rel=0.02)
    assert solved.result.quadrature == pytest.approx(1.0 / (1.0 + 1.0 / 128.0) ** 2, abs=3e-3)
