"""The page's learning curve of the shipped network is the one that was kept with its weights."""

from __future__ import annotations

import json
import re
from pathlib import Path

from stages.super_resolution.stage import SHIPPED_FOLDER

PAGE = Path(__file__).resolve().parents[3] / "docs" / "training.md"
ROW = re.compile(r"^\| (\d+) \| ([\d.]+) \| ([\d.]+) \| \+([\d.]+) \| ([\d.]+) \|$", re.MULTILINE)


def test_every_validation_of_the_shipped_network_is_in_the_page_and_none_besides():
    lines = (SHIPPED_FOLDER / "metrics.jsonl").read_text().splitlines()
    judged = [record for record in map(json.loads, lines) if "mean_psnr_db" in record]
    section = (
        PAGE.read_text().split("## The shipped network's learning curve")[1].split("\n## ")[0]
    )
    expected = [
        (
            f"{r['step']}",
            f"{r['loss']:.4f}",
            f"{r['mean_psnr_db']:.2f}",
            f"{r['mean_psnr_db'] - r['histospline_mean_psnr_db']:.2f}",
            f"{r['wall_psnr_db']['phantom-201']:.2f}",
        )
        for r in judged
    ]
    assert len(expected) == 9
    assert ROW.findall(section) == expected


def test_pages_that_the_page_points_to_are_there():
    links = re.findall(r"\]\(([^)#:]+)\)", PAGE.read_text())
    assert len(links) > 8
    assert all((PAGE.parent / link).is_file() for link in links)
