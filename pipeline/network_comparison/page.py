"""The comparison as one self-contained HTML page."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from pipeline.network_comparison.charts import learning_curves
from pipeline.network_comparison.notes import HEADING, SOURCE, note_paragraphs
from pipeline.network_comparison.pictures import WINDOW_HU
from pipeline.network_comparison.tables import (
    case_sentence,
    choice_lines,
    cost_table,
    curve_table,
    introduction,
    legend,
    score_table,
)

_TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Networks beside one another</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #0f172a; max-width: 84rem; margin: 2rem auto;
  padding: 0 1rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; margin: .5rem 0 1rem; font-size: 13px }
th, td { text-align: right; vertical-align: top; padding: .25rem .6rem;
  border-bottom: 1px solid #e2e8f0; font-variant-numeric: tabular-nums }
th:first-child, td:first-child { text-align: left; white-space: nowrap }
small { color: #475569 } svg { max-width: 40rem; width: 100%; height: auto }
.charts { display: flex; flex-wrap: wrap; gap: 1rem }
figure { margin: 0 } img { width: 19rem; image-rendering: pixelated } figcaption { font-size: 13px }
</style>
</head>
<body>
<h1>Networks beside one another</h1>
{% for line in introduction if line %}<p>{{ line | bold }}</p>
{% endfor %}
{% if notes %}<h2>{{ notes_heading }}</h2>
<p><small>{{ notes_source | marked }}</small></p>
{% for note in notes %}<p>{{ note | marked }}</p>
{% endfor %}{% endif %}
<h2>The choice by pressure-relevant error</h2>
<ul>{% for line in choice %}<li>{{ line | bold }}</li>{% endfor %}</ul>
{% macro shown(head, rows) %}
<div class="wide"><table>
<tr>{% for cell in head %}<th>{{ cell }}</th>{% endfor %}</tr>
{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell | bold }}</td>{% endfor %}</tr>
{% endfor %}
</table></div>
{% endmacro %}
<h2>All test cases together</h2>
{{ shown(*scores) }}
<p><small>{{ legend | bold }}</small></p>
<h2>Learning curves</h2>
<div class="charts">{% for chart in charts %}{{ chart | safe }}{% endfor %}</div>
{{ shown(*curves) }}
<h2>Cost</h2>
{{ shown(*costs) }}
{% for case, sentence, cells, shots in cases %}
<h2>{{ case }}</h2>
<p>{{ sentence }}</p>
{{ shown(*cells) }}
<div class="charts">
{% for method, shot in shots.items() %}
<figure><img alt="{{ method }}" src="data:image/png;base64,{{ shot }}">
<figcaption>{{ method }}</figcaption></figure>
{% endfor %}
</div>
{% if shots %}<p><small>Coronal slice through the heads of the turbinates, {{ window }} HU; networks: first
seed.</small></p>{% endif %}
{% endfor %}
<h2>Definitions</h2>
<ul>{% for name, text in record.definition.items() %}<li><b>{{ name }}</b>: {{ text }}</li>{% endfor %}</ul>
<h2>How it was made</h2>
<p><code>{{ record.provenance.command }}</code><br>
ct2flow {{ record.provenance.version }}, commit {{ record.provenance.commit }}, training code
{{ record.provenance.training_code | join(", ") or "none yet" }};
{% for name, version in record.provenance.libraries.items() %}{{ name }} {{ version }} {% endfor %}<br>
Research use only.</p>
</body>
</html>
"""


def html(
    record: Mapping[str, Any], pictures: Mapping[str, Mapping[str, bytes]], notes: str = ""
) -> str:
    """Return the page of a comparison record; nothing is loaded from elsewhere.

    Parameters
    ----------
    record
        Content of report.json.
    pictures
        PNG of each method, by test case.
    notes
        Sentences by hand, Markdown; they follow the introduction.
    """
    environment = Environment(
        autoescape=select_autoescape(default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"bold": _bold, "marked": _marked}
    return environment.from_string(_TEMPLATE).render(
        record=record,
        introduction=introduction(record),
        legend=legend(record),
        notes=note_paragraphs(notes),
        notes_heading=HEADING,
        notes_source=SOURCE,
        choice=choice_lines(record),
        scores=score_table(record),
        costs=cost_table(record),
        curves=curve_table(record),
        charts=learning_curves(record),
        cases=[
            (
                case["case"],
                case_sentence(case),
                score_table(record, case["case"]),
                {n: b64encode(png).decode() for n, png in pictures[case["case"]].items()},
            )
            for case in record["test_cases"]
        ],
        window=f"{WINDOW_HU[0]:g} to {WINDOW_HU[1]:g}",
    )


def _bold(text: str) -> Markup:
    """Turn the Markdown of a cell into HTML."""
    return Markup(re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", str(escape(text))))  # noqa: S704 -- escaped


def _marked(text: str) -> Markup:
    """Turn the Markdown of a note into HTML; of a link its words, as the page may lie elsewhere."""
    words = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(_bold(words))))  # noqa: S704 -- escaped
