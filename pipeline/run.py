"""Run the workflow on one case: compose its configuration, guard its folder, call Snakemake."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from pipeline.config import (
    MODEL_NAMES,
    SHIPPED,
    WorkflowConfig,
    complete,
    dump_config,
    load_experiment,
    merge,
    parse_assignments,
    share_folder,
)
from pipeline.core.errors import Ct2FlowError, InputError, NumericalError, UsageError

_LOG = logging.getLogger("ct2flow.run")
_GRACE_S = 10.0
"""Time that Snakemake and its jobs get to end after SIGTERM before they are killed."""
_DELIVERED = ("report.html", "report.pdf", "results.json", "settings.yaml")
_FAILURE = re.compile(r"^ct2flow: error \[(\d+)\]: (.*)$", re.MULTILINE)
_CLASSES = {error.exit_code: error for error in (UsageError, InputError, NumericalError)}


def run_case(
    source: Path,
    output: Path,
    *,
    experiment: str | None,
    assignments: Sequence[str],
    cores: int,
    case: str,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Run one scan from DICOM to report in the folder `output` and return its results.json.

    Parameters
    ----------
    source
        DICOM folder, zip or DICOMDIR, or a volume in HU.
    output
        Working folder; a second run finds nothing to do, a killed one goes on.
    experiment
        Name of a file in workflows/config/experiments, or a YAML file of differences.
    assignments
        ``KEY=VALUE`` pairs that override single settings, such as ``flow.spacing_mm=0.4``.
    cores
        Processor cores that Snakemake may use.
    case
        Harmless name of the case; folder names of patients never reach a log.
    dry_run
        Only show what would be done.

    Raises
    ------
    UsageError, InputError, NumericalError
        As the failing stage says.
    """
    changes = merge(load_experiment(experiment), parse_assignments(assignments))
    with _prepared(source, output, changes, case):
        run_snakemake(output, share_folder("workflows") / "Snakefile", cores, dry_run=dry_run)
        return {} if dry_run else _deliver(output, case)


def enhance_case(
    source: Path, output: Path, *, assignments: Sequence[str], cores: int, case: str
) -> None:
    """Restore a coarse scan in `output`: restored.nii.gz and the folder dicom, with records.

    Of several models (`model.members`) also sigma.nii.gz, the standard deviation, HU.

    Raises
    ------
    UsageError, InputError, NumericalError
        As the failing stage says.
    """
    with _prepared(source, output, parse_assignments(assignments), case):
        run_snakemake(output, share_folder("workflows") / "enhance.smk", cores)
        made = output / "results" / "enhanced" / case
        for name in ("restored.nii.gz", "restored.nii.gz.json"):
            _copy_whole(made / name, output / name)
        several = complete(parse_assignments(assignments)).model.members
        for name in ("sigma.nii.gz", "sigma.nii.gz.json"):
            (output / name).unlink(missing_ok=True)
            if several:
                _copy_whole(made / name, output / name)
        shutil.rmtree(output / "dicom", ignore_errors=True)
        shutil.copytree(made / "dicom", output / "dicom")


@contextmanager
def _prepared(source: Path, output: Path, changes: Mapping[str, Any], case: str) -> Iterator[None]:
    """Check scan and settings, then hold the run's folder with its configuration written."""
    if not source.exists():
        raise InputError(f"{source.name}: no such file or folder; give a CT scan.", path=source)
    source = source.parent if source.name.upper() == "DICOMDIR" else source
    link = Path("input") / (case + _known_suffix(source))
    entry = {"cases": {case: {"input": str(link), "fingerprint": fingerprint(source)}}}
    config = _with_absolute_paths(complete(merge(changes, entry)))
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{output}: cannot be made a folder ({error.strerror}).") from error
    with _only_run_in(output):
        _link_input(output / link, source)
        dump_config(output / "config.yaml", config)
        yield


def fingerprint(source: Path) -> str:
    """Return a digest of names, sizes and times of a scan's files, cheap even for a full disc."""
    files = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
    total = hashlib.sha256()
    for path in files:
        status = path.stat()
        name = path.relative_to(source).as_posix()
        total.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return total.hexdigest()[:16]


def run_snakemake(folder: Path, snakefile: Path, cores: int, *, dry_run: bool = False) -> None:
    """Run a Snakefile in a folder that holds config.yaml; progress goes to stderr.

    Raises
    ------
    Ct2FlowError
        With the sentence and exit code of the stage that failed.
    """
    profile = share_folder("workflows") / "profiles" / "default"
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile)]
    command += ["--profile", str(profile), "--directory", str(folder), "--nolock"]
    command += ["--configfile", str(folder / "config.yaml"), "--cores", str(cores)]
    command += ["--dry-run"] if dry_run else []
    before = _log_sizes(folder)
    code = _run_in_own_session(command, folder)
    if code != 0:
        _raise_failure(folder, before, code)


