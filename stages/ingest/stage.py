"""Read a scan and write it as a de-identified volume in HU."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import FileDataset

from pipeline.core.artefacts import check_writable, digest, publish
from pipeline.core.errors import InputError, UsageError
from pipeline.core.face import shows_face
from pipeline.core.progress import Progress
from pipeline.core.scan_files import Entry, open_entries
from pipeline.core.units import PADDING_HU
from pipeline.core.volume import Volume, write_volume
from stages.ingest import findings
from stages.ingest.assembly import Layout, assemble, lay_out
from stages.ingest.checks import check_hu
from stages.ingest.directory import count_lost
from stages.ingest.headers import (
    DAMAGED,
    NotDicomError,
    SliceHeader,
    quiet_decoding,
    read_dataset,
    read_headers,
)
from stages.ingest.images import is_volume_file, read_image
from stages.ingest.orienting import orient, thick_axis
from stages.ingest.pixels import DecodedSlice, decode, decode_plain
from stages.ingest.series import Group, choose, format_groups, group_series
from stages.ingest.settings import IngestSettings
from stages.ingest.stacking import Stack, stack_slices

_LOG = logging.getLogger("ct2flow.ingest")
FACE = (
    "the volume shows the face, by which a person can be recognised; before you share it, run "
    "'ct2flow deidentify face'"
)


@dataclass(frozen=True)
class Reading:
    """Hold what came out of a scan: the volume, harmless facts, caveats and the series' number."""

    volume: Volume
    properties: dict[str, Any]
    warnings: list[str]
    series: str | None = None


def run(scan: Path, output: Path, settings: IngestSettings, *, overwrite: bool = False) -> None:
    """Read a scan into a volume in HU.

    Parameters
    ----------
    scan
        Folder, .zip or DICOMDIR of DICOM, or a volume file in HU.
    output
        Volume to write, .nii.gz or .nii.
    settings
        Choice of series and tolerances.
    overwrite
        Replace an existing output.

    Raises
    ------
    InputError
        If the scan holds no sound CT series.
    UsageError
        If the output's name is no NIfTI name or exists, or the chosen series does not.
    """
    if not output.name.endswith((".nii", ".nii.gz")):
        raise UsageError(f"{output.name}: the output must end in .nii.gz or .nii; rename it.")
    check_writable(output, overwrite=overwrite)
    reading = read_scan(scan, settings)
    # The user may have named the series by its UID, which must not travel with the volume.
    recorded = settings.model_copy(update={"series": reading.series})
    with publish(
        output,
        kind="volume",
        stage="ingest",
        settings=recorded,
        inputs={"scan": digest(_content(scan))},
        overwrite=overwrite,
    ) as pending:
        write_volume(pending.path, reading.volume)
        pending.warnings += reading.warnings
        pending.properties |= reading.properties


def read_scan(scan: Path, settings: IngestSettings) -> Reading:
    """Read a scan of any supported kind; its caveats go to the log as well."""
    if not scan.exists():
        raise InputError(f"{scan.name}: no such file or folder; give a CT scan.", path=scan)
    if scan.is_file() and is_volume_file(scan):
        reading = _read_volume_file(scan, settings)
    else:
        reading = _read_dicom(scan, settings)
    if shows_face(reading.volume):
        reading.warnings.append(FACE)
    for warning in reading.warnings:
        _LOG.warning("%s", warning)
    return reading


def describe(scan: Path, settings: IngestSettings) -> str:
    """Return the table of the series in a scan."""
    if not scan.exists():
        raise InputError(f"{scan.name}: no such file or folder; give a CT scan.", path=scan)
    with open_entries(scan, max_unpacked_gib=settings.max_unpacked_gib) as entries:
        return format_groups(_groups(entries, settings))


def _groups(entries: Sequence[Entry], settings: IngestSettings) -> list[Group]:
    groups = group_series(_read_headers(entries), settings.minimum_slices)
    if not groups:
        raise InputError(
            f"No DICOM image among {len(entries)} files; give a folder, zip or DICOMDIR of a CT "
            "series, or a .nii.gz, .nrrd or .mha volume in HU.",
            files=len(entries),
        )
    return groups


def _content(scan: Path) -> Path:
    return scan.resolve().parent if scan.name.upper() == "DICOMDIR" else scan


