"""The report as PDF, the same content in the same order."""

from __future__ import annotations

import io
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4, landscape
from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.platypus import (
    Image,
    KeepTogether,
    Paragraph,
    Preformatted,
    SimpleDocTemplate,
    Spacer,
    Table,
    TableStyle,
)

from stages.report.content import REFERENCES, Content, Part, Picture
from stages.report.tables import Table as Rows

_PAGE = landscape(A4)
_MARGIN = 15 * mm
_WIDTH = _PAGE[0] - 2 * _MARGIN
_HEIGHT = _PAGE[1] - 2 * _MARGIN
_STYLES = getSampleStyleSheet()
_BODY = ParagraphStyle("body", parent=_STYLES["BodyText"], fontSize=9, leading=12)
_SMALL = ParagraphStyle(
    "small", parent=_BODY, fontSize=7.5, leading=9.5, textColor=colors.HexColor("#475569")
)
_CELL = ParagraphStyle("cell", parent=_BODY, fontSize=7.5, leading=9)


def pdf(content: Content) -> bytes:
    """Return the document; its bytes hold no date."""
    buffer = io.BytesIO()
    document = SimpleDocTemplate(
        buffer,
        pagesize=_PAGE,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=f"ct2flow: {content.case}",
        author="ct2flow",
        invariant=1,
    )
    document.build(_story(content))
    return buffer.getvalue()


def _story(content: Content) -> list[Any]:
    story: list[Any] = [
        _text(f"From CT to pressure loss: {content.case}", _STYLES["Title"]),
        _text("Research use only. Not for diagnosis or treatment.", _STYLES["Heading4"]),
        *[_text(line, _BODY) for line in content.answer],
    ]
    for part in content.parts:
        story += _part(part)
    story.append(_text("Warnings", _STYLES["Heading2"]))
    story += [_text(f"• {line}", _BODY) for line in content.warnings or ("None.",)]
    story.append(_text("Methods", _STYLES["Heading2"]))
    story += [_text(line, _BODY) for line in content.methods]
    story += [_text(f"[{i}] {line}", _SMALL) for i, line in enumerate(REFERENCES, 1)]
    story.append(_text("Provenance", _STYLES["Heading2"]))
    story += [_text(f"{name}: {value}", _SMALL) for name, value in content.facts]
    story.append(Preformatted(content.command, _STYLES["Code"]))
    return story


def _text(line: str, style: ParagraphStyle) -> Paragraph:
    return Paragraph(escape(_latin(line)), style)


def _latin(line: str) -> str:
    """Replace what the standard PDF fonts lack."""
    return line.replace("–", "-").encode("cp1252", "replace").decode("cp1252")


def _part(part: Part) -> list[Any]:
    heading = _text(part.title, _STYLES["Heading2"])
    blocks: list[Any] = []
    if part.table is not None:
        blocks.append([_table(part.table), _text(part.table.caption, _SMALL)])
    blocks += [[_image(figure), _text(figure.caption, _SMALL)] for figure in part.figures]
    if not blocks:
        return [heading]
    first = KeepTogether([heading, *blocks[0]])
    return [first, *[KeepTogether([Spacer(1, 3 * mm), *block]) for block in blocks[1:]]]


def _table(rows: Rows) -> Table:
    cells = [[_text(cell, _CELL) for cell in row] for row in (rows.header, *rows.rows)]
    table = Table(cells, repeatRows=1, hAlign="LEFT")
    line = colors.HexColor("#94a3b8")
    table.setStyle(
        TableStyle(
            [
                ("LINEBELOW", (0, 0), (-1, 0), 1, line),
                ("LINEBELOW", (0, 1), (-1, -1), 0.3, line),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ]
        )
    )
    return table


def _image(figure: Picture) -> Image:
    width, height = ImageReader(io.BytesIO(figure.png)).getSize()
    scale = min(_WIDTH / width, 0.82 * _HEIGHT / height)
    return Image(io.BytesIO(figure.png), width * scale, height * scale)
