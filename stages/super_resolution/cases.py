"""The files of a training: the manifest's cases, their volumes, and a fitted slice profile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.core.artefacts import digest, read_json
from pipeline.core.errors import InputError
from pipeline.core.manifests import Case, read_manifest
from pipeline.core.volume import Volume, read_volume
from stages.super_resolution.settings import PROFILES, TrainingSettings

_FITTED_FORMAT = 1
_MOST_TAPS = 255


@dataclass(frozen=True)
class TrainingCase:
    """Hold a case of the manifest with the file it lies in."""

    case: Case
    path: Path
    sha256: str

    def record(self) -> dict[str, str]:
        """Return what a model's description says about the case."""
        known = self.case.model_dump(include={"case", "patient", "role", "licence"})
        return {**known, "sha256": self.sha256}


def find_cases(manifest: Path, root: Path) -> list[TrainingCase]:
    """List the training and validation cases with their files.

    Raises
    ------
    InputError
        If there is no training case, or a case is no NIfTI volume or is not there.
    """
    cases = [case for case in read_manifest(manifest).cases if case.role != "test"]
    if not any(case.role == "train" for case in cases):
        raise InputError(
            f"{manifest.name}: has no case of role train; needed is one at least; add one.",
            path=manifest,
        )
    found = []
    for case in cases:
        path = root / case.path
        if case.source != "volume" or not case.path.endswith((".nii", ".nii.gz")):
            raise InputError(
                f"{manifest.name}: case {case.case} is of source {case.source} and no NIfTI "
                "volume; run 'ct2flow manifest prepare' on the manifest first.",
                case=case.case,
            )
        if not path.is_file():
            raise InputError(
                f"{manifest.name}: the volume of case {case.case} is not there; run 'ct2flow "
                "manifest prepare' or correct --data-root.",
                case=case.case,
            )
        found.append(TrainingCase(case, path, digest(path)))
    return found


def read_case(case: TrainingCase, settings: TrainingSettings) -> Volume:
    """Read the thin slices of a case, whole HU.

    Raises
    ------
    InputError
        If it holds values that are not finite, or too few slices.
    """
    volume = read_volume(case.path)
    check_finite(volume, case.path)
    needed = settings.factor * 2
    if volume.grid.shape[0] < needed:
        raise InputError(
            f"Case {case.case.case}: has {volume.grid.shape[0]} slices, needed are {needed} or "
            "more; leave it out.",
            case=case.case.case,
        )
    if volume.values.dtype.itemsize <= 2:
        return volume
    limits = np.iinfo(np.int16)
    whole = np.rint(volume.values.astype(np.float32)).clip(limits.min, limits.max)
    return volume.with_values(whole.astype(np.int16))


def check_finite(volume: Volume, path: Path) -> None:
    """Refuse a volume with holes.

    Raises
    ------
    InputError
        If it holds values that are not finite.
    """
    if volume.values.dtype.kind == "f" and not np.isfinite(volume.values).all():
        raise InputError(
            f"{path.name}: holds values that are not finite; set them to -1024 HU first.",
            path=path,
        )


def read_taps(profile: str) -> tuple[float, ...]:
    """Return the taps of a fitted profile, of sum 1; none for a named one.

    Parameters
    ----------
    profile
        A profile's name, or the path of a file made by 'ct2flow triplets fit-profile'.

    Raises
    ------
    InputError
        If the file is unusable.
    """
    if profile in PROFILES:
        return ()
    path = Path(profile)
    content = read_json(path)
    try:
        taps = np.array(content["taps"], dtype=np.float64)
        usable = content["format"] == _FITTED_FORMAT and taps.ndim == 1 and len(taps) % 2 == 1
        usable = usable and 1 < len(taps) <= _MOST_TAPS and bool(np.isfinite(taps).all())
        usable = usable and abs(taps.sum() - 1.0) <= 0.01
    except (KeyError, TypeError, ValueError, OverflowError):
        usable = False
    if not usable:
        raise InputError(
            f'{path.name}: is no fitted profile; needed is {{"format": 1, "taps": [an odd number '
            "of weights that sum to 1]}, as 'ct2flow triplets fit-profile' writes it.",
            path=path,
        )
    return tuple(float(tap) for tap in taps / taps.sum())
