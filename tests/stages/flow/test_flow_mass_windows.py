"""The windows in which walls conserve mass: what they give back, and what blocks with edges did to slits."""

from __future__ import annotations

import numpy as np
import pytest
from jaxtyping import Int

from stages.flow.mass_windows import mass_windows
from stages.flow.validation.flows import NU_M2_S, RHO_KG_M3, Bench
from stages.flow.validation.references import rectangle_conductance
from stages.flow.validation.shapes import rectangle, rotation, tube


def wall_cells(*size: int) -> Int[np.ndarray, "cell 3"]:
    """Return some cells of a box, each once."""
    places = np.random.default_rng(4).choice(int(np.prod(size)), 4000, replace=False)
    return np.stack(np.unravel_index(places, size), axis=1)


def test_all_that_was_too_little_is_given_back():
    block, windows = mass_windows(wall_cells(150, 90, 200))
    assert len(windows.share) > 20
    np.testing.assert_allclose(windows.weight.sum(axis=1), 1.0, rtol=1e-14)
    defect = np.random.default_rng(5).standard_normal(len(windows.window))
    given = windows.spread(defect)[block]
    assert given.sum() == pytest.approx(defect.sum(), abs=1e-12)


def test_what_walls_lack_everywhere_is_given_where_it_lacks():
    block, windows = mass_windows(wall_cells(150, 90, 200))
    defect = 0.3 * np.bincount(block)
    np.testing.assert_allclose(windows.spread(defect), 0.3, rtol=1e-13)


def test_no_section_is_an_edge_of_all_windows():
    """What is given changes from block to block by less than all of it."""
    _, windows = mass_windows(wall_cells(24, 24, 256))
    first, last = 0, len(windows.window) - 1
    defect = np.zeros(len(windows.window))
    defect[first] = 1.0
    given = windows.spread(defect)
    assert given[first] > 0.0
    assert given[last] == 0.0
    along = np.unique(np.round(given, 12))
    assert len(along) >= 5
    assert np.abs(np.diff(along)).max() < 0.6 * given.max()


def test_a_lattice_of_few_cells_has_one_window():
    block, windows = mass_windows(wall_cells(32, 20, 30))
    assert len(np.unique(block)) == 2 * 2 * 2
    defect = np.random.default_rng(6).standard_normal(8)
    np.testing.assert_allclose(windows.spread(defect), defect.sum() / 4000, rtol=1e-12)


def test_no_wall_cells_have_no_windows():
    block, windows = mass_windows(np.zeros((0, 3), dtype=np.int64))
    assert len(block) == len(windows.share) == len(windows.spread(np.zeros(0))) == 0


def test_a_slit_of_two_cells_that_meets_the_lattice_alike_in_all_of_a_section_flows_evenly():
    """In blocks with edges of their own they lost twice of what they should."""
    turn, width, height, length = rotation(35.0, 0.0, 0.0), 12.0, 2.0, 84.0
    flow = 20.0 * NU_M2_S / 1e-3 * width * height
    slit = tube(rectangle(width, height), length, turn=turn)
    solved = Bench(threads=1).solve(slit, 1.0, flow)
    conductance = rectangle_conductance(width * 1e-3, height * 1e-3)
    exact = RHO_KG_M3 * NU_M2_S * flow * 1e-6 / conductance * 1e-3
    found = solved.gradient_pa_mm(turn[:, 2], 12.0, 78.0)
    assert abs(found / exact - 1.0) < 0.3
