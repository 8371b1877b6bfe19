"""Collect what a comparison has so far and write it as JSON, Markdown and HTML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.core.artefacts import read_json, read_sidecar, write_json
from pipeline.core.provenance import commit, library_versions, package_version
from pipeline.network_comparison.cases import PreparedCase
from pipeline.network_comparison.judging import minimal_areas
from pipeline.network_comparison.notes import read_notes
from pipeline.network_comparison.page import html
from pipeline.network_comparison.plan import BASELINES, PLAN, Plan, model_name
from pipeline.network_comparison.scores import (
    METRICS,
    Row,
    choose_by_pressure,
    make_row,
    pool_spreads,
    pooled_spread,
    surely_best,
    verdict,
)
from pipeline.network_comparison.tables import markdown
from stages.comparison.images import MS_SSIM_DEFINITION, SSIM_DEFINITION

REPORT_FORMAT = 2
"""1 wrote a spread of 0 for methods with a single run, and judged them by it."""
PICTURES, HR = "pictures", "hr"
YARDSTICK = "histospline"
DEFINITION = {
    "score": "mean over the test cases (deviations by size), then over the seeds",
    "spread": "largest minus smallest seed; a method with a single run (training-free, or a model "
    "that came trained) has none",
    "pooled_spread": "root mean square of the spreads of the methods with seeds; it stands in for "
    "the spread of a method with a single run",
    "tie": "two methods are tied if their scores differ by no more than the larger spread, or by no "
    "more than their difference varies over the positions of the thick slices; at one position "
    "nothing is known of that; where no spread at all is known nothing is said: not judged",
    "volume_deviation_percent": "airway volume against that of the thin slices",
    "minimal_area_error_percent": "mean over the open sides of the size of the deviation of the "
    "narrowest cross-section; a side that closed counts 100 %",
    "mean_distance_mm": "between the wall surfaces, both directions, 40 000 points each",
    "hausdorff95_mm": "95 % quantile of the same distances",
    "image": "PSNR of HU clipped to -1024..3071 (peak 4095), soft tissue -160..240 (peak 400); "
    "wall: within 1.5 mm of the airway's wall; of the volume that is restored, as cut",
    "ssim": SSIM_DEFINITION,
    "ms_ssim": MS_SSIM_DEFINITION,
    "choice": "nearest surface (mean distance); of those tied with it, the best or tied in the error "
    "of the minimal area; of these, the smallest mean distance",
}


def write_report(
    output: Path, plan: Plan, manifest_name: str, left_out: Mapping[str, str]
) -> None:
    """Write report.json, report.md and report.html from what is there, with the notes beside it.

    Parameters
    ----------
    output
        Folder of the comparison.
    plan
        What it does.
    manifest_name
        File name of its manifest.
    left_out
        Models that were not judged, with the reason.
    """
    record = _record(output, plan, manifest_name, left_out)
    draft = output / ".partial.report.json"
    write_json(draft, record)
    draft.replace(output / "report.json")
    notes = read_notes(output)
    page = html(record, _pictures(output / PICTURES, record), notes)
    for name, text in (("report.md", markdown(record, notes)), ("report.html", page)):
        part = output / f".partial.{name}"
        part.write_text(text)
        part.replace(output / name)


def _record(
    output: Path, plan: Plan, manifest_name: str, left_out: Mapping[str, str]
) -> dict[str, Any]:
    results = _results(output / "results")
    cases = [case.case for case in plan.cases]
    ready = [r["method"] for r in results if r["network"] is None]
    methods = [*dict.fromkeys(ready), *plan.training]
    rows = []
    for method in methods:
        own = [r for r in results if (r["network"] or r["method"]) == method]
        trained = method in plan.training
        row = make_row(
            method,
            own,
            cases=cases,
            seeds=plan.seeds if trained else (),
            phases=plan.phases,
            failures=_failures(output, method, plan) if trained else {},
        )
        rows.append((row, _facts(output, row, own, plan)))
    judged = pool_spreads([row for row, _ in rows])
    asked = read_json(output / PLAN)
    return {
        "format": REPORT_FORMAT,
        "definition": DEFINITION,
        "manifest": manifest_name,
        "plan": asked,
        "seeds": list(plan.seeds),
        "phases": plan.phases,
        "test_cases": [_case(output, case.case) for case in plan.cases],
        "methods": [
            {**_entry(row), **facts, **_judgement(row, judged)}
            for row, (_, facts) in zip(judged, rows, strict=True)
        ],
        "pooled_spread": _pooled(judged),
        "best": _best(judged),
        "choice": _choice(judged, list(plan.training)),
        "left_out": dict(left_out),
        "curves": _curves(output / "models", plan),
        "provenance": _provenance(output, plan, manifest_name),
    }


def _pictures(folder: Path, record: Mapping[str, Any]) -> dict[str, dict[str, bytes]]:
    """Read one picture per test case and method, of a network its first seed's."""
    seed = record["seeds"][0]
    files = {HR: HR} | {
        entry["method"]: f"{entry['method']}-seed{seed}" if "steps" in entry else entry["method"]
        for entry in record["methods"]
    }
    return {
        case["case"]: {
            method: (folder / case["case"] / f"{file}.png").read_bytes()
            for method, file in files.items()
            if (folder / case["case"] / f"{file}.png").is_file()
        }
        for case in record["test_cases"]
    }