def _run_in_own_session(command: Sequence[str], folder: Path) -> int:
    tools = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": tools + os.pathsep + os.environ.get("PATH", "")}
    process = subprocess.Popen(  # noqa: S603 -- our own interpreter and Snakefile
        command, env=environment, start_new_session=True, stdout=sys.stderr.fileno()
    )
    (folder / ".session").write_text(json.dumps({"pid": process.pid}))
    try:
        with _signals_as_interrupt():
            return process.wait()
    except KeyboardInterrupt:
        stop_session(process.pid)
        process.wait()
        raise
    finally:
        (folder / ".session").unlink(missing_ok=True)


@contextmanager
def _signals_as_interrupt() -> Iterator[None]:
    """Take SIGTERM for an interruption, and SIGINT even where a background shell ignores it."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    previous = {n: signal.signal(n, interrupt) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def stop_session(leader: int) -> None:
    """End every process of a session: SIGTERM first, SIGKILL after a grace period."""
    members = [p for p in psutil.process_iter() if _session_of(p) == leader]
    for process in members:
        _signal(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(members, timeout=_GRACE_S)
    for process in alive:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=_GRACE_S)


def _session_of(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except OSError:
        return None


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


@contextmanager
def _only_run_in(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"{folder}: another run is at work there; wait for it or choose another output."
            ) from error
        _stop_leftovers(folder)
        yield


def _stop_leftovers(folder: Path) -> None:
    """End what a killed run left behind: the lock is ours, so its Snakemake has no owner."""
    record = folder / ".session"
    if not record.is_file():
        return
    try:
        leader = int(json.loads(record.read_text())["pid"])
        line = psutil.Process(leader).cmdline() if psutil.pid_exists(leader) else ["snakemake"]
    except (ValueError, KeyError, psutil.Error):
        line = []
        leader = 0
    if leader and "snakemake" in " ".join(line):
        _LOG.info("stopping what a killed run left at work in %s", folder)
        stop_session(leader)
    record.unlink(missing_ok=True)


def _link_input(link: Path, source: Path) -> None:
    target = source.resolve()
    if link.is_symlink() and link.readlink() == target:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _with_absolute_paths(config: WorkflowConfig) -> WorkflowConfig:
    """Make the user's paths absolute: the workflow runs in the output folder."""
    model = config.model
    changes: dict[str, Any] = {"data_root": str(Path(model.data_root).resolve())}
    for name in ("source", "initial"):
        value = getattr(model, name)
        if value is not None and value not in MODEL_NAMES:
            changes[name] = _absolute_model(name, value, MODEL_NAMES)
    changes["members"] = tuple(
        value if value == SHIPPED else _absolute_model("members", value, (SHIPPED,))
        for value in model.members
    )
    if not (share_folder("data_manifests") / model.manifest).is_file():
        changes["manifest"] = str(Path(model.manifest).resolve())
    return config.model_copy(update={"model": model.model_copy(update=changes)})


def _absolute_model(setting: str, value: str, names: Iterable[str]) -> str:
    if not (Path(value) / "model.json").is_file():
        raise UsageError(
            f"model.{setting} {value}: is no MODEL_DIR (it holds no model.json); give one, or one "
            f"of {', '.join(names)}."
        )
    return str(Path(value).resolve())


def _known_suffix(source: Path) -> str:
    if source.is_dir():
        return ""
    known = (".nii.gz", ".nii", ".nrrd", ".mha", ".zip")
    return next((suffix for suffix in known if source.name.lower().endswith(suffix)), "")


def _deliver(folder: Path, case: str) -> dict[str, Any]:
    report = folder / "results" / "report" / case
    for name in _DELIVERED:
        _copy_whole(report / name, folder / name)
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return results


def _copy_whole(source: Path, target: Path) -> None:
    draft = target.with_name(f".partial.{target.name}")
    shutil.copyfile(source, draft)
    draft.replace(target)


def _log_sizes(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (folder / "logs").rglob("*.log")}


def _raise_failure(folder: Path, before: Mapping[Path, int], code: int) -> None:
    if code < 0 or code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    fresh = (p for p, time in _log_sizes(folder).items() if before.get(p) != time)
    for path in sorted(fresh, key=lambda p: p.stat().st_mtime_ns, reverse=True):
        found = _FAILURE.search(path.read_text(errors="replace"))
        if found:
            kind = _CLASSES.get(int(found.group(1)), Ct2FlowError)
            raise kind(f"{path.stem} ({path.parent.name}): {found.group(2)}", log=path)
    raise Ct2FlowError(
        f"the workflow stopped with exit code {code}; the messages above and the files in "
        f"{folder / 'logs'} say where."
    )
