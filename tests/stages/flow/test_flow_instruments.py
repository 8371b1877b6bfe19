"""What is read of a flow: openings, sections and probes against the parabola and sums by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import pyvista
from flow_meshes import circle, rotation, tube, write_folder
from flow_runs import NU, RHO

from pipeline.core.errors import InputError
from pipeline.core.planes import Plane, write_planes
from stages.flow.field_file import read_image_data
from stages.flow.mesh import assemble
from stages.flow.openings import make_openings
from stages.flow.readings import flux_weighted, make_gauge
from stages.flow.sampling import NodeTable
from stages.flow.sections import section_inside
from stages.flow.settings import FlowSettings
from stages.flow.stage import read_points, run
from stages.flow.start import on_lattice
from stages.flow.voxels import build_lattice

TURN = rotation(30.0, 20.0, 10.0)
AXIS = TURN[:, 2]
DIAMETER_MM, LENGTH_MM, FLOW_ML_S = 8.0, 40.0, 6.0
MEAN_M_S = FLOW_ML_S / (np.pi * DIAMETER_MM**2 / 4)
LOSS_PA = (
    128 * RHO * NU * FLOW_ML_S * 1e-6 / (np.pi * (DIAMETER_MM * 1e-3) ** 4) * LENGTH_MM * 1e-3
)
PLACES_MM = (4.0, 12.0, 20.0, 28.0, 36.0)
RADII_MM = (-3.2, -1.6, 0.0, 2.0, 3.6)
PROBED_MM = 21.3


def test_flux_weighted_pressures_are_the_sums_by_hand():
    pressure = np.array([3.0, 5.0, 4.0, np.nan])
    velocity = np.array([[2.0, 1.0, -1.0, 9.0], [1.0, 0.0, 0.0, 9.0], [0.0, 2.0, 0.0, 9.0]])
    area, density = np.array([1.0, 2.0, 0.5, 7.0]), 10.0
    reading = flux_weighted(pressure, velocity, area, np.array([1.0, 0.0, 0.0]), density)
    # Through the points: 2 x 1, 1 x 2 and back -1 x 0.5; speeds squared 5, 5 and 1.
    assert reading.flux == pytest.approx(3.5)
    assert reading.static == pytest.approx((2 * 3 + 2 * 5 - 0.5 * 4) / 3.5)
    total = (2 * (3 + 5 * 5) + 2 * (5 + 5 * 5) - 0.5 * (4 + 5 * 1)) / 3.5
    assert reading.total == pytest.approx(total)


def test_without_a_net_flux_pressures_are_means_over_the_area():
    velocity = np.array([[1.0, -1.0], [0.0, 0.0], [0.0, 0.0]])
    reading = flux_weighted(
        np.array([3.0, 5.0]), velocity, np.array([2.0, 2.0]), np.array([1.0, 0.0, 0.0]), 2.0
    )
    assert (reading.flux, reading.static, reading.total) == pytest.approx((0.0, 4.0, 5.0))


def section_flow(cells: int) -> float:
    """Return the flow read in a section of a pipe whose cells hold the parabola, over the exact one."""
    surface = assemble(tube(circle(DIAMETER_MM), 16.0, turn=TURN))
    lattice = build_lattice(surface, DIAMETER_MM / cells)
    off_axis = lattice.centres_mm - np.outer(lattice.centres_mm @ AXIS, AXIS)
    speed = 2.0 * (1.0 - np.square(off_axis).sum(axis=1) / (DIAMETER_MM / 2) ** 2)
    x, y, z = 8.0 * AXIS
    plane = Plane("middle", (x, y, z), tuple(AXIS), DIAMETER_MM)
    step = lattice.spacing_mm / 5
    points, area = section_inside(surface.triangles_mm, plane, step, margin_mm=step)
    velocity = NodeTable(lattice).sampler(points).velocity(AXIS[:, None] * speed)
    reading = flux_weighted(np.zeros(len(points)), velocity, np.full(len(points), area), AXIS, 1.0)
    return reading.flux / (np.pi * DIAMETER_MM**2 / 4)


@pytest.mark.parametrize("cells", [4, 8, 16])
def test_sections_read_the_flow_of_a_parabola(cells):
    """Straight lines between cells would read it low by 2/3 (h / R)^2: 17, 4 and 1 %."""
    assert section_flow(cells) == pytest.approx(1.0, abs=0.025 / cells)


def parabola_and_line(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a pipe's velocity at places, and a scalar that is linear across and along it."""
    off_axis = places - np.outer(places @ AXIS, AXIS)
    speed = 2.0 * (1.0 - np.square(off_axis).sum(axis=1) / (DIAMETER_MM / 2) ** 2)
    return AXIS[:, None] * speed, 1.0 + places @ np.array([0.3, -0.2, 0.5])


