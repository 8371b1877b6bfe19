"""Manifests of phantom patients: as many as wanted, each another anatomy on another scanner."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.core.artefacts import check_writable
from pipeline.core.errors import UsageError
from pipeline.core.manifests import Case, Manifest, write_manifest

_HIGHEST_SEED = 2**31 - 1
_RANGES = {
    "blur_mm": (0.8, 1.2),
    "sharpness": (0.0, 1.5),
    "noise_hu": (6.0, 30.0),
    "slice_spacing_mm": (0.7, 1.3),
}
"""Kernels from soft to bone, and the doses and thin slices of head CT."""
_MATRIX, _PIXELS_MM = 320, (0.4, 0.6)
_CENTRE_Y_MM = -20.0
"""The field of view lies about the nose: the rest of a head has few airways to learn from."""


def write_cohort(
    output: Path, count: int, *, first_seed: int, validation: int, overwrite: bool
) -> None:
    """Write a manifest of phantom patients; more of them leave the first ones as they are.

    Parameters
    ----------
    output
        CSV file to write.
    count
        Patients.
    first_seed
        Seed of the first patient; the others follow.
    validation
        Patients, the first ones, that choose the weights instead of being learnt from.
    overwrite
        Replace an existing output.

    Raises
    ------
    UsageError
        If the output exists, nobody is left to learn from, or there are not so many seeds.
    """
    if count <= validation:
        raise UsageError(
            f"--count {count}: with --validation {validation} nobody is left to learn from; give "
            f"--count {validation + 1} or more."
        )
    if first_seed + count - 1 > _HIGHEST_SEED:
        raise UsageError(
            f"--first-seed {first_seed}: seeds end at {_HIGHEST_SEED}; give a lower one."
        )
    check_writable(output, overwrite=overwrite)
    seeds = range(first_seed, first_seed + count)
    cases = (_case(s, "validation" if i < validation else "train") for i, s in enumerate(seeds))
    write_manifest(output, Manifest(tuple(cases)))


def _case(seed: int, role: str) -> Case:
    name = f"phantom-{seed}"
    return Case.model_validate(
        {
            "case": name,
            "patient": name,
            "role": role,
            "source": "phantom",
            "path": ",".join(f"{n}={v}" for n, v in _scan(seed).items()),
            "licence": "BSD-3-Clause",
        }
    )


def _scan(seed: int) -> dict[str, float]:
    """Draw a scanner's settings; the phantom draws its anatomy and contrast from the same seed."""
    rng = np.random.default_rng([seed, 1])
    drawn = {name: round(float(rng.uniform(*ends)), 2) for name, ends in _RANGES.items()}
    pixel_mm = round(float(rng.uniform(*_PIXELS_MM)), 3)
    fixed = {"matrix": _MATRIX, "centre_y_mm": _CENTRE_Y_MM, "pixel_mm": pixel_mm}
    return {"seed": seed, **fixed, **drawn}
