"""Read a series of 512 x 512 slices with ct2flow, SimpleITK and dcm2niix, in one run.

    python benchmarks/read_series.py [--slices 500] [--packed]

Each reader is a program of its own that reads the folder and writes a NIfTI file without
compression; time is the least of three runs after one that fills the file cache, memory is the
largest resident set. "decode alone" is pydicom decoding each file in turn: the floor of any
reader in Python. The series is made anew from noise, so that nothing compresses away.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "stages" / "ingest"))

from ct_series import Series, set_pixels
from pydicom.dataset import FileDataset
from pydicom.uid import RLELossless

REPEATS = 3
SIMPLEITK = """
import sys, SimpleITK
reader = SimpleITK.ImageSeriesReader()
reader.SetFileNames(reader.GetGDCMSeriesFileNames(sys.argv[1]))
SimpleITK.WriteImage(reader.Execute(), sys.argv[2])
"""
DECODE = """
import sys, pathlib, pydicom
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    pydicom.dcmread(path).pixel_array
"""


def make_series(folder: Path, slices: int, *, packed: bool) -> Path:
    rng = np.random.default_rng(7)
    noise = rng.normal(0, 20, (8, 512, 512))

    def fill(dataset: FileDataset, k: int) -> None:
        y, x = np.mgrid[-1:1:512j, -1:1:512j]
        head = np.where(x**2 + y**2 < 0.6, 40.0, -1000.0) + noise[k % 8]
        set_pixels(dataset, np.clip(np.rint(head), -1024, 3071))
        if packed:
            dataset.compress(RLELossless)

    pixel = (0.45, 0.45)
    return Series(slices, 0.625, 8, 8, pixel, change=fill).write(folder / "series")


def commands(series: Path, out: Path) -> dict[str, list[str]]:
    here = Path(sys.executable).parent
    target = str(out / "case.nii")
    return {
        "ct2flow": [str(here / "ct2flow"), "ingest", str(series), "--output", target],
        "SimpleITK": [sys.executable, "-c", SIMPLEITK, str(series), target],
        "dcm2niix": [
            *(str(here / "dcm2niix"), "-b", "n", "-z", "n", "-f", "case"),
            *("-o", str(out), str(series)),
        ],
        "decode alone": [sys.executable, "-c", DECODE, str(series)],
    }


def measure(command: list[str]) -> tuple[float, float]:
    """Run a program; return its seconds and its largest resident set in MiB."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command[0]} ended with status {status}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=500)
    parser.add_argument("--packed", action="store_true", help="run-length encoded")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        series = make_series(Path(folder), options.slices, packed=options.packed)
        figures: dict[str, list[tuple[float, float]]] = {}
        for round_ in range(REPEATS + 1):
            out = Path(folder) / f"out{round_}"
            out.mkdir()
            for name, command in commands(series, out).items():
                figures.setdefault(name, []).append(measure(command))
                for path in out.iterdir():
                    path.unlink()
    best = {name: min(seconds for seconds, _ in runs[1:]) for name, runs in figures.items()}
    peak = {name: max(memory for _, memory in runs) for name, runs in figures.items()}
    print(f"{options.slices} slices of 512 x 512, {'RLE' if options.packed else 'uncompressed'}")
    print("| reader | seconds | time / SimpleITK's | peak MiB | memory / SimpleITK's |")
    print("|---|---|---|---|---|")
    for name in figures:
        ratios = best[name] / best["SimpleITK"], peak[name] / peak["SimpleITK"]
        print(
            f"| {name} | {best[name]:.2f} | {ratios[0]:.2f} | {peak[name]:.0f} | {ratios[1]:.2f} |"
        )


if __name__ == "__main__":
    main()
