"""The command from nothing to validation.json and validation.html."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest

from pipeline.core.errors import NumericalError
from stages.flow.validation import stage
from stages.flow.validation.cases import CASES, Case
from stages.flow.validation.rows import Curve, Outcome, near
from stages.flow.validation.settings import ValidationSettings
from stages.flow.validation.tables import DIGEST_COMMAND

QUICK = ValidationSettings(precision="float32", cases="closed-box,slits", quick=True, threads=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    output = tmp_path_factory.mktemp("validation") / "out"
    stage.run(output, QUICK)
    return output


def record_of(folder):
    return json.loads((folder / "validation.json").read_text())


def test_every_row_says_what_was_found_and_against_what(folder):
    record = record_of(folder)
    assert [case["name"] for case in record["cases"]] == ["closed-box", "slits"]
    rows = [row for case in record["cases"] for row in case["rows"]]
    assert len(rows) == record["summary"]["rows"] == 4
    for row in rows:
        assert {"quantity", "value", "unit", "reference", "goal", "source", "passed"} <= set(row)
        assert row["source"]
        assert isinstance(row["passed"], bool)
    assert sum(row["passed"] for row in rows) == record["summary"]["met"]


def test_the_page_shows_every_row_and_curve_and_loads_nothing(folder):
    page = (folder / "validation.html").read_text()
    for case in record_of(folder)["cases"]:
        assert case["title"] in page
        for row in case["rows"]:
            assert row["quantity"] in page
            assert f"{row['value']:.5g}" in page
    assert page.count("<svg") == sum(len(c["curves"]) for c in record_of(folder)["cases"])
    assert "src=" not in page
    assert "<link" not in page
    missed = record_of(folder)["summary"]["missed"]
    assert page.count(">missed<") == missed


def test_the_table_holds_every_figure_of_both_precisions(tmp_path, monkeypatch):
    _, settings = counted(monkeypatch, one_figure)
    stage.run(tmp_path, settings)
    lines = (tmp_path / "validation.md").read_text().splitlines()
    row = [cell.strip() for cell in lines[-1].strip("|").split("|")]
    assert row[:4] == ["One figure", "a figure", "2", "within 10 %"]
    assert row[4:] == ["1 Pa (-50.00 %), **missed**"] * 2
    assert "0 of 2 goals are met, 2 are missed." in lines


def test_page_and_table_say_how_to_see_whether_they_are_stale(folder):
    """The command that they print gives the digest that they print, as long as the code is the same."""
    table = (folder / "validation.md").read_text()
    assert DIGEST_COMMAND in table
    shown = subprocess.run(
        shlex.split(DIGEST_COMMAND.replace("python", shlex.quote(sys.executable), 1)),
        capture_output=True,
        text=True,
        check=True,
    )
    digest = shown.stdout.strip()
    assert f"Made by code {digest}." in table
    assert f"Made by code {digest}." in (folder / "validation.html").read_text()


def test_a_second_run_computes_nothing_and_writes_the_same(folder, monkeypatch):
    before = (folder / "validation.html").read_bytes()

    def refuse(case, bench):
        pytest.fail(f"{case.title} was computed again")

    monkeypatch.setattr(stage, "_computed", refuse)
    stage.run(folder, QUICK)
    assert (folder / "validation.html").read_bytes() == before


def counted(monkeypatch, compute):
    """Replace the cases by one that counts how often it is computed."""
    calls = []

    def counting(bench):
        calls.append(bench)
        return compute()

    monkeypatch.setitem(CASES, "mach", Case("One figure", counting))
    return calls, ValidationSettings(precision="both", cases="mach", threads=1)


def one_figure():
    row = near("a figure", 1.0, 2.0, 0.1, unit="Pa", source="a book")
    return Outcome([row], [Curve("curve", "x", "y", {"a": [(1.0, 2.0)]})])


def test_a_killed_run_goes_on_where_it_was(tmp_path, monkeypatch):
    calls, settings = counted(monkeypatch, one_figure)
    stage.run(tmp_path, settings)
    whole = (tmp_path / "validation.json").read_text()
    (tmp_path / "cases" / "mach-float64.json").write_text('{"format": 1, "ro')
    stage.run(tmp_path, settings)
    assert [bench.precision for bench in calls] == ["float32", "float64", "float64"]
    assert (
        json.loads((tmp_path / "validation.json").read_text())["summary"]
        == (json.loads(whole)["summary"])
    )


def test_other_code_or_other_settings_compute_again(tmp_path, monkeypatch):
    calls, settings = counted(monkeypatch, one_figure)
    stage.run(tmp_path, settings)
    monkeypatch.setattr(stage, "solver_digest", lambda: "other")
    stage.run(tmp_path, settings)
    assert len(calls) == 4
    stage.run(tmp_path, settings.model_copy(update={"quick": True}))
    assert len(calls) == 6


def test_a_case_that_diverges_is_shown_as_failed(tmp_path, monkeypatch):
    def diverge():
        raise NumericalError("the flow diverged at step 7")

    _, settings = counted(monkeypatch, diverge)
    stage.run(tmp_path, settings)
    assert record_of(tmp_path)["summary"]["failed"] == 2
    assert "the flow diverged at step 7" in (tmp_path / "validation.html").read_text()


def test_an_interrupted_run_shows_what_it_has(tmp_path, monkeypatch):
    figures = iter([one_figure()])

    def stop():
        try:
            return next(figures)
        except StopIteration:
            raise KeyboardInterrupt from None

    _, settings = counted(monkeypatch, stop)
    with pytest.raises(KeyboardInterrupt):
        stage.run(tmp_path, settings)
    assert [case["precision"] for case in record_of(tmp_path)["cases"]] == ["float32"]
    assert "a figure" in (tmp_path / "validation.html").read_text()
