"""What the report says, in order: the same content for the page and for the PDF."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stages.report.record import NAMES, RESOLUTIONS
from stages.report.tables import Table, number

REFERENCES = (
    "Liu et al. (2024), Future Generation Computer Systems 159, 474-488: pressure loss from "
    "super-resolved CT.",
    "Ronneberger, Fischer & Brox (2015), MICCAI, doi:10.1007/978-3-319-24574-4_28: U-Net.",
    "Boneva, Kendall & Stefanov (1971), J. R. Stat. Soc. B 33, 1-70: histospline.",
    "Lorensen & Cline (1987), SIGGRAPH, doi:10.1145/37401.37422: marching cubes.",
    "Malaspinas (2015), arXiv:1505.06900: recursive-regularised lattice Boltzmann collision.",
    "Bouzidi, Firdaouss & Lallemand (2001), Phys. Fluids 13, 3452, doi:10.1063/1.1399290: "
    "interpolated walls.",
    "Roache (1994), J. Fluids Eng. 116, 405, doi:10.1115/1.2910291: grid convergence.",
)


@dataclass(frozen=True)
class Picture:
    """Hold a figure: PNG bytes, a description and a caption."""

    png: bytes
    alt: str
    caption: str


@dataclass(frozen=True)
class Part:
    """Hold one section: a table, figures or both."""

    title: str
    table: Table | None
    figures: tuple[Picture, ...]


@dataclass(frozen=True)
class Content:
    """Hold everything that the report shows."""

    case: str
    patent: bool
    answer: tuple[str, ...]
    parts: tuple[Part, ...]
    warnings: tuple[str, ...]
    methods: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    command: str
    settings: str


def answer(results: Mapping[str, Any]) -> tuple[str, ...]:
    """Say the result in a few sentences, and what may not be concluded from it."""
    airway = results["airway"]
    if not airway["patent"]:
        place = airway.get("place_mm")
        where = (
            "" if place is None else f" Place (LPS): ({', '.join(f'{v:.0f}' for v in place)}) mm."
        )
        return (f"No open airway from nostril to pharynx: {airway.get('reason')}{where}",)
    losses = results["pressure_loss"]
    lines = [_baseline_sentence(losses["hr"])]
    lines += [_variant_sentence(key, losses[key]) for key in RESOLUTIONS[1:] if key in losses]
    return tuple(lines)


def _baseline_sentence(entry: Mapping[str, Any]) -> str:
    error = entry.get("discretisation_percent")
    text = f"HR: total pressure loss {number(entry['total_pa'])} Pa"
    text += "" if error is None else f" ± {number(error, 1)} % (lattice)"
    return text + (
        "." if entry.get("converged") else "; the flow is not steady, its mean is given."
    )


def _variant_sentence(key: str, entry: Mapping[str, Any]) -> str:
    if entry.get("total_pa") is None:
        return f"{NAMES[key]}: no flow, {entry.get('reason') or 'its airway is closed'}"
    text = f"{NAMES[key]}: {number(entry['total_pa'])} Pa, "
    text += f"{number(entry['deviation_from_hr_percent'], 1, sign=True)} % from HR"
    error = entry.get("discretisation_percent")
    if entry.get("resolved") is False:
        return text + f"; not resolved, the lattice error is ± {number(error, 1)} %."
    return text + ("." if error is None else f" (lattice error ± {number(error, 1)} %).")


def methods(results: Mapping[str, Any]) -> tuple[str, ...]:
    """Describe what was done, generated from the settings that were used."""
    settings = results["provenance"]["settings"]
    triplets, flow = settings.get("triplets", {}), settings.get("flow", {})
    surface, airway = settings.get("surface", {}), settings.get("airway", {})
    texts = [
        "The scan was read as the high-resolution volume (HR). Low-resolution slices (LR) are means "
        f"of {triplets.get('factor', 3)} adjacent slices ({triplets.get('profile', 'box')} profile), "
        "which a cubic spline (interpolated), a histospline [3] and a U-Net with residual learning "
        "and exact data consistency (SR) [1, 2] restore.",
        f"The airway was segmented at {airway.get('isolevel_hu', -400)} HU on HR; its planes and its "
        "region were reused for every variant. Surfaces are iso-surfaces of the grey values at "
        f"{surface.get('isolevel_hu', -400)} HU [4], cut at the planes and capped.",
    ]
    if flow:
        texts.append(
            f"The flow of {flow.get('flow_rate_ml_s')} ml/s was simulated by a lattice-Boltzmann method "
            f"(D3Q19, recursive-regularised [5], interpolated walls [6], {flow.get('precision')}) on a "
            f"lattice of {flow.get('spacing_mm')} mm with inlets at one total pressure and a "
            "controlled outlet pressure, and again on a coarser lattice for the discretisation error "
            "[7]."
        )
    return tuple(texts)


def facts(results: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """List the provenance in short."""
    provenance, geometry = results["provenance"], results["input"]["geometry"]
    libraries = ", ".join(f"{k} {v}" for k, v in provenance["libraries"].items())
    shape = " × ".join(str(n) for n in geometry.get("shape", []))
    spacing = " × ".join(f"{v:.4g}" for v in geometry.get("spacing_mm", []))
    return (
        ("input sha256", str(results["input"]["sha256"])),
        ("volume (z, y, x)", f"{shape} voxels of {spacing} mm"),
        ("ct2flow", f"{provenance['version']}, commit {provenance['commit']}"),
        ("libraries", libraries),
    )
