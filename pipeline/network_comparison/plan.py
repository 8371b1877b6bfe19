"""The plan of a comparison: what is trained and judged, for how many steps; written once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.artefacts import digest, read_json, write_json
from pipeline.core.errors import InputError, UsageError
from pipeline.core.manifests import Case, Manifest, read_manifest
from pipeline.core.progress import Progress
from pipeline.network_comparison.budget import planned, seconds_per_step, steps_of
from pipeline.network_comparison.settings import NetworkComparisonSettings
from stages.super_resolution.settings import PROFILES, TrainingSettings

PLAN_FORMAT = 1
PLAN = "plan.json"
BASELINES = ("lr", "linear", "spline", "histospline")
"""Methods without training; ``lr``, the thick slices themselves, has no image to compare."""
SHIPPED = "shipped"
_PER_NETWORK = ("network", "width", "depth", "network_settings")
_LOG = logging.getLogger("ct2flow.network_comparison")


@dataclass(frozen=True)
class Plan:
    """Hold what a comparison does.

    Parameters
    ----------
    settings
        Networks, seeds, budget, test region.
    training
        Settings of each network's training but for the seed.
    seconds_per_step
        Measured once per network: processor seconds, or seconds on a GPU.
    cases
        Test cases.
    first_seed
        Seed of the first training of each network.
    """

    settings: NetworkComparisonSettings
    training: Mapping[str, TrainingSettings]
    seconds_per_step: Mapping[str, float]
    cases: tuple[Case, ...]
    first_seed: int

    @property
    def phases(self) -> int:
        """Return at how many positions of the thick slices cases are judged."""
        return self.settings.phases

    @property
    def seeds(self) -> tuple[int, ...]:
        """Return the seeds of the trainings."""
        return tuple(self.first_seed + k for k in range(self.settings.seeds))


def make_plan(
    manifest: Path,
    output: Path,
    settings: NetworkComparisonSettings,
    training: TrainingSettings,
    *,
    data_root: Path,
) -> Plan:
    """Check manifest and settings, measure what a step costs, and write or re-read the plan.

    Raises
    ------
    InputError
        If the manifest lacks a role, or a volume is missing or of another kind.
    UsageError
        If a setting belongs to single networks, or the folder holds another comparison.
    """
    _check_settings(settings, training)
    _check_models(settings)
    known = read_manifest(manifest)
    _check_cases(manifest.name, known, data_root)
    asked = _asked(settings, training, known, data_root)
    path = output / PLAN
    if not path.is_file():
        output.mkdir(parents=True, exist_ok=True)
        draft = output / f".partial.{PLAN}"
        write_json(draft, _measured(asked, settings, training, known, data_root))
        draft.replace(path)
    return _as_plan(_same(path, asked), settings, training, known)


def _check_settings(settings: NetworkComparisonSettings, training: TrainingSettings) -> None:
    given = [name for name in _PER_NETWORK if name in training.model_fields_set]
    if given:
        raise UsageError(
            f"--training.{given[0].replace('_', '-')}: belongs to a single network; leave it out, "
            "choose networks with --networks.",
            setting=given[0],
        )
    if settings.phases > training.factor:
        raise UsageError(
            f"--phases {settings.phases}: thick slices of {training.factor} thin ones have as many "
            f"positions; give {training.factor} or fewer.",
            phases=settings.phases,
        )
    if training.stride not in (None, training.factor):
        raise UsageError(
            f"--training.stride {training.stride}: the training-free methods need thick slices "
            f"that follow one another; leave it out or give the factor {training.factor}.",
            stride=training.stride,
        )


def _check_models(settings: NetworkComparisonSettings) -> None:
    names: list[str] = []
    for source in settings.models:
        name = model_name(source)
        if source != SHIPPED and not (Path(source) / "model.json").is_file():
            raise InputError(
                f"--models {source}: is no MODEL_DIR (model.json is missing); give one made by "
                f"'ct2flow train', or '{SHIPPED}'.",
                model=source,
            )
        if name in {*BASELINES, *settings.chosen, *names}:
            raise UsageError(
                f"--models {source}: the name {name} is taken by another method; rename the "
                "folder.",
                model=source,
            )
        names.append(name)


def model_name(source: str) -> str:
    """Return the name of a model's rows and files: that of its folder."""
    return source if source == SHIPPED else Path(source).resolve().name