def test_points_between_cells_and_walls_read_parabolas_and_lines():
    """At any place inside, but for the length of a cell at the openings."""
    surface = assemble(tube(circle(DIAMETER_MM), 16.0, turn=TURN))
    lattice = build_lattice(surface, 1.0)
    rng = np.random.default_rng(0)
    radius = 0.995 * DIAMETER_MM / 2 * np.sqrt(rng.random(2000))
    along, angle = rng.uniform(2.0, 14.0, 2000), rng.uniform(0.0, 2.0 * np.pi, 2000)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle), along], axis=1) @ TURN.T
    velocity, scalar = parabola_and_line(points)
    held = parabola_and_line(lattice.centres_mm)
    sampler = NodeTable(lattice).sampler(points)
    assert sampler.known.all()
    error = sampler.velocity(held[0]) - velocity
    assert np.abs(error).max() < 0.02
    assert np.sqrt(np.square(error).sum(axis=0).mean()) < 0.002
    assert np.abs(sampler.pressure(held[1]) - scalar).max() < 0.2
    assert np.sqrt(np.square(sampler.pressure(held[1]) - scalar).mean()) < 0.01
    straight = NodeTable(lattice).sampler(points, curved=False)
    assert np.abs(straight.velocity(held[0]) - velocity).max() > 0.05


@pytest.fixture(scope="module")
def flow_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("instruments")
    surface = write_folder(folder / "surface", tube(circle(DIAMETER_MM), LENGTH_MM, turn=TURN))
    planes = [Plane(f"at-{z:g}", tuple(z * AXIS), tuple(AXIS), 9.0) for z in PLACES_MM]
    write_planes(folder / "planes.json", planes)
    rows = [",".join(map(str, point)) for point in probe_points()]
    (folder / "points.csv").write_text("\n".join(["x_mm,y_mm,z_mm", *rows, ""]))
    settings = FlowSettings(
        flow_rate_ml_s=FLOW_ML_S,
        spacing_mm=DIAMETER_MM / 8,
        threads=1,
        inlet="developed",
        tolerance=1e-5,
        temperature=False,
        streamlines=0,
    )
    inputs = {"probes": folder / "points.csv", "planes": folder / "planes.json"}
    run(surface, folder / "out", settings, **inputs)
    return folder / "out"


def probe_points() -> np.ndarray:
    across = np.cos(0.4) * TURN[:, 0] + np.sin(0.4) * TURN[:, 1]
    return np.outer(RADII_MM, across) + PROBED_MM * AXIS


@pytest.fixture(scope="module")
def record(flow_dir):
    return json.loads((flow_dir / "flow.json").read_text())


@pytest.fixture(scope="module")
def probes(flow_dir):
    return np.genfromtxt(flow_dir / "probes.csv", delimiter=",", skip_header=1)


def dynamic_over_exact(entry: dict[str, float]) -> float:
    """Return total minus static pressure over that of a parabola.

    Weighted with the flux, rho u^2 / 2 of u = 2 U (1 - s^2) is rho U^2: twice that of the mean velocity.
    """
    found = entry["total_pressure_pa"] - entry["static_pressure_pa"]
    return found / (RHO * MEAN_M_S**2)


def test_openings_carry_the_flow_and_the_kinetic_energy_of_a_parabola(record):
    for entry in record["openings"].values():
        assert entry["flow_rate_ml_s"] == pytest.approx(FLOW_ML_S, rel=1e-4)
        # One cell inside, where the openings' conditions still bend the profile.
        assert 0.95 < dynamic_over_exact(entry) < 1.04


def test_sections_carry_the_flow_and_the_kinetic_energy_of_a_parabola(record):
    for entry in record["planes"].values():
        assert entry["flow_rate_ml_s"] == pytest.approx(FLOW_ML_S, rel=0.01)
        assert 0.96 < dynamic_over_exact(entry) < 1.01


def test_pressure_falls_in_a_straight_line_from_section_to_section(record):
    static = [record["planes"][f"at-{z:g}"]["static_pressure_pa"] for z in PLACES_MM]
    slope, level = np.polyfit(PLACES_MM, static, 1)
    np.testing.assert_allclose(static, slope * np.array(PLACES_MM) + level, atol=0.003 * LOSS_PA)
    # The solver's goal at 8 cells.
    assert -slope * LENGTH_MM == pytest.approx(LOSS_PA, rel=0.02)


