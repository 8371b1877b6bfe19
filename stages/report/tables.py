"""Tables of the report: rows of text, so that HTML and PDF show the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.report.record import METHODS, NAMES, RESOLUTIONS

NOT_RESOLVED = "not resolved: smaller than its error"
_SIDES = ("left", "right")


@dataclass(frozen=True)
class Table:
    """Hold a table with its caption.

    Parameters
    ----------
    header
        Column names with units.
    rows
        Cells as text.
    caption
        What is counted and what the errors mean.
    words
        Columns of words, aligned left; numbers are aligned right.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str
    words: tuple[int, ...] = (0,)


def number(value: Any, digits: int = 2, *, sign: bool = False) -> str:
    """Write a number with fixed digits and a true minus sign, or a dash for None."""
    if value is None:
        return "–"
    text = f"{float(value):+.{digits}f}" if sign else f"{float(value):.{digits}f}"
    return text.replace("-", "−")


def pressure_table(results: Mapping[str, Any]) -> Table:
    """Return the pressure losses with deviations and the errors they carry."""
    losses = results["pressure_loss"]
    return Table(
        (
            "variant",
            "total, Pa",
            "static, Pa",
            "lattice error, %",
            "deviation from HR, %",
            "error of deviation, %",
            "same on coarser lattices, %",
            "variation in time, Pa",
            "peak velocity, m/s",
            "verdict",
        ),
        tuple(_pressure_row(key, losses[key]) for key in RESOLUTIONS if key in losses),
        _pressure_caption(results),
        words=(0, 9),
    )


def _coarser_deviations(entry: Mapping[str, Any]) -> str:
    found = [c.get("deviation_percent") for c in entry.get("coarser", ())]
    return ", ".join(number(value, 1, sign=True) for value in found) or "–"


def _pressure_row(key: str, entry: Mapping[str, Any]) -> tuple[str, ...]:
    if entry.get("total_pa") is None:
        return (NAMES[key], *["–"] * 8, "no flow: " + (entry.get("reason") or "airway closed"))
    is_baseline = key == "hr"
    return (
        NAMES[key],
        number(entry["total_pa"]),
        number(entry["static_pa"]),
        _plus_minus(entry.get("discretisation_percent")),
        "baseline" if is_baseline else number(entry["deviation_from_hr_percent"], 1, sign=True),
        "–" if is_baseline else _plus_minus(entry.get("deviation_error_percent")),
        "–" if is_baseline else _coarser_deviations(entry),
        number(entry.get("std_in_time_pa")),
        number(entry.get("peak_velocity_m_s"), 1),
        verdict(key, entry),
    )


def _plus_minus(value: Any) -> str:
    return "–" if value is None else f"± {number(value, 1)}"


def verdict(key: str, entry: Mapping[str, Any]) -> str:
    """Say in words what a pressure loss is worth."""
    words = []
    if key != "hr" and entry.get("resolved") is False:
        words.append(NOT_RESOLVED)
    if key != "hr" and entry.get("resolved"):
        words.append("resolved")
    if not entry.get("converged"):
        unsteady = entry.get("statistically_steady")
        words.append("unsteady, mean over time" if unsteady else "flow not converged")
    if entry.get("coarse_converged") is False:
        words.append("a coarser flow not converged")
    return "; ".join(words) or "converged"


def _pressure_caption(results: Mapping[str, Any]) -> str:
    flow = results["provenance"]["settings"].get("flow", {})
    baseline = results["pressure_loss"].get("hr", {})
    text = "Pressure loss from nostrils to pharynx, n = 1 case: flux-weighted total and static "
    text += "pressure, inlets minus outlet"
    if flow:
        text += (
            f"; {flow.get('flow_rate_ml_s')} ml/s through both nostrils, kinematic viscosity "
            f"{flow.get('kinematic_viscosity_m2_s')} m²/s, density {flow.get('density_kg_m3')} "
            f"kg/m³, lattice {flow.get('spacing_mm')} mm"
        )
    text += ". "
    if baseline.get("coarser"):
        spacings = " and ".join(number(c["spacing_mm"]) for c in baseline["coarser"])
        method = str(baseline.get("discretisation_method"))
        source = "Roache 1994" if method.startswith("two") else "Celik 2008, Eça 2014"
        text += f"Lattice error: from coarser lattices of {spacings} mm ({method}; {source}). "
    return text + (
        "A deviation is resolved if it exceeds its own error, the lattice errors of both losses, and what "
        f"they still changed by. {_model_sentence(results['pressure_loss'].get('sr', {}))}"
    )


