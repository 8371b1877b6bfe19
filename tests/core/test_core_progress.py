"""Progress says how far the work is and how long it may still take, to people and to machines."""

import json
import logging

import pytest
from numpy.testing import assert_allclose

from pipeline.core import progress
from pipeline.core.progress import Progress, progress_file, track


class Clock:
    """A clock that goes on only when told."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture
def lines(tmp_path):
    """Return what reads the JSON lines written so far."""
    path = tmp_path / "progress.jsonl"
    token = progress_file.set(path)
    yield lambda: [json.loads(line) for line in path.read_text().splitlines()]
    progress_file.reset(token)


@pytest.fixture
def sentences(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ct2flow"), "propagate", True)
    with caplog.at_level(logging.INFO, "ct2flow.progress"):
        yield lambda: [record.getMessage() for record in caplog.records]


def test_time_left_is_that_of_the_rest_at_the_mean_pace(clock, lines, sentences):
    """Steps of 6 s: after each of ten, 6 s for every one to come."""
    with Progress("train", 10) as work:
        for _ in range(10):
            clock.now += 6.0
            work.advance(loss=0.5)
    left = [line["seconds_left"] for line in lines()]
    assert_allclose(left, [*range(54, -1, -6), 0])
    assert sentences()[0] == "train: 1 of 10 steps, 6 s, about 54 s left, loss 0.5"
    assert sentences()[-1] == "train: 10 of 10 steps, 60 s, about 0 s left"
    assert lines()[0] == {"task": "train", "done": 1, "total": 10, "seconds_left": 54, "loss": 0.5}


def test_quick_steps_are_reported_every_five_seconds_and_at_the_end(clock, lines):
    with Progress("train", 100) as work:
        for _ in range(100):
            clock.now += 0.11
            work.advance()
    assert [line["done"] for line in lines()] == [46, 92, 100]


def test_work_that_failed_reports_no_end(clock, sentences):
    def fail():
        with Progress("train", 10) as work:
            clock.now += 6.0
            work.advance()
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        fail()
    assert len(sentences()) == 1


def test_tracked_items_come_through_in_order_and_are_counted(clock, lines):
    assert list(track("abc", "read")) == ["a", "b", "c"]
    assert lines()[-1] == {"task": "read", "done": 3, "total": 3, "seconds_left": 0.0}
