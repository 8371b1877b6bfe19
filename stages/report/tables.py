"""Tables of the report: rows of text, so that HTML and PDF show the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stages.report.record import METHODS, NAMES, RESOLUTIONS


@dataclass(frozen=True)
class Table:
    """Hold a table with its caption.

    Parameters
    ----------
    title
        Heading.
    header
        Column names with units.
    rows
        Cells as text.
    caption
        What is counted and what the errors mean.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str


def number(value: Any, digits: int = 2, *, sign: bool = False) -> str:
    """Write a number with fixed digits, or a dash for None."""
    if value is None:
        return "–"
    return f"{float(value):+.{digits}f}" if sign else f"{float(value):.{digits}f}"


def pressure_table(results: Mapping[str, Any]) -> Table:
    """Return the pressure losses with deviations and the errors they carry."""
    rows = []
    for key in RESOLUTIONS:
        entry = results["pressure_loss"].get(key)
        if entry is None:
            continue
        if entry.get("total_pa") is None:
            rows.append((NAMES[key], *["–"] * 8, entry.get("reason") or "airway closed"))
            continue
        paths = entry.get("paths", {})
        rows.append(
            (
                NAMES[key],
                number(entry["total_pa"]),
                number(entry["static_pa"]),
                _plus_minus(entry.get("discretisation_percent")),
                "baseline"
                if key == "hr"
                else number(entry["deviation_from_hr_percent"], 1, sign=True),
                number(paths.get("left", {}).get("flow_rate_ml_s"), 0),
                number(paths.get("right", {}).get("flow_rate_ml_s"), 0),
                number(entry.get("resistance_pa_s_ml"), 4),
                number(entry.get("peak_velocity_m_s"), 1),
                _verdict(key, entry),
            )
        )
    return Table(
        "Pressure loss, nostrils to pharynx",
        (
            "variant",
            "total, Pa",
            "static, Pa",
            "lattice error, %",
            "deviation from HR, %",
            "left, ml/s",
            "right, ml/s",
            "resistance, Pa s/ml",
            "peak velocity, m/s",
            "verdict",
        ),
        tuple(rows),
        _pressure_caption(results),
    )


def _plus_minus(value: Any) -> str:
    return "–" if value is None else f"± {number(value, 1)}"


def _verdict(key: str, entry: Mapping[str, Any]) -> str:
    words = []
    if key != "hr" and entry.get("resolved") is False:
        words.append("not resolved: smaller than its error")
    if key != "hr" and entry.get("resolved"):
        words.append("resolved")
    if not entry.get("converged"):
        words.append("not converged; mean over time")
    return "; ".join(words) or "converged"


def _pressure_caption(results: Mapping[str, Any]) -> str:
    flow = results["provenance"]["settings"].get("flow", {})
    baseline = results["pressure_loss"].get("hr", {})
    text = "n = 1 case. Flux-weighted total and static pressure, inlets minus outlet, "
    if flow:
        text += (
            f"{flow.get('flow_rate_ml_s')} ml/s through both nostrils, kinematic viscosity "
            f"{flow.get('kinematic_viscosity_m2_s')} m²/s, density {flow.get('density_kg_m3')} kg/m³, "
            f"lattice {flow.get('spacing_mm')} mm. "
        )
    if baseline.get("coarse_spacing_mm"):
        text += (
            "Lattice error: the change from a lattice of "
            f"{number(baseline['coarse_spacing_mm'])} mm, extrapolated at first order (Roache 1994). "
        )
    text += "A deviation smaller than its lattice error is not resolved. No ensemble yet: the network's "
    return text + "own uncertainty is not included."


def image_table(results: Mapping[str, Any]) -> Table:
    """Return the image errors of every restoration method."""
    rows = []
    for key in METHODS:
        entry = results["image"].get(key)
        if entry is None:
            continue
        rows.append(
            (
                {"sr": "SR network"}.get(key, key),
                number(entry.get("psnr_db")),
                number(entry.get("psnr_soft_tissue_db")),
                number(entry.get("psnr_airway_wall_db")),
                number(entry.get("rms_airway_wall_hu"), 0),
                number(entry.get("ssim"), 4),
            )
        )
    return Table(
        "Restored slices against HR",
        (
            "method",
            "PSNR, dB",
            "PSNR soft tissue, dB",
            "PSNR airway wall, dB",
            "RMS airway wall, HU",
            "SSIM",
        ),
        tuple(rows),
        "n = 1 volume. PSNR over HU clipped to [-1024, 3071] (range 4095 HU), error pooled over the "
        "volume; soft tissue: window [-160, 240] HU; airway wall: voxels within 1.5 mm of the lumen's "
        "wall. Image errors do not rank pressure losses.",
    )


def surface_table(results: Mapping[str, Any]) -> Table:
    """Return volumes of the surfaces and their distances to the HR surface."""
    rows = []
    for key in RESOLUTIONS:
        entry = results["surface"].get(key)
        if entry is None:
            continue
        rows.append(
            (
                NAMES[key],
                number(entry.get("volume_ml")),
                "reference" if key == "hr" else number(entry.get("mean_distance_mm"), 3),
                "reference" if key == "hr" else number(entry.get("hausdorff95_mm"), 3),
                "–" if key == "hr" else _place(entry),
                _areas(entry.get("minimal_area_mm2")),
            )
        )
    return Table(
        "Airway surfaces",
        (
            "variant",
            "volume, ml",
            "mean distance to HR, mm",
            "95 % Hausdorff, mm",
            "largest difference",
            "minimal area, mm²",
        ),
        tuple(rows),
        "Symmetric distances of 40 000 points drawn evenly by area from each wall to the other's triangles; "
        "places in the patient's LPS coordinates. The same planes and the same region cut every variant.",
    )


def _place(entry: Mapping[str, Any]) -> str:
    place = entry.get("largest_distance_place_mm")
    if place is None:
        return "–"
    x, y, z = (f"{v:.0f}" for v in place)
    return f"{number(entry.get('largest_distance_mm'), 1)} mm at ({x}, {y}, {z})"


def _areas(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{side} {number(area, 0)}" for side, area in value.items())
    return number(value, 0)
