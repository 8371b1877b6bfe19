"""Real scans: geometry and HU agree with SimpleITK where that is right, and where not we know why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from numpy.testing import assert_allclose
from scipy import ndimage

from pipeline.core.volume import Volume
from stages.ingest.settings import IngestSettings
from stages.ingest.stage import read_scan

DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data"
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="needs the development scans, which are not in the repository"
)


def simpleitk_series(folder: Path):
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    SimpleITK.ProcessObject.GlobalWarningDisplayOff()
    return reader.Execute()


def assert_equal(volume: Volume, image):
    values = np.maximum(SimpleITK.GetArrayFromImage(image), -1024)
    assert np.array_equal(volume.values, values)
    assert_allclose(volume.grid.origin_mm, image.GetOrigin(), atol=1e-4)
    assert_allclose(volume.grid.spacing_mm[::-1], image.GetSpacing(), rtol=1e-6)


@pytest.mark.parametrize("thickness_mm", [1, 5])
def test_the_skull_phantom_equals_simpleitk(thickness_mm):
    folder = DATA / f"philips-skull-phantom-{thickness_mm}mm"
    reading = read_scan(folder, IngestSettings())
    assert_equal(reading.volume, simpleitk_series(folder))
    assert reading.properties["slice_thickness_mm"] == thickness_mm


def test_the_visible_human_equals_simpleitk():
    path = next((DATA / "visible-human-female-head").glob("*.nrrd"))
    reading = read_scan(path, IngestSettings())
    assert_equal(reading.volume, SimpleITK.ReadImage(str(path)))


def test_the_pcir_head_is_its_regular_part_and_simpleitk_is_wrong_about_it():
    folder = DATA / "pcir-head-ct"
    reading = read_scan(folder, IngestSettings())
    assert reading.volume.grid.shape == (184, 512, 512)
    assert_allclose(reading.volume.grid.spacing_mm, (1.25, 0.488281, 0.488281), rtol=1e-6)
    assert any("left out 4 of 188" in w and "-113.75" in w for w in reading.warnings)
    image = simpleitk_series(folder)
    # SimpleITK stacks the four re-scanned slices with the others and averages the spacing.
    assert image.GetSize()[2] == 188
    assert image.GetSpacing()[2] == pytest.approx(1.2233, abs=1e-3)
    top = np.maximum(SimpleITK.GetArrayViewFromImage(image)[-1], -1024)
    assert np.array_equal(reading.volume.values[-1], top)


@pytest.mark.parametrize(("series", "spacing_mm"), [("1", 4.22), ("2", 7.38)])
def test_the_tilted_head_equals_a_resampling_of_its_true_slices(series, spacing_mm):
    reading = read_scan(DATA / "ge-head-tilted", IngestSettings(series=series))
    volume = reading.volume
    # Slices lie spacing_mm apart along the table; cos(18.5 degrees) of that along the normal.
    assert volume.grid.spacing_mm[0] == pytest.approx(spacing_mm * np.cos(np.radians(18.5)), 1e-4)
    assert reading.properties["tilt_corrected_degrees"] == pytest.approx(18.5, abs=0.01)
    assert any("gantry tilt" in warning for warning in reading.warnings)
    folder = DATA / "ge-head-tilted"
    names = (
        sorted(p for p in folder.iterdir() if int(p.stem) <= 14)
        if series == "1"
        else sorted(p for p in folder.iterdir() if int(p.stem) > 14)
    )
    for k in (0, 6, 13):
        original = SimpleITK.Cast(SimpleITK.ReadImage(str(names[k])), SimpleITK.sitkFloat32)
        assert_slice_equal(volume, k, SimpleITK.Maximum(original, -1024.0))


def assert_slice_equal(volume, k, original):
    """Compare one slice of ours with SimpleITK's linear interpolation of the file it came from."""
    target = SimpleITK.Image([volume.grid.shape[2], volume.grid.shape[1], 1], SimpleITK.sitkInt16)
    target.SetSpacing([*volume.grid.spacing_mm[:0:-1], 1.0])
    target.SetDirection(np.array(volume.grid.axes)[::-1].T.ravel().tolist())
    target.SetOrigin(volume.grid.to_world_mm(np.array([k, 0, 0])).tolist())
    # A slab of three equal slices, since SimpleITK does not interpolate in a single one.
    slab = SimpleITK.GetImageFromArray(np.repeat(SimpleITK.GetArrayFromImage(original), 3, 0))
    slab.CopyInformation(
        SimpleITK.GetImageFromArray(np.zeros((3, *original.GetSize()[1::-1]), np.int16))
    )
    slab.SetSpacing(original.GetSpacing())
    slab.SetDirection(original.GetDirection())
    start = original.TransformContinuousIndexToPhysicalPoint([0.0, 0.0, -1.0])
    slab.SetOrigin(start)
    theirs = SimpleITK.GetArrayFromImage(
        SimpleITK.Resample(
            slab, target, SimpleITK.Transform(), SimpleITK.sitkLinear, -5000.0, slab.GetPixelID()
        )
    )[0]
    # Beyond its last row of centres SimpleITK repeats the edge; we blend with the padding.
    inside = ndimage.binary_erosion(theirs > -4000)
    assert np.count_nonzero(inside) > 0.8 * original.GetSize()[0] * original.GetSize()[1]
    # Header directions have seven digits: over 250 mm they move a sample by 1e-4 pixels, across
    # edges of up to 3000 HU.
    assert_allclose(volume.values[k][inside], theirs[inside], rtol=0, atol=1.0)