def _results(folder: Path) -> list[dict[str, Any]]:
    """Read the results: the thick slices, then the training-free methods, then models."""
    found = [read_json(path) for path in sorted(folder.glob("*/*.json"))]
    order = {name: place for place, name in enumerate(BASELINES)}
    return sorted(found, key=lambda r: (order.get(r["method"], len(order)), r["method"]))


def _failures(output: Path, network: str, plan: Plan) -> dict[int, str]:
    paths = {s: output / "models" / f"{network}-seed{s}.failed.json" for s in plan.seeds}
    return {s: f"failed: {read_json(p)['reason']}" for s, p in paths.items() if p.is_file()}


def _facts(
    output: Path, row: Row, results: Sequence[Mapping[str, Any]], plan: Plan
) -> dict[str, Any]:
    """Return what a method costs; of a network also what it was given."""
    costs = [r["cost"]["restoration_s_per_megavoxel"] for r in results if r["cost"]]
    facts: dict[str, Any] = {
        "restoration_s_per_megavoxel": sum(costs) / len(costs) if costs else None
    }
    settings = plan.training.get(row.method)
    if settings is None:
        return facts
    each = plan.seconds_per_step[row.method]
    models = [output / "models" / f"{row.method}-seed{seed}" for seed in plan.seeds]
    described = [read_json(m / "model.json") for m in models if (m / "model.json").is_file()]
    return facts | {
        "parameters": described[0]["parameters"] if described else None,
        "steps": settings.steps,
        "samples": settings.steps * settings.batch_size,
        "training_s_per_sample": each / settings.batch_size,
        "training_s": each * settings.steps,
        "best_steps": [d["metrics"]["step"] for d in described],
    }


def _entry(row: Row) -> dict[str, Any]:
    return {"method": row.method, "seeds": list(row.seeds), "missing": list(row.missing)}


def _judgement(row: Row, rows: Sequence[Row]) -> dict[str, Any]:
    # Without all seeds there is no spread, and without one no verdict.
    known = [r.scores for r in rows if r.method == YARDSTICK and r.is_complete]
    yardstick = known[0] if known and row.is_complete and row.method != YARDSTICK else {}
    return {
        "scores": {key: asdict(score) for key, score in row.scores.items()},
        "cases": {
            case: {key: asdict(score) for key, score in scores.items()}
            for case, scores in row.cases.items()
        },
        "beside_histospline": {
            metric.key: verdict(metric, row.scores[metric.key], yardstick[metric.key])
            for metric in METRICS
            if metric.key in row.scores and metric.key in yardstick
        },
    }


