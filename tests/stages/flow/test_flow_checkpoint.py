"""A run that was killed ends with the bytes of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from flow_meshes import circle, revolve, rotation, tube, write_folder

from pipeline.core.errors import NumericalError
from stages.flow import simulation
from stages.flow.checkpoint import Checkpoint, Keeper, checkpoint_path, spent_seconds
from stages.flow.mesh import assemble
from stages.flow.openings import make_openings
from stages.flow.restart import case_digest, run_to_end
from stages.flow.run_state import read_run, run_arrays
from stages.flow.settings import FlowSettings
from stages.flow.simulation import Simulation
from stages.flow.stage import run
from stages.flow.start import FlowField
from stages.flow.voxels import build_lattice

TURN = rotation(30.0, 20.0, 10.0)
FAST = {"flow_rate_ml_s": 60.0, "spacing_mm": 0.8, "threads": 1, "lattice_velocity": 0.05}
LONG = {**FAST, "max_steps": 30000, "tolerance": 1e-15}
"""Seconds of computing, so that a signal meets it however fast the machine is: it would converge in 0.3 s."""


@pytest.fixture(scope="module")
def pipe():
    surface = assemble(tube(circle(8.0), 20.0, turn=TURN))
    lattice = build_lattice(surface, 0.8)
    return lattice, make_openings(surface, lattice)


class Recorder:
    """Keep the states after given numbers of calls."""

    def __init__(self, *calls):
        self.calls, self.count, self.kept = calls, 0, []

    def __call__(self, snapshot):
        self.count += 1
        if self.count in self.calls:
            self.kept.append({k: np.array(v) for k, v in snapshot().items()})


def same_flow(one, two):
    return (
        one.velocity_m_s.tobytes() == two.velocity_m_s.tobytes()
        and one.pressure_pa.tobytes() == two.pressure_pa.tobytes()
        and one.means.loss_pa == two.means.loss_pa
        and (one.steps, one.time_s, one.state) == (two.steps, two.time_s, two.state)
    )


@pytest.mark.parametrize("engine", ["native", "numba"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("inlet", ["total-pressure", "developed"])
def test_a_run_goes_on_bit_by_bit_from_any_of_its_states(pipe, engine, precision, inlet):
    settings = FlowSettings(
        **{**FAST, "lattice_velocity": 0.1}, engine=engine, precision=precision, inlet=inlet,
        max_steps=600,
    )  # fmt: skip
    recorder = Recorder(3, 20, 30)
    whole = Simulation(*pipe, settings).run(recorder)
    assert len(recorder.kept) == 3
    for arrays in recorder.kept:
        assert same_flow(whole, Simulation(*pipe, settings, resume=arrays).run())


def test_a_run_goes_on_over_a_change_of_its_time_step():
    # The throat is a seventh of the openings: the peak is far above what was guessed from these.
    surface = assemble(revolve([(0.0, 4.0), (6.0, 4.0), (9.0, 1.5), (12.0, 4.0), (18.0, 4.0)]))
    lattice = build_lattice(surface, 0.8)
    case = lattice, make_openings(surface, lattice)
    settings = FlowSettings(**{**FAST, "flow_rate_ml_s": 10.0}, max_steps=1500)
    recorder = Recorder(*range(1, 100))
    whole = Simulation(*case, settings).run(recorder)
    changes = np.flatnonzero(np.diff([float(a["time_step_s"]) for a in recorder.kept]))
    assert len(changes)
    for k in (changes[0], changes[0] + 1, changes[-1] + 2):
        assert same_flow(whole, Simulation(*case, settings, resume=recorder.kept[k]).run())


def test_a_run_that_began_with_another_flow_goes_on_too(pipe):
    settings = FlowSettings(**FAST, max_steps=500)
    before = Simulation(*pipe, settings).run()
    field = FlowField(before.velocity_m_s.astype(float), before.pressure_pa.astype(float))
    recorder = Recorder(1, 9, 20)
    whole = Simulation(*pipe, settings, initial=field).run(recorder)
    assert not same_flow(whole, before)
    for arrays in recorder.kept:
        assert same_flow(whole, Simulation(*pipe, settings, resume=arrays).run())


def test_every_array_of_a_state_survives_the_way_to_disk_and_back(pipe, tmp_path):
    recorder = Recorder(5)
    Simulation(*pipe, FlowSettings(**FAST, max_steps=100)).run(recorder)
    checkpoint = Checkpoint(tmp_path / "state.npz", "case")
    assert checkpoint.write(recorder.kept[0], 7.5)
    again = run_arrays(*read_run(checkpoint.read()))
    assert set(again) == set(recorder.kept[0])
    for name, values in recorder.kept[0].items():
        assert again[name].dtype == values.dtype
        np.testing.assert_array_equal(again[name], values)
    assert [p.name for p in tmp_path.iterdir()] == ["state.npz"]


def test_a_checkpoint_of_another_case_is_not_taken(tmp_path):
    Checkpoint(tmp_path / "state.npz", "one").write({"step": np.array(1)}, 0.0)
    assert Checkpoint(tmp_path / "state.npz", "two").read() is None
    assert Checkpoint(tmp_path / "state.npz", "one").read() is not None


@pytest.mark.parametrize("length", [0, 10, 500, -1])
def test_a_checkpoint_that_is_cut_short_is_not_taken(tmp_path, length):
    checkpoint = Checkpoint(tmp_path / "state.npz", "case")
    checkpoint.write({"values": np.arange(1000.0)}, 0.0)
    content = checkpoint.path.read_bytes()
    checkpoint.path.write_bytes(content[:length])
    assert checkpoint.read() is None


def test_a_damaged_value_is_noticed(tmp_path):
    checkpoint = Checkpoint(tmp_path / "state.npz", "case")
    checkpoint.write({"values": np.arange(1000.0)}, 0.0)
    content = bytearray(checkpoint.path.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.path.write_bytes(content)
    assert checkpoint.read() is None


@pytest.mark.parametrize(
    "change", [{"spacing_mm": 0.7}, {"flow_rate_ml_s": 61.0}, {"engine": "numba"}]
)
def test_settings_that_shape_the_flow_make_another_case(tmp_path, change):
    folder = write_folder(tmp_path / "surface", tube(circle(8.0), 20.0))
    settings = FlowSettings(engine="native")
    same = settings.model_copy(update={"threads": 1, "checkpoint_minutes": 9.0})
    other = settings.model_copy(update=change)
    assert case_digest(folder, settings, None) == case_digest(folder, same, None)
    assert case_digest(folder, settings, None) != case_digest(folder, other, None)


def test_another_surface_makes_another_case(tmp_path):
    one = write_folder(tmp_path / "one", tube(circle(8.0), 20.0))
    two = write_folder(tmp_path / "two", tube(circle(8.0), 20.1))
    settings = FlowSettings()
    assert case_digest(one, settings, None) != case_digest(two, settings, None)


def test_states_are_written_at_intervals_of_wall_clock_time(tmp_path):
    now = [0.0]
    checkpoint = Checkpoint(tmp_path / "state.npz", "case")
    keeper = Keeper(checkpoint, 60.0, 5.0, clock=lambda: now[0])
    written = []
    for second in range(0, 200, 10):
        now[0] = float(second)
        keeper(lambda s=second: written.append(s) or {"step": np.array(s)})
    assert written == [60, 120, 180]
    assert keeper.seconds == 195.0


def test_a_disc_that_refuses_does_not_end_the_run(pipe, tmp_path):
    nowhere = Checkpoint(tmp_path / "missing" / "state.npz", "case")
    settings = FlowSettings(**FAST, max_steps=64, checkpoint_minutes=1e-9)
    result, _ = run_to_end(*pipe, settings, nowhere, begin=lambda: None)
    assert result.steps == 64


def test_a_flow_that_diverges_leaves_no_checkpoint(pipe, tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "state.npz", "case")
    everywhere = np.ones(len(pipe[0].cells), dtype=bool)
    monkeypatch.setattr(simulation, "wild_cells", lambda *_, **__: everywhere.copy())
    settings = FlowSettings(**FAST, checkpoint_minutes=1e-9)
    with pytest.raises(NumericalError):
        run_to_end(*pipe, settings, checkpoint, begin=lambda: None)
    assert not checkpoint.path.exists()


def command(surface: Path, output: Path) -> list[str]:
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in LONG.items()]
    return [
        *(sys.executable, "-m", "pipeline.cli", "simulate", str(surface)),
        *("--output", str(output), "--checkpoint-minutes=0.002", *flags),
    ]


def facts(folder: Path) -> tuple[dict, float]:
    """Return flow.json without what is measured, and the seconds that the run took."""
    record = json.loads((folder / "flow.json").read_text())
    del record["lattice"]["mlups"]
    return record, record["lattice"].pop("seconds")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_killed_command_ends_as_an_undisturbed_one_when_it_is_given_again(tmp_path):
    surface = write_folder(tmp_path / "surface", tube(circle(8.0), 20.0, turn=TURN))
    output = tmp_path / "killed"
    for number, code in {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 130}.items():
        assert kill_after_checkpoint(command(surface, output), number) == code
        assert not output.exists()
    settings = FlowSettings(**LONG)
    kept = Checkpoint(checkpoint_path(output), case_digest(surface, settings, None)).read()
    assert 0 < int(kept["step"]) < settings.max_steps
    run(surface, output, settings)
    run(surface, tmp_path / "whole", settings)
    killed, whole = facts(output), facts(tmp_path / "whole")
    assert killed[0] == whole[0]
    assert killed[1] > spent_seconds(kept)  # it did go on
    field = (tmp_path / "whole" / "field.vti").read_bytes()
    assert (output / "field.vti").read_bytes() == field
    assert sorted(p.name for p in tmp_path.iterdir()) == ["killed", "surface", "whole"]


def kill_after_checkpoint(arguments: list[str], number: signal.Signals) -> int:
    """Send a signal once a checkpoint of this process lies on disk."""
    output = checkpoint_path(Path(arguments[arguments.index("--output") + 1]))
    before = output.stat().st_mtime_ns if output.exists() else 0
    with subprocess.Popen(arguments, stderr=subprocess.PIPE) as process:
        while process.poll() is None:
            if output.exists() and output.stat().st_mtime_ns > before:
                process.send_signal(number)
                break
            time.sleep(0.005)
        process.communicate()
        return process.returncode
