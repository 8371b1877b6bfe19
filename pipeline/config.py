"""The workflow's configuration: the settings of every stage, composed and checked in one place."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from pipeline.core.errors import UsageError
from stages.airway.settings import AirwaySettings
from stages.comparison.settings import ComparisonSettings
from stages.dicom_export.settings import DicomExportSettings
from stages.flow.settings import FlowSettings
from stages.ingest.settings import IngestSettings
from stages.report.settings import ReportSettings
from stages.super_resolution.settings import RestorationSettings, TrainingSettings
from stages.surface.settings import SurfaceSettings
from stages.triplets.settings import TripletsSettings

SHIPPED = "shipped"
MODEL_NAMES = (SHIPPED, "train", "linear", "spline", "histospline")
"""What `model.source` may be besides the path of a MODEL_DIR."""
_ROOT = Path(__file__).resolve().parent
CaseName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CaseEntry(_Strict):
    """Name the scan of one case."""

    input: str = Field(description="DICOM folder or zip, or a volume in HU; relative to the run.")
    fingerprint: str = Field(
        "", description="Digest of the scan's file list; a change re-reads it."
    )


class ModelChoice(_Strict):
    """Choose the network that restores the thin slices."""

    source: str = Field(
        SHIPPED,
        description="'shipped' (the weights in the package), 'train' (train on `manifest` first), "
        "the path of a MODEL_DIR, or a training-free method (linear, spline, histospline).",
    )
    members: tuple[str, ...] = Field(
        (),
        description="Several MODEL_DIRs (or 'shipped') instead of `source`: SR is the mean of "
        "their restorations, each one's flow is computed too, and the standard deviation of their "
        "pressure losses is model_std_pa.",
    )
    manifest: str = Field(
        "phantoms.csv",
        description="Manifest of training cases for source 'train': a file of data_manifests/ or "
        "a path. A case that is tested must not be in it.",
    )
    data_root: str = Field(
        "", description="Folder that the manifest's paths are relative to; empty for phantoms."
    )
    initial: str | None = Field(
        None,
        description="'shipped' or a MODEL_DIR whose weights the training of 'train' starts from.",
    )
    interpolation: Annotated[str, StringConstraints(pattern="^(linear|spline|histospline)$")] = (
        Field("spline", description="What 'interpolated' means (Liu 2024 used a spline).")
    )

    @model_validator(mode="after")
    def _check_members(self) -> Self:
        if len(self.members) == 1:
            raise ValueError("members needs two models or more; give one as source")
        if self.members and self.source != SHIPPED:
            raise ValueError("give members or source, not both")
        return self


class WorkflowConfig(_Strict):
    """Hold every setting of a run; experiments list only what differs from these defaults."""

    cases: dict[CaseName, CaseEntry] = Field(
        default_factory=dict, description="The scans, by harmless names."
    )
    model: ModelChoice = ModelChoice()
    coarse_ratio: float = Field(
        1.4,
        ge=1.2,
        le=3.0,
        description="Spacing of each lattice of a flow over that of the next finer one.",
    )
    lattices: int = Field(
        3,
        ge=1,
        le=4,
        description="Lattices of each flow, the finest of flow.spacing_mm: two give its discretisation error "
        "with first order assumed (Roache 1994, doi:10.1115/1.2910291), three by the observed order (Celik "
        "2008, doi:10.1115/1.2960953); with one no deviation is called resolved.",
    )
    ingest: IngestSettings = IngestSettings()
    triplets: TripletsSettings = TripletsSettings()
    training: TrainingSettings = TrainingSettings()
    restoration: RestorationSettings = RestorationSettings()
    airway: AirwaySettings = AirwaySettings()
    surface: SurfaceSettings = SurfaceSettings()
    flow: FlowSettings = FlowSettings()
    comparison: ComparisonSettings = ComparisonSettings()
    report: ReportSettings = ReportSettings()
    dicom_export: DicomExportSettings = DicomExportSettings()
    join_study: bool = Field(
        default=False,
        description="Whether 'ct2flow enhance' writes its series into the patient's study: same "
        "patient, study and frame of reference. The output then names the patient.",
    )


def complete(changes: Mapping[str, Any]) -> WorkflowConfig:
    """Return the whole configuration from the settings that differ from the defaults."""
    return WorkflowConfig.model_validate(merge(WorkflowConfig().model_dump(mode="json"), changes))


def share_folder(name: str) -> Path:
    """Return the folder `workflows` or `data_manifests`, installed or in the checkout."""
    installed = _ROOT / "_share" / name
    return installed if installed.is_dir() else _ROOT.parent / name


def load_experiment(name: str | None) -> dict[str, Any]:
    """Read the differences that an experiment makes; None makes none.

    Raises
    ------
    UsageError
        If there is no such experiment or its file is no YAML mapping.
    """
    if name is None:
        return {}
    folder = share_folder("workflows") / "config" / "experiments"
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise UsageError(f"{name}: no such experiment; give a YAML file or one of: {known}.")
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path.name}: is no readable YAML; correct it.") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path.name}: holds no mapping of settings; needed is 'stage: {{...}}'.")
    return content


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Turn ``stage.setting=value`` pairs into nested settings; values are read as YAML.

    Raises
    ------
    UsageError
        If a pair has no '=' or its value is no YAML.
    """
    settings: dict[str, Any] = {}
    for pair in assignments:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise UsageError(f"--set {pair}: needed is KEY=VALUE, such as flow.spacing_mm=0.4.")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {pair}: the value is no YAML.") from error
        for part in reversed(key.split(".")):
            value = {part: value}
        settings = merge(settings, value)
    return settings


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings with changes applied; the arguments stay as they are."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def flags(settings: BaseModel | Mapping[str, Any], leave_out: Sequence[str] = ()) -> str:
    """Write settings as command-line flags, so that a log line repeats the stage exactly."""
    values = settings.model_dump(mode="json") if isinstance(settings, BaseModel) else settings
    parts = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        if value is None or name in leave_out:
            continue
        if isinstance(value, bool):
            parts.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list):
            parts += [f"--{flag} {shlex.quote(str(item))}" for item in value]
        else:
            parts.append(f"--{flag} {shlex.quote(str(value))}")
    return " ".join(parts)


def dump_config(path: Path, config: WorkflowConfig) -> None:
    """Write the complete configuration as YAML, unless the file says the same already."""
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    if path.is_file() and path.read_text() == text:
        return
    draft = path.with_name(f".partial.{path.name}")
    draft.write_text(text)
    draft.replace(path)


def json_schema() -> str:
    """Return the JSON Schema that Snakemake checks before it builds its plan."""
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(dialect | WorkflowConfig.model_json_schema(), indent=2) + "\n"


def commented_defaults() -> str:
    """Return every default as YAML with its description as a comment."""
    lines = ["# Defaults of every setting. Made by 'ct2flow config show'; an experiment lists"]
    lines += ["# only what differs. The scans come from the command line or from `cases`.", ""]
    lines += _commented(WorkflowConfig(), "")
    return "\n".join(lines) + "\n"


def _commented(model: BaseModel, indent: str) -> list[str]:
    lines: list[str] = []
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if field.description:
            lines.append(f"{indent}# {field.description}")
        if isinstance(value, BaseModel):
            lines += [f"{indent}{name}:", *_commented(value, indent + "  ")]
        else:
            shown = model.model_dump(mode="json", include={name})[name]
            lines.append(f"{indent}{name}: {json.dumps(shown)}")
    return lines
