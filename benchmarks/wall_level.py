"""Where must the wall be drawn for the right pressure loss? A phantom whose airway is known.

    python benchmarks/wall_level.py --seed 4 --levels -400 -480 out/wall_level

The truth is the iso-surface of a scan of 0.35 mm voxels without blur and noise; the same patient
scanned with 0.45 x 0.45 x 1 mm voxels, 0.9 mm blur and 14 HU of noise is cut at the same planes. All flows
run on the same lattice, so that its error is common. About ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

FINE = (
    *("--matrix", "460", "--pixel-mm", "0.35", "--slice-spacing-mm", "0.35"),
    *("--centre-y-mm", "-30", "--below-mm", "45", "--above-mm", "58"),
    *("--blur-mm", "0", "--noise-hu", "0"),
)


def ct2flow(*words: object) -> None:
    program = str(Path(sys.executable).parent / "ct2flow")
    subprocess.run([program, *map(str, words), "--overwrite"], check=True)


def surface(folder: Path, volume: Path, airway: Path, level: float, *more: object) -> Path:
    ct2flow(
        "surface", volume, "--airway", airway, "--output", folder, "--isolevel-hu", level, *more
    )
    return folder


def loss_pa(folder: Path, spacing_mm: float) -> float:
    flow = folder.with_name(folder.name + "-flow")
    ct2flow(
        *("simulate", folder, "--output", flow, "--flow-rate-ml-s", 250),
        *("--spacing-mm", spacing_mm, "--flow-throughs", 0.25),
    )
    return float(json.loads((flow / "flow.json").read_text())["pressure_loss"]["total_pa"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--levels", type=float, nargs="+", default=[-400.0, -480.0])
    parser.add_argument("--spacing-mm", type=float, default=0.5)
    options = parser.parse_args()
    out, seed = options.output, ("--seed", options.seed)
    scan, fine = out / "scan.nii.gz", out / "fine.nii.gz"
    ct2flow("phantom", "volume", *seed, "--output", scan)
    ct2flow("phantom", "volume", *seed, "--output", fine, *FINE)
    ct2flow("airway", scan, "--output", out / "airway")
    ct2flow("airway", fine, "--reference", out / "airway", "--output", out / "airway-fine")
    smooth = ("--spacing-mm", 0.35, "--smoothing-iterations", 0)
    true = surface(out / "true", fine, out / "airway-fine", -480.0, *smooth)
    reference = loss_pa(true, options.spacing_mm)
    print("| wall at, HU | total pressure loss, Pa | from the truth, % |\n|---|---|---|")
    print(f"| truth | {reference:.2f} | |")
    for level in options.levels:
        drawn = surface(out / f"at{level:g}", scan, out / "airway", level)
        loss = loss_pa(drawn, options.spacing_mm)
        print(f"| {level:g} | {loss:.2f} | {100 * (loss / reference - 1):+.1f} |", flush=True)


if __name__ == "__main__":
    main()
