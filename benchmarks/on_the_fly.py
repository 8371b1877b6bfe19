"""Fit a network to a part of a patient: is the rest restored better, and by which pairs?

    python benchmarks/on_the_fly.py pcir.nii.gz skull-1mm.nii.gz skull-5mm.nii.gz docs/on_the_fly.md

A real head with the shipped network, its thick slices simulated with a profile that the network
does not know; and a skull phantom that the scanner itself reconstructed at 1 and at 5 mm, with a
small network trained on box means of the head first. About five minutes on one core.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pipeline.core.artefacts import digest, read_json
from pipeline.core.volume import Volume, read_volume, write_volume
from stages.super_resolution.baselines import thin_grid
from stages.super_resolution.degradation import degrade, profile_taps
from stages.super_resolution.on_the_fly_stage import train_on_the_fly
from stages.super_resolution.settings import (
    OnTheFlySettings,
    RestorationSettings,
    TrainingSettings,
)
from stages.super_resolution.stage import SHIPPED_FOLDER, restore
from stages.super_resolution.training_stage import train
from stages.super_resolution.validation import psnr_db, wall_band

PIXELS = slice(120, 376)
SHARE = 0.4
SMALL = TrainingSettings(
    width=8, depth=3, patch=64, steps=400, factor=5, precision="float32", device="cpu", threads=1
)
FIT = OnTheFlySettings(precision="float32", device="cpu", threads=1)

TEXT = """# Fitting a network to a part of the patient

Made by `{command}`.

`ct2flow train on-the-fly THICK --region THIN --output MODEL_DIR --restored SR` fits a network (by
default the shipped one) to the thin slices of a part of a patient and restores the whole (Hendriksen
2019, doi:10.3390/app9122445). The region is brought onto the grid of the restored slices by means over
voxels; it must have the same orientation, slices no coarser than those wanted, and cover six thick
slices or more.

**Pairs.** `measured`: the region's thin slices with the thick slices that the scanner made above them;
the network learns the scanner's true slice profile, so its slices are no longer made to agree with the
profile that the model assumed. `simulated`: with thick slices made from the thin ones by the model's
profile. `auto` takes the measured ones unless they contradict the region: where it agrees better when
moved by a slice or a pixel, or explains less than half of them, the patient moved between the scans.
The last fifth of the region is never learnt from and chooses the weights; where the fit does not help
there, the model before is kept.

Below, the lowest {share:.0%} of the slices are the region and the others are scored: they are in no
fit. PSNR in dB over 4095 HU; "walls" is within two pixels of an air-tissue edge inside the body.
{steps} steps of {batch} patches of {patch} x {patch}; one seed. A small region is soon learnt by heart: few
steps at a small rate, few patches at walls, the statistics of batch normalisation kept, and the best step
taken by the held-out slices. Where nothing is gained the model before is kept, and scores are equal.
Shipped is the network whose weights have the sha256 {weights}.