def _model_sentence(entry: Mapping[str, Any]) -> str:
    """Say how far the networks differ among themselves, or that there is one."""
    if entry.get("model_std_pa") is None:
        return "The network's own uncertainty is not included: there are not several to compare."
    return (
        f"SR is the mean of {len(entry['members'])} networks; the total pressure losses of each "
        f"alone have a standard deviation of {number(entry['model_std_pa'])} Pa, which is not part "
        "of the errors shown."
    )


def sides_table(results: Mapping[str, Any]) -> Table:
    """Return flow rate and resistance of each side: parallel sides hide damage in the total."""
    losses = results["pressure_loss"]
    known = {key: losses[key] for key in RESOLUTIONS if losses[key].get("paths")}
    sides = sorted({side for entry in known.values() for side in entry["paths"]})
    header = ["variant"]
    for side in sides:
        header += [f"flow {side}, ml/s", "from HR, %"]
    for side in sides:
        header += [f"resistance {side}, Pa s/ml", "from HR, %"]
    return Table(
        (*header, "resistance of all, Pa s/ml"),
        tuple(_sides_row(key, entry, sides) for key, entry in known.items()),
        "Each side's flow rate and resistance (total pressure loss to the outlet over flow rate), "
        "n = 1 case. Sides in parallel hide damage in the total.",
    )


def _sides_row(key: str, entry: Mapping[str, Any], sides: Sequence[str]) -> tuple[str, ...]:
    cells = [NAMES[key]]
    for name, digits in (("flow_rate", 1), ("resistance", 4)):
        value = {"flow_rate": "flow_rate_ml_s", "resistance": "resistance_pa_s_ml"}[name]
        for side in sides:
            path = entry["paths"].get(side, {})
            change = number(path.get(f"{name}_deviation_percent"), 1, sign=True)
            cells += [number(path.get(value), digits), "–" if key == "hr" else change]
    return (*cells, number(entry.get("resistance_pa_s_ml"), 4))


def image_table(results: Mapping[str, Any]) -> Table:
    """Return the image errors of every restoration method."""
    definition = results["definitions"].get("image", {})
    low, high = definition.get("psnr_range_hu", (-1024.0, 3071.0))
    soft = definition.get("psnr_soft_tissue_window_hu", (-160.0, 240.0))
    return Table(
        (
            "method",
            "PSNR, dB",
            "PSNR soft tissue, dB",
            "PSNR airway wall, dB",
            "RMS airway wall, HU",
            "SSIM",
        ),
        tuple(_image_row(k, results["image"][k]) for k in METHODS if k in results["image"]),
        f"Restored slices against HR, n = 1 volume. PSNR: HU clipped to [{low:g}, {high:g}], range "
        f"{high - low:g} HU, error pooled over the volume. Soft tissue: clipped to "
        f"[{soft[0]:g}, {soft[1]:g}] HU, range {soft[1] - soft[0]:g} HU. Airway wall: "
        f"{definition.get('airway_wall_voxels', '–')} voxels within "
        f"{definition.get('airway_wall_band_mm', 1.5):g} mm of the HR iso-surface "
        f"({definition.get('airway_wall', 'airway')}), range {high - low:g} HU. "
        f"SSIM: {definition.get('ssim', 'mean over slices')}. Image errors do not rank pressure "
        "losses.",
    )


def _image_row(key: str, entry: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        {"sr": "SR network"}.get(key, key),
        number(entry.get("psnr_db")),
        number(entry.get("psnr_soft_tissue_db")),
        number(entry.get("psnr_airway_wall_db")),
        number(entry.get("rms_airway_wall_hu"), 0),
        number(entry.get("ssim"), 4),
    )


