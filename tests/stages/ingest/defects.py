"""Every defect that a clinic's disc was found to have, as a series that has it.

Each row says how to make the series, what the reader does, and which words say so. The tests
hold the reader to it; `benchmarks/dicom_defects.py` shows the same series to other readers.
"""

from __future__ import annotations

import random
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from ct_series import Series, hu_at, set_pixels
from multiframe import enhanced, save
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

ROUNDING_HU = 0.51


@dataclass(frozen=True)
class Defect:
    """Describe one defect.

    Parameters
    ----------
    make
        Writes the scan into a folder and returns what to read.
    does
        What the reader does with it, for the table.
    outcome
        "read" (nothing is wrong with it), "told" (read, with a warning) or "refused".
    words
        Part of the warning or of the refusal.
    tolerance_hu
        Largest deviation of any voxel from the truth at its place.
    slices
        Slices of the volume.
    padded
        Whether the lowest values, and those interpolated with them, stand for no measurement.
    """

    part: str
    name: str
    make: Callable[[Path], Path]
    does: str
    outcome: str = "read"
    words: str = ""
    tolerance_hu: float = ROUNDING_HU
    slices: int = 16
    padded: bool = False


def series(**settings):
    return lambda folder: Series(**settings).write(folder / "scan")


def changed(change, **settings):
    return series(change=change, **settings)


def placed(*offsets_mm, **settings):
    middle = float(np.mean([min(offsets_mm), max(offsets_mm)]))
    return series(offsets_mm=[o - middle for o in offsets_mm], **settings)


def stored(**settings):
    def change(dataset, k):
        set_pixels(dataset, np.rint(hu_at(Series().world(k))), **settings)

    return changed(change)


def elements(**values):
    def change(dataset, k):
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return changed(change)


def with_study(dataset, k):
    dataset.StudyTime, dataset.StudyID = "101112", "1"


def written(syntax):
    """Write native encodings; pydicom converts the elements but not the pixels."""

    def make(folder):
        (folder / "scan").mkdir(parents=True)
        for name, dataset in Series().slices():
            if syntax == ExplicitVRBigEndian:
                dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
            dataset.file_meta.TransferSyntaxUID = syntax
            pydicom.dcmwrite(
                folder / "scan" / name,
                dataset,
                implicit_vr=syntax == ImplicitVRLittleEndian,
                little_endian=syntax != ExplicitVRBigEndian,
            )
        return folder / "scan"

    return make


def packed(syntax):
    """Compress with GDCM, which writes every lossless form of JPEG."""

    def make(folder):
        import gdcm

        # GDCM would write the time of day into every file that has no study time.
        plain = Series(change=with_study).write(folder / "plain")
        (folder / "scan").mkdir()
        for path in sorted(plain.iterdir()):
            reader = gdcm.ImageReader()
            reader.SetFileName(str(path))
            assert reader.Read()
            change = gdcm.ImageChangeTransferSyntax()
            change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
            change.SetInput(reader.GetImage())
            assert change.Change()
            writer = gdcm.ImageWriter()
            writer.SetFileName(str(folder / "scan" / path.name))
            writer.SetFile(reader.GetFile())
            writer.SetImage(change.GetOutput())
            assert writer.Write()
        return folder / "scan"

    return make


def shuffled_names(folder):
    order = random.Random(3).sample(range(16), 16)

    def number(dataset, k):
        dataset.InstanceNumber = order[k] + 1

    return Series(change=number, name=lambda k: f"IM{order[-1 - k]:03d}.dcm").write(
        folder / "scan"
    )


def mess(folder):
    scan = Series(name=lambda k: f"a b/DEEP{k % 3}/{k:08X}").write(folder / "scan")
    (scan / "autorun.inf").write_text("[autorun]\n")
    (scan / "viewer.exe").write_bytes(b"MZ" + bytes(3000))
    (scan / "a b" / "report.pdf").write_bytes(b"%PDF-1.4" + bytes(300))
    return scan


