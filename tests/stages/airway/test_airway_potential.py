"""The potential flow obeys Ohm's law, mass conservation and the coarea formula."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pipeline.core.geometry import VoxelGrid
from pipeline.core.planes import Plane
from pipeline.core.volume import Volume
from stages.airway.lumen import Openings
from stages.airway.measures import measure_sides
from stages.airway.potential import solve_potential
from stages.airway.resampling import bounding_box_mm, resample, upright_grid
from stages.airway.routes import find_route, travel_cost
from stages.airway.sections import Image, column, cut
from stages.airway.septum import Meeting

LENGTH, WIDTH = 24, 5


def channel(shape=(LENGTH, 11, 11), width=WIDTH):
    lumen = np.zeros(shape, dtype=bool)
    low = (shape[1] - width) // 2
    lumen[:, low : low + width, low : low + width] = True
    return lumen


def ends_of(lumen):
    source, sink = np.zeros_like(lumen), np.zeros_like(lumen)
    source[0], sink[-1] = lumen[0], lumen[-1]
    return source, sink


def test_potential_falls_evenly_along_the_middle_of_a_straight_channel():
    lumen = channel()
    flow = solve_potential(lumen, *ends_of(lumen), 0.5)
    middle = flow.potential[6:-6, 5, 5]
    # Near the ends the distance to the wall counts the end itself as wall: only the middle is even.
    np.testing.assert_allclose(np.diff(middle), np.diff(middle).mean(), rtol=0.02, atol=0)


def test_flux_through_every_section_is_the_flux_at_the_source():
    lumen = channel()
    flow = solve_potential(lumen, *ends_of(lumen), 0.5)
    mobility = np.square(flow.wall_mm)
    for level in (3, 11, 20):
        a, b = mobility[level], mobility[level + 1]
        face = 2 * a * b / np.maximum(a + b, 1e-12)
        step = np.nan_to_num(flow.potential[level] - flow.potential[level + 1])
        assert (face * step).sum() * 0.5 == pytest.approx(flow.flux_mm3, rel=1e-3)


def test_dead_end_carries_no_flow():
    lumen = channel((LENGTH, 11, 30))
    lumen[10:14, 4:7, 7:28] = True
    flow = solve_potential(lumen, *ends_of(lumen), 0.5)
    # The disturbance of the potential decays as exp(-pi x / width) into the dead end: 2 mm wide, 7 mm deep.
    assert (
        flow.throughput[10:14, 4:7, 22:].max()
        < np.exp(-np.pi * 7.0 / 2.0) * flow.throughput[5, 5, 5]
    )


def test_no_connection_gives_no_flow():
    lumen = channel()
    lumen[12] = False
    assert solve_potential(lumen, *ends_of(lumen), 0.5) is None


def test_section_of_a_tilted_tube_is_its_circle():
    grid = VoxelGrid((60, 60, 60), (0.5, 0.5, 0.5), (-15.0, -15.0, -15.0))
    p = grid.to_world_mm(np.moveaxis(np.mgrid[:60, :60, :60], 0, -1))
    axis = np.array([0.3, -0.2, 0.93]) / np.linalg.norm([0.3, -0.2, 0.93])
    radius = np.linalg.norm(p - (p @ axis)[..., None] * axis, axis=-1)
    hu = np.clip(-480.0 + 300.0 * (radius - 4.0), -1000.0, 40.0)
    image = Image(hu, np.zeros(grid.shape, dtype=bool), grid, -480.0)
    section = cut(image, np.zeros(3), axis, reach_mm=8.0)
    assert section.is_enclosed
    # Counting squares of edge h in a circle of radius R errs by about h^(3/2) R^(1/2): three times that.
    assert section.area_mm2 == pytest.approx(np.pi * 16.0, abs=3 * 0.5**1.5 * 4.0**0.5)
    assert not cut(image, np.zeros(3), axis, reach_mm=3.0).is_enclosed
    prism = column(grid, section, low_mm=-3.0, high_mm=5.0, margin_mm=0.0)
    assert prism.sum() * 0.125 == pytest.approx(section.area_mm2 * 8.0, rel=0.03)


def test_way_through_air_is_preferred_to_a_shorter_one_through_tissue():
    air = np.zeros((12, 30, 30), dtype=bool)
    air[3:9, 2:6, 2:28] = air[3:9, 2:28, 24:28] = air[3:9, 24:28, 2:28] = True
    cost = travel_cost(air, np.zeros_like(air), 1.0)
    ends = np.zeros_like(air)
    ends[6, 4, 4] = True
    assert find_route(cost, air, (6, 26, 4), ends).is_open
    air[:, 12:15] = False
    blocked = find_route(travel_cost(air, np.zeros_like(air), 1.0), air, (6, 26, 4), ends)
    assert not blocked.is_open
    assert blocked.in_tissue.sum() <= 5


def test_resampling_an_oblique_volume_agrees_with_scipy():
    turn = np.deg2rad(20.0)
    c, s = np.cos(turn), np.sin(turn)
    axes = ((0.0, -s, c), (0.0, c, s), (1.0, 0.0, 0.0))
    grid = VoxelGrid((20, 24, 22), (1.3, 0.7, 0.9), (5.0, -3.0, 11.0), axes)
    values = np.random.default_rng(3).normal(0.0, 300.0, grid.shape).astype(np.float32)
    values = ndimage.gaussian_filter(values, 1.0)
    target = upright_grid(bounding_box_mm(grid), 1.1)
    ours = resample(Volume(values, grid), target)
    points = target.to_world_mm(
        np.moveaxis(np.mgrid[tuple(slice(0, n) for n in target.shape)], 0, -1)
    )
    index = np.moveaxis(grid.to_index(points), -1, 0)
    theirs = ndimage.map_coordinates(values, index, order=1, mode="constant", cval=np.nan)
    inside = np.isfinite(theirs)
    assert inside.sum() > 1000
    # SimpleITK interpolates in single precision along lines of the image.
    np.testing.assert_allclose(ours[inside], theirs[inside], rtol=0, atol=0.05)


def test_planes_survive_writing_and_reading(tmp_path):
    from pipeline.core.planes import read_planes, write_planes

    plane = Plane("pharynx", (1.25, -3.5, 7.0), (0.0, 0.6, -0.8), 9.0)
    write_planes(tmp_path / "planes.json", [plane])
    assert read_planes(tmp_path / "planes.json") == {"pharynx": plane}


def test_a_side_is_measured_where_the_place_of_meeting_is_cut_off_from_the_pharynx():
    """At another isolevel the other side can end in a dead end, with the place where both met."""
    open_side, dead_end = (np.zeros((LENGTH, 11, 22), dtype=bool) for _ in range(2))
    open_side[:, 3:8, 3:8] = True
    dead_end[:18, 3:8, 14:19] = True
    lumen = open_side | dead_end
    layers = {"left": dead_end.copy(), "right": open_side.copy()}
    for layer in layers.values():
        layer[1:] = False
    pharynx = open_side.copy()
    pharynx[:-1] = False
    choanal = dead_end.copy()
    choanal[:17] = False
    side = dead_end.astype(np.int8) - open_side.astype(np.int8)
    image = Image(
        np.where(lumen, -1000.0, 0.0),
        np.zeros(lumen.shape, dtype=bool),
        VoxelGrid(lumen.shape, (0.5, 0.5, 0.5)),
        -400.0,
    )
    found = measure_sides(image, lumen, Openings(layers, pharynx), Meeting(side, choanal, ()))
    assert set(found) == {"right"}
    assert found["right"].minimal_area_mm2 == pytest.approx(25 * 0.5**2)
