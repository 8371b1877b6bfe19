"""The validation as Markdown: one table, both precisions side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_HEAD = """# Validation of the flow solver

    {command}

runs the lattice of `ct2flow simulate` on shapes whose flow is known, and compares. Each figure stands
beside its reference; a goal that is missed is shown as missed. `{record}` and `{page}` hold
sources, lattices, relaxation times and curves. A second run computes only what is missing or was made by
other code.

{staleness}

{summary}

| case | figure | reference | goal | {precisions} |
|---|---|---|---|{rules}|
"""


def markdown(record: Mapping[str, Any], command: str, files: tuple[str, str]) -> str:
    """Return the table of a validation record.

    Parameters
    ----------
    record
        What validation.json holds.
    command
        The command that made it.
    files
        Names of the record and of the page beside the table.
    """
    precisions = list(dict.fromkeys(case["precision"] for case in record["cases"]))
    head = _HEAD.format(
        command=command,
        record=files[0],
        page=files[1],
        staleness=staleness(record),
        summary=summary(record),
        precisions=" | ".join(precisions),
        rules="|".join(["---"] * len(precisions)),
    )
    lines = []
    for name in dict.fromkeys(case["name"] for case in record["cases"]):
        same = {c["precision"]: c for c in record["cases"] if c["name"] == name}
        lines += _lines(next(iter(same.values()))["title"], same, precisions)
    return head + "\n".join(lines) + "\n"


DIGEST_COMMAND = (
    'python -c "from stages.flow.validation.stage import solver_digest as d; print(d())"'
)
"""Prints the digest of the solver's sources at hand."""


def staleness(record: Mapping[str, Any]) -> str:
    """Say how to see whether the figures are those of the code at hand."""
    return (
        f"Made by code {record['provenance']['code']}. `{DIGEST_COMMAND}` prints that of the code at hand: "
        "if it is another, a source of the solver has changed since, be it a comment."
    )


def summary(record: Mapping[str, Any]) -> str:
    """Say in one sentence how many goals are met."""
    numbers = record["summary"]
    words = f"{numbers['met']} of {numbers['rows']} goals are met, {numbers['missed']} are missed"
    failed = f"; {numbers['failed']} cases failed" if numbers["failed"] else ""
    quick = (
        " Quick run: only the coarse members of each case." if record["settings"]["quick"] else ""
    )
    return f"{words}{failed}.{quick}"


def _lines(title: str, same: Mapping[str, Any], precisions: list[str]) -> list[str]:
    found: dict[str, dict[str, Any]] = {}
    for precision, case in same.items():
        for row in case["rows"]:
            found.setdefault(row["quantity"], {})[precision] = row
    lines = [
        f"| {title} | failed in {p}: {c['failure']} | | | {' | '.join('' for _ in precisions)} |"
        for p, c in same.items()
        if c["failure"]
    ]
    for quantity, rows in found.items():
        cells = [_cell(rows.get(precision)) for precision in precisions]
        goal = " / ".join(dict.fromkeys(row["goal"] for row in rows.values()))
        reference = " / ".join(dict.fromkeys(shown_reference(row) for row in rows.values()))
        lines.append(f"| {title} | {quantity} | {reference} | {goal} | {' | '.join(cells)} |")
    return lines


def shown_reference(row: Mapping[str, Any]) -> str:
    """Return a reference as a number or a range."""
    reference = row["reference"]
    if isinstance(reference, float | int):
        return f"{reference:.5g}"
    return "{:g} to {:g}".format(*reference)


def shown_error(row: Mapping[str, Any]) -> str:
    """Return a deviation in percent, or nothing where there is none."""
    return "" if row["error"] is None else f"{100 * row['error']:+.2f} %"


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    unit = "" if row["unit"] == "1" else f" {row['unit']}"
    error = shown_error(row)
    words = f"{row['value']:.4g}{unit}" + (f" ({error})" if error else "")
    return words if row["passed"] else f"{words}, **missed**"
