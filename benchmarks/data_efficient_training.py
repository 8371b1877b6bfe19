"""Biased against uniform sampling at equal budgets, and what phantoms and real heads teach.

    python benchmarks/data_efficient_training.py prepared/manifest.csv docs/data_efficient_training.md
    python benchmarks/data_efficient_training.py prepared/manifest.csv out.md --steps 60 --seeds 2

The manifest is a prepared one (`ct2flow manifest prepare`) with cases to train, to validate and to
test. Of each volume the box with most airway wall is taken, about the nose. One thread; budgets are
counted in optimiser steps and in processor seconds. About fifteen minutes on one core.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage, stats

from pipeline.core.artefacts import read_json
from pipeline.core.manifests import Case, Manifest, read_manifest, write_manifest
from pipeline.core.volume import Volume, read_volume, write_volume
from stages.super_resolution.model_io import load_model
from stages.super_resolution.settings import TrainingSettings
from stages.super_resolution.training_stage import train
from stages.super_resolution.validation import prepare_validation, validate, wall_band

BOX_MM = (60.0, 100.0, 100.0)
STEPS, SEEDS = 800, 3
SETTINGS = TrainingSettings(
    width=8,
    depth=3,
    patch=64,
    report_interval=20,
    validation_interval=100,
    precision="float32",
    device="cpu",
    threads=1,
)
PHANTOM = "phantom-"
UNIFORM, BIASED, SAME_SECONDS = "uniform", "by importance", "uniform, same seconds"
PHANTOMS, REAL, BOTH = "phantoms only", "real only", "both"

TEXT = """# Data-efficient training: biased sampling, and what phantoms teach

Made by `{command}`.

A U-Net of width {width} and depth {depth}, {steps} steps of {batch} patches of {patch} x {patch}, x3,
box; the default settings otherwise. Of every volume the box of {box} mm (z, y, x) with most airway wall is
taken, about the nose. Training: {training}, which may favour its own kind. Test, never trained on or chosen
by: {test}; every thick slice of the box. PSNR in dB over 4095 HU; "walls" is within two pixels of an
air-tissue edge inside the body. Mean and standard deviation over {seeds} seeds (weights, patches and
augmentation).

## Biased against uniform sampling

After {warmup} uniform steps the importance of {candidates} patches is measured once (their mean error at
the airway wall) and the rest of the steps draws them in proportion to it, {share:.0%} of the draws alike
(`ct2flow train --sampling importance`, `stages/super_resolution/importance.py`). "uniform, same seconds" is
a training of its own whose steps make up for the seconds that the measurement took.

"""


@dataclass(frozen=True)
class Trained:
    """Hold what a training cost and what it restored."""

    steps: int
    seconds: float
    psnr_db: Mapping[str, float]
    wall_psnr_db: Mapping[str, float]
    effective_share: float | None


def nose_box(volume: Volume) -> Volume:
    """Return the box of a volume that holds most airway wall."""
    walls = wall_band(volume.values[:, None].astype(np.float32))[:, 0]
    shape = [
        min(n, round(length / s))
        for n, length, s in zip(volume.grid.shape, BOX_MM, volume.grid.spacing_mm, strict=True)
    ]
    density = ndimage.uniform_filter(walls.astype(np.float32), shape, mode="constant")
    centre = np.unravel_index(density.argmax(), density.shape)
    start = [
        int(np.clip(c - n // 2, 0, total - n))
        for c, n, total in zip(centre, shape, volume.grid.shape, strict=True)
    ]
    cut = tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))
    x, y, z = volume.grid.to_world_mm(np.array(start, dtype=np.float64)).tolist()
    grid = replace(volume.grid, shape=tuple(shape), origin_mm=(x, y, z))
    return Volume(np.ascontiguousarray(volume.values[cut]), grid)


def cut_boxes(manifest: Path, folder: Path) -> tuple[Case, ...]:
    """Write the box of every case and return the cases that lie there."""
    cases = []
    for case in read_manifest(manifest).cases:
        name = f"{case.case}.nii.gz"
        write_volume(folder / name, nose_box(read_volume(manifest.parent / case.path)))
        kept = {"case", "patient", "role", "licence"}
        cases.append(Case(source="volume", path=name, **case.model_dump(include=kept)))
        print(f"cut {case.case}", flush=True)
    return tuple(cases)


def run_training(
    cases: Sequence[Case], folder: Path, settings: TrainingSettings, tests: Sequence[Case]
) -> Trained:
    """Train on cases of the folder and restore the tests."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        manifest, output = Path(work) / "manifest.csv", Path(work) / "model"
        write_manifest(manifest, Manifest(tuple(cases)))
        start = time.process_time()
        train(manifest, output, settings, data_root=folder)
        seconds = time.process_time() - start
        model = load_model(output)
        metrics = read_json(output / "model.json")["metrics"]
    judged = [
        prepare_validation(c.case, read_volume(folder / c.path), model, slices=10_000)
        for c in tests
    ]
    scores = validate(model, judged, tile=768, precision="float32", device="cpu")
    for case in judged:
        scores |= {f"{case.case} (histospline)": case.histospline}
    share = metrics.get("importance", {}).get("effective_share")
    return Trained(
        settings.steps,
        seconds,
        {name: score.psnr_db for name, score in scores.items()},
        {name: score.wall_psnr_db or np.nan for name, score in scores.items()},
        share,
    )


