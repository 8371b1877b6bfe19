"""What results.json says: the numbers of one case, gathered from its artefacts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

RESULTS_FORMAT = 1
RESOLUTIONS = ("hr", "lr", "interpolated", "sr")
NAMES = {"hr": "HR", "lr": "LR", "interpolated": "interpolated", "sr": "SR"}
METHODS = ("linear", "spline", "histospline", "sr")


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
    """

    case: str
    sidecars: Mapping[str, Mapping[str, Any]]
    geometry: Mapping[str, Any]
    airways: Mapping[str, Mapping[str, Any]]
    images: Mapping[str, Any]
    surfaces: Mapping[str, Any] = field(default_factory=dict)
    flows: Mapping[str, Any] = field(default_factory=dict)
    flow_records: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def patent(self) -> bool:
        """Say whether the thin-slice scan's airway is open."""
        return bool(self.airways["hr"]["patent"])


def results(records: CaseRecords) -> dict[str, Any]:
    """Return results.json."""
    ingest = records.sidecars.get("volumes/hr", {})
    return {
        "format": RESULTS_FORMAT,
        "case": records.case,
        "input": {
            "sha256": input_digest(ingest),
            "geometry": dict(records.geometry),
        },
        "image": dict(records.images.get("methods", {})),
        "surface": {
            name: _surface(records, name) for name in RESOLUTIONS if name in _surfaces(records)
        },
        "pressure_loss": {
            name: pressure_loss(records, name) for name in RESOLUTIONS if records.patent
        },
        "airway": _airway(records),
        "warnings": warnings(records),
        "provenance": provenance(records),
    }


def input_digest(ingest: Mapping[str, Any]) -> str | None:
    """Return the sha256 of what was read."""
    values = sorted(str(v) for v in ingest.get("inputs", {}).values())
    return values[0] if len(values) == 1 else (";".join(values) or None)


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
    empty = {
        "static_pa": None,
        "total_pa": None,
        "deviation_from_hr_percent": None,
        "discretisation_percent": None,
    }
    if not entry:
        empty["reason"] = records.airways.get(name, {}).get("reason")
    return {**empty, **entry, "model_std_pa": None}


def _airway(records: CaseRecords) -> dict[str, Any]:
    baseline = dict(records.airways["hr"])
    closed = {n: a.get("reason") for n, a in records.airways.items() if not a["patent"]}
    keep = ("patent", "reason", "place_mm", "sides", "lumen_volume_ml", "sinus_volume_ml")
    return {key: baseline.get(key) for key in keep} | {"closed_variants": closed}


def warnings(records: CaseRecords) -> list[str]:
    """Return every caveat of every artefact once, with its source."""
    found: dict[str, None] = {}
    for source, sidecar in records.sidecars.items():
        for text in sidecar.get("warnings", []):
            found[f"{source}: {text}"] = None
    return list(found)


def provenance(records: CaseRecords) -> dict[str, Any]:
    """Return commit, versions, digests and settings of the stages that made the case."""
    first = records.sidecars.get("volumes/hr", {})
    return {
        "commit": first.get("code", {}).get("commit"),
        "version": first.get("code", {}).get("version"),
        "libraries": dict(first.get("libraries", {})),
        "code_digests": {
            s["stage"]: s["code"]["digest"] for s in records.sidecars.values() if s.get("code")
        },
        "artefacts": {name: s.get("sha256") for name, s in records.sidecars.items()},
        "settings": _settings(records),
    }


def _settings(records: CaseRecords) -> dict[str, Any]:
    chosen = {
        "ingest": "volumes/hr",
        "triplets": "triplets",
        "restoration": "restored/sr",
        "airway": "airway/hr",
        "surface": "surface/hr",
        "flow": "flow/hr",
    }
    return {
        stage: records.sidecars[name].get("settings", {})
        for stage, name in chosen.items()
        if name in records.sidecars
    }
