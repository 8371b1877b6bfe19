"""Volumes made in code: a head-like body with oblique air channels, and tiny trainings of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.core.geometry import VoxelGrid
from pipeline.core.volume import Volume, write_volume
from stages.super_resolution.settings import TrainingSettings

TINY = TrainingSettings(
    width=4,
    depth=2,
    steps=6,
    batch_size=2,
    patch=16,
    report_interval=2,
    validation_interval=4,
    validation_slices=2,
    precision="float32",
    device="cpu",
    threads=1,
)


def make_head(seed: int = 0, shape=(30, 48, 48), spacing_mm=(1.0, 0.8, 0.8)) -> Volume:
    """Return soft tissue in air, with a bone shell and oblique air channels; edges of 0.5 mm."""
    rng = np.random.default_rng(seed)
    grid = VoxelGrid(shape, spacing_mm, (-12.5, 7.25, 40.0))
    z, y, x = np.meshgrid(
        *[(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing_mm, strict=True)],
        indexing="ij",
    )
    extent = [n * s / 2 for n, s in zip(shape, spacing_mm, strict=True)]
    radius = np.sqrt((z / (2.0 * extent[0])) ** 2 + (y / extent[1]) ** 2 + (x / extent[2]) ** 2)
    distance = (1.0 - radius) * extent[1]
    values = -1000.0 + 1040.0 * _inside(distance - 2.0)
    values += 900.0 * _inside(1.0 - np.abs(distance - 5.0))
    points = np.stack([z, y, x], axis=-1)
    for _ in range(5):
        centre = rng.uniform(-0.4, 0.4, 3) * extent
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        offset = points - centre
        along = offset @ direction
        across = np.sqrt(np.maximum((offset**2).sum(-1) - along**2, 0.0))
        channel = _inside(rng.uniform(1.0, 2.5) - across) * _inside(8.0 - np.abs(along))
        values += (-1000.0 - values) * channel
    return Volume(np.rint(values).astype(np.int16), grid)


def write_manifest(folder: Path, shape=(30, 48, 48)) -> Path:
    """Write two training heads and a validation head with their manifest."""
    lines = ["case,patient,role,source,path,licence"]
    for seed, role in enumerate(("train", "train", "validation", "test")):
        write_volume(folder / f"head-{seed}.nii.gz", make_head(seed, shape))
        lines.append(f"head-{seed},patient-{seed},{role},volume,head-{seed}.nii.gz,CC0")
    path = folder / "manifest.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def _inside(distance_mm):
    return 0.5 * (1.0 + np.tanh(distance_mm / 0.5))
