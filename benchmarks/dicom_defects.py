"""Show every defect of `tests/stages/ingest/defects.py` to other readers and write the table.

    python benchmarks/dicom_defects.py docs/dicom_defects.md

dcm2niix (BSD) runs as a program, SimpleITK (GDCM) in this process. A reader is right if every
voxel of its largest volume has the value that the test image has at the place that the reader
gives it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import scipy.ndimage
import SimpleITK

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "stages" / "ingest"))

from ct_series import hu_at
from defects import DEFECTS, Defect

Found = tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]
Found = tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]
HEAD = """# Defects of DICOM discs, and what the reader does with them

Each row is a small series that has the defect, made by `tests/stages/ingest/defects.py`; its every voxel
is known from its place in the patient. "right" means that every voxel has its true value at its true
place, to rounding (gantry tilt: to linear interpolation); otherwise the largest error is given, of an
image that spans about 1000 HU. "read as sound" stands where the scan cannot be trusted and the reader
neither fails nor leaves it out.

`ct2flow ingest` is held to its column by `tests/stages/ingest/test_ingest_defects.py`. The other columns
were measured with `python benchmarks/dicom_defects.py docs/dicom_defects.md` (dcm2niix {dcm2niix},
SimpleITK {simpleitk}, its series of most files).

| part | defect | what `ct2flow ingest` does | dcm2niix | SimpleITK |
|---|---|---|---|---|
"""


def dcm2niix(scan: Path, folder: Path) -> Found | None:
    program = Path(sys.executable).parent / "dcm2niix"
    source = scan.parent if scan.name == "DICOMDIR" else scan
    command = [program, "-b", "n", "-z", "n", "-f", "%s_%p", "-d", "9", "-o", folder, source]
    subprocess.run(command, check=False, capture_output=True, timeout=60)
    made = sorted(folder.glob("*.nii"))
    tilted = [path for path in made if "Tilt" in path.name]
    images = [nibabel.load(path) for path in tilted or made]
    images = [image for image in images if len(image.shape) == 3]
    if not images:
        return None
    largest = max(images, key=lambda image: image.shape[2])
    affine = np.diag([-1, -1, 1, 1]) @ largest.affine
    return largest.get_fdata(), lambda index: index @ affine[:3, :3].T + affine[:3, 3]


def simpleitk(scan: Path, folder: Path) -> Found | None:
    del folder
    source = scan.parent if scan.name == "DICOMDIR" else scan
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(flag=False)
    reader = SimpleITK.ImageSeriesReader()
    names = [
        reader.GetGDCMSeriesFileNames(str(place), uid)
        for place in [source, *(p for p in source.rglob("*") if p.is_dir())]
        for uid in reader.GetGDCMSeriesIDs(str(place))
        if source.is_dir()
    ]
    if not names:
        return None
    reader.SetFileNames(max(names, key=len))
    try:
        image = reader.Execute()
    except RuntimeError:
        return None
    values = SimpleITK.GetArrayFromImage(image).astype(float)
    if values.ndim != 3:
        return None
    spacing, origin = np.array(image.GetSpacing()), np.array(image.GetOrigin())
    axes = np.array(image.GetDirection()).reshape(3, 3)
    return values.transpose(2, 1, 0), lambda index: (index * spacing) @ axes.T + origin


def verdict(defect: Defect, found: Found | None) -> str:
    if found is None:
        return "no volume"
    values, world = found
    index = np.stack(np.indices(values.shape), axis=-1)
    truth = hu_at(world(index.reshape(-1, 3).astype(float))).reshape(values.shape)
    measured = (values > -1010) | (truth > -900)
    if defect.padded:
        outside = values <= max(-1024, values.min())
        measured = ~scipy.ndimage.binary_dilation(outside, np.ones((3, 3, 1)))
    error = np.abs(values - truth)[measured].max() if measured.any() else np.inf
    right = error <= max(defect.tolerance_hu, 1.0) and defect.outcome != "refused"
    if right and values.shape[2] == defect.slices:
        return "right"
    slices = f"{values.shape[2]} slices"
    if right:
        return f"right, but {slices} of {defect.slices}"
    sound = "read as sound: " if defect.outcome == "refused" else ""
    return f"{sound}{slices}, up to {error:.0f} HU wrong"


def row(defect: Defect) -> str:
    cells = [defect.part, defect.name, defect.does]
    for read in (dcm2niix, simpleitk):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            out.mkdir()
            cells.append(verdict(defect, read(defect.make(Path(folder)), out)))
    return "| " + " | ".join(cells) + " |\n"


def main() -> None:
    program = Path(sys.executable).parent / "dcm2niix"
    shown = subprocess.run([program, "--version"], check=False, capture_output=True, text=True)
    head = HEAD.format(
        dcm2niix=shown.stdout.strip().splitlines()[-1], simpleitk=SimpleITK.Version_VersionString()
    )
    text = head + "".join(row(defect) for defect in DEFECTS)
    Path(sys.argv[1]).write_text(text)
    print(text)


if __name__ == "__main__":
    main()
