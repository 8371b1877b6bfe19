"""The validation as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, StrictUndefined, select_autoescape

from stages.flow.validation.charts import svg
from stages.flow.validation.tables import shown_error, shown_reference, staleness, summary

_LARGEST_CHANGE = 10.0
"""Larger ones stand for a run too short to tell."""
_TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Validation of the flow solver</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #0f172a; max-width: 76rem; margin: 2rem auto;
  padding: 0 1rem }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; font-size: 13px }
th, td { text-align: left; vertical-align: top; padding: .25rem .5rem; border-bottom: 1px solid #e2e8f0 }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
td.met { color: #166534 } td.missed { color: #991b1b; font-weight: 600 }
small { color: #475569 } svg { max-width: 34rem; height: auto }
.charts { display: flex; flex-wrap: wrap; gap: 1rem }
</style>
</head>
<body>
<h1>Validation of the flow solver</h1>
<p>{{ summary }}
A figure that misses its goal is shown with its value; no goal was widened. Research use only.</p>
<table>
<tr><th>case</th>{% for p in precisions %}<th>{{ p }}, met of all</th>{% endfor %}</tr>
{% for name, title, entries in cases %}
<tr><td><a href="#{{ name }}">{{ title }}</a></td>
{%- for entry in entries %}<td class="{{ 'met' if entry.all_met else 'missed' }}">{{ entry.words }}</td>
{%- endfor %}</tr>
{% endfor %}
</table>
{% for name, title, entries in cases %}
<h2 id="{{ name }}">{{ title }}</h2>
{% for entry in entries %}
<h3>{{ entry.case.precision }}</h3>
{% if entry.case.failure %}<p class="missed">Failed: {{ entry.case.failure }}</p>{% endif %}
<table>
<tr><th>quantity</th><th>found</th><th>reference</th><th>deviation</th><th>goal</th><th>met</th>
<th>lattice</th><th>source and notes</th></tr>
{% for row in entry.rows %}
<tr><td>{{ row.quantity }}</td><td class="number">{{ row.value }}</td>
<td class="number">{{ row.reference }}</td>
<td class="number">{{ row.error }}</td><td>{{ row.goal }}</td>
<td class="{{ 'met' if row.passed else 'missed' }}">{{ 'met' if row.passed else 'missed' }}</td>
<td><small>{{ row.lattice }}</small></td>
<td><small>{{ row.source }}{% if row.note %}. {{ row.note }}{% endif %}</small></td></tr>
{% endfor %}
</table>
<div class="charts">{% for chart in entry.charts %}{{ chart | safe }}{% endfor %}</div>
{% endfor %}
{% endfor %}
<h2>How it was made</h2>
<p><code>{{ command }}</code><br>
{{ "%.0f" | format(record.cases | sum(attribute="processor_seconds")) }} s of processor time;
ct2flow {{ record.provenance.version }}, commit {{ record.provenance.commit }},
code {{ record.provenance.code }};
{% for name, version in record.provenance.libraries.items() %}{{ name }} {{ version }} {% endfor %}</p>
<p>{{ staleness }}</p>
</body>
</html>
"""


def html(record: Mapping[str, Any]) -> str:
    """Return the page of a validation record; nothing is loaded from elsewhere."""
    environment = Environment(
        autoescape=select_autoescape(default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = list(dict.fromkeys(case["name"] for case in record["cases"]))
    cases = []
    for name in names:
        entries = [_entry(case) for case in record["cases"] if case["name"] == name]
        cases.append((name, entries[0]["case"]["title"], entries))
    return environment.from_string(_TEMPLATE).render(
        record=record,
        cases=cases,
        precisions=list(dict.fromkeys(case["precision"] for case in record["cases"])),
        command=command(record["settings"]),
        summary=summary(record),
        staleness=staleness(record).replace("`", ""),
    )


def command(settings: Mapping[str, Any]) -> str:
    """Return the command that made a record."""
    quick = " --quick" if settings["quick"] else ""
    some = "" if settings["cases"] == "all" else f" --cases {settings['cases']}"
    precision = settings["precision"]
    return f"ct2flow simulate validate --output DIR --precision {precision}{some}{quick}"


def _entry(case: Mapping[str, Any]) -> dict[str, Any]:
    met = sum(row["passed"] for row in case["rows"])
    failed = bool(case["failure"])
    return {
        "case": case,
        "rows": [_plain(row) for row in case["rows"]],
        "all_met": met == len(case["rows"]) and not failed,
        "words": "failed" if failed else f"{met} of {len(case['rows'])}, {case['seconds']:.0f} s",
        "charts": [
            svg(curve, f"{case['name']}-{case['precision']}-{k}")
            for k, curve in enumerate(case["curves"])
        ],
    }


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    unit = "" if row["unit"] == "1" else f" {row['unit']}"
    return {
        **row,
        "value": f"{row['value']:.5g}{unit}",
        "reference": shown_reference(row),
        "error": shown_error(row),
        "lattice": _lattice(row["numbers"]),
    }


def _lattice(numbers: Mapping[str, Any]) -> str:
    if not numbers:
        return ""
    change = numbers["last_change"]
    known = f" (last change {change:.1g})" if change < _LARGEST_CHANGE else ""
    state = "" if numbers["reached"] else f", not steady{known}"
    return (
        f"{numbers['spacing_mm']:.4g} mm, {numbers['cells']} cells, tau {numbers['relaxation_time']:.4f}, "
        f"{numbers['steps']} steps{state}"
    )
