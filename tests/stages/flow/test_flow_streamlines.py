"""Lines along flows whose paths are known."""

from __future__ import annotations

import numpy as np
import pytest
import pyvista
from flow_meshes import circle, rotation, tube

from stages.flow.boundary_file import line_data
from stages.flow.mesh import assemble
from stages.flow.openings import make_openings
from stages.flow.sampling import NodeTable
from stages.flow.streamlines import Streamlines, streamlines
from stages.flow.voxels import build_lattice

STRAIGHT, OBLIQUE = (0.0, 0.0, 0.0), (30.0, 20.0, 10.0)
DIAMETER, LENGTH, PEAK = 8.0, 24.0, 0.5


def lines_in_a_pipe(angles, velocity_of, count: int, spacing_mm: float = 0.5):
    """Trace a velocity given in the pipe's own frame (x, y across, z along it)."""
    turn = rotation(*angles)
    surface = assemble(tube(circle(DIAMETER), LENGTH, turn=turn))
    lattice = build_lattice(surface, spacing_mm)
    velocity = turn @ velocity_of(*(lattice.centres_mm @ turn).T)
    found = streamlines(
        *(lattice, make_openings(surface, lattice), NodeTable(lattice)),
        *(velocity, lattice.centres_mm @ turn[:, 2]),
        count=count,
    )
    return found, found.points_mm @ turn


def poiseuille(x, y, z):
    return np.stack([0 * x, 0 * x, PEAK * np.maximum(1 - (x**2 + y**2) / 16, 0)])


@pytest.fixture(scope="module", params=[STRAIGHT, OBLIQUE])
def pipe(request) -> tuple[Streamlines, np.ndarray]:
    return lines_in_a_pipe(request.param, poiseuille, 120)


def test_every_line_of_a_pipe_reaches_the_outlet(pipe):
    lines, points = pipe
    assert lines.reached.all()
    assert len(lines.inlet) == 120
    np.testing.assert_allclose(points[lines.first[1:] - 1, 2], LENGTH, atol=0.5)


def test_lines_of_a_pipe_are_straight(pipe):
    lines, points = pipe
    for first, end in zip(lines.first, lines.first[1:], strict=False):
        sideways = np.linalg.norm(points[first:end, :2] - points[first, :2], axis=1)
        outermost = np.hypot(*points[first, :2]) > DIAMETER / 2 - 0.5  # kept off the wall
        assert sideways.max() < (0.25 if outermost else 0.02) * 0.5


def test_transit_times_are_lengths_over_velocities(pipe):
    lines, points = pipe
    ends = lines.first[1:] - 1
    starts = points[lines.first[:-1]]
    radius = np.hypot(starts[:, 0], starts[:, 1])
    speed = PEAK * (1 - radius**2 / 16)
    exact = (points[ends, 2] - starts[:, 2]) * 1e-3 / speed
    inner = radius < 3.2
    np.testing.assert_allclose(lines.time_s[ends][inner], exact[inner], rtol=0.03)


def test_lines_carry_equal_parts_of_the_flow(pipe):
    lines, points = pipe
    starts = points[lines.first[:-1]]
    square = (starts[:, 0] ** 2 + starts[:, 1] ** 2) / 16
    carried = 1 - (1 - square) ** 2  # share of the flow within the radius of each line
    shares = np.sort(carried)
    expected = (np.arange(len(shares)) + 0.5) / len(shares)
    assert np.abs(shares - expected).max() < 0.06


def test_a_helix_is_followed_to_a_fraction_of_a_cell():
    turns_per_mm = 2 * np.pi / 30.0

    def swirl(x, y, z):
        return 0.3 * np.stack([-turns_per_mm * y, turns_per_mm * x, 1 + 0 * x])

    lines, points = lines_in_a_pipe(OBLIQUE, swirl, 40)
    for first, end in zip(lines.first, lines.first[1:], strict=False):
        path = points[first : end - 1]
        radius = np.hypot(path[0, 0], path[0, 1])
        if radius > 2.8:  # the given velocity slips at the wall, the interpolated one does not
            continue
        angle = np.arctan2(path[0, 1], path[0, 0]) + turns_per_mm * (path[:, 2] - path[0, 2])
        exact = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        assert np.abs(path[:, :2] - exact).max() < 0.05 * 0.5


def test_a_flow_into_the_wall_ends_no_line_there():
    def leaking(x, y, z):
        axial = poiseuille(x, y, z)
        axial[0] = 0.02 * PEAK  # does not vanish at the wall, as a coarse field may not
        return axial

    lines, _ = lines_in_a_pipe(STRAIGHT, leaking, 60, spacing_mm=0.8)
    assert lines.reached.mean() > 0.95


def test_no_lines_are_an_empty_set():
    lines, points = lines_in_a_pipe(STRAIGHT, poiseuille, 0)
    assert len(points) == 0
    assert lines.first.tolist() == [0]


def test_the_line_file_opens_with_vtk(tmp_path, pipe):
    lines, _ = pipe
    path = tmp_path / "streamlines.vtp"
    path.write_bytes(line_data(lines))
    mesh = pyvista.read(path)
    assert mesh.n_lines == 120
    assert mesh.n_points == lines.first[-1]
    assert set(mesh["inlet"]) == {0}
    assert mesh.field_data["inlet_names"].tolist() == ["inlet"]
    np.testing.assert_allclose(mesh["time"], lines.time_s, rtol=1e-6)
    speed = np.linalg.norm(mesh["velocity"], axis=1)
    assert speed.max() == pytest.approx(PEAK, rel=0.02)