def surface_table(results: Mapping[str, Any]) -> Table:
    """Return volumes of the surfaces and their distances to the HR surface."""
    surfaces = results["surface"]
    points = results["definitions"].get("surface", {}).get("points_per_surface")
    return Table(
        (
            "variant",
            "volume, ml",
            "from HR, %",
            "mean distance to HR, mm",
            "95 % Hausdorff, mm",
            "largest distance, mm",
            "at x, y, z (LPS), mm",
            "minimal area left, mm²",
            "minimal area right, mm²",
        ),
        tuple(_surface_row(key, surfaces[key]) for key in RESOLUTIONS if key in surfaces),
        "Airway surfaces, n = 1 case. Distances: both directions pooled"
        + (f", {points} points on each wall" if points else "")
        + " drawn evenly by area, to the other wall's triangles. The same planes and the same region "
        "cut every variant.",
    )


def _surface_row(key: str, entry: Mapping[str, Any]) -> tuple[str, ...]:
    areas = entry.get("minimal_area_mm2")
    sides = areas if isinstance(areas, Mapping) else {}
    minimal = [number(sides.get(side), 1) for side in _SIDES]
    if key == "hr":
        return (NAMES[key], number(entry.get("volume_ml")), *["baseline"] * 3, "–", "–", *minimal)
    place = entry.get("largest_distance_place_mm")
    return (
        NAMES[key],
        number(entry.get("volume_ml")),
        number(entry.get("volume_deviation_percent"), 1, sign=True),
        number(entry.get("mean_distance_mm"), 3),
        number(entry.get("hausdorff95_mm"), 3),
        number(entry.get("largest_distance_mm"), 1),
        "–" if place is None else ", ".join(number(value, 0) for value in place),
        *minimal,
    )


def convergence_table(flows: Mapping[str, Mapping[str, Any]], caption: str) -> Table:
    """Return how each flow was computed and whether it converged.

    Parameters
    ----------
    flows
        flow.json by the name shown, fine and coarse lattices.
    caption
        What is counted.
    """
    return Table(
        (
            "flow",
            "spacing, mm",
            "fluid cells",
            "in gaps under two cells, %",
            "steps",
            "simulated, ms",
            "Reynolds",
            "Mach, max",
            "relaxation time",
            "change of loss, %",
            "mass imbalance, %",
            "converged",
        ),
        tuple(_convergence_row(name, flow) for name, flow in flows.items()),
        caption,
        words=(0, 11),
    )


def _convergence_row(name: str, flow: Mapping[str, Any]) -> tuple[str, ...]:
    lattice, numbers, end = flow["lattice"], flow["numbers"], flow["convergence"]
    thin, cells = lattice.get("thin_gap_cells"), lattice.get("fluid_cells")
    seconds = end.get("simulated_time_s")
    return (
        name,
        number(lattice["spacing_mm"]),
        f"{cells:,}".replace(",", "\N{NO-BREAK SPACE}") if cells else "–",
        number(100 * thin / cells, 1) if thin is not None and cells else "–",
        f"{lattice.get('steps', 0):,}".replace(",", "\N{NO-BREAK SPACE}"),
        number(None if seconds is None else 1e3 * seconds, 1),
        number(numbers.get("reynolds"), 0),
        number(numbers.get("mach_max"), 3),
        number(numbers.get("relaxation_time"), 4),
        _percent(end.get("pressure_loss_change")),
        _percent(end.get("mass_imbalance")),
        _state_in_time(end),
    )


def _state_in_time(end: Mapping[str, Any]) -> str:
    if end["reached"]:
        return "yes"
    error = end.get("time_mean_error")
    if end.get("statistically_steady") and error is not None:
        return f"unsteady, mean ± {number(100 * error, 1)} %"
    return "no"


def _percent(share: Any) -> str:
    """Write a share in percent; a run too short to tell has none."""
    if share is None or float(share) > 1e3:
        return "unknown"
    return f"{100 * float(share):.2g}"
