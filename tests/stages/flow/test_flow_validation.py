"""The validation's references, shapes and figures, apart from the command."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import trimesh

from pipeline.core.errors import UsageError
from stages.flow.mesh import assemble
from stages.flow.profiles import developed_profile
from stages.flow.validation import conservation, pipes, throat
from stages.flow.validation.cases import CASES, chosen
from stages.flow.validation.creeping import hole_resistance
from stages.flow.validation.flows import Bench, Solved
from stages.flow.validation.references import (
    FDA_NOZZLE,
    observed_order,
    poiseuille_gradient,
    rectangle_friction_reynolds,
    shah_pressure_drop,
    thickness_resistance,
    white_friction_ratio,
)
from stages.flow.validation.rows import at_least, at_most, inside, near
from stages.flow.validation.shapes import (
    anchored,
    bend,
    blocks,
    branch,
    branch_section,
    circle,
    mirrored,
    rectangle,
    revolve,
    rotation,
    tube,
)
from stages.flow.voxels import build_lattice

TURN = rotation(30.0, 20.0, 10.0)
BRANCH = {"parent_length": 6.0, "transition": 8.0}
SHAPES = {
    "tube": tube(circle(4.0), 9.0, turn=TURN),
    "duct": tube(rectangle(4.0, 2.0), 9.0),
    "bend": bend(circle(4.0), 9.0, 120.0, turn=TURN),
    "nozzle": revolve(np.array([(0.0, 3.0), (4.0, 1.0), (4.0, 3.0), (9.0, 3.0)]), 48),
    "branch": branch(3.0, (2.0, 1.5), (9.0, 7.0), **BRANCH, turn=TURN),
    "mirrored": mirrored(branch(3.0, (2.0, 1.5), (9.0, 7.0), **BRANCH), 1),
    "anchored": anchored(tube(circle(4.0), 9.0), (-3.0, -3.0, -1.0), 0.01),
    "blocks": blocks(np.ones((2, 1, 3), dtype=bool), 1.5, lambda *_: "wall"),
}


def solid(patches) -> trimesh.Trimesh:
    mesh = trimesh.Trimesh(
        **trimesh.triangles.to_kwargs(np.concatenate(list(patches.values()))), process=False
    )
    mesh.merge_vertices(digits_vertex=7)
    return mesh


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_is_closed_with_outward_normals(name):
    mesh = solid(SHAPES[name])
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume > 0


def test_shapes_have_the_volumes_of_their_formulas():
    round_area = np.pi * 4.0
    # polygons have the area of their circle; 96 chords of the sweep shorten its path by 1e-4
    assert solid(SHAPES["tube"]).volume == pytest.approx(9 * round_area, rel=1e-9)
    assert solid(SHAPES["bend"]).volume == pytest.approx(
        np.deg2rad(120) * 9 * round_area, rel=1e-4
    )
    cone = np.pi * 4.0 / 3.0 * (9.0 + 3.0 + 1.0)
    assert solid(SHAPES["nozzle"]).volume == pytest.approx(cone + np.pi * 9 * 5, rel=1e-9)


def test_a_branch_ends_in_circles_of_its_radii():
    for side, radius in enumerate((2.0, 1.5)):
        flat = branch_section(side, 1.0, 3.0, radius)
        centre = np.array([0.0, 3.75 if side == 0 else -3.75])
        np.testing.assert_allclose(
            np.linalg.norm(flat - centre, axis=1), np.linalg.norm(flat[0] - centre), rtol=1e-9
        )
        # corners of a polygon with the area of the circle lie just outside it
        assert np.linalg.norm(flat[0] - centre) == pytest.approx(radius, rel=2e-3)
    first, last = (branch_section(0, share, 3.0, 2.0) for share in (0.0, 1.0))
    np.testing.assert_allclose([area(first), area(last)], [np.pi * 4.5, np.pi * 4.0], rtol=1e-9)


def area(flat) -> float:
    x, y = flat.T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))


def test_an_anchor_moves_the_lattice_against_the_mesh():
    pipe = tube(circle(4.0), 9.0)
    plain = build_lattice(assemble(pipe), 0.8)
    moved = build_lattice(assemble(pipes.at_place(pipe, 0.8, (0.25, 0.5, 0.0))), 0.8)
    offset = np.mod((moved.origin_mm - plain.origin_mm) / 0.8 + 1e-9, 1.0)
    np.testing.assert_allclose(offset, [0.75, 0.5, 0.0], atol=1e-6)


@pytest.mark.parametrize(("aspect", "printed"), [(1.0, 56.9083), (2.0, 62.1922)])
def test_duct_friction_is_that_of_the_tables(aspect, printed):
    assert rectangle_friction_reynolds(3.0 * aspect, 3.0) == pytest.approx(printed, abs=1e-4)


def test_a_flat_duct_has_the_friction_of_parallel_plates():
    assert rectangle_friction_reynolds(1e5, 1.0) == pytest.approx(96.0, rel=1e-4)


def test_duct_friction_agrees_with_a_finite_difference_solution():
    section = tube(rectangle(4.0, 2.0), 1.0, turn=rotation(0.0, 0.0, 33.0))["outlet"]
    conductance = developed_profile(section, np.array([0.0, 0.0, 1.0]), np.zeros((1, 3)))[1]
    hydraulic = 2 * 8.0 / 6.0
    found = 2 * hydraulic**2 * 8.0 / conductance
    # second order on 48 cells across
    assert rectangle_friction_reynolds(4.0, 2.0) == pytest.approx(found, rel=3e-3)


def test_poiseuille_is_sixty_four_over_reynolds():
    diameter, flow, mu, rho = 0.008, 1e-5, 1.9e-5, 1.14
    velocity = flow / (np.pi * diameter**2 / 4)
    friction = poiseuille_gradient(flow, diameter, mu) * diameter / (0.5 * rho * velocity**2)
    assert friction * rho * velocity * diameter / mu == pytest.approx(64.0)


def test_developing_flow_ends_in_poiseuilles_gradient_and_begins_with_a_boundary_layer():
    far = (shah_pressure_drop(2.0) - shah_pressure_drop(1.0)) / 1.0
    assert far == pytest.approx(64.0, rel=1e-3)
    assert shah_pressure_drop(1e-5) == pytest.approx(13.74 * np.sqrt(1e-5), rel=0.01)


def test_bends_have_more_friction_the_faster_the_flow_and_none_more_when_slow():
    ratios = [white_friction_ratio(dean) for dean in (11.7, 30.0, 100.0, 1000.0)]
    assert ratios == sorted(ratios)
    assert ratios[0] == pytest.approx(1.0, abs=1e-3)
    # Hasson 1955: 0.556 + 0.0969 sqrt(De)
    assert ratios[2] == pytest.approx(0.556 + 0.0969 * 10.0, rel=0.03)
    with pytest.raises(ValueError, match=r"11\.6"):
        white_friction_ratio(5.0)


@pytest.mark.slow
def test_a_hole_in_a_wide_pipe_has_sampsons_resistance():
    narrow, wide = hole_resistance(3.0, 3.6), hole_resistance(6.0, 7.2)
    assert narrow < wide < 3.0
    assert wide == pytest.approx(3.0, rel=0.015)


def test_a_thick_plate_has_the_resistance_of_a_pipe():
    assert thickness_resistance(10.0) == pytest.approx(80.0 / np.pi)


def test_the_nozzles_flow_has_throat_reynolds_number_five_hundred():
    velocity = FDA_NOZZLE.flow_rate_m3_s / (np.pi * 0.002**2)
    reynolds = velocity * 0.004 * FDA_NOZZLE.density_kg_m3 / FDA_NOZZLE.dynamic_viscosity_pa_s
    assert reynolds == pytest.approx(500.0, rel=1e-4)


def test_the_observed_order_is_that_of_the_errors():
    spacings = [0.5, 0.25, 0.125]
    assert observed_order(spacings, [-3 * h**1.8 for h in spacings]) == pytest.approx(1.8)


def test_goals_are_two_percent_at_eight_cells_half_a_percent_at_sixteen():
    assert pipes.goal_at(8) == pytest.approx(0.02)
    assert pipes.goal_at(16) == pytest.approx(0.005)
    assert pipes.goal_at(4) == pytest.approx(0.08)


def test_rows_are_missed_beyond_their_goals():
    words = {"unit": "1", "source": "none"}
    assert near("a", 1.019, 1.0, 0.02, **words).passed
    assert not near("a", 0.979, 1.0, 0.02, **words).passed
    assert inside("a", 0.5, (0.4, 0.6), **words).passed
    assert not inside("a", 0.7, (0.4, 0.6), **words).passed
    assert at_least("a", 1.8, 1.8, **words).passed
    assert not at_least("a", 1.7, 1.8, **words).passed
    assert not at_most("a", -2.0, 1.0, **words).passed
    assert not at_most("a", float("nan"), 1.0, **words).passed


@dataclass(frozen=True)
class WrongViscosity(Bench):
    """Compute every flow with a tenth more viscosity than the references know of."""

    def solve(self, patches, spacing_mm, flow_rate_ml_s, **settings) -> Solved:
        wrong = {**settings, "kinematic_viscosity_m2_s": 1.1 * 1.65e-5}
        return super().solve(patches, spacing_mm, flow_rate_ml_s, **wrong)


def test_a_wrong_viscosity_misses_the_goal_that_the_right_one_meets():
    words = {"threads": 1, "quick": True}
    right = pipes.pipe_flow(Bench(**words), 8, 20.0, turn=np.eye(3))[1]
    wrong = pipes.pipe_flow(WrongViscosity(**words), 8, 20.0, turn=np.eye(3))[1]
    assert abs(right) < pipes.goal_at(8)
    assert wrong > pipes.goal_at(8)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_closed_vessel_keeps_its_mass_to_rounding(precision):
    rows = conservation.closed_box(Bench(precision, 1, quick=True)).rows
    assert len(rows) == 2
    assert all(row.passed for row in rows)


def test_a_mirrored_bend_has_the_mirrored_flow():
    rows = conservation.mirror(Bench("float64", 1, quick=True)).rows
    assert [row.passed for row in rows] == [True, True, True]


def test_a_throat_oblique_to_the_lattice_loses_too_much_but_no_more_than_known():
    """Six cells across: +20 % when this was written. Nearer is better; further away is a step back."""
    (row,) = throat.throat(Bench("float32", 2, quick=True)).rows
    assert row.error is not None
    assert 0.0 < row.error < 0.25


def test_an_unknown_case_is_refused_with_the_names_that_exist():
    with pytest.raises(UsageError, match="pipe-oblique"):
        chosen("pipes")
    assert list(chosen("mach, slits")) == ["mach", "slits"]
    assert chosen("all") == CASES
    assert set(CASES) - set(chosen("all", quick=True)) == {"fda-nozzle"}
    assert set(chosen("fda-nozzle", quick=True)) == {"fda-nozzle"}