def _pooled(rows: Sequence[Row]) -> dict[str, float | None]:
    whole = [row.scores for row in rows if row.is_complete]
    return {metric.key: pooled_spread(metric.key, whole) for metric in METRICS}


def _best(rows: Sequence[Row]) -> dict[str, list[str]]:
    whole = {row.method: row.scores for row in rows if row.is_complete}
    return {
        metric.key: list(
            surely_best(metric, {n: s[metric.key] for n, s in whole.items() if metric.key in s})
        )
        for metric in METRICS
    }


def _choice(rows: Sequence[Row], trained: Sequence[str]) -> dict[str, Any]:
    networks = choose_by_pressure(rows, trained)
    everything = choose_by_pressure(rows, [row.method for row in rows])
    return {
        "network": {**asdict(networks), "agrees": networks.agrees},
        "any_method": {**asdict(everything), "agrees": everything.agrees},
    }


def _case(output: Path, name: str) -> dict[str, Any]:
    folder = output / "cases" / name
    case = PreparedCase(name, folder)
    cut = read_sidecar(folder / "cut.nii.gz").get("properties", {})
    record = read_json(case.airway / "airway.json")
    surface = read_json(case.surface / "surface.json") if case.is_open else {}
    return {
        "case": name,
        "shape": cut.get("shape"),
        "source_shape": cut.get("source_shape"),
        "spacing_mm": cut.get("spacing_mm"),
        "patent": bool(record.get("patent")),
        "minimal_area_mm2": minimal_areas(record),
        "volume_ml": surface.get("volume_ml"),
    }


def _curves(models: Path, plan: Plan) -> dict[str, list[dict[str, Any]]]:
    """Return the learning curve of each training, also of one that has not ended."""
    found = {}
    for network in plan.training:
        for seed in plan.seeds:
            name = f"{network}-seed{seed}"
            paths = (models / name, models / f"{name}.training")
            path = next(
                (p / "metrics.jsonl" for p in paths if (p / "metrics.jsonl").is_file()), None
            )
            if path is not None:
                found[name] = [_point(json.loads(line)) for line in path.read_text().splitlines()]
    return found


def _point(line: Mapping[str, Any]) -> dict[str, Any]:
    wanted = ("step", "loss", "mean_psnr_db", "histospline_mean_psnr_db")
    return {key: line[key] for key in wanted if key in line}


def _provenance(output: Path, plan: Plan, manifest_name: str) -> dict[str, Any]:
    folders = [
        output / "models" / f"{network}-seed{seed}"
        for network in plan.training
        for seed in plan.seeds
    ]
    codes = {read_sidecar(f)["code"]["digest"] for f in folders if f.is_dir()}
    return {
        "version": package_version(),
        "commit": commit(),
        "training_code": sorted(codes),
        "libraries": library_versions(),
        "command": _command(plan, manifest_name),
    }


def _command(plan: Plan, manifest_name: str) -> str:
    settings = plan.settings
    flags = [f"--seeds {settings.seeds}"]
    flags += [f"--networks {name}" for name in settings.networks]
    flags += [f"--seconds {settings.seconds:g}"] if settings.seconds else []
    flags += [] if settings.margin_mm is None else [f"--margin-mm {settings.margin_mm:g}"]
    flags += [f"--phases {settings.phases}"] if settings.phases > 1 else []
    flags += [f"--{name} {getattr(settings, name)}" for name in ("reports", "validations")]
    flags += [f"--models {model_name(name)}" for name in settings.models]
    one = next(iter(plan.training.values()))
    skipped = {"network", "seed", "report_interval", "validation_interval"}
    skipped |= {"steps"} if settings.seconds else set()
    defaults = type(one)().model_dump(mode="json")
    for name, value in one.model_dump(mode="json").items():
        if name not in skipped and value != defaults[name]:
            plain = Path(value).name if name == "profile" else value
            flags.append(f"--training.{name.replace('_', '-')} {plain}")
    flags += [f"--training.seed {plan.first_seed}"] if plan.first_seed else []
    return " ".join(["ct2flow train compare", manifest_name, "--output DIR", *flags])
