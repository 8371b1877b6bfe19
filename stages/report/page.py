"""The report as one self-contained HTML page."""

from __future__ import annotations

import base64
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from stages.report.content import NOTICE, Block, Content, Picture
from stages.report.repeat import SETTINGS_FILE


def html(content: Content) -> str:
    """Return the page; figures are embedded, nothing is loaded from elsewhere."""
    environment = Environment(
        loader=PackageLoader("stages.report"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    parts = [
        {"title": part.title, "blocks": [_plain(block) for block in part.blocks]}
        for part in content.parts
    ]
    return environment.get_template("report.html.j2").render(
        content=content,
        parts=parts,
        notice=NOTICE,
        settings_file=SETTINGS_FILE,
        settings_data=_base64(content.settings.encode()),
    )


def _plain(block: Block) -> dict[str, Any]:
    if isinstance(block, Picture):
        return {
            "picture": _base64(block.png),
            "alt": block.alt,
            "caption": _split(block.caption),
        }
    rows = [
        [(cell, column in block.words) for column, cell in enumerate(row)] for row in block.rows
    ]
    header = [(cell, column in block.words) for column, cell in enumerate(block.header)]
    return {"picture": None, "header": header, "rows": rows, "caption": _split(block.caption)}


def _split(caption: str) -> tuple[str, str]:
    """Part 'Table 1.' from the sentence that follows."""
    words = caption.split(" ", 2)
    return " ".join(words[:2]), " ".join(words[2:])


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
