"""Restore a scanner's own thick slices, by networks trained on its fitted profile and on a box.

    ct2flow ingest philips-skull-phantom-1mm --output thin.nii.gz
    ct2flow ingest philips-skull-phantom-5mm --output thick.nii.gz
    ct2flow ingest visible-human-female-head/VHF_head_HU_reconstructed.nrrd --output head.nii.gz
    python benchmarks/real_thick_slices.py --thin thin.nii.gz --thick thick.nii.gz --train head.nii.gz \
        --work work --output docs/real_thick_slices.md

The networks learn from the head and from phantoms made here; the profile is fitted on the lower half of
the pair, and everything is judged on the upper half. What lies in the work folder is not made again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.core.volume import Volume, read_volume, write_volume
from stages.super_resolution.baselines import BASELINES, restore_baseline
from stages.super_resolution.cases import read_taps
from stages.super_resolution.consistency import make_consistent
from stages.super_resolution.degradation import degrade
from stages.super_resolution.layout import Layout
from stages.super_resolution.model_io import load_model
from stages.super_resolution.restoration import Arithmetic
from stages.super_resolution.validation import psnr_db, wall_band
from stages.super_resolution.volume_restoration import Restorer, restore_stack

FACTOR = 5
OBJECT_HU = -500.0
PHANTOMS = ((401, "train"), (402, "train"), (403, "validation"))
MARGIN = 1
"""Thick slices at the end of the stack that are not judged: their profile leaves the thin series."""
PLACES = ("all", "object", "walls", "simulated: all", "object", "walls")
VARIANTS = {
    "box": ("box", False),
    "box, made to agree": ("box", True),
    "fitted": ("fitted", False),
    "fitted, made to agree": ("fitted", True),
}

TEXT = """# A scanner's own thick slices

Made by `python benchmarks/real_thick_slices.py`; its first lines show the whole command.

`philips-skull-phantom` is one scan reconstructed twice: {thin} slices of 1 mm and {count} of 5 mm. The 5 mm
slices are restored to 1 mm and compared with the 1 mm series. No network here has seen the skull;
the shipped one, which learnt from it, takes no part. All are the same U-Net (width {width}, depth 4, three
thick slices in), trained for {steps} steps of 8 patches of 64 x 64 on
{cases}, whose thick slices are made by a box of five or by the profile that
`ct2flow triplets fit-profile` finds on the lower half of the pair ({taps} taps). All are judged on the upper
half, thick slices {first} to {last}, which did not serve the fit.

PSNR in dB, HU clipped to [-1024, 3071], range 4095, error pooled over {judged} thin slices: all pixels, the
object (above {object:.0f} HU), and the walls (within two pixels of an air-tissue edge inside the body).
"Simulated" is the same upper half degraded in the program by the box: what a study reports that never sees a
scanner's thick slice. Networks: mean over {seeds} seeds and half their range.