def compare_sampling(
    run: Callable[[TrainingSettings], Trained],
    settings: TrainingSettings,
    uniform: Sequence[Trained],
) -> dict[str, list[Trained]]:
    """Train biased, and uniformly for as many processor seconds, beside uniform trainings."""
    found: dict[str, list[Trained]] = {UNIFORM: list(uniform), BIASED: [], SAME_SECONDS: []}
    for seed, control in enumerate(uniform):
        seeded = settings.model_copy(update={"seed": seed})
        biased = run(seeded.model_copy(update={"sampling": "importance"}))
        steps = round(settings.steps * max(1.0, biased.seconds / control.seconds))
        longer = run(seeded.model_copy(update={"steps": steps}))
        for name, trained in ((BIASED, biased), (SAME_SECONDS, longer)):
            found[name].append(trained)
            print(f"seed {seed} {name}: {trained}", flush=True)
    return found


def result_table(found: Mapping[str, list[Trained]]) -> list[str]:
    """Write one line per kind of training and test case group."""
    names = list(next(iter(found.values()))[0].psnr_db)
    tests = [name for name in names if "(histospline)" not in name]
    lines = [
        "| training | steps | processor s | "
        + " | ".join(f"{test} | walls" for test in tests)
        + " |",
        "|---|---|---|" + "---|---|" * len(tests),
    ]
    some = next(iter(found.values()))[0]
    cells = [
        f"{some.psnr_db[f'{t} (histospline)']:.2f} | {some.wall_psnr_db[f'{t} (histospline)']:.2f}"
        for t in tests
    ]
    lines.append("| histospline | | | " + " | ".join(cells) + " |")
    for kind, runs in found.items():
        cells = [
            f"{_spread([r.psnr_db[t] for r in runs])} | {_spread([r.wall_psnr_db[t] for r in runs])}"
            for t in tests
        ]
        steps = np.mean([r.steps for r in runs])
        seconds = np.mean([r.seconds for r in runs])
        lines.append(f"| {kind} | {steps:.0f} | {seconds:.0f} | " + " | ".join(cells) + " |")
    return lines


def verdict(found: Mapping[str, list[Trained]], one: str, other: str) -> list[str]:
    """Say, from pairs of equal seed, where a kind of training is better than another.

    A difference counts where it is beyond Student's 95 % interval of its mean.
    """
    lines = [
        f"{one} minus {other}, pairs of seeds, dB:",
        "",
        "| test | all | walls |",
        "|---|---|---|",
    ]
    for test in (n for n in found[one][0].psnr_db if "(histospline)" not in n):
        pairs = list(zip(found[one], found[other], strict=True))
        everywhere = [a.psnr_db[test] - b.psnr_db[test] for a, b in pairs]
        walls = [a.wall_psnr_db[test] - b.wall_psnr_db[test] for a, b in pairs]
        lines.append(f"| {test} | {_difference(everywhere)} | {_difference(walls)} |")
    return [*lines, ""]


