"""What the report says, in order: the same content for the page and for the PDF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stages.report.record import NAMES, RESOLUTIONS
from stages.report.tables import Table, number

NOTICE = "Research use only. Not for diagnosis or treatment."


@dataclass(frozen=True)
class Picture:
    """Hold a figure: PNG bytes, a description and a caption."""

    png: bytes
    alt: str
    caption: str


Block = Table | Picture


@dataclass(frozen=True)
class Part:
    """Hold one section: tables and figures in reading order."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Content:
    """Hold everything that the report shows."""

    case: str
    patent: bool
    subtitle: str
    answer: tuple[str, ...]
    parts: tuple[Part, ...]
    warnings: tuple[str, ...]
    methods: tuple[str, ...]
    references: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    digests: tuple[tuple[str, str], ...]
    command: str
    settings: str


def numbered(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Put 'Table n.' and 'Figure n.' before the captions, counting through the report."""
    counts = {Table: 0, Picture: 0}
    names = {Table: "Table", Picture: "Figure"}
    found = []
    for part in parts:
        blocks: list[Block] = []
        for block in part.blocks:
            kind = type(block)
            counts[kind] += 1
            caption = f"{names[kind]} {counts[kind]}. {block.caption}"
            blocks.append(replace(block, caption=caption))
        found.append(Part(part.title, tuple(blocks)))
    return tuple(found)


def subtitle(results: Mapping[str, Any]) -> str:
    """Name the scan and the flow in one line."""
    geometry, flow = results["input"]["geometry"], results["provenance"]["settings"].get("flow")
    shape = " × ".join(str(n) for n in geometry["shape"])
    spacing = " × ".join(f"{v:.4g}" for v in geometry["spacing_mm"])
    text = f"HR: {shape} voxels of {spacing} mm (z, y, x)"
    if flow:
        text += f" · {flow['flow_rate_ml_s']:g} ml/s inspired · lattice {flow['spacing_mm']:g} mm"
    return text


def answer(results: Mapping[str, Any]) -> tuple[str, ...]:
    """Say the result in a few sentences, and what may not be concluded from it."""
    airway, losses = results["airway"], results["pressure_loss"]
    if not airway["patent"]:
        return _closed(airway)
    if losses["hr"]["total_pa"] is None:
        return ("The airway is open, but its flow was not computed.",)
    lines = [_baseline(losses["hr"])]
    for state, text in (
        (True, "Resolved deviations of the total loss from HR"),
        (False, "Not resolved, smaller than the error they carry"),
        (None, "Deviations of unknown error"),
    ):
        found = [
            _deviation(key, losses[key]) for key in RESOLUTIONS[1:] if _is(losses, key, state)
        ]
        lines += [f"{text}: {', '.join(found)}."] if found else []
    without = [NAMES[key] for key in RESOLUTIONS[1:] if losses[key]["total_pa"] is None]
    lines += [f"No flow: {', '.join(without)} (the airway is closed there)."] if without else []
    return (*lines, *_state_in_time(losses))


def _state_in_time(losses: Mapping[str, Any]) -> list[str]:
    """Say which losses are means over time and what that leaves open."""
    lines = []
    open_ended = [k for k in RESOLUTIONS if losses[k].get("converged") is False]
    short = [k for k in open_ended if losses[k].get("unsettled_percent", 0.0) is None]
    still = [k for k in open_ended if k not in short]
    for unsteady, text in (
        (
            True,
            "Unsteady flow: {names}. These losses are means over time, known within {error} % (two "
            "standard errors)",
        ),
        (
            False,
            "Not converged: {names}. These losses are means over the last part of the run and changed by "
            "up to {error} % within its last windows",
        ),
    ):
        keys = [k for k in still if bool(losses[k].get("statistically_steady")) is unsteady]
        if keys:
            largest = max(losses[k].get("unsettled_percent", 0.0) for k in keys)
            names = ", ".join(NAMES[k] for k in keys)
            said = text.format(names=names, error=number(largest, 1))
            lines.append(f"{said}; a deviation that is called resolved is larger than that.")
    if short:
        lines.append(
            f"Not converged: {', '.join(NAMES[k] for k in short)}. These runs ended before it can be told "
            "by how much their losses still change; no deviation of them is called resolved."
        )
    return lines


def _closed(airway: Mapping[str, Any]) -> tuple[str, ...]:
    place = airway.get("place_mm")
    lines = [f"No open airway from nostril to pharynx: {airway.get('reason') or 'unknown reason'}"]
    if place is not None:
        lines.append(f"Place (x, y, z; LPS): {', '.join(number(v, 1) for v in place)} mm.")
    return (*lines, "No surface and no flow can be computed; the images are compared below.")


def _baseline(entry: Mapping[str, Any]) -> str:
    error = entry.get("discretisation_percent")
    text = f"Total pressure loss of HR, nostrils to pharynx: {number(entry['total_pa'])} Pa"
    return text + ("." if error is None else f" ± {number(error, 1)} % (lattice error).")


def _is(losses: Mapping[str, Any], key: str, state: bool | None) -> bool:  # noqa: FBT001 -- a value
    entry = losses[key]
    return entry.get("deviation_from_hr_percent") is not None and entry.get("resolved") is state


def _deviation(key: str, entry: Mapping[str, Any]) -> str:
    return f"{NAMES[key]} {number(entry['deviation_from_hr_percent'], 1, sign=True)} %"


def facts(results: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """List the provenance in short."""
    provenance, given = results["provenance"], results["input"]
    model = provenance["model"]
    trained = ", ".join(f"{k} {v}" for k, v in model["trained_on"].items())
    acquired = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in given["acquisition"].items())
    rows = (
        ("input sha256", given["sha256"]),
        ("acquisition", acquired),
        ("network sha256", model["sha256"]),
        ("training manifest sha256", trained),
        ("ct2flow", f"{provenance['version']}, commit {provenance['commit']}"),
        ("device", ", ".join(provenance["devices"])),
        ("libraries", ", ".join(f"{k} {v}" for k, v in provenance["libraries"].items())),
    )
    return tuple((name, str(value)) for name, value in rows if value)
