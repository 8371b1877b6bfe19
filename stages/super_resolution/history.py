"""What a model that begins with another has seen: no patient of its past may judge it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.artefacts import read_json
from pipeline.core.errors import InputError
from pipeline.core.manifests import Case
from stages.super_resolution.model_io import DESCRIPTION

_MOST_NAMED = 5

PastCase = Mapping[str, str]
"""A case as a model's description records it: case, patient, role, licence, sha256."""


def past_cases(model: Path) -> list[dict[str, str]]:
    """Return the cases that a MODEL_DIR says it and the models before it were trained with.

    Raises
    ------
    InputError
        If its description is missing or no JSON.
    """
    provenance: Mapping[str, Any] = read_json(model / DESCRIPTION).get("provenance", {})
    return list(provenance.get("cases", []))


def with_history(records: list[dict[str, str]], initial: Path | None) -> list[dict[str, str]]:
    """Return records of cases and those of what an initial model has seen.

    Who judges a model must know every patient of its past.
    """
    if initial is None:
        return records
    known = {(r.get("case"), r.get("sha256")) for r in records}
    before = past_cases(initial)
    return records + [r for r in before if (r.get("case"), r.get("sha256")) not in known]


def learnt_cases(
    cases: Iterable[Case], digests: Mapping[str, str], past: Iterable[PastCase]
) -> list[Case]:
    """Return those cases that a model was trained on before.

    Parameters
    ----------
    cases
        Cases that are to judge the model.
    digests
        sha256 of their volumes by case, where known: one scan under another name is found.
    past
        What the model has seen. Cases of the role validation chose among its weights, which
        trains nothing; of a case without a patient its name counts.
    """
    trained = [entry for entry in past if entry.get("role") == "train"]
    patients = {entry["patient"] for entry in trained if entry.get("patient")}
    names = {entry.get("case") for entry in trained if not entry.get("patient")}
    volumes = {entry["sha256"] for entry in trained if entry.get("sha256")}
    return [
        case
        for case in cases
        if case.patient in patients
        or case.case in names
        or {digests.get(case.case), case.sha256} & volumes
    ]


def names_its_patients(past: Sequence[PastCase]) -> bool:
    """Say whether a description names the patient of every case that was learnt, at least one."""
    trained = [entry for entry in past if entry.get("role") == "train"]
    return bool(trained) and all(entry.get("patient") for entry in trained)


def refuse_learnt(cases: Sequence[Case], manifest: str, model: str) -> None:
    """Refuse a training whose cases of the role validation or test were learnt before.

    Parameters
    ----------
    cases
        Cases that the initial model was trained on, as `learnt_cases` finds them.
    manifest, model
        Names of both in the message.

    Raises
    ------
    InputError
        If there is such a case.
    """
    if not cases:
        return
    roles = {case.patient: case.role for case in cases}
    named = [f"patient {patient} ({role})" for patient, role in list(roles.items())[:_MOST_NAMED]]
    more = f" and {len(roles) - _MOST_NAMED} more" if len(roles) > _MOST_NAMED else ""
    raise InputError(
        f"{manifest}: {', '.join(named)}{more}: the initial model {model} was trained on them, so "
        "they cannot judge what becomes of it; give them the role train or leave them out, begin "
        "without --initial, or rename a patient who is another person of that name.",
        patients=list(roles),
    )
