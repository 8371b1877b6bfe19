"""Cutting planes in patient space: nostrils, pharynx and named cross-sections."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.core.errors import InputError
from pipeline.core.geometry import Triple

PLANES_FORMAT = 1


@dataclass(frozen=True)
class Plane:
    """Describe a section: the part of the cut within the radius that holds the centre.

    Parameters
    ----------
    name
        Such as ``nostril-left``, ``nostril-right``, ``pharynx``.
    centre_mm
        World point (x, y, z), LPS, mm.
    normal
        Unit vector in the direction of inspiration.
    radius_mm
        Reach of the section around its centre, mm.
    """

    name: str
    centre_mm: Triple
    normal: Triple
    radius_mm: float


def write_planes(path: Path, planes: Iterable[Plane]) -> None:
    """Write planes.json (format 1)."""
    entries = {
        plane.name: {
            "centre_mm": list(plane.centre_mm),
            "normal": list(plane.normal),
            "radius_mm": plane.radius_mm,
        }
        for plane in planes
    }
    path.write_text(json.dumps({"format": PLANES_FORMAT, "planes": entries}, indent=2) + "\n")


def read_planes(path: Path) -> dict[str, Plane]:
    """Read planes.json; normals are scaled to unit length.

    Raises
    ------
    InputError
        If the file is missing, of another format, or holds a plane without a usable centre,
        normal or radius.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{path.name}: no such file; needed is a planes.json.") from error
    except (ValueError, OSError) as error:
        raise InputError(f"{path.name}: is not readable as JSON ({error}).") from error
    if not isinstance(content, dict) or content.get("format") != PLANES_FORMAT:
        raise InputError(
            f'{path.name}: is no planes file of format 1; needed is {{"format": 1, ...}}.'
        )
    entries = content.get("planes")
    if not isinstance(entries, dict):
        raise InputError(f'{path.name}: has no "planes" object; see docs/architecture.md.')
    return {name: _plane(path, name, entry) for name, entry in entries.items()}


def _plane(path: Path, name: str, entry: object) -> Plane:
    try:
        assert isinstance(entry, dict)
        centre = np.array(entry["centre_mm"], dtype=np.float64).reshape(3)
        normal = np.array(entry["normal"], dtype=np.float64).reshape(3)
        radius = float(entry["radius_mm"])
        length = float(np.linalg.norm(normal))
        assert np.isfinite(centre).all() and np.isfinite(length) and length > 0 and radius > 0  # noqa: PT018
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path.name}: plane '{name}' needs centre_mm [x, y, z], a normal of non-zero length "
            "and a radius_mm above 0; correct it.",
            plane=name,
        ) from error
    x, y, z = (float(v) for v in centre)
    i, j, k = (float(v) for v in normal / length)
    return Plane(name, (x, y, z), (i, j, k), radius)
