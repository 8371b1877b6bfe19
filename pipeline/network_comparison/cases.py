"""Test cases: the airway found once on the thin slices, then thick slices of the region around it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.core.artefacts import publish, read_json
from pipeline.core.errors import Ct2FlowError
from pipeline.core.manifests import Case
from pipeline.core.volume import read_volume, write_volume
from pipeline.network_comparison.cutting import box_around, cut_volume, shifted
from stages.airway.settings import AirwaySettings
from stages.super_resolution.settings import TrainingSettings
from stages.surface.settings import SurfaceSettings
from stages.triplets.settings import TripletsSettings

_LOG = logging.getLogger("ct2flow.network_comparison")
_STAGE = "super_resolution"
"""Whose code digest the cut volumes carry: the one whose results they are for."""

AIRWAY = AirwaySettings()
SURFACE = SurfaceSettings(isolevel_uncertainty_hu=0.0)
"""The surface at other levels is not compared."""


@dataclass(frozen=True)
class PreparedCase:
    """Name the artefacts of a test case, all in its folder.

    Parameters
    ----------
    name
        Name in the manifest.
    folder
        Where its artefacts are.
    phase
        Thin slices by which the first thick slice lies higher than in phase 0.
    """

    name: str
    folder: Path
    phase: int = 0

    @property
    def hr(self) -> Path:
        """Return the thin slices that methods are compared with."""
        return self.folder / "triplets" / "hr.nii.gz"

    @property
    def lr(self) -> Path:
        """Return the thick slices that methods see."""
        return self.folder / "triplets" / "lr.nii.gz"

    @property
    def airway(self) -> Path:
        """Return the airway of the thin slices, found as that of every method is."""
        return self.folder / "airway"

    @property
    def surface(self) -> Path:
        """Return the surface of the thin slices; it is there if their airway is open."""
        return self.folder / "surface"

    @property
    def label(self) -> str:
        """Return the name of its results' folder."""
        return self.name if self.phase == 0 else f"{self.name}.phase{self.phase}"

    @property
    def is_open(self) -> bool:
        """Say whether there is an airway to compare with."""
        return (self.surface / "surface.json").is_file()


def prepare_case(
    case: Case,
    source: Path,
    folder: Path,
    training: TrainingSettings,
    *,
    margin_mm: float | None,
    phase: int = 0,
) -> PreparedCase:
    """Make the thick slices, airway and surface of a test case, each unless it is there.

    Parameters
    ----------
    case
        Case of the role test.
    source
        Its volume.
    folder
        Folder of the case; further phases have their own inside.
    training
        Says how thick slices are made of thin ones.
    margin_mm
        Margin around the airway to which the volume is cut, mm; None: not cut.
    phase
        Thin slices left out below the first thick slice.

    Raises
    ------
    InputError
        If the volume is unusable.
    """
    from stages.airway.stage import run as find_airway
    from stages.triplets.stage import run as make_triplets

    whole = folder / "whole-airway"
    own = folder if phase == 0 else folder / f"phase{phase}"
    own.mkdir(parents=True, exist_ok=True)
    found, cut = PreparedCase(case.case, own, phase), own / "cut.nii.gz"
    if not whole.is_dir():
        find_airway(source, whole, AIRWAY)
    if not _is_whole(cut):
        _cut(source, whole, cut, margin_mm, phase=phase, factor=training.factor)
    if not (own / "triplets").is_dir():
        settings = TripletsSettings(
            factor=training.factor, stride=training.factor, profile=training.profile
        )
        make_triplets(cut, own / "triplets", settings)
    if not found.airway.is_dir():
        find_airway(found.hr, found.airway, AIRWAY, reference=whole)
    if not found.is_open:
        _make_surface(found)
    return found


def closed_reason(airway: Path) -> str | None:
    """Return why an airway is closed; None if it is open."""
    record = read_json(airway / "airway.json")
    return None if record.get("patent") else record.get("reason") or "The airway is closed."


def _make_surface(case: PreparedCase) -> None:
    from stages.surface.stage import run as make_surface

    reason = closed_reason(case.airway)
    if reason:
        _LOG.warning("%s: only images are compared: %s", case.name, reason)
        return
    try:
        make_surface(case.hr, case.airway, case.surface, SURFACE, overwrite=True)
    except Ct2FlowError as error:
        _LOG.warning("%s: only images are compared: %s", case.name, error)


def _is_whole(volume: Path) -> bool:
    return volume.is_file() and volume.with_name(f"{volume.name}.json").is_file()


def _cut(
    source: Path,
    airway: Path,
    output: Path,
    margin_mm: float | None,
    *,
    phase: int,
    factor: int,
) -> None:
    volume = read_volume(source)
    first, last = np.zeros(3, dtype=np.int64), np.array(volume.grid.shape)
    lumen_path = airway / "lumen.nii.gz"
    if margin_mm is not None and lumen_path.is_file():
        lumen = read_volume(lumen_path)
        first, last = box_around(lumen.values > 0, lumen.grid, volume.grid, margin_mm=margin_mm)
    first, last = shifted(first, last, phase=phase, factor=factor)
    piece = cut_volume(volume, first, last)
    with publish(
        output,
        kind="volume",
        stage=_STAGE,
        settings={"margin_mm": margin_mm, "phase": phase},
        inputs=[source, airway],
        overwrite=True,
    ) as pending:
        write_volume(pending.path, piece)
        pending.properties |= {
            "first_voxel": [int(v) for v in first],
            "shape": list(piece.grid.shape),
            "source_shape": list(volume.grid.shape),
            "spacing_mm": list(piece.grid.spacing_mm),
        }