"""


def command(*words: object) -> None:
    print("ct2flow", *words, file=sys.stderr, flush=True)
    found = subprocess.run(
        ["ct2flow", *map(str, words)], check=False, capture_output=True, text=True
    )
    if found.returncode:
        sys.exit(found.stderr)


def crop(source: Path, target: Path, first: int, last: int) -> Path:
    """Write a range of slices of a volume, in its place."""
    if not target.is_file():
        volume = read_volume(source)
        origin = volume.grid.to_world_mm(np.array([first, 0.0, 0.0]))
        values = volume.values[first:last]
        grid = volume.grid.__class__(
            values.shape, volume.grid.spacing_mm, tuple(map(float, origin)), volume.grid.axes
        )
        write_volume(target, Volume(values, grid))
    return target


def fit_profile(thin: Path, thick: Path, work: Path) -> Path:
    """Fit the profile on the lower half of the pair."""
    count = read_volume(thick).grid.shape[0] // 2
    halves = [
        crop(thin, work / "thin-lower.nii.gz", 0, FACTOR * count),
        crop(thick, work / "thick-lower.nii.gz", 0, count),
    ]
    fitted = work / "fitted.json"
    if not fitted.is_file():
        command(
            "triplets",
            "fit-profile",
            "--thin",
            halves[0],
            "--thick",
            halves[1],
            "--output",
            fitted,
        )
    return fitted


def named(volume: Path) -> str:
    return volume.name.split(".")[0]


def training_data(heads: list[Path], work: Path) -> Path:
    """Make the phantoms and list them beside the heads."""
    lines = ["case,patient,role,source,path,licence"]
    for head in heads:
        (work / head.name).unlink(missing_ok=True)
        (work / head.name).symlink_to(head.resolve())
        lines.append(f"{named(head)},{named(head)},train,volume,{head.name},as its source")
    for seed, role in PHANTOMS:
        volume = work / f"phantom-{seed}.nii.gz"
        if not volume.is_file():
            series = work / f"phantom-{seed}"
            size = 144 if role == "validation" else 256
            words = ["--seed", seed, "--matrix", size, "--centre-y-mm", -20, "--noise-hu", 8]
            command("phantom", "dicom", "--output", series, *words, "--overwrite")
            command("ingest", series, "--output", volume)
        lines.append(f"phantom-{seed},phantom-{seed},{role},volume,{volume.name},BSD-3-Clause")
    manifest = work / "manifest.csv"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def trained(
    manifest: Path, profile: str, seed: int, *, consistent: bool, options: argparse.Namespace
) -> Path:
    """Train one network, unless it lies there."""
    kind, work = Path(profile).stem, options.work
    name = f"{kind}-{'agreeing' if consistent else 'free'}-w{options.width}-{options.steps}-{seed}"
    if not (work / name).is_dir():
        command(
            *("train", manifest, "--output", work / name),
            *("--factor", FACTOR, "--profile", profile),
            "--consistent" if consistent else "--no-consistent",
            *("--width", options.width, "--steps", options.steps, "--patch", 64, "--seed", seed),
            *(
                "--validation-slices",
                4,
                "--validation-interval",
                200,
                "--threads",
                options.threads,
            ),
        )
    return work / name


def regions_of(truth: np.ndarray) -> list[np.ndarray]:
    """Mark all pixels, the object and the walls."""
    walls = wall_band(truth[:, None])[:, 0]
    return [np.ones_like(walls), truth > OBJECT_HU, walls]


def scores(found: np.ndarray, truth: np.ndarray, regions: list[np.ndarray]) -> list[float]:
    error = np.square(found.clip(-1024, 3071) - truth, dtype=np.float64)
    return [psnr_db(float(error[where].mean())) for where in regions]


def judge(options: argparse.Namespace) -> list[tuple[str, np.ndarray]]:
    """Return the scores of every method, (measured or simulated, seed, region)."""
    thin, thick = read_volume(options.thin).values, read_volume(options.thick).values
    taps = read_taps(str(fit_profile(options.thin, options.thick, options.work)))
    manifest = training_data(options.train, options.work)
    half = slice(len(thick) // 2, len(thick) - MARGIN)
    upper = slice(FACTOR * half.start, FACTOR * half.stop)
    truth = thin[upper].clip(-1024, 3071).astype(np.float32)
    regions = regions_of(truth)
    stacks = [thick, degrade(thin, np.full(FACTOR, 1 / FACTOR), FACTOR)]
    agreeing = Layout(FACTOR, 3, "fitted", taps=taps, consistent=True)

    def row(
        name: str, restorations: list[Callable[[np.ndarray], np.ndarray]]
    ) -> tuple[str, np.ndarray]:
        found = np.array(
            [[scores(r(s)[upper], truth, regions) for r in restorations] for s in stacks]
        )
        print(name, found.mean(axis=1).round(2).tolist(), file=sys.stderr, flush=True)
        return name, found

    rows = [
        row(name, [lambda s, name=name: restore_baseline(s, name, factor=FACTOR)])
        for name in BASELINES
    ]
    rows.append(
        row(
            "histospline, made to agree under the fitted profile",
            [
                lambda s: make_consistent(
                    restore_baseline(s, "histospline", factor=FACTOR), s, agreeing
                )
            ],
        )
    )
    fitted = str(options.work / "fitted.json")
    for name, (profile, consistent) in VARIANTS.items():
        source = fitted if profile == "fitted" else profile
        folders = [
            trained(manifest, source, seed, consistent=consistent, options=options)
            for seed in range(options.seeds)
        ]
        models = [load_model(folder) for folder in folders]
        rows.append(
            row(
                f"U-Net, trained on {name}",
                [
                    lambda s, m=m: (
                        restore_stack(s, Restorer("network", FACTOR, m, Arithmetic())).values
                    )
                    for m in models
                ],
            )
        )
    return rows


def page(options: argparse.Namespace, rows: list[tuple[str, np.ndarray]]) -> str:
    thick = read_volume(options.thick).grid.shape[0]
    first, last = thick // 2, thick - MARGIN - 1
    text = TEXT.format(
        thin=read_volume(options.thin).grid.shape[0],
        count=thick,
        width=options.width,
        steps=options.steps,
        cases=f"{len(options.train)} real head(s) and {len(PHANTOMS) - 1} phantoms",
        taps=len(read_taps(str(options.work / "fitted.json"))),
        first=first,
        last=last,
        judged=FACTOR * (last - first + 1),
        object=OBJECT_HU,
        seeds=options.seeds,
    )
    lines = [
        "| | " + " | ".join(PLACES) + " |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in rows:
        mean = found.mean(axis=1).ravel()
        spread = 0.5 * np.ptp(found, axis=1).ravel()
        many = found.shape[1] > 1
        cells = [
            f"{m:.2f} ± {s:.2f}" if many else f"{m:.2f}" for m, s in zip(mean, spread, strict=True)
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return text + "\n".join([*lines, "", *verdict(dict(rows))]) + "\n"


def verdict(rows: dict[str, np.ndarray]) -> list[str]:
    """Say what the fitted profile is worth; what the seeds' ranges cover is a tie."""
    lines = ["The fitted profile instead of the box, in dB:", ""]
    for kind in ("", ", made to agree"):
        box, fitted = (rows[f"U-Net, trained on {name}{kind}"] for name in ("box", "fitted"))
        gain = (fitted.mean(axis=1) - box.mean(axis=1)).ravel()
        spread = 0.5 * (np.ptp(box, axis=1) + np.ptp(fitted, axis=1)).ravel()
        said = [
            f"{place} {g:+.2f}" + (" (a tie)" if abs(g) <= s else "")
            for place, g, s in zip(PLACES, gain, spread, strict=True)
        ]
        lines.append(f"- networks{kind}: {', '.join(said)}.")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--thin", type=Path, required=True, help="the scanner's thin slices")
    parser.add_argument("--thick", type=Path, required=True, help="its thick slices of the scan")
    parser.add_argument("--train", type=Path, action="append", required=True, help="thin slices")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder of what is made on the way"
    )
    parser.add_argument("--output", type=Path)
    parser.add_argument("--width", type=int, default=12)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    text = page(options, judge(options))
    if options.output:
        options.output.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
