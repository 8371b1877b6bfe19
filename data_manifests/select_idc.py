# ruff: noqa: INP001 -- a script beside the manifests that it writes
"""Select head and neck CT of the Imaging Data Commons, and write one manifest per collection.

    pip install "ct2flow[idc]"
    python data_manifests/select_idc.py --output data_manifests

It reads the index of the Imaging Data Commons from the package idc-index-data and nothing else; the rules
are the constants below. The same version of the package gives the same manifests, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.core.manifests import NAME, Case, Manifest, Role, write_manifest

COLUMNS = [
    "collection_id",
    "analysis_result_id",
    "PatientID",
    "SeriesInstanceUID",
    "source_DOI",
    "StudyDescription",
    "BodyPartExamined",
    "sop_class_name",
    "ManufacturerModelName",
    "SeriesDescription",
    "instanceCount",
    "license_short_name",
    "series_aws_url",
    "series_size_MB",
]
LICENCES = {
    "CC BY 3.0": "CC-BY-3.0",
    "CC BY 4.0": "CC-BY-4.0",
    "National Library of Medicine Terms and Conditions; May 21, 2019": (
        "National Library of Medicine Terms and Conditions; May 21, 2019"
    ),
}
"""Licences that allow redistribution and derivatives, as the index names them, and as SPDX does."""

FEWEST_SLICES = 80
"""A head or neck of at least 16 cm in slices of at most 2 mm; the index states no thickness."""
_STUDY = re.compile(
    r"\bCTA?[ _](SOFT[ _]TISSUE[ _])?(HEAD|NECK|SINUS|FACE|FACIAL|MAXILLOFACIAL)|SOFT[ _]TISSUE[ _]NECK"
    r"|\bNEURO CT\b",
    re.IGNORECASE,
)
"""The study says head, neck, sinus or face ..."""
_SERIES = re.compile(r"(?<![A-Z])(NECK|SINUS|FACE|FACIAL)", re.IGNORECASE)
"""... or else the series does; "head" alone is not asked there, it mostly means "head first"."""
_OTHER_STUDY = re.compile(r"PET|SKULL.*THIGH|FIRST", re.IGNORECASE)
_OTHER_SERIES = re.compile(
    r"COR|SAG|MPR|MIP|REFORMAT|SCOUT|TOPO|CTAC|ATTEN|SURFACE|PROCESSED|CHEST|LUNG|THORAX|ABD|CAP|C_A_P|PELV"
    r"|BODY|SPINE|VOCAL|PUBI",
    re.IGNORECASE,
)
"""The series is a reformation, a survey or another part of the body."""
_BODY_PARTS = frozenset({"", "HEAD", "NECK", "THYROID", "SINUS", "FACE", "SKULL"})
_THICKNESS = re.compile(r"(?<![\d.])(\d)[._](\d{1,3})(?!\d)")

CADAVERS = {"VHP-F": "visible-human-female", "VHP-M": "visible-human-male"}
"""Patients that other manifests here know by another name; they stay in training."""
CADAVER_SERIES = re.compile(r"AXIAL 1X1( NCE)?")
"""The series of 1 mm; the index does not say which of the others hold the head."""


def main(arguments: list[str] | None = None) -> None:
    """Read the index, apply the rules and write ``idc_<collection>.csv``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for the manifests")
    parser.add_argument("--per-collection", type=int, default=8, help="most patients each")
    options = parser.parse_args(arguments)
    chosen = select(read_index(), options.per_collection, metadata.version("idc-index-data"))
    for collection, cases in sorted(chosen.items()):
        write_manifest(options.output / f"idc_{collection}.csv", Manifest(tuple(cases)))
        sys.stdout.write(f"idc_{collection}.csv  {len(cases)} cases\n")


def read_index() -> Iterator[dict[str, Any]]:
    """Yield the CT series of the installed index."""
    # Here, so that the rules can be used and tested without the index.
    import idc_index_data
    import pyarrow.parquet as pq

    path = idc_index_data.IDC_INDEX_PARQUET_FILEPATH
    table = pq.read_table(path, columns=COLUMNS, filters=[("Modality", "==", "CT")])
    for batch in table.to_batches(max_chunksize=10_000):
        yield from batch.to_pylist()