def zipped(folder):
    scan = Series().write(folder / "plain")
    with zipfile.ZipFile(folder / "scan.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(scan.iterdir()):
            archive.write(path, f"disc/{path.name}")
    shutil.rmtree(scan)
    return folder / "scan.zip"


def disc(folder):
    from pydicom.fileset import FileSet

    files = FileSet()
    for path in sorted(Series(change=with_study).write(folder / "plain").iterdir()):
        files.add(path)
    files.write(folder / "scan")
    files._stage["t"].cleanup()  # its temporary folder would warn when it is collected
    return folder / "scan" / "DICOMDIR"


def several(*parts):
    """Write several series or parts of one into a folder."""

    def make(folder):
        for i, settings in enumerate(parts):
            Series(name=lambda k, i=i: f"p{i}-{k:03d}", **settings).write(folder / "scan")
        return folder / "scan"

    return make


def one_kernel(name):
    def change(dataset, k):
        dataset.ConvolutionKernel = name
        if name == "H10s":
            dataset.PixelData = bytes(len(dataset.PixelData))

    return change


def localizer(dataset, k):
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def acquisition(number):
    def change(dataset, k):
        dataset.AcquisitionNumber = number

    return change


def thickness(value):
    return elements(SliceThickness=value)


def later(dataset, k):
    if k == 16:
        dataset.AcquisitionNumber = 9
    if k == 4:
        dataset.PixelData = bytes(len(dataset.PixelData))


def clash(dataset, k):
    dataset.InstanceNumber = 5 if k == 16 else k + 1
    if k == 16:
        dataset.PixelData = bytes(len(dataset.PixelData))


def rescaled(dataset, k):
    hu = np.rint(hu_at(Series().world(k)))
    set_pixels(dataset, hu, slope=0.5 + 0.1 * (k % 3), intercept=-1024 - k)


def tilted(dataset, k):
    dataset.GantryDetectorTilt = "20.136"


def padded(dataset, k):
    hu = np.rint(hu_at(Series().world(k)))
    hu[:3], hu[3] = -2000, -1500
    set_pixels(dataset, hu, intercept=0.0, signed=True, stored=16)
    dataset.add_new("PixelPaddingValue", "SS", -2000)


def overlay(dataset, k):
    set_pixels(dataset, np.rint(hu_at(Series().world(k))), intercept=0.0, signed=True)
    values = np.frombuffer(dataset.PixelData, np.uint16) & 0x0FFF
    dataset.PixelData = (values | 0x5000).tobytes()


def cut(folder):
    scan = Series().write(folder / "scan")
    path = sorted(scan.iterdir())[7]
    path.write_bytes(path.read_bytes()[:-400])
    return scan


def unscaled(dataset, k):
    del dataset.RescaleSlope, dataset.RescaleIntercept


def multiframe(folder):
    return save(enhanced(Series()), folder / "scan")


OBLIQUE = (0.8, 0.0, 0.6, 0.0, 1.0, 0.0)
SAGITTAL, CORONAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0), (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
EVEN = [1.5 * k for k in range(16)]

DEFECTS = (
    Defect("disc", "any depth, no suffix, foreign files", mess, "reads what is DICOM by content"),
    Defect("disc", "zip", zipped, "reads inside, unpacks nothing to disk"),
    Defect("disc", "DICOMDIR", disc, "reads its folder and counts files that it names in vain"),
    Defect(
        "disc",
        "localizer in the same series",
        several({}, {"change": localizer, "count": 2}),
        "leaves it out",
        "told",
        "left out 2 images of the same series",
    ),
    Defect(
        "disc",
        "two kernels under one series UID",
        several({"change": one_kernel("H60s")}, {"change": one_kernel("H10s"), "count": 12}),
        "splits by kernel, takes the longer, lists the other",
        "told",
        "left out 12 images of the same series",
    ),
    Defect(
        "disc",
        "two acquisitions under one series UID",
        several({"change": acquisition(1)}, {"change": acquisition(2)}),
        "splits by acquisition, takes the first, lists the other",
        "told",
        "also suitable",
    ),
    Defect(
        "disc",
        "thick and thin series in one folder",
        several({"uid": "1.1", "spacing_mm": 4.5, "count": 6}, {"uid": "1.2"}),
        "takes the thinnest axial head series, lists the others",
        "told",
        "also suitable",
    ),
    Defect(
        "geometry", "names and instance numbers in another order", shuffled_names, "ignores both"
    ),
    Defect(
        "geometry",
        "slices run from head to feet",
        placed(*reversed(EVEN)),
        "sorts by position; the volume always grows towards the head",
    ),
    Defect(
        "geometry",
        "Slice Thickness larger than the spacing (overlap)",
        thickness(3.0),
        "places by position, keeps both numbers",
    ),
    Defect(
        "geometry",
        "Slice Thickness smaller than the spacing (gaps)",
        thickness(0.6),
        "places by position, keeps both numbers, says that tissue is missing",
        "told",
        "was not imaged",
    ),
    Defect(
        "geometry",
        "identical copies of slices",
        placed(*EVEN, 3.0, 6.0),
        "keeps one",
        "told",
        "left out 2 identical copies",
    ),
    Defect(
        "geometry",
        "one place scanned twice, other image later",
        placed(*EVEN, 6.0, change=later),
        "takes the later acquisition",
        "told",
        "later acquisition was taken",
    ),
    Defect(
        "geometry",
        "one place scanned twice, no telling which is later",
        placed(*EVEN, 6.0, change=clash),
        "refuses, names the place",
        "refused",
        "nothing says which is the later",
    ),
    Defect(
        "geometry",
        "re-scanned slices between the others",
        placed(*EVEN, 2.1, 3.6, 5.1),
        "leaves them out, names the places",
        "told",
        "left out 3 of 19 slices that lie off the regular grid",
    ),
    Defect(
        "geometry",
        "missing slices",
        placed(*(o for o in [*EVEN, 24.0, 25.5, 27.0, 28.5] if o not in (9.0, 10.5))),
        "refuses, says how many and where; `--missing-slices crop` keeps the longest part",
        "refused",
        "2 of 20 slices are missing, near",
    ),
    Defect(
        "geometry",
        "uneven spacing",
        placed(*np.cumsum([0, 4.2, 4.2, 4.2, 1.1, 7.4, 7.4, 7.4]).tolist()),
        "refuses, gives the range",
        "refused",
        "varies from 1.10 to 7.40 mm",
    ),
    Defect(
        "geometry",
        "positions rounded to 0.1 mm",
        placed(*(round(0.625 * k, 1) for k in range(48))),
        "fits the even spacing by least squares, gives the largest deviation",
        "told",
        "off an even spacing",
        # 0.05 mm times the steepest gradient of the test image.
        tolerance_hu=6.0,
        slices=48,
    ),
    Defect(
        "geometry",
        "gantry tilt",
        changed(tilted, shift_mm=(0.55, 0.0), rows=40, columns=44, pixel_mm=(0.7, 0.7)),
        "shifts each slice back within its plane onto an orthogonal grid, gives the angle",
        "told",
        "gantry tilt of 20.1 degrees",
        # Linear interpolation, h^2/8 max|f''| per axis (see test_ingest_geometry.py).
        tolerance_hu=4.5,
        padded=True,
    ),
    Defect("geometry", "oblique stack", series(orientation=OBLIQUE), "keeps the oblique grid"),
    Defect(
        "geometry",
        "sagittal stack",
        series(orientation=SAGITTAL),
        "keeps the orientation, says so",
        "told",
        "not axial",
    ),
    Defect(
        "geometry",
        "coronal stack",
        series(orientation=CORONAL),
        "keeps the orientation, says so",
        "told",
        "not axial",
    ),
    Defect(
        "geometry",
        "feet first, prone",
        series(orientation=(-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)),
        "turns indices, never voxels",
    ),
    Defect("geometry", "pixels that are not square", series(pixel_mm=(1.9, 0.8)), "keeps them"),
    Defect(
        "geometry",
        "mixed matrix sizes",
        several({}, {"rows": 22, "count": 5}),
        "splits by matrix, takes the longer, lists the other",
        "told",
        "left out 5 images of the same series",
    ),
    Defect(
        "geometry",
        "mixed orientations",
        several({}, {"orientation": OBLIQUE, "count": 4}),
        "splits by orientation, takes the longer, lists the other",
        "told",
        "left out 4 images of the same series",
    ),
    Defect(
        "geometry",
        "no position",
        elements(ImagePositionPatient=None),
        "refuses",
        "refused",
        "no position or orientation",
    ),
    Defect(
        "geometry",
        "skewed orientation vectors",
        elements(ImageOrientationPatient=[1, 0, 0, 0.7, 0.7, 0]),
        "refuses",
        "refused",
        "not two orthogonal unit vectors",
    ),
    Defect(
        "pixels",
        "rescale slope and intercept differ per slice",
        changed(rescaled),
        "applies each slice's own",
        tolerance_hu=ROUNDING_HU + 0.36,
    ),
    Defect("pixels", "signed pixels", stored(intercept=0.0, signed=True, stored=16), "reads them"),
    Defect(
        "pixels",
        "padding value and values outside the reconstruction circle",
        changed(padded),
        "sets both to -1024 HU and counts them",
        padded=True,
    ),
    Defect("pixels", "overlay hidden above the stored bits", changed(overlay), "drops these bits"),
    Defect("pixels", "implicit VR", written(ImplicitVRLittleEndian), "reads it"),
    Defect("pixels", "big endian", written(ExplicitVRBigEndian), "reads it"),
    Defect("pixels", "deflated", written(DeflatedExplicitVRLittleEndian), "reads it, bounded"),
    Defect("pixels", "RLE", changed(lambda d, _: d.compress(RLELossless)), "reads it"),
    Defect("pixels", "JPEG lossless", packed(JPEGLosslessSV1), "reads it"),
    Defect("pixels", "JPEG-LS", packed(JPEGLSLossless), "reads it"),
    Defect("pixels", "JPEG 2000", packed(JPEG2000Lossless), "reads it"),
    Defect("pixels", "enhanced multi-frame", multiframe, "places every frame by its own position"),
    Defect(
        "pixels",
        "no rescaling, values are not HU",
        changed(unscaled),
        "refuses",
        "refused",
        "a CT in HU holds air near -1000",
    ),
    Defect(
        "pixels",
        "constant image",
        changed(lambda d, _: setattr(d, "PixelData", bytes(len(d.PixelData)))),
        "refuses",
        "refused",
        "Every voxel has the value",
    ),
    Defect("pixels", "file cut short", cut, "refuses", "refused", "cut short"),
    Defect(
        "pixels",
        "header claims 65535 x 65535 pixels",
        elements(Rows=65535, Columns=65535),
        "refuses, allocates nothing",
        "refused",
        "a claimed size of 65535 x 65535",
    ),
    Defect(
        "pixels",
        "colour screen captures",
        elements(SamplesPerPixel=3),
        "refuses",
        "refused",
        "colour images",
    ),
    Defect("pixels", "another modality", elements(Modality="MR"), "refuses", "refused", "not CT"),
    Defect(
        "pixels",
        "a map of something else than HU",
        elements(RescaleType="EDW"),
        "refuses",
        "refused",
        "values in EDW, not HU",
    ),
    Defect(
        "pixels",
        "text burnt into the pixels",
        elements(BurnedInAnnotation="YES"),
        "reads it, warns",
        "told",
        "burnt into the pixels",
    ),
)
assert len({defect.name for defect in DEFECTS}) == len(DEFECTS)
