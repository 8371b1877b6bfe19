"""The report as PDF, the same content in the same order."""

from __future__ import annotations

import io
from typing import Any
from xml.sax.saxutils import escape

from reportlab.lib import colors
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.platypus import (
    Image,
    KeepTogether,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
    TableStyle,
)

from stages.report.content import NOTICE, Block, Content, Part, Picture

_PAGE = A4
_MARGIN = 14 * mm
_FOOT = 8 * mm
_WIDTH = _PAGE[0] - 2 * _MARGIN
_HEIGHT = _PAGE[1] - 2 * _MARGIN - _FOOT
_INK, _SOFT, _LINE, _ACCENT = (
    colors.HexColor(c) for c in ("#1f2937", "#56616f", "#d7dde5", "#0b4f7d")
)
_BODY = ParagraphStyle("body", fontName="Helvetica", fontSize=9, leading=12.5, textColor=_INK,
                       spaceAfter=3)  # fmt: skip
_TITLE = ParagraphStyle("title", parent=_BODY, fontName="Helvetica-Bold", fontSize=18, leading=22)
_HEADING = ParagraphStyle("heading", parent=_BODY, fontName="Helvetica-Bold", fontSize=12.5,
                          leading=16, textColor=_ACCENT, spaceBefore=10)  # fmt: skip
_ANSWER = ParagraphStyle("answer", parent=_BODY, fontSize=10, leading=14)
_LEAD = ParagraphStyle(
    "lead", parent=_ANSWER, fontName="Helvetica-Bold", fontSize=11.5, leading=16
)
_SMALL = ParagraphStyle("small", parent=_BODY, fontSize=7.5, leading=10, textColor=_SOFT)
_CODE = ParagraphStyle("code", parent=_SMALL, fontName="Courier", fontSize=7, leading=8.6)
_WORD = ParagraphStyle("word", parent=_BODY, fontSize=6.6, leading=8, spaceAfter=0)
_PADDING = 2.5
_NUMBER = ParagraphStyle("number", parent=_WORD, alignment=TA_RIGHT)


def pdf(content: Content) -> bytes:
    """Return the document; its bytes hold no date."""
    buffer = io.BytesIO()
    document = SimpleDocTemplate(
        buffer,
        pagesize=_PAGE,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN + _FOOT,
        title=f"ct2flow: {content.case}",
        author="ct2flow",
        invariant=1,
    )

    def foot(canvas: Any, page: Any) -> None:
        canvas.setFont("Helvetica", 7.5)
        canvas.setFillColor(_SOFT)
        canvas.drawString(_MARGIN, _MARGIN, f"ct2flow · case {content.case} · {NOTICE}")
        canvas.drawRightString(_PAGE[0] - _MARGIN, _MARGIN, f"page {page.page}")

    document.build(_story(content), onFirstPage=foot, onLaterPages=foot)
    return buffer.getvalue()


def _story(content: Content) -> list[Any]:
    lead, *others = content.answer
    story: list[Any] = [
        _text(f"From CT to pressure loss: case “{content.case}”", _TITLE),
        _text(content.subtitle, _SMALL),
        _text(NOTICE, _HEADING),
        _text(lead, _LEAD),
        *[_text(line, _ANSWER) for line in others],
    ]
    for part in content.parts:
        story += _part(part)
    story.append(_text("Warnings", _HEADING))
    story += [_text(f"• {line}", _BODY) for line in content.warnings or ("None.",)]
    story.append(_text("Methods", _HEADING))
    story += [_text(line, _BODY) for line in content.methods]
    story += [_text(f"[{i}] {line}", _SMALL) for i, line in enumerate(content.references, 1)]
    story.append(_text("Provenance", _HEADING))
    story += [_text(content.command, _CODE), Spacer(1, 2 * mm)]
    story += [_text(f"{name}: {value}", _SMALL) for name, value in content.facts]
    story.append(_text("Settings (settings.yaml)", _HEADING))
    return [*story, *[_code(line) for line in content.settings.splitlines()]]


def _text(line: str, style: ParagraphStyle) -> Paragraph:
    return Paragraph(escape(_latin(line)), style)


def _code(line: str) -> Paragraph:
    indent = len(line) - len(line.lstrip())
    return Paragraph("&nbsp;" * indent + escape(_latin(line.lstrip())), _CODE)


def _latin(line: str) -> str:
    """Replace what the standard PDF fonts lack."""
    return line.replace("−", "-").encode("cp1252", "replace").decode("cp1252")


def _part(part: Part) -> list[Any]:
    heading = _text(part.title, _HEADING)
    blocks = [[_block(block), Spacer(1, 1 * mm), _text(block.caption, _SMALL)]
              for block in part.blocks]  # fmt: skip
    if not blocks:
        return [heading]
    first = KeepTogether([heading, *blocks[0]])
    return [first, *[KeepTogether([Spacer(1, 3 * mm), *block]) for block in blocks[1:]]]


def _block(block: Block) -> Image | Table:
    return _image(block) if isinstance(block, Picture) else _table(block)


def _table(rows: Any) -> Table:
    styles = [_WORD if i in rows.words else _NUMBER for i in range(len(rows.header))]
    cells = [
        [_text(cell, style) for cell, style in zip(row, styles, strict=True)]
        for row in (rows.header, *rows.rows)
    ]
    table = Table(cells, colWidths=_widths(rows), repeatRows=1, hAlign="LEFT")
    table.setStyle(
        TableStyle(
            [
                ("LINEABOVE", (0, 0), (-1, 0), 1, _INK),
                ("LINEBELOW", (0, 0), (-1, 0), 0.5, _INK),
                ("LINEBELOW", (0, 1), (-1, -2), 0.3, _LINE),
                ("LINEBELOW", (0, -1), (-1, -1), 1, _INK),
                ("VALIGN", (0, 0), (-1, 0), "BOTTOM"),
                ("VALIGN", (0, 1), (-1, -1), "TOP"),
                ("LEFTPADDING", (0, 0), (-1, -1), _PADDING),
                ("RIGHTPADDING", (0, 0), (-1, -1), _PADDING),
                ("TOPPADDING", (0, 0), (-1, -1), 2),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
            ]
        )
    )
    return table


def _widths(rows: Any) -> list[float]:
    """Share the page's width by the longest cell of each column; headers wrap, but only between words."""
    columns = range(len(rows.header))
    longest = [max((len(row[i]) for row in rows.rows), default=1) for i in columns]
    shares = [max(min(n, 26), 8) for n in longest]
    words = [max((_length(word) for word in rows.header[i].split()), default=0.0) for i in columns]
    least = [word + 2 * _PADDING + 0.1 for word in words]
    spare = _WIDTH - sum(least)
    if spare <= 0:
        return [_WIDTH * width / sum(least) for width in least]
    # What is left goes to the columns whose share of the page is above their longest word.
    wanted = [
        max(_WIDTH * share / sum(shares) - low, 0.0)
        for share, low in zip(shares, least, strict=True)
    ]
    return [low + spare * more / sum(wanted) for low, more in zip(least, wanted, strict=True)]


def _length(word: str) -> float:
    return float(stringWidth(_latin(word), _WORD.fontName, _WORD.fontSize))


def _image(figure: Picture) -> Image:
    width, height = ImageReader(io.BytesIO(figure.png)).getSize()
    scale = min(_WIDTH / width, 0.62 * _HEIGHT / height)
    return Image(io.BytesIO(figure.png), width * scale, height * scale)
