"""Read a scan and write its CT images de-identified."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core.artefacts import check_writable, digest, publish
from pipeline.core.errors import InputError, UsageError
from pipeline.core.progress import Progress
from pipeline.core.scan_files import Entry, open_entries
from stages.deidentify.images import CleanImage, clean_image
from stages.deidentify.opening import (
    DAMAGED,
    DAMAGED_FILE,
    LeftOutError,
    quiet_decoding,
    read_image,
)
from stages.deidentify.pseudonyms import Pseudonyms
from stages.deidentify.secret_file import create_secret, is_open_to_others, read_secret
from stages.deidentify.settings import DeidentifySettings

_LOG = logging.getLogger("ct2flow.deidentify")
_COPIES = "copies of others"
_BURNT_IN = "images with text burnt into the pixels"


@dataclass
class Tally:
    """Count what became of the files; holds pseudonyms and new UIDs only."""

    images: int = 0
    patients: set[str] = field(default_factory=set)
    studies: set[str] = field(default_factory=set)
    series: set[str] = field(default_factory=set)
    burnt_in: int = 0
    faces: int = 0
    nameless: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, image: CleanImage) -> None:
        """Count an image that was written."""
        self.images += 1
        self.patients.add(image.patient)
        self.studies.add(image.study)
        self.series.add(image.series)
        self.burnt_in += image.burnt_in
        self.faces += image.may_show_face
        self.nameless += not image.named


def run(
    scan: Path,
    output: Path,
    settings: DeidentifySettings,
    *,
    secret: Path,
    make_secret: bool = False,
    overwrite: bool = False,
) -> None:
    """Write the CT images of a scan de-identified, one folder per series.

    Parameters
    ----------
    scan
        Folder, .zip or DICOMDIR of DICOM.
    output
        Folder to write.
    settings
        Options of the profile.
    secret
        File with the project's secret.
    make_secret
        Make the secret if there is none.
    overwrite
        Replace an existing output.

    Raises
    ------
    InputError
        If there is no such scan, it cannot be read, or holds no CT image.
    UsageError
        If the secret is missing, too short or inside the output, or the output exists.
    """
    if not scan.exists():
        raise InputError(f"{scan.name}: no such file or folder; give a CT scan.")
    if output.resolve() in secret.resolve().parents:
        raise UsageError("--secret: lies inside the output; keep it away from the data.")
    check_writable(output, overwrite=overwrite)
    if make_secret:
        create_secret(secret)
    days = 0 if settings.keep_dates else settings.largest_shift_days
    pseudonyms = Pseudonyms(read_secret(secret), days)
    with publish(
        output,
        kind="dicom",
        stage="deidentify",
        settings=settings,
        inputs={"scan": _digest(scan)},
        overwrite=overwrite,
        folder=True,
    ) as pending:
        with open_entries(scan, max_unpacked_gib=settings.max_unpacked_gib) as entries:
            tally = _write_all(entries, pending.path, pseudonyms, settings)
        if not tally.images:
            raise InputError(
                f"{scan.name}: holds no CT image among {len(entries)} files "
                f"({_list(tally.left_out)}); give a folder, zip or DICOMDIR of a CT series.",
                left_out=dict(tally.left_out),
            )
        pending.warnings += _warnings(tally, secret)
        pending.properties |= _facts(tally, pseudonyms)
    for warning in pending.warnings:
        _LOG.warning("%s", warning)


def _digest(scan: Path) -> str:
    """Return the scan's digest; an error must not name files, whose names may name patients."""
    try:
        return digest(scan.resolve().parent if scan.name.upper() == "DICOMDIR" else scan)
    except OSError as error:
        raise InputError(
            f"{scan.name}: a file in it cannot be read ({error.strerror}); check its permissions."
        ) from None


def _write_all(
    entries: Sequence[Entry], folder: Path, pseudonyms: Pseudonyms, settings: DeidentifySettings
) -> Tally:
    tally = Tally()
    written: dict[str, set[bytes]] = {}
    with Progress("de-identify", len(entries), "files") as progress:
        for entry in entries:
            try:
                image = _clean(entry, pseudonyms, settings)
            except LeftOutError as reason:
                tally.left_out[str(reason)] += 1
            else:
                _write(image, folder, written, tally)
            progress.advance()
    return tally


def _clean(entry: Entry, pseudonyms: Pseudonyms, settings: DeidentifySettings) -> CleanImage:
    """Return a file's de-identified image; damage is named without what was damaged."""
    try:
        with quiet_decoding():
            image = clean_image(read_image(entry), pseudonyms, settings)
    except DAMAGED:
        raise LeftOutError(DAMAGED_FILE) from None
    if image.burnt_in and settings.burnt_in == "leave-out":
        raise LeftOutError(_BURNT_IN)
    return image


def _write(image: CleanImage, folder: Path, written: dict[str, set[bytes]], tally: Tally) -> None:
    """Write an image under a name made from its new UIDs; identical copies are left out."""
    name = f"series-{_short(image.series)}/{_short(image.instance)}"
    copies = written.setdefault(name, set())
    fingerprint = hashlib.sha256(image.data).digest()
    if fingerprint in copies:
        tally.left_out[_COPIES] += 1
        return
    suffix = f"-{len(copies) + 1}" if copies else ""
    copies.add(fingerprint)
    path = folder / f"{name}{suffix}.dcm"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(image.data)
    tally.add(image)


def _short(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:12]


def _list(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))


def _warnings(tally: Tally, secret: Path) -> list[str]:
    warnings = []
    if tally.faces:
        warnings.append(
            f"{tally.faces} of {tally.images} images may show the face: a head CT can be recognised "
            "by its surface, and these copies keep every pixel; to share it without a face, run "
            "'ct2flow ingest' and 'ct2flow deidentify face'"
        )
    if tally.burnt_in:
        warnings.append(
            f"{tally.burnt_in} images have text burnt into the pixels, says their header; look at "
            "them, or leave them out with --burnt-in leave-out"
        )
    if tally.nameless:
        warnings.append(
            f"{tally.nameless} images have no patient number; name and date of birth, or the study, "
            "told whose they are"
        )
    if len(tally.patients) > 1:
        warnings.append(f"the scan holds images of {len(tally.patients)} patients")
    if tally.left_out:
        warnings.append(f"left out {tally.left_out.total()} files: {_list(tally.left_out)}")
    if is_open_to_others(secret):
        warnings.append("other users of this machine can read the secret; run 'chmod 600' on it")
    return warnings


def _facts(tally: Tally, pseudonyms: Pseudonyms) -> dict[str, object]:
    return {
        "images": tally.images,
        "patients": len(tally.patients),
        "studies": len(tally.studies),
        "series": len(tally.series),
        "images_with_burnt_in_text": tally.burnt_in,
        "images_that_may_show_a_face": tally.faces,
        "left_out": dict(sorted(tally.left_out.items())),
        "secret_check": pseudonyms.check(),
    }
