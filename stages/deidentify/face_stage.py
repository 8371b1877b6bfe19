"""Read a head, cut its face off, write it; and measure how far the surface moved."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from pipeline.core.artefacts import check_writable, publish, read_sidecar
from pipeline.core.errors import InputError, UsageError
from pipeline.core.face import shows_face
from pipeline.core.progress import Progress
from pipeline.core.units import AIR_HU
from pipeline.core.volume import Volume, read_volume, write_volume
from stages.deidentify.face import find_front, find_head, lay_cut, replace, rough_field, sample
from stages.deidentify.measuring import Change, measure_change
from stages.deidentify.protection import near_cavities, near_lumen
from stages.deidentify.settings import FaceSettings

_LOG = logging.getLogger("ct2flow.deidentify")
LUMEN = "lumen.nii.gz"
NO_FACE = (
    "no skin of a face lies free in the volume (is its front outside the field of view?); what lies "
    "in front was cut all the same"
)
RECOGNISABLE = (
    "the face was cut away, but the nose within {protect:g} mm of the airway, the ears, the shape of "
    "the skull and the teeth are left and may still be recognised"
)


def run(
    volume: Path,
    output: Path,
    settings: FaceSettings,
    *,
    airway: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Write a head without its face.

    Parameters
    ----------
    volume
        CT volume, HU.
    output
        Volume to write, .nii.gz or .nii.
    settings
        Depth of the cut and width of what is protected.
    airway
        Airway folder of this volume, or None.
    overwrite
        Replace an existing output.

    Raises
    ------
    InputError
        If the volume holds no head, or the airway folder no lumen.
    UsageError
        If the output's name is no NIfTI name or exists.
    """
    if not output.name.endswith((".nii", ".nii.gz")):
        raise UsageError(f"{output.name}: the output must end in .nii.gz or .nii; rename it.")
    check_writable(output, overwrite=overwrite)
    image = read_volume(volume)
    if not np.isfinite(image.values).all():
        raise InputError(f"{volume.name}: holds NaN or infinite values; replace them by air.")
    lumen = None if airway is None else _read_lumen(airway)
    with Progress("cut the face", 1, "volumes") as progress:
        defaced, change = deface(image, settings, lumen)
        progress.advance()
    seen = shows_face(image, settings.isolevel_hu)
    sentences = [_sentence(settings)] if seen else [NO_FACE, _sentence(settings)]
    inputs = [volume] if airway is None else [volume, airway]
    with publish(
        output,
        kind="volume",
        stage="deidentify",
        settings=settings,
        inputs=inputs,
        seed=settings.seed,
        overwrite=overwrite,
    ) as pending:
        write_volume(pending.path, defaced)
        pending.warnings += [*read_sidecar(volume).get("warnings", []), *sentences]
        pending.properties |= change.record() | {
            "defaced": True,
            "face_seen": seen,
            "airway_given": lumen is not None,
        }
    for sentence in sentences:
        _LOG.warning("%s", sentence)


def deface(image: Volume, settings: FaceSettings, lumen: Volume | None) -> tuple[Volume, Change]:
    """Return a head without its face, and how far its front moved.

    Parameters
    ----------
    image
        Head, HU.
    settings
        Depth of the cut and width of what is protected.
    lumen
        Airway lumen on its own grid; None protects all air inside the head alike.
    """
    coarse = sample(image)
    head = find_head(coarse, settings.isolevel_hu)
    front = find_front(head, coarse.grid)
    rough = rough_field(front, settings.roughness_mm, np.random.default_rng(settings.seed))
    cut = lay_cut(front, depth_mm=settings.depth_mm, rough_mm=rough)
    margin = settings.protect_airway_mm if lumen is None else settings.protect_cavity_mm
    protected = near_cavities(coarse, head, image.grid, margin, isolevel_hu=settings.isolevel_hu)
    if lumen is not None:
        protected |= near_lumen(lumen, image.grid, settings.protect_airway_mm)
    values = replace(image.values, image.grid, cut, protected, air_hu=AIR_HU)
    defaced = image.with_values(values)
    return defaced, measure_change(image, defaced, protected, front, settings.isolevel_hu)


def _read_lumen(airway: Path) -> Volume:
    """Return the lumen of an airway folder.

    Raises
    ------
    InputError
        If the folder holds none, as that of a nose that is not patent.
    """
    path = airway / LUMEN
    if not path.is_file():
        raise InputError(
            f"{airway.name}: holds no {LUMEN}; the nose is not patent, or this is no airway folder. "
            "Leave --airway out to protect all air inside the head."
        )
    return read_volume(path)


def _sentence(settings: FaceSettings) -> str:
    return RECOGNISABLE.format(protect=settings.protect_airway_mm)
