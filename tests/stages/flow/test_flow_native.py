"""What every engine promises, and what the compiled one promises beyond."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from flow_engines import (
    ENGINES,
    ROUNDING,
    Parts,
    arriving,
    closed_box,
    every_engine,
    every_precision,
    native_engine,
    open_pipe,
    random_fields,
    winding,
)
from flow_meshes import blocks, circle, rotation, tube
from flow_runs import NU, simulate

from pipeline.core.errors import UsageError
from stages.flow import engines, mass_windows
from stages.flow.collision import Collision
from stages.flow.lattice import OPPOSITE, VELOCITIES, Q
from stages.flow.voxels import SparseLattice
from stages.flow.walls import interpolated_walls


@every_precision
@pytest.mark.parametrize("inlet", ["developed", "total-pressure"])
def test_native_and_numba_take_the_same_steps(inlet, precision):
    parts = open_pipe(inlet=inlet)
    fields = random_fields(parts)
    (native, ours), (numba, theirs) = (parts.started(n, precision, fields) for n in ENGINES)
    for _ in range(5):
        native.advance(1, ours)
        numba.advance(1, theirs)
        np.testing.assert_allclose(
            arriving(native), arriving(numba), rtol=0, atol=10 * ROUNDING[precision]
        )
    links = len(parts.openings.link)
    np.testing.assert_allclose(
        ours.flux, theirs.flux, rtol=0, atol=links * 10 * ROUNDING[precision]
    )
    np.testing.assert_allclose(ours.outlet, theirs.outlet, rtol=1e-4)


@every_precision
@pytest.mark.parametrize("collision", [Collision(1.9, 0.7, 1.0), Collision(1.9, 1.0, 0.0)])
def test_native_and_numba_collide_the_same_with_every_rate(collision, precision):
    parts = closed_box(winding())
    parts.collision = collision
    (native, ours), (numba, theirs) = (
        parts.started(n, precision, random_fields(parts)) for n in ENGINES
    )
    native.advance(3, ours)
    numba.advance(3, theirs)
    np.testing.assert_allclose(
        arriving(native), arriving(numba), rtol=0, atol=10 * ROUNDING[precision]
    )


@pytest.mark.parametrize("level", ["base", "v3"])
def test_every_instruction_set_computes_the_same(level):
    best = native_engine._core.best_level()
    if level not in native_engine.levels():
        pytest.skip(f"this processor does not run {level}")
    parts = closed_box(winding(), distance=0.3)
    fields = random_fields(parts)
    (one, first), (two, second) = (
        parts.started("native", np.float64, fields, level=chosen) for chosen in (best, level)
    )
    one.advance(4, first)
    two.advance(4, second)
    np.testing.assert_allclose(
        one.populations(), two.populations(), rtol=0, atol=10 * ROUNDING[np.float64]
    )


@every_precision
@every_engine
def test_a_closed_box_keeps_its_mass_for_a_thousand_steps(name, precision):
    parts = closed_box(winding())
    engine, state = parts.started(name, precision, random_fields(parts))
    before = arriving(engine).sum(dtype=np.float64)
    engine.advance(1000, state)
    populations = arriving(engine)
    # Each step rounds each population once: a random walk of 1000 n steps.
    walk = np.sqrt(1000 * populations.size) * 0.01 * np.finfo(precision).eps
    assert abs(populations.sum(dtype=np.float64) - before) < 10 * walk


@every_precision
@every_engine
@pytest.mark.parametrize(("distance", "block"), [(0.2, 4), (0.9, 4), (0.3, 16)])
def test_interpolated_walls_keep_the_mass_of_a_box(name, precision, distance, block, monkeypatch):
    """With walls of one tile in two blocks, and in more."""
    for size, cells in (
        ("_BLOCK_CELLS", block),
        ("_WINDOW_CELLS", 2 * block),
        ("_SHORT_CELLS", 0),
    ):
        monkeypatch.setattr(mass_windows, size, cells)
    parts = closed_box(winding(), distance=distance, curvature=1.0)
    engine, state = parts.started(name, precision, random_fields(parts))
    before = arriving(engine).sum(dtype=np.float64)
    engine.advance(101, state)
    after = arriving(engine)
    walk = np.sqrt(101 * after.size) * 0.01 * np.finfo(precision).eps
    assert abs(after.sum(dtype=np.float64) - before) < 10 * walk


@every_precision
@pytest.mark.parametrize("walls", ["linear", "quadratic"])
def test_results_do_not_depend_on_the_number_of_threads(walls, precision):
    parts = open_pipe(walls, diameter=14.0)
    fields = random_fields(parts)
    results = []
    for threads in (1, 2, 3):
        engine, state = parts.started("native", precision, fields, threads=threads)
        assert engine.threads == threads
        engine.advance(69, state)
        results.append((engine.populations().tobytes(), state.flux.tobytes()))
    assert results[0] == results[1] == results[2]


@every_precision
@pytest.mark.parametrize("steps", [4, 31, 32])
def test_a_checkpoint_continues_bit_by_bit(steps, precision):
    parts = open_pipe("quadratic", "total-pressure")
    whole, state = parts.started("native", precision, random_fields(parts))
    whole.advance(steps, state)
    kept, kept_state = whole.state(), copy.deepcopy(state)
    whole.advance(35, state)
    again = parts.engine("native", precision)
    again.load(kept)
    np.testing.assert_array_equal(again.populations(), kept["populations"])
    again.advance(35, kept_state)
    np.testing.assert_array_equal(again.populations(), whole.populations())
    np.testing.assert_array_equal(kept_state.flux, state.flux)


@every_precision
@pytest.mark.parametrize("level", ["base", "v3", "v4"])
def test_the_extra_stress_is_kept_in_half_of_the_bits(level, precision):
    if level not in native_engine.levels():
        pytest.skip(f"this processor does not run {level}")
    parts = closed_box(winding(), distance=0.3, curvature=1.0)
    engine, state = parts.started("native", precision, random_fields(parts), level=level)
    engine.advance(2, state)
    kept = engine.state()
    rng = np.random.default_rng(5)
    stress = 10 ** rng.uniform(-11, -3, kept["stress"].shape) * rng.choice(
        [-1, 1], kept["stress"].shape
    )
    share, least = {np.float32: (2.0**-11, 2.0**-29), np.float64: (2.0**-24, 0.0)}[precision]
    found = _after(engine, {**kept, "stress": stress})
    np.testing.assert_allclose(found["stress"], stress, rtol=share, atol=least)
    engine.advance(40, state)
    made = engine.state()
    assert np.any(made["stress"] != found["stress"])
    np.testing.assert_array_equal(_after(engine, made)["stress"], made["stress"])
    again = _after(engine, found)
    np.testing.assert_array_equal(again["stress"], found["stress"])
    huge = _after(engine, {**kept, "stress": np.sign(stress) * 3.0})["stress"]
    assert np.isfinite(huge).all()
    # What collisions make of it is what they make of the same stress with the narrowest registers.
    narrowest = parts.engine("native", precision, level="base")
    moved = [_after(e, found, copy.deepcopy(state))["populations"] for e in (engine, narrowest)]
    np.testing.assert_allclose(*moved, rtol=0, atol=10 * ROUNDING[precision])
    without = {**found, "stress": 0 * stress}
    calm = _after(narrowest, without, copy.deepcopy(state))["populations"]
    assert np.abs(moved[0] - calm).max() > 1000 * ROUNDING[precision]


def _after(engine, state, openings=None):
    """Return the state that an engine has after it was given one, and made a step if openings are given."""
    engine.load(state)
    if openings is not None:
        engine.advance(1, openings)
    return engine.state()


@every_precision
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mirrored_lattice_has_the_mirrored_flow(axis, precision, monkeypatch):
    monkeypatch.setattr(mass_windows, "_SHORT_CELLS", 64)  # one window: several begin at one side
    inside = winding()
    parts = closed_box(inside, distance=0.35)
    mirrored = closed_box(np.flip(inside, axis), distance=0.35)
    fields = random_fields(parts)
    shape = inside.shape
    place = parts.lattice.cells.copy()
    place[:, axis] = shape[axis] - 1 - place[:, axis]
    number = np.full(shape, -1)
    number[tuple(mirrored.lattice.cells.T)] = np.arange(len(place))
    twin = number[tuple(place.T)]
    turned = np.empty_like(fields)
    turned[:, twin] = fields
    turned[1 + axis] *= -1
    one, first = parts.started("native", precision, fields)
    two, second = mirrored.started("native", precision, turned)
    one.advance(40, first)
    two.advance(40, second)
    expected = two.macroscopic()[:, twin]
    expected[1 + axis] *= -1
    np.testing.assert_allclose(one.macroscopic(), expected, rtol=0, atol=200 * ROUNDING[precision])


def test_turning_the_lattice_turns_the_flow():
    inside = winding()
    parts, turned = closed_box(inside), closed_box(inside.transpose(1, 2, 0))
    number = np.full(turned.lattice.shape, -1)
    number[tuple(turned.lattice.cells.T)] = np.arange(len(turned.lattice.cells))
    twin = number[tuple(parts.lattice.cells[:, [1, 2, 0]].T)]
    fields = random_fields(parts)
    other = np.empty_like(fields)
    other[:, twin] = fields[[0, 2, 3, 1]]
    one, first = parts.started("native", np.float64, fields)
    two, second = turned.started("native", np.float64, other)
    one.advance(40, first)
    two.advance(40, second)
    np.testing.assert_allclose(
        one.macroscopic()[[0, 2, 3, 1]],
        two.macroscopic()[:, twin],
        rtol=0,
        atol=200 * ROUNDING[np.float64],
    )


def test_restarting_sets_the_state_that_was_given():
    parts = closed_box(np.ones((5, 6, 20), dtype=bool))
    fields = np.zeros((4, len(parts.lattice.cells)))
    fields[0] = 0.004
    for name in ENGINES:
        engine, state = parts.started(name, np.float64, fields)
        engine.advance(3, state)  # uniform density at rest stays
        np.testing.assert_allclose(engine.macroscopic(), fields, rtol=0, atol=1e-16)


def test_air_at_rest_stays_exactly_at_rest():
    parts = closed_box(winding(), distance=0.3, curvature=1.0)
    engine = parts.engine("native", np.float32)
    state = copy.deepcopy(parts.state)
    engine.advance(9, state)
    assert not engine.populations().any()


def test_fluid_behind_a_wall_thinner_than_a_cell_feels_nothing():
    """A sheet without thickness cuts links between fluid cells; motion must stay on its side."""
    inside = np.ones((12, 9, 33), dtype=bool)
    parts = closed_box(inside)
    lattice = parts.lattice
    sheet = 6
    ahead = lattice.cells + VELOCITIES[:, None, :]
    crosses = (lattice.cells[None, :, 0] < sheet) != (ahead[..., 0] < sheet)
    neighbour = np.where(crosses, -1, lattice.neighbour).astype(np.int32)
    direction, cell = np.nonzero(neighbour < 0)
    wall = np.zeros(len(cell), dtype=np.int64)
    cut = SparseLattice(
        *(np.zeros(3), 1.0, lattice.shape, lattice.cells, neighbour, cell, direction),
        *(np.full(len(cell), 0.5), wall, ("wall",)),
    )
    link = np.arange(len(cell))
    walls = interpolated_walls(
        *(link, cell, direction, cut.link_distance, neighbour),
        cells=np.where(cut.cells[:, :1] < sheet, cut.cells, cut.cells + 1000),  # no common window
        relaxation_time=0.51,
        curvature=0.0,
    )
    split = Parts(cut, walls, parts.openings, parts.collision, parts.state)
    fields = random_fields(split)
    fields[:, cut.cells[:, 0] >= sheet] = 0.0
    (native, ours), (numba, theirs) = (split.started(n, np.float64, fields) for n in ENGINES)
    native.advance(40, ours)
    numba.advance(40, theirs)
    assert np.abs(native.macroscopic()[:, cut.cells[:, 0] >= sheet]).max() == 0.0
    np.testing.assert_allclose(arriving(native), arriving(numba), rtol=0, atol=1e-15)


@pytest.mark.parametrize("walls", ["linear", "quadratic"])
def test_a_converged_pipe_has_the_same_pressure_loss_with_both_engines(walls):
    flow = 20.0 * NU / 8e-3 * np.pi * 8e-3**2 / 4 * 1e6
    patches = tube(circle(8.0), 24.0, turn=rotation(30.0, 20.0, 10.0))
    losses = []
    for name in ENGINES:
        case = simulate(
            patches, 1.0, flow, engine=name, walls=walls, precision="float64", tolerance=1e-6
        )
        assert case.result.engine == name
        losses.append(case.result.means.loss_pa)
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_both_engines_return_the_same_from_openings_that_span_blocks(monkeypatch):
    """Walls are sorted by block, openings by cell: each link must find its own distance."""
    monkeypatch.setattr(mass_windows, "_BLOCK_CELLS", 4)
    parts = open_pipe(inlet="total-pressure")
    link, surface = parts.openings.link, parts.openings.surface
    assert surface is not None
    distance = parts.lattice.link_distance[link]
    np.testing.assert_array_equal(surface.link, link)
    np.testing.assert_allclose(
        surface.share, np.where(distance < 0.5, 2 * distance, 0.5 / distance), rtol=1e-12
    )
    fields = random_fields(parts)
    (native, ours), (numba, theirs) = (parts.started(n, np.float64, fields) for n in ENGINES)
    native.advance(5, ours)
    numba.advance(5, theirs)
    np.testing.assert_allclose(
        arriving(native), arriving(numba), rtol=0, atol=10 * ROUNDING[np.float64]
    )


def test_opposite_directions_stay_opposite_in_the_kernel():
    for axes in ((0, 1, 2), (1, 0, 2), (2, 0, 1)):
        none = np.zeros(0, dtype=np.int64)
        tiling = native_engine.Tiling(axes, none, none, np.zeros((0, Q - 1), dtype=np.int32), 16)
        np.testing.assert_array_equal(
            tiling.direction[OPPOSITE], OPPOSITE[tiling.direction], strict=False
        )


@pytest.mark.parametrize("lanes", [8, 16])
def test_rows_follow_the_axis_that_fills_tiles_best(lanes: int):
    for axis in range(3):
        shape = [5, 5, 5]
        shape[axis] = 64
        tiling = native_engine.make_tiling(np.argwhere(np.ones(shape, dtype=bool)), lanes)
        assert tiling.axes[0] == axis
        assert tiling.tiles == 5 * 5 * 64 // lanes


@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_what_lies_ahead_of_a_tile_lies_there_for_each_of_its_lanes(lanes: int, share: float):
    """Also beside rows whose tiles begin elsewhere, and across gaps just shorter than a tile or as long."""
    inside = np.random.default_rng(3).random((70, 7, 6)) < share
    inside[10:25, 3], inside[40:56, 4], inside[30:60, 2, 3] = False, False, True
    cells = np.argwhere(inside)
    tiling = native_engine.make_tiling(cells, lanes)
    assert len(np.unique(tiling.place)) == len(cells)
    assert tiling.place.max() < tiling.tiles * lanes
    turned = cells[:, tiling.axes]
    number = {
        tuple(cell): place for cell, place in zip(turned.tolist(), tiling.place, strict=True)
    }
    neighbours = 0
    for cell, tile, lane in zip(turned, tiling.tile, tiling.lane, strict=True):
        for q in range(1, Q):
            there = number.get(tuple((cell + VELOCITIES[q]).tolist()))
            if there is not None:
                assert tiling.ahead[tile, q - 1] + lane == there
                neighbours += 1
    assert neighbours > len(cells)


def test_tiles_begin_where_passages_begin():
    """A slanted slot of 20 cells takes two tiles of 16 a row, not up to three as at multiples of 16."""
    cells = np.array([(x + 5 * y, y, 0) for x in range(20) for y in range(8)])
    assert native_engine.make_tiling(cells, 16).tiles == 8 * 2


def test_an_engine_that_was_not_built_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match="C\\+\\+"):
        engines.engine_name("native")
    assert engines.engine_name("auto") == "numba"
    assert "Numba" in engines.engine_caveats("auto", "numba")[0]
    assert engines.engine_caveats("numba", "numba") == []


def test_blocks_of_cubes_run_natively():
    occupied = np.ones((4, 4, 12), dtype=bool)

    def name_of(centre, normal):
        return {-1: "inlet", 1: "outlet"}.get(normal[2], "wall")

    case = simulate(blocks(occupied, 1.0, name_of), 0.5, 1.0, engine="native", max_steps=200)
    assert case.flux_ml_s("inlet") > 0.1