def straight(record, place_mm: float) -> float:
    """Return the pressure on the straight line between the openings."""
    ends = [record["openings"][name]["static_pressure_pa"] for name in ("inlet", "outlet")]
    return float(np.interp(place_mm, [0.0, LENGTH_MM], ends))


def test_sections_lie_near_the_straight_line_between_the_openings(record):
    """Openings read up to a tenth of rho U^2 low: the conditions there bend the flow of a cell or two."""
    for place in PLACES_MM:
        static = record["planes"][f"at-{place:g}"]["static_pressure_pa"]
        assert static - straight(record, place) == pytest.approx(0.0, abs=0.1 * RHO * MEAN_M_S**2)


def test_probes_meet_the_parabola_in_all_three_components(probes):
    exact = 2.0 * MEAN_M_S * (1.0 - np.square(np.array(RADII_MM) / (DIAMETER_MM / 2)))
    error = (probes[:, 4:] - np.outer(exact, AXIS)) / MEAN_M_S
    along = error @ AXIS
    assert np.abs(along).max() < 0.025
    assert np.abs(error - np.outer(along, AXIS)).max() < 0.01


def test_probes_meet_the_linear_law_of_pressure(record, probes):
    low = straight(record, PROBED_MM)
    np.testing.assert_allclose(probes[:, 3], low, atol=0.1 * RHO * MEAN_M_S**2)
    # One pressure across the pipe.
    assert np.ptp(probes[:, 3]) < 0.005 * LOSS_PA


def test_vtk_reads_the_same_values_with_straight_lines(flow_dir):
    """VTK's own trilinear interpolation, where all eight cells around a probe are fluid."""
    image = pyvista.read(flow_dir / "field.vti")
    inner = probe_points()[np.abs(RADII_MM) < 2.5]
    read = pyvista.PolyData(inner).sample(image)
    lattice = build_lattice(assemble(tube(circle(DIAMETER_MM), LENGTH_MM, turn=TURN)), 1.0)
    field = on_lattice(read_image_data(flow_dir / "field.vti"), lattice)
    sampler = NodeTable(lattice).sampler(inner, curved=False)
    found = sampler.velocity(field.velocity_m_s).T
    np.testing.assert_allclose(read["pressure"], sampler.pressure(field.pressure_pa), rtol=1e-4)
    np.testing.assert_allclose(read["velocity"], found, atol=1e-4 * MEAN_M_S)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no point"),
        ("x_mm,y_mm,z_mm\n", "holds no point"),
        ("x_mm,y_mm\n1,2\n", "columns x_mm,y_mm,z_mm"),
        ("1,2,3\n4,5,6\n", "columns x_mm,y_mm,z_mm"),
        ("x_mm,y_mm,z_mm\n1,2\n", "numbers in every row"),
        ("x_mm,y_mm,z_mm\n1,left,3\n", "numbers in every row"),
        ("x_mm,y_mm,z_mm\n1,nan,3\n", "not finite"),
        ("x_mm,y_mm,z_mm\n1,inf,3\n", "not finite"),
        ("x_mm,y_mm,z_mm\n1,\xff\xfe,3\n", "numbers in every row"),
    ],
)
def test_points_that_are_none_are_refused_in_one_sentence(tmp_path, text, words):
    path = tmp_path / "points.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=words) as caught:
        read_points(path)
    assert str(caught.value).startswith("points.csv: ")
    assert "\n" not in str(caught.value)


def test_points_may_have_other_columns_and_spaces(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text("name, z_mm, y_mm, x_mm\nvalve, 3, 2, 1\n")
    np.testing.assert_array_equal(read_points(path), [[1.0, 2.0, 3.0]])


def test_an_opening_that_cannot_be_read_is_refused_by_name():
    """Its pressure would count as zero in the loss."""
    surface = assemble(tube(circle(DIAMETER_MM), 16.0))
    lattice = build_lattice(surface, 1.0)
    inlet = next(o for o in make_openings(surface, lattice) if o.inlet)
    nodes = NodeTable(lattice)
    assert make_gauge(inlet, nodes, 1.0).near.known.all()
    aside = replace(inlet, triangles_mm=inlet.triangles_mm + 30.0)
    with pytest.raises(InputError, match="inlet: no fluid cell lies one cell"):
        make_gauge(aside, nodes, 1.0)
