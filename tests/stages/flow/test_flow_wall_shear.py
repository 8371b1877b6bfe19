"""Shear stress, pressure and heat flux on the wall, against closed forms and balances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import pyvista
from flow_meshes import blocks, circle, rectangle, rotation, tube
from flow_runs import NU, RHO, Case, simulate

from stages.flow.boundary_file import wall_data
from stages.flow.mesh import assemble, merged_vertices
from stages.flow.sampling import NodeTable
from stages.flow.voxels import build_lattice
from stages.flow.wall_faces import halved, wall_faces
from stages.flow.wall_shear import (
    WallFields,
    opening_force_n,
    shear_summary,
    wall_fields,
    wall_force_n,
)

STRAIGHT, OBLIQUE = (0.0, 0.0, 0.0), (30.0, 20.0, 10.0)
DIAMETER = 8.0
FACETS = 0.006
"""The sides of a polygon of 128 sides lie up to 3e-4 radii off the circle, 5e-3 cells at 16 cells per
diameter, and their directions up to 0.025: what a slope over a cell or two makes of that."""


def profile_errors(cells: float, angles, profile, slope: float) -> np.ndarray:
    """Return the relative errors of the shear stress of an axial flow that is given exactly."""
    turn = rotation(*angles)
    surface = assemble(tube(circle(DIAMETER), 24.0, turn=turn))
    lattice = build_lattice(surface, DIAMETER / cells)
    x, y, z = (lattice.centres_mm @ turn).T
    velocity = turn[:, 2][:, None] * profile(np.hypot(x, y) / 4)
    faces = wall_faces(surface, lattice)
    fields = wall_fields(lattice, faces, velocity, z, dynamic_viscosity_pa_s=1e-3)
    along = faces.centres_mm @ turn[:, 2]
    middle = (along > 4) & (along < 20)
    np.testing.assert_allclose(fields.pressure_pa[middle], along[middle], rtol=0, atol=1e-5)
    return fields.shear_pa[middle] @ turn[:, 2] / (slope / 4) - 1


@pytest.mark.parametrize("angles", [STRAIGHT, OBLIQUE])
@pytest.mark.parametrize("cells", [3, 8, 16])
def test_a_parabola_has_its_exact_shear_stress_down_to_three_cells(cells, angles):
    errors = profile_errors(cells, angles, lambda r: 1 - r**2, 2.0)
    assert np.abs(errors).max() < FACETS


@pytest.mark.parametrize("angles", [STRAIGHT, OBLIQUE])
def test_shear_stress_of_any_profile_converges_at_second_order(angles):
    coarse, fine = (
        np.sqrt(np.square(profile_errors(n, angles, lambda r: np.cos(np.pi / 2 * r), np.pi / 2)))
        for n in (6, 12)
    )
    assert np.log2(coarse.mean() / fine.mean()) > 1.9
    assert fine.mean() < 0.015


@dataclass(frozen=True)
class SimulatedPipe:
    case: Case
    turn: np.ndarray
    fields: WallFields
    flow_ml_s: float


@pytest.fixture(scope="module", params=[STRAIGHT, OBLIQUE])
def pipe(request) -> SimulatedPipe:
    turn, flow_ml_s = rotation(*request.param), 4.0
    patches = tube(circle(DIAMETER), 32.0, turn=turn)
    case = simulate(patches, 0.8, flow_ml_s)
    fields = wall_fields(
        *(case.lattice, wall_faces(assemble(patches), case.lattice)),
        *(case.result.velocity_m_s, case.result.pressure_pa),
        dynamic_viscosity_pa_s=RHO * NU,
    )
    return SimulatedPipe(case, turn, fields, flow_ml_s)


def test_simulated_pipe_has_the_shear_stress_of_poiseuille(pipe):
    along = pipe.fields.faces.centres_mm @ pipe.turn[:, 2]
    middle = (along > 10) & (along < 26)
    mean = pipe.flow_ml_s / (np.pi * DIAMETER**2 / 4)
    shear = pipe.fields.shear_pa[middle] @ pipe.turn[:, 2]
    area = pipe.fields.faces.area_mm2[middle]
    weight = area / area.sum()
    assert weight @ shear == pytest.approx(8 * RHO * NU * mean / (DIAMETER * 1e-3), rel=0.02)
    assert np.sqrt(weight @ np.square(shear / (weight @ shear) - 1)) < 0.08


def test_forces_on_wall_and_openings_balance(pipe):
    case = pipe.case
    through = opening_force_n(
        *(case.openings, NodeTable(case.lattice), 0.8),
        *(case.result.velocity_m_s, case.result.pressure_pa, RHO),
    )
    drag = float(wall_force_n(pipe.fields) @ pipe.turn[:, 2])
    assert drag == pytest.approx(-float(through @ pipe.turn[:, 2]), rel=0.06)


def test_simulated_gap_of_three_cells_has_the_friction_of_plates():
    width, gap, mean = 12.0, 3.0, 0.3
    turn = rotation(35.0, 20.0, 10.0)
    patches = tube(rectangle(width, gap), 40.0, turn=turn)
    case = simulate(patches, 1.0, mean * width * gap)
    surface = assemble(patches)
    faces = wall_faces(surface, case.lattice)
    fields = wall_fields(
        *(case.lattice, faces, case.result.velocity_m_s, case.result.pressure_pa),
        dynamic_viscosity_pa_s=RHO * NU,
    )
    x, y, z = (faces.centres_mm @ turn).T
    wide = (np.abs(y) > 0.499 * gap) & (np.abs(x) < 2) & (z > 15) & (z < 30)
    cells = case.lattice.centres_mm @ turn
    core = (np.abs(cells[:, 0]) < 2) & (cells[:, 2] > 12) & (cells[:, 2] < 33)
    gradient = -np.polyfit(cells[core, 2], case.result.pressure_pa[core], 1)[0]
    # Between wide plates the shear stress is half the gap times the pressure gradient, whatever the flow.
    shear = (fields.shear_pa @ turn[:, 2])[wide]
    assert shear.mean() == pytest.approx(gradient * gap / 2, rel=0.12)


def test_cells_that_lie_on_the_wall_do_not_amplify_noise():
    # The lattice begins half a cell inside the box and so ends 0.02 cells from the wall.
    width = 8.5213
    surface = assemble(tube(rectangle(width, 12.0), 12.0))
    lattice = build_lattice(surface, 1.0)
    x = lattice.centres_mm[:, 0]
    assert 0.01 < width / 2 - x.max() < 0.03
    velocity = np.zeros((3, len(x)))
    velocity[2] = 1 - (2 * x / width) ** 2
    velocity += 0.01 * np.random.default_rng(0).normal(size=velocity.shape)
    faces = wall_faces(surface, lattice)
    fields = wall_fields(lattice, faces, velocity, x, dynamic_viscosity_pa_s=1e-3)
    at = faces.centres_mm
    near = (at[:, 0] > 0.499 * width) & (np.abs(at[:, 1]) < 2) & (np.abs(at[:, 2] - 6) < 2)
    np.testing.assert_allclose(fields.shear_pa[near, 2], 4 / width, rtol=0.1)


def test_a_wall_thinner_than_a_cell_keeps_its_sides_apart():
    occupied = np.ones((9, 14, 12), dtype=bool)
    occupied[4, :, 1:-1] = False  # open at both ends: one lattice, two passages

    def name_of(centre, normal):
        if normal[2] and centre[2] in {0.0, 12.0}:
            return "inlet" if centre[2] == 0.0 else "outlet"
        return "wall"

    surface = assemble(blocks(occupied, 1.0, name_of))
    lattice = build_lattice(surface, 1.3)
    x = lattice.centres_mm[:, 0]
    parabola = np.where(
        x < 4.5, x * (4 - x), -(x - 5) * (9 - x)
    )  # up on one side, down on the other
    velocity = np.stack([0 * x, 0 * x, parabola])
    faces = wall_faces(surface, lattice)
    fields = wall_fields(lattice, faces, velocity, x, dynamic_viscosity_pa_s=1e-3)
    at = faces.centres_mm
    inner = (np.abs(at[:, 1] - 7) < 1.5) & (np.abs(at[:, 2] - 6) < 2)
    for place, expected in ((4.0, 4.0), (5.0, -4.0)):
        side = inner & (np.abs(at[:, 0] - place) < 1e-6)
        np.testing.assert_allclose(fields.shear_pa[side, 2], expected, rtol=0.02)


def test_heat_flux_of_a_parabola_is_exact_and_warms_a_colder_fluid():
    surface = assemble(tube(circle(DIAMETER), 20.0))
    lattice = build_lattice(surface, 1.0)
    x, y, _ = lattice.centres_mm.T
    excess = -(1 - (x**2 + y**2) / 16)  # colder than the wall
    faces = wall_faces(surface, lattice)
    fields = wall_fields(
        *(lattice, faces, np.zeros((3, len(x))), np.zeros(len(x))),
        dynamic_viscosity_pa_s=1.0,
        excess_c=excess,
        conductivity_w_m_k=0.03,
    )
    np.testing.assert_allclose(fields.heat_flux_w_m2, 0.03 * 2 / 4e-3, rtol=FACETS)


def test_halving_keeps_area_and_leaves_no_gaps():
    patches = tube(circle(6.0, 24), 30.0, turn=rotation(*OBLIQUE))
    whole = np.concatenate(list(patches.values()))
    parts = halved(whole, 1.5)
    edges = np.linalg.norm(np.roll(parts, -1, axis=1) - parts, axis=2)
    assert edges.max() <= 1.5
    areas = [
        np.linalg.norm(np.cross(t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]), axis=1).sum()
        for t in (whole, parts)
    ]
    assert areas[1] == pytest.approx(areas[0], rel=1e-12)
    corner = merged_vertices(parts)
    pairs = np.sort(
        np.concatenate([corner[:, [0, 1]], corner[:, [1, 2]], corner[:, [2, 0]]]), axis=1
    )
    assert (np.unique(pairs, axis=0, return_counts=True)[1] == 2).all()


def test_the_wall_file_opens_with_vtk_and_holds_the_summary(tmp_path):
    surface = assemble(tube(circle(DIAMETER), 20.0))
    lattice = build_lattice(surface, 1.0)
    x, y, z = lattice.centres_mm.T
    velocity = np.stack([0 * x, 0 * x, 1 - (x**2 + y**2) / 16])
    fields = wall_fields(
        lattice, wall_faces(surface, lattice), velocity, z, dynamic_viscosity_pa_s=1e-3
    )
    path = tmp_path / "wall.vtp"
    path.write_bytes(wall_data(fields))
    mesh = pyvista.read(path)
    summary = shear_summary(fields)
    area = mesh.compute_cell_sizes()["Area"]
    assert area.sum() == pytest.approx(summary["area_mm2"], rel=1e-5)
    mean = area @ mesh["wall_shear_stress_magnitude"] / area.sum()
    assert mean == pytest.approx(summary["shear_stress_mean_pa"], rel=1e-5)
    assert mesh["wall_shear_stress"].shape == (mesh.n_cells, 3)
    assert np.nanmax(mesh["pressure"]) == pytest.approx(20.0, abs=0.6)
