"""Time a whole head from its volume to the SURFACE_DIR: `ct2flow airway`, then `ct2flow surface`.

    python benchmarks/head_speed.py [VOLUME.nii.gz] --threads 2

Without a volume a phantom head of 512 x 512 x 184 voxels is made first and not timed. Each command is a
process of its own, libraries' start included; memory is the process's peak. On a busy
machine the processor seconds say more.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel

PHANTOM = (
    *("--matrix", "512", "--pixel-mm", "0.45", "--slice-spacing-mm", "1.0"),
    *("--below-mm", "110", "--above-mm", "73"),
)
MIB_PER_KIB = 1 / 1024


def ct2flow(*words: object, threads: int) -> tuple[float, float, float]:
    """Run a command; return seconds, processor seconds and peak memory, MiB."""
    program = str(Path(sys.executable).parent / "ct2flow")
    environment = {
        **os.environ,
        **dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), str(threads)),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    start = time.perf_counter()
    process = subprocess.Popen(
        [program, *map(str, words)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        sys.exit(f"ct2flow {words[0]} failed.")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * MIB_PER_KIB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("volume", type=Path, nargs="?")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--surface-flags", nargs=argparse.REMAINDER, default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, threads = Path(name), options.threads
        volume = options.volume
        if volume is None:
            volume = folder / "head.nii.gz"
            ct2flow(
                "phantom", "volume", "--seed", 4, "--output", volume, *PHANTOM, threads=threads
            )
        airway, surface = folder / "airway", folder / "surface"
        steps = {
            "airway": ("airway", volume, "--output", airway),
            "surface": (
                *("surface", volume, "--airway", airway, "--output", surface),
                *options.surface_flags,
            ),
        }
        shape = " x ".join(map(str, nibabel.load(volume).shape))
        print(f"| {shape} | seconds | processor seconds | peak memory, MiB |\n|---|---|---|---|")
        found = {step: ct2flow(*words, threads=threads) for step, words in steps.items()}
        seconds, busy, memory = zip(*found.values(), strict=True)
        for step, row in (*found.items(), ("both", (sum(seconds), sum(busy), max(memory)))):
            print(f"| {step} | {row[0]:.1f} | {row[1]:.1f} | {row[2]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
