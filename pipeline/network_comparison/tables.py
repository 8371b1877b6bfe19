"""The comparison as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.network_comparison.notes import note_lines
from pipeline.network_comparison.plan import BASELINES
from pipeline.network_comparison.scores import (
    AREA,
    DISTANCE,
    METRICS,
    Metric,
    Score,
    metric_of,
    verdict,
)

MARKS = {"better": " ▲", "worse": " ▼", "not judged": " ?"}


def markdown(record: Mapping[str, Any], notes: str = "") -> str:
    """Return the report of a comparison record as Markdown.

    Parameters
    ----------
    record
        Content of report.json.
    notes
        Sentences by hand, Markdown; they follow the introduction.
    """
    parts = [
        "# Networks beside one another",
        "",
        *introduction(record),
        *note_lines(notes),
        "",
        "## The choice by pressure-relevant error",
        "",
        *[f"- {line}" for line in choice_lines(record)],
        "",
        "## All test cases together",
        "",
        *table(*score_table(record)),
        "",
        legend(record),
        "",
        "## Cost",
        "",
        *table(*cost_table(record)),
        "",
    ]
    for case in record["test_cases"]:
        parts += [f"## {case['case']}", "", case_sentence(case), ""]
        parts += [*table(*score_table(record, case["case"])), ""]
    parts += ["## Learning curves", "", *table(*curve_table(record)), ""]
    parts += ["## Definitions", "", *[f"- {k}: {v}" for k, v in record["definition"].items()], ""]
    provenance = record["provenance"]
    parts += ["## Made by", "", f"    {provenance['command']}", ""]
    parts += [
        f"ct2flow {provenance['version']}, commit {provenance['commit']}. Research use only."
    ]
    return "\n".join([*parts, ""])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def legend(record: Mapping[str, Any]) -> str:
    """Say what the marks of the table of scores mean, and by how much a difference must be larger."""
    known = [(m, record["pooled_spread"].get(m.key)) for m in METRICS]
    pooled = [_with_unit(m, f"{v:.{m.decimals}f}") for m, v in known if v is not None]
    lines = (
        "Mean over the test cases; ± is the spread over seeds (largest minus smallest). **Bold**: "
        "best, or tied with the best. Arrows: better (▲) or worse (▼) than the histospline; none: "
        "tied; ?: not judged, as no spread is known. Methods with a single run, the histospline and "
        "the shipped model among them, have no spread of their own. "
    )
    if not pooled:
        return lines + "No method has all its seeds yet, so that nothing stands in for it."
    return (
        lines
        + "The pooled one of the networks, the root mean square of theirs, stands in for it: "
        f"{'; '.join(pooled)}."
    )


def _with_unit(metric: Metric, number: str) -> str:
    name, comma, unit = metric.title.rpartition(", ")
    return f"{name} {number} {unit}" if comma else f"{metric.title} {number}"


def introduction(record: Mapping[str, Any]) -> list[str]:
    """Say what was trained, on what, for how long, and what is missing."""
    plan = record["plan"]
    training, settings = plan["training"], plan["settings"]
    by_role = {
        role: [c["case"] for c in plan["cases"] if c["role"] == role]
        for role in ("train", "validation", "test")
    }
    seconds = settings["seconds"]
    budget = (
        f"{seconds:g} processor seconds for each training (seconds on a GPU), turned into steps "
        "once per network before the first training"
        if seconds
        else f"{training['steps']} steps for each training"
    )
    missing = [m["method"] for m in record["methods"] if m["missing"]]
    cut = settings["margin_mm"]
    lines = [
        f"**Budget**: {budget}; a step has {training['batch_size']} patches of {training['patch']} x "
        f"{training['patch']} pixels. Seeds: {', '.join(map(str, record['seeds']))}. "
        f"Positions of the thick slices: {record['phases']}. "
        f"Factor {training['factor']}, {training['profile']} profile, loss {training['loss']}.",
        "",
        f"**Trained on** {', '.join(by_role['train'])}; **validated on** "
        f"{', '.join(by_role['validation']) or 'nothing'}; **tested on** {', '.join(by_role['test'])}"
        + (f", cut to the airway and {cut:g} mm around it." if cut is not None else ", whole."),
    ]
    if missing:
        lines += ["", f"**Incomplete**: {', '.join(missing)}; they take no part in the choice."]
    for name, reason in record["left_out"].items():
        lines += ["", f"**Left out**: {name}, as {reason}."]
    return lines


def choice_lines(record: Mapping[str, Any]) -> list[str]:
    """Say which network the surface and the narrowest place speak for, and how surely."""
    found = record["choice"]["network"]
    by_name = {m["method"]: m for m in record["methods"]}
    models = [m for m in record["methods"] if m["method"] not in BASELINES and "steps" not in m]
    known = [line for model in models for line in _beside_baselines(model, by_name)]
    if found["method"] is None:
        return ["No network is complete, or no test case has an open airway: no choice.", *known]
    chosen = by_name[found["method"]]
    lines = [
        f"Of the networks trained here it would be **{found['method']}**: nearest surface (mean "
        f"distance {_score(chosen, DISTANCE)}), tied with it: "
        f"{_names(found['nearest'], found['method'])}; its minimal area is off by "
        f"{_score(chosen, AREA)}, best there: {_names(found['narrowest'], None)}.",
        *_beside_baselines(chosen, by_name),
    ]
    every = record["choice"]["any_method"]
    if every["method"] != found["method"]:
        lines.append(
            f"Of all methods together it would be **{every['method']}**, tied with it in the mean "
            f"distance: {_names(every['nearest'], every['method'])}."
        )
    return lines + known


def _beside_baselines(
    entry: Mapping[str, Any], by_name: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    lines = [_beside_histospline(entry), _gains(entry, by_name["histospline"])]
    lines.append(_nearer(entry, [by_name[name] for name in BASELINES]))
    return [f"{entry['method']}: {line}" for line in lines]


def _nearer(entry: Mapping[str, Any], baselines: Sequence[Mapping[str, Any]]) -> str:
    """Say in which test cases a method's surface is not nearer than a baseline's, or only tied."""
    parts = []
    for baseline in baselines:
        cases = [
            case
            for case, own in entry["cases"].items()
            if DISTANCE in own
            and DISTANCE in baseline["cases"].get(case, {})
            and not _is_nearer(own[DISTANCE], baseline["cases"][case][DISTANCE])
        ]
        where = f"not on {', '.join(cases)}" if cases else "everywhere"
        parts.append(f"{baseline['method']} {where}")
    return "mean surface distance below that of (beyond the spread) " + "; ".join(parts) + "."


def _is_nearer(own: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return verdict(metric_of(DISTANCE), Score(**own), Score(**other)) == "better"


def _beside_histospline(chosen: Mapping[str, Any]) -> str:
    verdicts = chosen["beside_histospline"]
    named = [
        f"{metric_of(key).title.split(',')[0] if key == AREA else metric_of(key).title}: {verdicts[key]}"
        for key in (DISTANCE, "hausdorff95_mm", AREA, "psnr_db", "psnr_airway_wall_db")
        if key in verdicts
    ]
    return "beside the histospline: " + "; ".join(named) + "."


def _gains(chosen: Mapping[str, Any], yardstick: Mapping[str, Any]) -> str:
    parts = []
    for case, own in chosen["cases"].items():
        gains = [
            f"{own[key]['mean'] - yardstick['cases'][case][key]['mean']:+.2f} dB {words}"
            for key, words in (
                ("psnr_db", "over the volume"),
                ("psnr_airway_wall_db", "at the wall"),
            )
            if key in own and key in yardstick["cases"].get(case, {})
        ]
        parts.append(f"{case} {' and '.join(gains)}")
    return "PSNR gain over the histospline: " + "; ".join(parts) + "."


def _names(names: Sequence[str], without: str | None) -> str:
    return ", ".join(name for name in names if name != without) or "none"


def _score(entry: Mapping[str, Any], key: str) -> str:
    metric = metric_of(key)
    unit = metric.title.rsplit(",", 1)[-1].strip().replace("% off", "%")
    return f"{shown(entry['scores'].get(key), metric)} {unit}"


def shown(score: Mapping[str, float] | None, metric: Metric) -> str:
    """Return a score with its spread over seeds, if it has one."""
    if score is None:
        return "-"
    digits = metric.decimals
    spread = f" ±{score['spread']:.{digits}f}" if score["spread"] else ""
    return f"{score['mean']:.{digits}f}{spread}"


def score_table(
    record: Mapping[str, Any], case: str | None = None
) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the scores, of one test case or of all together."""
    used = [m for m in METRICS if any(m.key in _of(e, case) for e in record["methods"])]
    head = ["method", *[metric.title for metric in used]]
    rows = []
    for entry in record["methods"]:
        scores = _of(entry, case)
        cells = []
        for metric in used:
            text = shown(scores.get(metric.key), metric)
            if case is None and entry["method"] in record["best"].get(metric.key, ()):
                text = f"**{text}**"
            said = entry["beside_histospline"].get(metric.key, "") if case is None else ""
            cells.append(text + MARKS.get(said, ""))
        rows.append([label(entry), *cells])
    return head, rows


