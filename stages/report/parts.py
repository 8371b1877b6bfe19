"""The sections of the report, made from what the stage has read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from pipeline.core.volume import Volume
from stages.report import charts, figures, renders, sections, slices
from stages.report.content import Block, Part, Picture
from stages.report.record import NAMES, CaseRecords
from stages.report.settings import ReportSettings
from stages.report.tables import (
    convergence_table,
    image_table,
    pressure_table,
    sides_table,
    surface_table,
)

Triangles = Float[np.ndarray, "face 3 3"]
_DISTANCE_COLOURS = "PuOr"
_DISTANCE_QUANTILE = 0.98
_SMALLEST_LIMIT_MM = 0.05
"""Surfaces that agree better than this are drawn as equal."""


def pressure_part(results: Mapping[str, Any]) -> Part:
    """Make the answer's section: losses, their chart and the sides."""
    rows: list[Block] = [pressure_table(results)]
    if any(entry["total_pa"] is not None for entry in results["pressure_loss"].values()):
        chart = Picture(
            charts.pressure_chart(results),
            "charts of pressure losses, deviations and flow through each side",
            "n = 1 case. a: total pressure loss; bars: lattice error, not a spread over cases; "
            "diamonds: coarser lattices. b: deviation from HR with the larger of its own error and "
            "the loss's lattice error; open circles are not resolved; diamonds: coarser lattices. "
            "c: flow through each side.",
        )
        rows += [chart, sides_table(results)]
    return Part("Pressure loss", tuple(rows))


def image_part(
    results: Mapping[str, Any],
    volumes: Mapping[str, Volume],
    lumen: Volume | None,
    settings: ReportSettings,
) -> Part:
    """Make the section on the restored slices."""
    baseline = volumes["hr"]
    empty = baseline.with_values(np.zeros(baseline.grid.shape, np.uint8))
    framed = empty if lumen is None else _on_baseline(lumen, baseline)
    frame = slices.frame_around(framed, settings.margin_mm)
    outline = "" if lumen is None else " Cyan: lumen of the HR airway, the same in every panel."
    picture = Picture(
        figures.slices_figure(volumes, lumen or empty, frame, settings),
        "axial, coronal and sagittal slices of every variant and differences to HR",
        "Slices through one place, voxels as they are, equal window "
        f"({settings.window_low_hu:g} to {settings.window_high_hu:g} HU); positions in mm along "
        f"the patient's axes (LPS).{outline} Right: differences to HR within "
        f"± {settings.difference_hu:g} HU; LR's slices are repeated for it.",
    )
    table = image_table(results)
    return Part("Images", (table, picture) if table.rows else (picture,))


def _on_baseline(lumen: Volume, baseline: Volume) -> Volume:
    """Return the lumen's extent as a mask on the baseline's grid, for framing."""
    if lumen.grid.matches(baseline.grid):
        return lumen
    index = np.argwhere(lumen.values > 0)
    mask = np.zeros(baseline.grid.shape, np.uint8)
    if len(index):
        places = np.rint(baseline.grid.to_index(lumen.grid.to_world_mm(index))).astype(int)
        inside = ((places >= 0) & (places < mask.shape)).all(axis=1)
        mask[tuple(places[inside].T)] = 1
    return baseline.with_values(mask)


def surface_part(
    results: Mapping[str, Any], walls: Mapping[str, Triangles], warnings: list[str]
) -> Part:
    """Make the section on the surfaces; `warnings` receives what could not be drawn well."""
    table = surface_table(results)
    if "hr" not in walls:
        return Part("Surfaces", (table,))
    distance = {
        name: renders.signed_distances(wall, walls["hr"])
        for name, wall in walls.items()
        if name != "hr"
    }
    every = np.abs(np.concatenate([*distance.values(), np.zeros(1)]))
    limit = max(float(np.quantile(every, _DISTANCE_QUANTILE)), _SMALLEST_LIMIT_MM)
    try:
        pictures = renders.render(walls, distance, limit, _DISTANCE_COLOURS)
    except RuntimeError:
        warnings.append("this machine draws no OpenGL; surfaces are drawn with fewer triangles.")
        pictures = renders.render_plainly(walls, distance, limit, _DISTANCE_COLOURS)
    scale = ("distance to the HR wall, mm (negative: narrower than HR)", limit, _DISTANCE_COLOURS)
    picture = Picture(
        figures.montage(pictures, list(renders.VIEWS), scale),
        "airway walls of every variant, coloured by their distance to the HR wall",
        "Airway walls from the same cameras at the same scale, coloured by each triangle's signed "
        f"distance to the HR wall; the scale ends at the {100 * _DISTANCE_QUANTILE:.0f} % quantile "
        "of the magnitudes.",
    )
    return Part("Surfaces", (table, picture))


def flow_part(records: CaseRecords, fields: Mapping[str, sections.FlowField]) -> Part:
    """Make the section on the flow fields and on how they were computed."""
    blocks: list[Block] = []
    if fields:
        blocks += _field_pictures(fields)
    ladder = [("", records.flow_records)]
    ladder += [(f", lattice {k}", r) for k, r in enumerate(records.coarse_records, start=2)]
    shown = {
        f"{NAMES[name]}{suffix}": flow for suffix, flows in ladder for name, flow in flows.items()
    }
    blocks.append(
        convergence_table(
            shown,
            f"Convergence of n = {len(shown)} runs. Change: of the total pressure loss within the "
            "last averaging windows; mass imbalance: inflow against outflow.",
        )
    )
    return Part("Flow", tuple(blocks))


def _field_pictures(fields: Mapping[str, sections.FlowField]) -> list[Picture]:
    places = sections.common_places(next(iter(fields.values())))
    cuts = {name: sections.cut_sections(field, places) for name, field in fields.items()}
    where = "on the same sections of every variant, one colour scale; grey: outside the fluid"
    return [
        Picture(
            figures.sections_figure(cuts, "speed", "velocity magnitude, m/s", "viridis"),
            "velocity magnitude on sections",
            f"Velocity magnitude {where}.",
        ),
        Picture(
            figures.sections_figure(
                cuts, "pressure", "static pressure relative to the outlet, Pa", "cividis"
            ),
            "static pressure on sections",
            f"Static pressure relative to the outlet {where}.",
        ),
    ]
