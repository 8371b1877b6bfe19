"""Compute the cases that are missing, keep each one, and write the record and the page."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.core.artefacts import read_json, write_json
from pipeline.core.errors import Ct2FlowError, NumericalError, UsageError
from pipeline.core.provenance import commit, library_versions, package_version
from stages.flow.engines import engine_name
from stages.flow.validation.cases import Case, chosen
from stages.flow.validation.flows import Bench
from stages.flow.validation.page import command, html
from stages.flow.validation.rows import Outcome
from stages.flow.validation.settings import ValidationSettings
from stages.flow.validation.tables import markdown

VALIDATION_FORMAT = 1
RECORD, PAGE, TABLE = "validation.json", "validation.html", "validation.md"
_LOG = logging.getLogger("ct2flow.validation")
_ROOM = Path(__file__).resolve().parents[1]
_SHOWN_ONLY = ("cli.py", "stage.py", "page.py", "charts.py", "tables.py")
"""Files of this room that change what is shown, not what is computed."""


def run(output: Path, settings: ValidationSettings) -> None:
    """Validate the flow solver.

    Parameters
    ----------
    output
        Folder of validation.json, validation.html, validation.md and one JSON file per case and precision.
    settings
        Which cases are computed, and how.

    Raises
    ------
    UsageError
        If a case is unknown or the folder cannot be made.
    """
    cases = chosen(settings.cases, quick=settings.quick)
    folder = output / "cases"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{output.name}: cannot be made a folder ({error.strerror}); choose another output."
        ) from error
    results = []
    pairs = [(name, p) for p in settings.precisions for name in cases]
    try:
        for number, (name, precision) in enumerate(pairs, start=1):
            _LOG.info("case %d of %d: %s, %s", number, len(pairs), name, precision)
            bench = Bench(precision, settings.threads, settings.quick)
            results.append(_kept_or_computed(folder, name, cases[name], bench))
    finally:
        # A run that was interrupted shows what it has; its cases are kept.
        if results:
            _write(output, settings, results)


def _kept_or_computed(folder: Path, name: str, case: Case, bench: Bench) -> dict[str, Any]:
    path = folder / f"{name}-{bench.precision}.json"
    made_with = {"quick": bench.quick, "engine": engine_name("auto"), "code": solver_digest()}
    if path.is_file():
        kept = _readable(path)
        if kept.get("made_with") == made_with:
            _LOG.info("%s, %s: kept", name, bench.precision)
            return kept
    start, busy = time.monotonic(), time.process_time()
    rows, curves, failure = _computed(case, bench)
    record = {
        "format": VALIDATION_FORMAT,
        "name": name,
        "title": case.title,
        "precision": bench.precision,
        "made_with": made_with,
        "seconds": round(time.monotonic() - start, 1),
        "processor_seconds": round(time.process_time() - busy, 1),
        "threads": bench.threads,
        "failure": failure,
        "rows": rows,
        "curves": curves,
    }
    _write_whole(path, record)
    missed = sum(not row["passed"] for row in rows)
    _LOG.info(
        "%s, %s: %d of %d goals met, %.0f s",
        *(name, bench.precision, len(rows) - missed, len(rows), record["seconds"]),
    )
    return record


def _computed(case: Case, bench: Bench) -> tuple[list[Any], list[Any], str]:
    """Return rows, curves and why there are none: a flow that diverges must not hide the other cases."""
    try:
        outcome: Outcome = case.compute(bench)
    except NumericalError as error:
        _LOG.warning("%s: %s", case.title, error)
        return [], [], str(error)
    return [asdict(row) for row in outcome.rows], [asdict(c) for c in outcome.curves], ""


def _readable(path: Path) -> dict[str, Any]:
    """Return what an earlier run kept; a file that cannot be read is computed again."""
    try:
        return read_json(path)
    except Ct2FlowError:
        return {}


def _write(output: Path, settings: ValidationSettings, results: list[dict[str, Any]]) -> None:
    rows = [row for result in results for row in result["rows"]]
    failed = sum(bool(result["failure"]) for result in results)
    met = sum(row["passed"] for row in rows)
    record = {
        "format": VALIDATION_FORMAT,
        "summary": {"rows": len(rows), "met": met, "missed": len(rows) - met, "failed": failed},
        "settings": settings.model_dump(mode="json"),
        "cases": results,
        "provenance": {
            "version": package_version(),
            "commit": commit(),
            "code": solver_digest(),
            "libraries": library_versions(("numba", "numpy", "scipy")),
        },
    }
    _write_whole(output / RECORD, record)
    texts = {
        PAGE: html(record),
        TABLE: markdown(record, command(settings.model_dump()), (RECORD, PAGE)),
    }
    for name, text in texts.items():
        draft = output / f".partial.{name}"
        draft.write_text(text)
        draft.replace(output / name)
    _LOG.info("%d of %d goals met, %d cases failed: %s", met, len(rows), failed, PAGE)


def _write_whole(path: Path, record: Mapping[str, Any]) -> None:
    draft = path.with_name(f".partial.{path.name}")
    write_json(draft, record)
    draft.replace(path)


@cache
def solver_digest() -> str:
    """Return a sha256 over the sources that decide the figures: the solver and the cases, 16 digits."""
    total = hashlib.sha256()
    folders = (_ROOM, _ROOM / "native", _ROOM / "validation")
    for folder in folders:
        for path in sorted(folder.iterdir()):
            shown_only = folder.name == "validation" and path.name in _SHOWN_ONLY
            if path.suffix in {".py", ".cpp", ".hpp"} and not shown_only:
                total.update(path.relative_to(_ROOM).as_posix().encode())
                total.update(path.read_bytes())
    return total.hexdigest()[:16]
