"""Signed distances of simple solids obey geometry."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from stages.phantom.shapes import (
    box,
    ellipsoid,
    polygon_distance,
    smooth_intersection,
    smooth_union,
    sweep,
)

NUMBERS = st.floats(-50, 50)


@given(NUMBERS, NUMBERS, st.floats(0.1, 10))
def test_smooth_union_never_exceeds_the_union_nor_falls_more_than_a_quarter_radius(a, b, radius):
    value = smooth_union(np.array(a), np.array(b), radius)
    assert min(a, b) - radius / 4 - 1e-12 <= value <= min(a, b)


@given(NUMBERS, NUMBERS, st.floats(0.1, 10))
def test_smooth_union_is_the_union_where_the_solids_are_far_apart(a, b, radius):
    value = smooth_union(np.array(a), np.array(b), radius)
    if abs(a - b) >= radius:
        assert value == min(a, b)


@given(NUMBERS, NUMBERS, st.floats(0.1, 10))
def test_intersection_is_the_complement_of_the_union_of_complements(a, b, radius):
    x, y = np.array(a), np.array(b)
    assert smooth_intersection(x, y, radius) == -smooth_union(-x, -y, radius)


def test_sphere_has_the_exact_distance(rng):
    x, y, z = rng.uniform(-9, 9, (3, 500))
    value = ellipsoid(x, y, z, centre_mm=(1.0, 2.0, 3.0), radii_mm=(4.0, 4.0, 4.0))
    exact = np.sqrt((x - 1) ** 2 + (y - 2) ** 2 + (z - 3) ** 2) - 4
    assert_allclose(value, exact, atol=1e-12)


def test_ellipsoid_distance_has_unit_gradient_at_the_surface(rng):
    radii = np.array([3.0, 7.0, 5.0])
    direction = rng.standard_normal((3, 300))
    on_surface = radii[:, None] * direction / np.linalg.norm(direction, axis=0)
    gradient = _gradient(
        lambda *p: ellipsoid(*p, centre_mm=(0, 0, 0), radii_mm=tuple(radii)), on_surface
    )
    assert_allclose(gradient, 1.0, atol=1e-6)


def test_rounded_box_has_unit_gradient_everywhere_outside(rng):
    points = rng.uniform(-12, 12, (3, 2000))

    def distance(*p):
        return box(*p, centre_mm=(1, 0, 0), half_mm=(3, 4, 5), rounding_mm=1.5)

    outside = points[:, distance(*points) > 0.01]
    assert_allclose(_gradient(distance, outside), 1.0, atol=1e-6)


def test_sweep_of_a_point_is_a_capsule():
    along = np.array([-3.0, 0.0, 5.0, 12.0])
    across = np.array([0.0, 2.0, 2.0, 0.0])
    value = sweep(across, along, start_mm=0.0, end_mm=10.0, radius_mm=1.0)
    assert_allclose(value, [2.0, 1.0, 1.0, 1.0])


def test_polygon_distance_is_exact_for_a_square_and_counts_windings_right():
    square = [(0.0, 0.0), (4.0, 0.0), (4.0, 4.0), (0.0, 4.0)]
    u = np.array([2.0, 1.0, 5.0, 7.0, -3.0])
    v = np.array([2.0, 2.0, 2.0, 8.0, -4.0])
    expected = [-2.0, -1.0, 1.0, 5.0, 5.0]
    assert_allclose(polygon_distance(u, v, square), expected)
    assert_allclose(polygon_distance(u, v, square[::-1]), expected)


def _gradient(distance, points):
    step = 1e-5
    parts = [
        (distance(*(points + e[:, None])) - distance(*(points - e[:, None]))) / (2 * step)
        for e in step * np.eye(3)
    ]
    return np.linalg.norm(parts, axis=0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