def _check_cases(name: str, manifest: Manifest, root: Path) -> None:
    for role in ("train", "test"):
        if not any(case.role == role for case in manifest.cases):
            raise InputError(
                f"{name}: has no case of role {role}; needed are train and test, one at least of "
                "each; add one.",
                role=role,
            )
    for case in manifest.cases:
        if case.source != "volume" or not case.path.endswith((".nii", ".nii.gz")):
            raise InputError(
                f"{name}: case {case.case} is of source {case.source} and no NIfTI volume; run "
                "'ct2flow manifest prepare' on the manifest first.",
                case=case.case,
            )
        if not (root / case.path).is_file():
            raise InputError(
                f"{name}: the volume of case {case.case} is not there; run 'ct2flow manifest "
                "prepare' or correct --data-root.",
                case=case.case,
            )


def _asked(
    settings: NetworkComparisonSettings,
    training: TrainingSettings,
    manifest: Manifest,
    root: Path,
) -> dict[str, Any]:
    """Return all that decides the results, comparable with what an earlier run was asked."""
    shared = training.model_dump(mode="json", exclude={"network", "threads"})
    fitted = {} if training.profile in PROFILES else {"sha256": digest(Path(training.profile))}
    chosen = settings.model_dump(mode="json", exclude={"keep_volumes", "phases"})
    # A path may name a patient; a model is its content.
    chosen["models"] = [
        name if name == SHIPPED else f"{model_name(name)} {digest(Path(name))}"
        for name in settings.models
    ]
    return {
        "settings": {**chosen, "networks": list(settings.chosen)},
        "training": {**shared, "profile": Path(training.profile).name, **fitted},
        "cases": [
            {**case.model_dump(include={"case", "patient", "role", "licence"}), "sha256": sha}
            for case in manifest.cases
            for sha in [digest(root / case.path)]
        ],
    }


def _measured(
    asked: dict[str, Any],
    settings: NetworkComparisonSettings,
    training: TrainingSettings,
    manifest: Manifest,
    root: Path,
) -> dict[str, Any]:
    """Add the cost of a step and the steps of each network to what was asked."""
    smallest = min(manifest.with_role("train"), key=lambda c: (root / c.path).stat().st_size)
    networks = {}
    with Progress("time the training steps", len(settings.chosen), "networks") as progress:
        for name in settings.chosen:
            own = training.model_copy(update={"network": name})
            each = seconds_per_step(own, smallest, root)
            steps = steps_of(settings.seconds, each) if settings.seconds else training.steps
            networks[name] = {"seconds_per_step": float(f"{each:.4g}"), "steps": steps}
            progress.advance()
    return {"format": PLAN_FORMAT, **asked, "networks": networks}


def _same(path: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plan that is there, if it is that of the same comparison."""
    found = read_json(path)
    differing = [name for name in asked if found.get(name) != asked[name]]
    if differing:
        raise UsageError(
            f"{path.parent.name}: holds a comparison of other {' and '.join(differing)}; choose "
            "another --output, or repeat the command that made it.",
            differing=differing,
        )
    return found


def _as_plan(
    found: Mapping[str, Any],
    settings: NetworkComparisonSettings,
    training: TrainingSettings,
    manifest: Manifest,
) -> Plan:
    networks = found["networks"]
    own = {
        name: planned(
            training.model_copy(update={"network": name, "steps": networks[name]["steps"]}),
            reports=settings.reports,
            validations=settings.validations,
        )
        for name in settings.chosen
    }
    costs = {name: float(networks[name]["seconds_per_step"]) for name in settings.chosen}
    return Plan(settings, own, costs, manifest.with_role("test"), training.seed)
