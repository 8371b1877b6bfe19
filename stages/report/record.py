"""What results.json says: the numbers of one case, gathered from its artefacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

RESULTS_FORMAT = 1
RESOLUTIONS = ("hr", "lr", "interpolated", "sr")
NAMES = {"hr": "HR", "lr": "LR", "interpolated": "interpolated", "sr": "SR"}
METHODS = ("linear", "spline", "histospline", "sr")
NO_LOSS: Mapping[str, Any] = {
    "static_pa": None,
    "total_pa": None,
    "deviation_from_hr_percent": None,
    "discretisation_percent": None,
    "model_std_pa": None,
}
_ACQUISITION = ("source", "modality", "kernel", "kvp", "slice_thickness_mm", "slice_spacing_mm")
"""Facts about the scan that say nothing about the patient."""
_SETTINGS_OF = {
    "ingest": "volumes/hr",
    "triplets": "triplets",
    "training": "model",
    "restoration": "restored/sr",
    "airway": "airway/hr",
    "surface": "surface/hr",
    "flow": "flow/hr",
    "comparison": "comparison/images",
}
"""The artefact whose record holds a stage's settings."""


@dataclass(frozen=True)
class CaseRecords:
    """Hold the JSON records of one case as the stages wrote them.

    Parameters
    ----------
    case
        Name of the case.
    sidecars
        Records of making by a short name of the artefact.
    geometry
        Shape and spacing of the thin-slice volume.
    airways
        airway.json by resolution.
    images, surfaces, flows
        Comparisons; empty where the airway is closed.
    flow_records
        flow.json by resolution.
    coarse_records
        The same on each coarser lattice, the least coarse first.
    """

    case: str
    sidecars: Mapping[str, Mapping[str, Any]]
    geometry: Mapping[str, Any]
    airways: Mapping[str, Mapping[str, Any]]
    images: Mapping[str, Any]
    surfaces: Mapping[str, Any] = field(default_factory=dict)
    flows: Mapping[str, Any] = field(default_factory=dict)
    flow_records: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    coarse_records: Sequence[Mapping[str, Mapping[str, Any]]] = ()

    @property
    def patent(self) -> bool:
        """Say whether the thin-slice scan's airway is open."""
        return bool(self.airways["hr"].get("patent", False))


def results(records: CaseRecords) -> dict[str, Any]:
    """Return results.json."""
    ingest = records.sidecars.get("volumes/hr", {})
    return {
        "format": RESULTS_FORMAT,
        "case": records.case,
        "input": {
            "sha256": input_digest(ingest),
            "geometry": dict(records.geometry),
            "acquisition": _picked(ingest.get("properties", {}), _ACQUISITION),
        },
        "image": dict(records.images.get("methods", {})),
        "surface": {
            name: _surface(records, name) for name in RESOLUTIONS if name in _surfaces(records)
        },
        "pressure_loss": {name: pressure_loss(records, name) for name in RESOLUTIONS},
        "airway": _airway(records),
        "definitions": {
            "image": dict(records.images.get("definition", {})),
            "surface": dict(records.surfaces.get("definition", {})),
            "pressure_loss": dict(records.flows.get("definition", {})),
        },
        "warnings": warnings(records),
        "provenance": provenance(records),
    }


def input_digest(ingest: Mapping[str, Any]) -> str | None:
    """Return the sha256 of what was read."""
    values = sorted(str(v) for v in ingest.get("inputs", {}).values())
    return values[0] if len(values) == 1 else (";".join(values) or None)


def _picked(facts: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: facts[name] for name in names if facts.get(name) is not None}


def _surfaces(records: CaseRecords) -> Mapping[str, Any]:
    found: Mapping[str, Any] = records.surfaces.get("surfaces", {})
    return found


def _surface(records: CaseRecords, name: str) -> dict[str, Any]:
    entry = dict(_surfaces(records)[name])
    if entry.get("minimal_area_mm2") is None:
        entry["minimal_area_mm2"] = minimal_areas(records.airways.get(name, {})) or None
    return entry


def minimal_areas(airway: Mapping[str, Any]) -> dict[str, float]:
    """Return the minimal cross-section of each open side, mm2."""
    sides = airway.get("sides", {})
    areas = {side: values.get("minimal_area_mm2") for side, values in sides.items()}
    return {side: area for side, area in areas.items() if area is not None}


def pressure_loss(records: CaseRecords, name: str) -> dict[str, Any]:
    """Return the pressure loss of a variant with the errors that are known of it."""
    entry = dict(records.flows.get("pressure_loss", {}).get(name, {}))
    reason = {} if entry else {"reason": _why_no_flow(records, name)}
    return {**NO_LOSS, **entry, **reason}


def _why_no_flow(records: CaseRecords, name: str) -> str:
    own = records.airways.get(name, {}).get("reason")
    if own or records.patent:
        return str(own or "no flow was computed")
    return "the HR airway, whose planes every variant uses, is not open"


def _airway(records: CaseRecords) -> dict[str, Any]:
    baseline = dict(records.airways["hr"])
    closed = {n: a.get("reason") for n, a in records.airways.items() if not a.get("patent")}
    keep = ("reason", "place_mm", "sides", "lumen_volume_ml", "sinus_volume_ml")
    facts = {key: baseline.get(key) for key in keep}
    return {"patent": records.patent, **facts, "closed_variants": closed}


def warnings(records: CaseRecords) -> list[str]:
    """Return every caveat of every artefact once, after the artefacts that carry it."""
    sources: dict[str, list[str]] = {}
    for source, sidecar in records.sidecars.items():
        for text in sidecar.get("warnings", []):
            known = sources.setdefault(str(text), [])
            if source not in known:
                known.append(source)
    return [f"{', '.join(names)}: {text}" for text, names in sources.items()]


def provenance(records: CaseRecords) -> dict[str, Any]:
    """Return commit, versions, digests and settings of the stages that made the case."""
    sidecars = records.sidecars
    first: Mapping[str, Any] = sidecars.get("volumes/hr") or next(iter(sidecars.values()), {})
    return {
        "commit": first.get("code", {}).get("commit"),
        "version": first.get("code", {}).get("version"),
        "libraries": dict(first.get("libraries", {})),
        "code_digests": {
            s["stage"]: s["code"]["digest"] for s in sidecars.values() if s.get("code")
        },
        "artefacts": {name: s.get("sha256") for name, s in sidecars.items()},
        "model": _model_digests(sidecars),
        "devices": sorted({str(s["device"]) for s in sidecars.values() if s.get("device")}),
        "settings": {
            stage: dict(sidecars[name].get("settings", {}))
            for stage, name in _SETTINGS_OF.items()
            if name in sidecars
        },
    }


def _model_digests(sidecars: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what identifies the networks: their digests and that of the manifest learnt from."""
    restored = sidecars.get("restored/sr", {}).get("inputs", {})
    used = {name: value for name, value in restored.items() if not name.startswith("lr.nii")}
    training = sidecars.get("model", {}).get("inputs", {})
    return {"sha256": ";".join(used.values()) or None, "trained_on": dict(training)}