def select(
    rows: Iterable[Mapping[str, Any]], per_collection: int, version: str
) -> dict[str, list[Case]]:
    """Choose one series per patient by the rules above, and give each patient a role."""
    best: dict[tuple[str, str], Mapping[str, Any]] = {}
    for row in rows:
        key = (row["collection_id"], row["PatientID"])
        if fits(row) and (key not in best or preference(row) > preference(best[key])):
            best[key] = row
    collections = sorted({collection for collection, _ in best})
    return {
        name: with_roles(
            [best[key] for key in sorted(best) if key[0] == name], per_collection, version
        )
        for name in collections
    }


def fits(row: Mapping[str, Any]) -> bool:
    """Say whether a series is, by what the index says, a thin axial head or neck CT for everyone."""
    if row["analysis_result_id"] or row["license_short_name"] not in LICENCES:
        return False
    series = row["SeriesDescription"] or ""
    if row["PatientID"] in CADAVERS:
        return CADAVER_SERIES.fullmatch(series) is not None
    study = row["StudyDescription"] or ""
    return (
        row["sop_class_name"] == "CT Image Storage"
        and (row["BodyPartExamined"] or "") in _BODY_PARTS
        and row["instanceCount"] >= FEWEST_SLICES
        and series != ""
        and bool(_STUDY.search(study) or _SERIES.search(series))
        and not _OTHER_STUDY.search(study)
        and not _OTHER_SERIES.search(series)
        and (thickness_mm(series) or 0.0) <= 2.0
    )


def thickness_mm(series_description: str) -> float | None:
    """Return the slice thickness that a series description states, mm."""
    found = _THICKNESS.search(series_description)
    return float(f"{found[1]}.{found[2]}") if found else None


def preference(row: Mapping[str, Any]) -> tuple[int, str]:
    """Prefer more slices of one patient; then the name, so that the choice is always the same."""
    return row["instanceCount"], row["SeriesInstanceUID"]


def with_roles(rows: list[Mapping[str, Any]], most: int, version: str) -> list[Case]:
    """Give the patients, in the order of their names' digests, the roles test, validation, train."""
    ordered = sorted(rows, key=lambda row: hashlib.sha256(row["PatientID"].encode()).hexdigest())
    roles: list[Role] = ["test", "validation"]
    cases = []
    for k, row in enumerate(ordered[:most]):
        role: Role = "train" if row["PatientID"] in CADAVERS or k >= len(roles) else roles[k]
        cases.append(make_case(row, role, version))
    return sorted(cases, key=lambda case: case.case)


def make_case(row: Mapping[str, Any], role: Role, version: str) -> Case:
    """Write a row of the index as a row of a manifest."""
    patient = CADAVERS.get(row["PatientID"], row["PatientID"])
    if not NAME.fullmatch(patient):
        raise ValueError(f"{patient!r} is no harmless name; add it to the names above")
    name = f"{patient}-ct" if row["PatientID"] in CADAVERS else patient
    return Case(
        case=name,
        patient=patient,
        role=role,
        source="dicom",
        path=name,
        files=row["instanceCount"],
        licence=LICENCES[row["license_short_name"]],
        url=row["series_aws_url"].removesuffix("*"),
        notes=notes(row, version),
        # The index holds the sum of the sizes divided by a million, as float64: exact to the byte.
        size_bytes=round(row["series_size_MB"] * 1e6),
        series_uid=row["SeriesInstanceUID"],
        doi=row["source_DOI"] or "",
    )


def notes(row: Mapping[str, Any], version: str) -> str:
    """Repeat what the index says of a series."""
    said = {
        "study": row["StudyDescription"],
        "series": row["SeriesDescription"],
        "body part": row["BodyPartExamined"],
        "scanner": row["ManufacturerModelName"],
    }
    words = [f"{name} '{' '.join(value.split())}'" for name, value in said.items() if value]
    return f"{', '.join(words)} (idc-index-data {version})."


if __name__ == "__main__":
    main()
