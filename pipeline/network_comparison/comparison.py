"""Run a comparison: prepare the test cases, train, judge, and write the report after each method."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.artefacts import read_json
from pipeline.core.errors import NumericalError, UsageError
from pipeline.core.manifests import Case
from pipeline.core.progress import Progress
from pipeline.network_comparison.cases import PreparedCase, prepare_case
from pipeline.network_comparison.judging import Method, judge, write_result
from pipeline.network_comparison.pictures import write_picture
from pipeline.network_comparison.plan import BASELINES, SHIPPED, Plan, make_plan, model_name
from pipeline.network_comparison.report import HR, PICTURES, write_report
from pipeline.network_comparison.settings import NetworkComparisonSettings
from stages.super_resolution.settings import TrainingSettings

_LOG = logging.getLogger("ct2flow.network_comparison")
_LOCK = ".lock"


@dataclass(frozen=True)
class _Run:
    """Hold where a comparison happens and what it follows."""

    manifest: Path
    root: Path
    output: Path
    plan: Plan
    training: TrainingSettings


def compare_networks(
    manifest: Path,
    output: Path,
    settings: NetworkComparisonSettings,
    training: TrainingSettings,
    *,
    data_root: Path | None = None,
) -> None:
    """Train networks at an equal budget, judge them on the test cases, write the report.

    Parameters
    ----------
    manifest
        Manifest of prepared volumes.
    output
        Folder to write; a second run does what is missing.
    settings
        Networks, seeds, budget, test region.
    training
        What all trainings share.
    data_root
        Folder that the manifest's paths are relative to; None: the manifest's own.

    Raises
    ------
    InputError
        If the manifest or a volume is unusable.
    UsageError
        If settings do not go together, or the folder holds another comparison or is in use.
    """
    root = data_root or manifest.parent
    made = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{output}: cannot be made a folder ({error.strerror}).") from error
    with _only_one_in(output, made=made):
        plan = make_plan(manifest, output, settings, training, data_root=root)
        run = _Run(manifest, root, output, plan, training)
        cases = [_prepared(run, case, p) for case in plan.cases for p in range(plan.phases)]
        known, left_out = _known_methods(plan, settings)
        units = (len(known) + len(plan.training) * len(plan.seeds)) * len(cases)
        with Progress("compare networks", units, "results") as progress:
            for method in known:
                _judge_all(run, method, cases, progress)
            write_report(output, plan, manifest.name, left_out)
            for method in _trainings(run):
                if _train(run, method):
                    _judge_all(run, method, cases, progress)
                else:
                    progress.advance(len(cases))
                write_report(output, plan, manifest.name, left_out)
    _LOG.info("report: %s", output / "report.html")


@contextmanager
def _only_one_in(folder: Path, *, made: bool) -> Iterator[None]:
    """Keep other comparisons out; leave no folder made for one that is refused at once."""
    with (folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"{folder.name}: another comparison is at work there; wait for it or choose "
                "another output."
            ) from error
        try:
            yield
        finally:
            lock_path = folder / _LOCK
            if made and list(folder.iterdir()) == [lock_path]:
                lock_path.unlink()
                folder.rmdir()


def _prepared(run: _Run, case: Case, phase: int) -> PreparedCase:
    found = prepare_case(
        case,
        run.root / case.path,
        run.output / "cases" / case.case,
        run.training,
        margin_mm=run.plan.settings.margin_mm,
        phase=phase,
    )
    picture = run.output / PICTURES / found.label / f"{HR}.png"
    if not picture.is_file():
        write_picture(picture, found.hr, read_json(found.airway / "airway.json"))
    return found


def _known_methods(
    plan: Plan, settings: NetworkComparisonSettings
) -> tuple[list[Method], dict[str, str]]:
    """List what needs no training, and the models left out with the reason."""
    from stages.super_resolution.stage import SHIPPED_FOLDER

    methods = [Method(name, name) for name in BASELINES]
    left_out = {}
    for source in settings.models:
        folder = SHIPPED_FOLDER if source == SHIPPED else Path(source)
        name = model_name(source)
        shared = shared_patients(read_json(folder / "model.json"), plan.cases)
        if shared:
            left_out[name] = f"it was trained or validated on {', '.join(shared)}"
            _LOG.warning("%s: left out: %s", name, left_out[name])
        else:
            methods.append(Method(name, source))
    return methods, left_out


def shared_patients(model: Mapping[str, Any], cases: tuple[Case, ...]) -> list[str]:
    """Return the test cases whose patient, name or volume a model.json says it has seen."""
    seen = model.get("provenance", {}).get("cases", [])
    patients = {entry.get("patient") for entry in seen}
    names = {entry.get("case") for entry in seen}
    digests = {entry.get("sha256") for entry in seen}
    return [
        case.case
        for case in cases
        if case.patient in patients or case.case in names or (case.sha256 or "-") in digests
    ]


def _trainings(run: _Run) -> Iterator[Method]:
    """Yield the trainings, all seeds of a network before the next: whole rows come first."""
    for network in run.plan.training:
        for seed in run.plan.seeds:
            name = f"{network}-seed{seed}"
            yield Method(name, str(run.output / "models" / name), network, seed)


def _train(run: _Run, method: Method) -> bool:
    """Train a network unless it is there; say whether there is a model."""
    from stages.super_resolution.stage import train

    assert method.network is not None
    model, failure = Path(method.source), run.output / "models" / f"{method.name}.failed.json"
    if model.is_dir():
        return True
    if failure.is_file():
        return False
    settings = run.plan.training[method.network].model_copy(update={"seed": method.seed})
    _LOG.info("%s: %d steps of %d patches", method.name, settings.steps, settings.batch_size)
    try:
        train(run.manifest, model, settings, data_root=run.root)
    except NumericalError as error:
        _LOG.warning("%s: %s", method.name, error)
        write_result(failure, {"reason": str(error)})
        return False
    return True


def _judge_all(run: _Run, method: Method, cases: list[PreparedCase], progress: Progress) -> None:
    for case in cases:
        place = Path(case.label) / f"{method.name}.json"
        result = run.output / "results" / place
        if not result.is_file():
            kept = run.output / "restored" / place.with_suffix(".nii.gz")
            record = judge(
                method,
                case,
                run.output / "work",
                run.training,
                kept=kept if run.plan.settings.keep_volumes else None,
                picture=run.output / PICTURES / place.with_suffix(".png"),
            )
            write_result(result, record)
        progress.advance()
