"""The report as one self-contained HTML page."""

from __future__ import annotations

import base64

from jinja2 import Environment, PackageLoader, select_autoescape

from stages.report.content import REFERENCES, Content


def html(content: Content) -> str:
    """Return the page; figures are embedded, nothing is loaded from elsewhere."""
    environment = Environment(
        loader=PackageLoader("stages.report"), autoescape=select_autoescape(default=True)
    )
    parts = [
        {
            "title": part.title,
            "table": part.table,
            "figures": [
                {
                    "alt": figure.alt,
                    "caption": figure.caption,
                    "data": base64.b64encode(figure.png).decode(),
                }
                for figure in part.figures
            ],
        }
        for part in content.parts
    ]
    return environment.get_template("report.html.j2").render(
        case=content.case,
        patent=content.patent,
        answer=content.answer,
        parts=parts,
        warnings=content.warnings,
        methods=content.methods,
        references=REFERENCES,
        facts=content.facts,
        command=content.command,
        settings=content.settings,
    )