def _read_volume_file(path: Path, settings: IngestSettings) -> Reading:
    if settings.series is not None:
        raise UsageError(f"--series: {path.name} is one volume; leave the option out.")
    volume = read_image(path)
    slice_axis = thick_axis(volume.grid)
    volume = orient(volume, slice_axis)
    below = volume.values < PADDING_HU
    volume.values[below] = PADDING_HU
    hu, warnings = check_hu(volume.values)
    facts = findings.of_volume(volume, hu) | {
        "source": "volume",
        "clipped_voxels": int(below.sum()),
    }
    return Reading(volume, facts, findings.about_grid(volume.grid) + warnings)


def _read_dicom(scan: Path, settings: IngestSettings) -> Reading:
    with open_entries(scan, max_unpacked_gib=settings.max_unpacked_gib) as entries:
        groups = _groups(entries, settings)
        group = choose(groups, settings.series)
        stack = stack_slices(
            group.positions_mm,
            [header.order for header in group.headers],
            tolerance=settings.spacing_tolerance_percent / 100.0,
            crop_gaps=settings.missing_slices == "crop",
        )
        members = [group.headers[i] for i in stack.members]
        layout = lay_out(members, stack)
        volume, padded, clipped = _decode_all(members, layout)
        repeats = _compare_repeats(group, stack)
        lost = count_lost(entries)
    volume = orient(volume, 0)
    hu, hu_warnings = check_hu(volume.values)
    facts = findings.of_volume(volume, hu) | findings.of_series(group, stack, layout)
    facts |= {"padded_voxels": padded, "clipped_voxels": clipped}
    warnings = findings.about_choice(groups, group, settings.series)
    warnings += findings.about_stack(group, stack, repeats) + findings.about_layout(layout)
    warnings += findings.about_directory(lost) + findings.about_grid(volume.grid)
    warnings += findings.about_slices(group, stack)
    return Reading(volume, facts, warnings + hu_warnings, str(group.number))


def _read_headers(entries: Sequence[Entry]) -> list[SliceHeader]:
    headers = []
    with Progress("read headers", len(entries), "files") as progress:
        for entry in entries:
            try:
                headers += read_headers(entry)
            except NotDicomError:
                _LOG.debug("%s: no DICOM image, left out", entry.name)
            progress.advance()
    return headers


def _decode_all(headers: Sequence[SliceHeader], layout: Layout) -> tuple[Volume, int, int]:
    decode_one = _Decoder()
    with Progress("read slices", len(headers), "slices") as progress:

        def decode_slice(index: int) -> DecodedSlice:
            decoded = decode_one(headers[index])
            progress.advance()
            return decoded

        return assemble(layout, len(headers), decode_slice)


class _Decoder:
    """Decode slices; a multi-frame file stays open from one of its frames to the next."""

    def __init__(self) -> None:
        self._entry: Entry | None = None
        self._dataset = FileDataset("", {})

    def __call__(self, header: SliceHeader) -> DecodedSlice:
        return _decode(header, self._decoded)

    def _decoded(self, header: SliceHeader) -> DecodedSlice:
        if header.plain is not None:
            return decode_plain(header, header.plain)
        if header.frame is None or header.entry is not self._entry:
            self._dataset = read_dataset(header.entry)
            self._entry = header.entry
        return decode(header, self._dataset)


def _decode(
    header: SliceHeader, decode_one: Callable[[SliceHeader], DecodedSlice]
) -> DecodedSlice:
    name = header.entry.name
    try:
        with quiet_decoding():
            return decode_one(header)
    except NotDicomError as error:
        raise InputError(f"{name}: changed while it was read; run again.", file=name) from error
    except DAMAGED as error:
        raise InputError(
            f"{name}: its pixels cannot be read ({type(error).__name__}); the file is damaged. "
            "Export the series again.",
            file=name,
        ) from error


def _compare_repeats(group: Group, stack: Stack) -> list[findings.Repeat]:
    """Compare each image that was left out with the one used at its place.

    Raises
    ------
    InputError
        If they differ and nothing says which one is the later.
    """
    repeats = []
    decode_one = _Decoder()
    for used, other in stack.repeated:
        one, two = group.headers[used], group.headers[other]
        same = _digest_of(decode_one(one)) == _digest_of(decode_one(two))
        place = group.positions_mm[used]
        if not same and one.order[:2] == two.order[:2] and one.order[2] == two.order[2]:
            raise InputError(
                f"Two different images lie at {place:.2f} mm and nothing says which is the later; "
                "export the series again without the other one.",
                position_mm=place,
            )
        repeats.append(findings.Repeat(place, same))
    return repeats


def _digest_of(decoded: DecodedSlice) -> bytes:
    return hashlib.sha256(decoded.values.tobytes()).digest()
