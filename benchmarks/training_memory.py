"""Measure a training's peak memory with two and with eight patients.

    python benchmarks/training_memory.py phantom.nii.gz

Each training is a process of its own. The patients are copies of one volume.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

MIB_PER_KIB = 1 / 1024
COUNTS = (2, 8)
STEPS = 40


def write_cases(volume: Path, count: int, folder: Path) -> Path:
    """Write a manifest of copies of a volume, each another patient's."""
    lines = ["case,patient,role,source,path"]
    for index in range(count):
        (folder / f"copy-{index}.nii.gz").symlink_to(volume.resolve())
        lines.append(f"copy-{index},patient-{index},train,volume,copy-{index}.nii.gz")
    path = folder / "manifest.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def measure(volume: Path, count: int) -> dict[str, float]:
    """Train a little and return the peak of this process, and what the volumes hold, MiB."""
    from pipeline.core.volume import read_volume
    from stages.super_resolution.settings import TrainingSettings
    from stages.super_resolution.training_stage import train

    settings = TrainingSettings(
        width=8, depth=3, patch=64, steps=STEPS, precision="float32", device="cpu", threads=1
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train(write_cases(volume, count, folder), folder / "model", settings)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MIB_PER_KIB
    voxels = 2 * read_volume(volume).values.size / 2**20
    return {"peak_mib": peak, "volumes_mib": count * voxels}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("volume", type=Path)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.count:
        print(json.dumps(measure(options.volume, options.count)))
        return
    print("| patients | their volumes, MiB | peak of the process, MiB |\n|---|---|---|")
    for count in COUNTS:
        words = [sys.executable, __file__, str(options.volume), "--count", str(count)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        text = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        found = json.loads(text.stdout.splitlines()[-1])
        print(f"| {count} | {found['volumes_mib']:.0f} | {found['peak_mib']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
