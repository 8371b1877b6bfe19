"""What was written by hand about a comparison of networks stays when its report is written again."""

from __future__ import annotations

import copy
import re
from base64 import b64decode
from pathlib import Path

import pytest

from pipeline.core.artefacts import read_json
from pipeline.network_comparison.notes import NOTES, note_lines, note_paragraphs, read_notes
from pipeline.network_comparison.page import html
from pipeline.network_comparison.report import DEFINITION
from pipeline.network_comparison.tables import markdown, score_table

DOCS = Path(__file__).resolve().parents[2] / "docs"
LIST = "First line\nand second.\n\n- an item\n  of two lines\n- another - with a dash\n\nEnd.\n"


@pytest.fixture(scope="module")
def record():
    return read_json(DOCS / "network_comparison.json")


@pytest.fixture(scope="module")
def kept():
    """Return the notes of the published comparison."""
    return (DOCS / "network_comparison_notes.md").read_text()


def pictures_of(page):
    """Return the pictures in a page by test case and method."""
    parts = re.split(r"<h2>(.*?)</h2>", page)
    image = re.compile(r'<img alt="(.*?)" src="data:image/png;base64,(.*?)">')
    return {
        title: {method: b64decode(png) for method, png in image.findall(body)}
        for title, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def test_published_report_is_its_record_and_its_notes_and_nothing_else(record, kept):
    """To change a sentence, change the notes; the report is then written from both."""
    assert (DOCS / "network_comparison.md").read_text() == markdown(record, kept)


def test_published_page_is_its_record_its_pictures_and_its_notes(record, kept):
    page = (DOCS / "network_comparison.html").read_text()
    pictures = pictures_of(page)
    assert all(pictures[case["case"]] for case in record["test_cases"])
    assert page == html(record, pictures, kept)


def test_published_definitions_are_those_of_the_code_and_of_every_kind_of_measure(record):
    assert record["definition"] == DEFINITION
    for key in ("ssim", "ms_ssim"):
        assert "window" in DEFINITION[key]
        assert "range 4095 HU" in DEFINITION[key]
    report = (DOCS / "network_comparison.md").read_text()
    assert all(f"- {name}: {text}" in report for name, text in DEFINITION.items())


def test_published_arrows_exceed_a_spread_that_was_measured(record):
    """An arrow beside the histospline stands for a difference beyond the larger of both spreads."""
    by_name = {entry["method"]: entry for entry in record["methods"]}
    other = by_name["histospline"]["scores"]
    arrows = 0
    for entry in by_name.values():
        for key, said in entry["beside_histospline"].items():
            if said in {"better", "worse"}:
                own = entry["scores"][key]
                spread = max(own["spread"] or 0, record["pooled_spread"][key])
                assert abs(own["mean"] - other[key]["mean"]) > spread > 0
                arrows += 1
    report = markdown(record)
    assert arrows == report.count(" ▲ |") + report.count(" ▼ |")
    assert f"stands in for it: PSNR {record['pooled_spread']['psnr_db']:.2f} dB" in report


def test_what_is_not_judged_gets_a_question_mark(record):
    blind = copy.deepcopy(record)
    blind["pooled_spread"] = dict.fromkeys(record["pooled_spread"])
    for entry in blind["methods"]:
        entry["beside_histospline"] = dict.fromkeys(entry["beside_histospline"], "not judged")
    head, rows = score_table(blind)
    shipped = dict(zip(head, next(r for r in rows if r[0] == "shipped"), strict=True))
    assert shipped["PSNR wall, dB"].endswith(" ?")
    assert "nothing stands in for it" in markdown(blind)


def test_notes_follow_the_introduction_word_by_word(record):
    report = markdown(record, LIST)
    assert LIST in report
    assert report.index("**Trained on**") < report.index(LIST) < report.index("## The choice")


@pytest.mark.parametrize("notes", ["", "\n \n"])
def test_without_notes_there_is_no_section_for_them(record, notes):
    empty = {case["case"]: {} for case in record["test_cases"]}
    assert note_lines(notes) == []
    assert "Reading this run" not in markdown(record, notes) + html(record, empty, notes)


def test_notes_are_those_of_the_folder_if_there_are_any(tmp_path):
    assert read_notes(tmp_path) == ""
    (tmp_path / NOTES).write_bytes(b"10 % \xb1 1")  # not UTF-8: no reason to lose a report
    assert read_notes(tmp_path) == "10 % \ufffd 1"


def test_paragraphs_and_items_become_lines_of_their_own():
    assert note_paragraphs(LIST) == [
        "First line and second.",
        "an item of two lines",
        "another - with a dash",
        "End.",
    ]


def test_markup_of_notes_is_shown_on_the_page_and_html_in_them_is_not(record):
    notes = "**Bold** `code` [card](../card.md) <script>alert(1)</script>"
    page = html(record, {case["case"]: {} for case in record["test_cases"]}, notes)
    assert "<p><b>Bold</b> <code>code</code> card &lt;script&gt;" in page
    assert "<script" not in page
