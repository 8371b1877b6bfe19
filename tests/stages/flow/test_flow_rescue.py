"""A flow that diverges goes on from its last whole state, with calmer walls where it broke."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from flow_meshes import circle, rotation, tube
from flow_runs import NU

from pipeline.core.errors import NumericalError
from stages.flow.mesh import WALL, assemble
from stages.flow.native_engine import NativeEngine
from stages.flow.openings import make_openings
from stages.flow.record import caveats
from stages.flow.rescue import Refuge, find_divergence, wild_cells
from stages.flow.run_state import read_run, run_arrays
from stages.flow.settings import FlowSettings
from stages.flow.simulation import Simulation
from stages.flow.voxels import build_lattice

DIAMETER_MM, LENGTH_MM, CELL_MM = 6.0, 18.0, 0.75


@pytest.fixture(scope="module")
def pipe():
    surface = assemble(tube(circle(DIAMETER_MM), LENGTH_MM, turn=rotation(20.0, 10.0, 0.0)))
    lattice = build_lattice(surface, CELL_MM)
    return surface, lattice, make_openings(surface, lattice)


def settings(**changes) -> FlowSettings:
    flow_ml_s = 60.0 * NU * np.pi * DIAMETER_MM * 1e-3 / 4 * 1e6
    usual = {"flow_rate_ml_s": flow_ml_s, "spacing_mm": CELL_MM, "threads": 1}
    return FlowSettings(**{**usual, **changes})


class Saboteur(Simulation):
    """A run in which one cell breaks, once the flow has developed.

    A cell that is finite is only said to be fast; others break the engine.
    """

    def __init__(self, *args, speed: float, cell: int, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.speed, self.cell, self.left = speed, cell, 1
        self._tell, self._engine.macroscopic = self._engine.macroscopic, self.macroscopic

    def macroscopic(self) -> np.ndarray:
        fields = self._tell()
        if self.left and self._state.time_s > 3.0 * self._window_s:
            self.left -= 1
            fields = fields.copy()
            fields[1:, self.cell] = self.speed
            if not abs(self.speed) < 1.0:
                self._restart_engine(fields)
                self._engine.advance(3, self._control)
                fields = self._tell()
        return fields


def cell_in_the_middle(lattice, *, beside_wall: bool) -> int:
    cut = np.isin(np.arange(len(lattice.cells)), lattice.link_cell[lattice.links_of(WALL)])
    centre = lattice.centres_mm - lattice.centres_mm.mean(axis=0)
    distance = np.linalg.norm(centre, axis=1) + 1e3 * (cut != beside_wall)
    return int(np.argmin(distance))


@pytest.mark.parametrize("speed", [1e4, np.inf, np.nan])
def test_a_cell_that_breaks_once_leaves_the_loss_as_it_is(pipe, speed):
    surface, lattice, openings = pipe
    long = settings(flow_throughs=20.0, tolerance=1e-6)
    whole = Simulation(lattice, openings, long).run()
    cell = cell_in_the_middle(lattice, beside_wall=True)
    run = Saboteur(lattice, openings, long, speed=speed, cell=cell)
    with np.errstate(all="ignore"):
        broken = run.run()
    assert run.left == 0
    assert whole.rescues == 0
    assert broken.rescues >= 1
    assert broken.means.loss_pa[1] == pytest.approx(whole.means.loss_pa[1], rel=0.005)
    said = " ".join(caveats(surface, lattice, openings, broken, settings()))
    assert f"diverged {broken.rescues} times" in said
    assert "diverged" not in " ".join(caveats(surface, lattice, openings, whole, settings()))


def test_walls_become_linear_around_what_breaks_there_again(pipe):
    surface, lattice, openings = pipe
    cell = cell_in_the_middle(lattice, beside_wall=True)
    run = Saboteur(lattice, openings, settings(max_steps=2000), speed=0.35, cell=cell)
    calm = run.run().calm
    reach = np.abs(lattice.cells[calm] - lattice.cells[cell]).max()
    assert calm[cell]
    assert 1 <= reach <= 6
    assert calm.sum() < 0.2 * len(calm)
    result = run._result()
    assert "linear instead of quadratic" in " ".join(
        caveats(surface, lattice, openings, result, settings())
    )


def test_runs_with_linear_walls_take_shorter_steps_instead(pipe):
    _, lattice, openings = pipe
    cell = cell_in_the_middle(lattice, beside_wall=True)
    chosen = settings(max_steps=2000, walls="linear")
    result = Saboteur(lattice, openings, chosen, speed=0.35, cell=cell).run()
    assert not result.calm.any()
    assert result.lattice_velocity == pytest.approx(0.5 * chosen.lattice_velocity)
    said = " ".join(caveats(*pipe, result, chosen))
    assert "it was computed at 0.05" in said


def test_a_run_whose_steps_end_before_it_is_whole_again_has_no_result(pipe):
    _, lattice, openings = pipe
    cell = cell_in_the_middle(lattice, beside_wall=True)
    run = Saboteur(lattice, openings, settings(max_steps=896), speed=0.35, cell=cell)
    run.left = 10_000
    with pytest.raises(NumericalError, match="diverged"):
        run.run()


def test_a_watched_run_continues_from_its_checkpoint_bit_by_bit(pipe):
    _, lattice, openings = pipe
    cell = cell_in_the_middle(lattice, beside_wall=True)
    chosen = settings(max_steps=1500)
    kept: list[dict[str, np.ndarray]] = []
    run = Saboteur(lattice, openings, chosen, speed=np.nan, cell=cell)

    def keep(snapshot) -> None:
        if run._state.watch > 0 and not kept:
            kept.append(copy.deepcopy(snapshot()))

    whole = run.run(keep)
    again = Simulation(lattice, openings, chosen, resume=kept[0]).run()
    assert whole.rescues == again.rescues >= 1
    np.testing.assert_array_equal(whole.velocity_m_s, again.velocity_m_s)


def test_the_state_of_a_run_survives_being_written_down(pipe):
    _, lattice, openings = pipe
    run = Simulation(lattice, openings, settings(max_steps=300))
    run.run()
    state = run._state
    state.calm[3], state.rescues, state.tries, state.watch = True, 5, 2, 7
    read, _, _ = read_run(run_arrays(state, [], {}))
    assert (read.rescues, read.tries, read.watch) == (5, 2, 7)
    assert read.lattice_velocity == state.lattice_velocity
    np.testing.assert_array_equal(read.calm, state.calm)
    np.testing.assert_array_equal(read.refuge.fields, state.refuge.fields)
    np.testing.assert_array_equal(read.refuge.control.outlet, state.refuge.control.outlet)


def fields_of(count: int) -> np.ndarray:
    fields = np.zeros((4, count))
    fields[0] = np.linspace(0.0, 0.05, count)
    fields[1] = 0.08
    return fields


def test_only_a_few_fast_cells_of_a_developed_flow_are_wild():
    fields = fields_of(1000)
    fields[1, :5] = 0.35
    few = wild_cells(fields, 0.1, developed=True)
    assert few.sum() == 5
    assert not wild_cells(fields, 0.1, developed=False).any()
    fields[1, :200] = 0.35
    assert not wild_cells(fields, 0.1, developed=True).any()
    fields[1, :200] = 0.45
    assert wild_cells(fields, 0.1, developed=False).sum() == 200


@pytest.mark.parametrize("value", [np.nan, np.inf, -3.0, 1e20])
def test_a_pressure_that_no_other_cell_has_is_wild(value):
    fields = fields_of(1000)
    assert not wild_cells(fields, 0.1, developed=True).any()
    fields[0, 17] = value
    assert np.flatnonzero(wild_cells(fields, 0.1, developed=True)).tolist() == [17]


def test_high_pressures_of_a_slow_flow_are_not_wild():
    fields = fields_of(1000)
    fields[0] = np.linspace(0.0, 40.0, 1000)
    assert not wild_cells(fields, 0.1, developed=True).any()


def test_the_surroundings_grow_to_the_next_wall_that_can_be_calmed(pipe):
    _, lattice, _ = pipe
    fields = fields_of(len(lattice.cells))
    wild = np.zeros(len(lattice.cells), dtype=bool)
    cell = cell_in_the_middle(lattice, beside_wall=False)
    wild[cell] = True
    nothing = np.zeros_like(wild)
    far = find_divergence(fields, wild, lattice.neighbour, nothing)
    assert far.local
    assert not far.can_calm
    assert np.abs(lattice.cells[far.cells] - lattice.cells[cell]).max() == 6
    curved = nothing.copy()
    curved[cell] = True
    near = find_divergence(fields, wild, lattice.neighbour, curved)
    assert near.can_calm
    assert np.abs(lattice.cells[near.cells] - lattice.cells[cell]).max() == 2


def test_a_refuge_follows_the_time_step(pipe):
    _, lattice, openings = pipe
    run = Simulation(lattice, openings, settings(max_steps=64))
    run.run()
    state = run._state
    half = state.refuge.in_step(0.5)
    np.testing.assert_allclose(half.fields[0], 0.25 * state.refuge.fields[0])
    np.testing.assert_allclose(half.fields[1:], 0.5 * state.refuge.fields[1:])
    np.testing.assert_allclose(half.control.flux, 0.5 * state.refuge.control.flux)
    kept = Refuge.of(1.0, state.refuge.fields, state.control)
    state.control.flux += 1.0
    assert not np.array_equal(kept.control.flux, state.control.flux)


@pytest.mark.parametrize("engine", ["native", "numba"])
def test_an_engine_forgets_what_was_no_number(pipe, engine):
    _, lattice, openings = pipe
    run = Simulation(lattice, openings, settings(max_steps=64, engine=engine))
    if engine == "native":
        assert isinstance(run._engine, NativeEngine)
    nothing = np.full((4, len(lattice.cells)), np.nan)
    run._restart_engine(nothing)
    with np.errstate(all="ignore"):
        run._engine.advance(40, run._controls())
        assert not np.isfinite(run._engine.macroscopic()).any()
    run._restart_engine(np.zeros_like(nothing))
    run._engine.advance(40, run._controls())
    assert np.isfinite(run._engine.macroscopic()).all()
