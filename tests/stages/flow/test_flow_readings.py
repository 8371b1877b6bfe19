"""Developed profiles and the points at which openings are read, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from flow_meshes import rectangle

from stages.flow.profiles import developed_profile
from stages.flow.readings import patch_points
from stages.flow.validation.references import rectangle_conductance


def flat(section, degrees: float = 0.0):
    """Return two triangles of a rectangle in the plane z = 0."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.column_stack([section @ turn.T, np.zeros(4)])
    return corners[[[0, 1, 2], [0, 2, 3]]]


@pytest.mark.parametrize("degrees", [0.0, 33.0, 45.0])
@pytest.mark.parametrize("width", [1.0, 2.0, 6.0])
def test_conductance_of_a_duct_is_that_of_its_series_however_it_is_turned(width, degrees):
    triangles = flat(rectangle(width, 1.0), degrees)
    found = developed_profile(triangles, np.array([0.0, 0.0, 1.0]), np.zeros((1, 3)))[1]
    assert found == pytest.approx(rectangle_conductance(width, 1.0), rel=5e-3)


def test_points_of_a_sliver_carry_its_area_and_moments():
    sliver = np.array([[[0.0, 0.0, 0.0], [8.0, 0.0, 0.0], [8.0, 0.2, 0.0]]])
    points, area = patch_points(sliver, 0.25)
    assert area.sum() == pytest.approx(0.8, rel=1e-12)
    assert area @ points == pytest.approx(0.8 * sliver[0].mean(axis=0), rel=1e-12)
    # Second moment of a triangle about the corner that lies at x = 0: A L^2 / 2.
    assert area @ points[:, 0] ** 2 == pytest.approx(0.8 * 64 / 2, rel=1e-3)
    # What slivers are for: no more points than their length needs (it was 1,024).
    assert len(points) == 33


def test_points_lie_about_a_step_apart():
    points, area = patch_points(flat(rectangle(3.0, 2.0)), 0.25)
    assert area.max() < 0.25**2
    grid = np.stack(np.meshgrid(np.linspace(-1.5, 1.5, 31), np.linspace(-1, 1, 21)), axis=-1)
    gaps = np.linalg.norm(grid[..., None, :] - points[:, :2], axis=-1).min(axis=-1)
    assert gaps.max() < 0.25