def _of(entry: Mapping[str, Any], case: str | None) -> Mapping[str, Any]:
    found: Mapping[str, Any] = entry["scores"] if case is None else entry["cases"].get(case, {})
    return found


def label(entry: Mapping[str, Any]) -> str:
    """Return a method's name, marked if it is incomplete."""
    if not entry["missing"]:
        return str(entry["method"])
    failed = [m for m in entry["missing"] if "failed" in m]
    return f"{entry['method']} ({'failed' if failed else 'incomplete'})"


def cost_table(record: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of what methods cost."""
    head = [
        *("method", "parameters", "steps", "samples", "training, s per sample"),
        *("training, s", "restoration, s per million voxels"),
    ]
    rows = []
    for entry in record["methods"]:
        if entry["method"] == "lr":
            continue
        number = entry.get("parameters")
        rows.append(
            [
                label(entry),
                f"{number:,}" if number else "-",
                _plain(entry.get("steps"), ",.0f"),
                _plain(entry.get("samples"), ",.0f"),
                _plain(entry.get("training_s_per_sample"), ".4f"),
                _plain(entry.get("training_s"), ".0f"),
                _plain(entry.get("restoration_s_per_megavoxel"), ".2f"),
            ]
        )
    return head, rows


def curve_table(record: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the learning curves: validation gain in parts of the training."""
    head = [
        "training",
        "loss: first tenth",
        "last tenth",
        "validation PSNR above histospline, dB, by step",
    ]
    rows = []
    for name, points in record["curves"].items():
        losses = [p["loss"] for p in points if "loss" in p]
        tenth = max(1, len(losses) // 10)
        gains = [
            f"{p['mean_psnr_db'] - p['histospline_mean_psnr_db']:+.2f} ({p['step']})"
            for p in points
            if "mean_psnr_db" in p
        ]
        first = sum(losses[:tenth]) / tenth if losses else None
        last = sum(losses[-tenth:]) / tenth if losses else None
        rows.append([name, _plain(first, ".4g"), _plain(last, ".4g"), ", ".join(gains) or "-"])
    return head, rows


def case_sentence(case: Mapping[str, Any]) -> str:
    """Say what a test case is."""
    areas = ", ".join(f"{side} {area:.1f} mm2" for side, area in case["minimal_area_mm2"].items())
    size = " x ".join(map(str, case["shape"] or ()))
    spacing = " x ".join(f"{s:g}" for s in case["spacing_mm"] or ())
    known = (
        f"airway {case['volume_ml']:.2f} ml, narrowest {areas}"
        if case["volume_ml"]
        else ("no open airway to compare")
    )
    return (
        f"{size} voxels of {spacing} mm (z, y, x); thin slices: {known}. Deviations of the airway "
        "volume are signed."
    )


def _plain(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