| scan | model | pairs | all | walls |
|---|---|---|---|---|
"""


def crop(volume: Volume, rows: slice, columns: slice) -> Volume:
    x, y, z = volume.grid.to_world_mm(np.array([0.0, rows.start, columns.start])).tolist()
    values = np.ascontiguousarray(volume.values[:, rows, columns])
    return Volume(values, replace(volume.grid, shape=values.shape, origin_mm=(x, y, z)))


def first_slices(volume: Volume, count: int) -> Volume:
    grid = replace(volume.grid, shape=(count, *volume.grid.shape[1:]))
    return Volume(volume.values[:count], grid)


def simulate(thin: Volume, profile: str, factor: int) -> Volume:
    values = degrade(thin.values, profile_taps(profile, factor), factor)
    z, y, x = thin.grid.spacing_mm
    middle = thin.grid.to_world_mm(np.array([(factor - 1) / 2, 0.0, 0.0])).tolist()
    grid = replace(
        thin.grid,
        shape=values.shape,
        spacing_mm=(z * factor, y, x),
        origin_mm=(middle[0], middle[1], middle[2]),
    )
    return Volume(values, grid)


def score(restored: Path, truth: Volume, start: int) -> str:
    """Return PSNR of all and at the walls, of slices from one on, in two columns."""
    found = read_volume(restored)
    shift = np.rint(truth.grid.to_index(np.array(found.grid.origin_mm))).astype(int)[0]
    count = min(found.grid.shape[0], truth.grid.shape[0] - shift)
    true = truth.values[shift + start : shift + count].clip(-1024, 3071).astype(np.float64)
    error = np.square(found.values[start:count].clip(-1024, 3071) - true)
    walls = wall_band(true[:, None].astype(np.float32))[:, 0]
    return f"{psnr_db(float(error.mean())):.2f} | {psnr_db(float(error[walls].mean())):.2f}"


def compare(
    name: str, thin: Volume, thick: Volume, model: str, factor: int, folder: Path
) -> list[str]:
    """Return a line for each way to restore the rest of a scan."""
    work = Path(tempfile.mkdtemp(dir=folder))
    covered = round(SHARE * thick.grid.shape[0])
    target = thin_grid(thick.grid, factor)
    shift = np.rint(thin.grid.to_index(np.array(target.origin_mm))).astype(int)[0]
    write_volume(work / "thick.nii.gz", thick)
    write_volume(work / "region.nii.gz", first_slices(thin, shift + covered * factor))
    settings = RestorationSettings(factor=factor, precision="float32", device="cpu", threads=1)
    label = "shipped" if model == "shipped" else f"small, x{factor}"
    lines = []
    for method, shown in (("histospline", "histospline | none"), (model, f"{label} | none")):
        output = work / f"{Path(method).name}.nii.gz"
        restore(work / "thick.nii.gz", output, settings, model=method)
        lines.append(f"| {name} | {shown} | {score(output, thin, (covered + 1) * factor)} |")
    for pairs in ("simulated", "measured"):
        output = work / f"{pairs}.nii.gz"
        chosen = FIT.model_copy(update={"pairs": pairs})
        train_on_the_fly(
            work / "thick.nii.gz",
            work / pairs,
            chosen,
            region=work / "region.nii.gz",
            model=model,
            restored=output,
        )
        rms = read_json(work / pairs / "model.json")["metrics"]["agreement_rms_hu"]
        print(f"{name} {pairs}: thick slices agree to {rms} HU RMS", flush=True)
        lines.append(
            f"| {name} | {label} | {pairs} | {score(output, thin, (covered + 1) * factor)} |"
        )
    print("\n".join(lines), flush=True)
    return lines


def train_small(head: Volume, folder: Path) -> Path:
    """Train a small network x5 on box means of the head."""
    write_volume(folder / "head.nii.gz", head)
    (folder / "manifest.csv").write_text(
        "case,patient,role,source,path\nhead,head,train,volume,head.nii.gz\n"
    )
    train(folder / "manifest.csv", folder / "small", SMALL)
    return folder / "small"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("head", type=Path, help="thin slices of a head")
    parser.add_argument("thin", type=Path, help="a scan's thin slices of 1 mm")
    parser.add_argument("thick", type=Path, help="the same scan's own thick slices of 5 mm")
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    head = crop(read_volume(options.head), PIXELS, PIXELS)
    skull = [crop(read_volume(path), PIXELS, PIXELS) for path in (options.thin, options.thick)]
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        thick = simulate(head, "gaussian", 3)
        lines += compare("head, gaussian", head, thick, "shipped", 3, folder)
        small = str(train_small(head, folder))
        lines += compare("skull, the scanner's own", *skull, small, 5, folder)
    command = "python benchmarks/on_the_fly.py head.nii.gz skull-1mm.nii.gz skull-5mm.nii.gz FILE"
    text = TEXT.format(
        command=command,
        share=SHARE,
        steps=FIT.steps,
        batch=FIT.batch_size,
        patch=FIT.patch,
        weights=digest(SHIPPED_FOLDER / "weights.safetensors")[:12],
    )
    options.output.write_text(text + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