def _difference(gains: Sequence[float]) -> str:
    mean, count = float(np.mean(gains)), len(gains)
    if count < 2:
        return f"{mean:+.2f} (one seed)"
    half = float(stats.t.ppf(0.975, count - 1) * np.std(gains, ddof=1) / np.sqrt(count))
    word = "a tie" if abs(mean) <= half else "better" if mean > 0 else "worse"
    return f"{mean:+.2f} ± {half:.2f} ({word})"


def _spread(values: Sequence[float]) -> str:
    spread = np.std(values, ddof=1) if len(values) > 1 else np.nan
    return f"{np.mean(values):.2f} ± {spread:.2f}"


def teach(
    run: Callable[[Sequence[Case], TrainingSettings], Trained],
    cases: Sequence[Case],
    settings: TrainingSettings,
    seeds: int,
) -> dict[str, list[Trained]]:
    """Train on phantoms, on the other cases, and on both, at the same number of steps."""
    judges = [case for case in cases if case.role == "validation"]
    training = [case for case in cases if case.role == "train"]
    sources = {
        PHANTOMS: [c for c in training if c.case.startswith(PHANTOM)],
        REAL: [c for c in training if not c.case.startswith(PHANTOM)],
        BOTH: training,
    }
    found: dict[str, list[Trained]] = {name: [] for name in sources}
    for seed in range(seeds):
        for name, chosen in sources.items():
            trained = run([*chosen, *judges], settings.model_copy(update={"seed": seed}))
            found[name].append(trained)
            print(f"seed {seed} {name}: {trained}", flush=True)
    return found


def head_text(cases: Sequence[Case], settings: TrainingSettings, command: str, seeds: int) -> str:
    by_role = {
        role: ", ".join(c.case for c in cases if c.role == role)
        for role in ("train", "validation", "test")
    }
    return TEXT.format(
        command=command,
        width=settings.width,
        depth=settings.depth,
        steps=settings.steps,
        batch=settings.batch_size,
        patch=settings.patch,
        box=" x ".join(f"{length:.0f}" for length in BOX_MM),
        training=f"{by_role['train']}; the best weights chosen on {by_role['validation']}",
        test=by_role["test"],
        seeds=seeds,
        warmup=settings.importance_warmup_steps,
        candidates=settings.importance_candidates,
        share=settings.importance_uniform_share,
    )


def body_text(sampled: Mapping[str, list[Trained]], taught: Mapping[str, list[Trained]]) -> str:
    shares = [run.effective_share for run in sampled[BIASED]]
    compared = [verdict(sampled, BIASED, other) for other in (UNIFORM, SAME_SECONDS)]
    helped = all("better" in line for table in compared for line in table[4:-1])
    lines = [
        *result_table(sampled),
        "",
        f"The biased draws spread as {np.mean(shares):.0%} of the candidates would, drawn alike. "
        "± in the tables below is Student's 95 % interval of the mean difference.",
        "",
        *[line for table in compared for line in table],
        "**Importance sampling "
        + ("helped** everywhere." if helped else "did not help** beyond the spread: ")
        + ("" if helped else "uniform sampling stays the default."),
        "",
        "## Does training on phantoms help on a real head?",
        "",
        "The same number of steps on the phantoms, on the other training cases (a cadaver whose nose "
        "has collapsed, and a plastic skull), and on both, each volume drawn equally often.",
        "",
        *result_table(taught),
        "",
        *verdict(taught, PHANTOMS, REAL),
        *verdict(taught, BOTH, REAL),
        *verdict(taught, BOTH, PHANTOMS),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = SETTINGS.model_copy(update={"steps": options.steps})
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        cases = cut_boxes(options.manifest, folder)
        tests = [case for case in cases if case.role == "test"]
        learning = [case for case in cases if case.role != "test"]
        taught = teach(
            lambda chosen, s: run_training(chosen, folder, s, tests),
            learning,
            settings,
            options.seeds,
        )
        sampled = compare_sampling(
            lambda s: run_training(learning, folder, s, tests), settings, taught[BOTH]
        )
    command = f"python benchmarks/{Path(__file__).name} prepared/{options.manifest.name} FILE"
    text = head_text(cases, settings, command, options.seeds) + body_text(sampled, taught)
    options.output.write_text(text)


if __name__ == "__main__":
    main()
