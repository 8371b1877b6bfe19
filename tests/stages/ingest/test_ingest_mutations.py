"""Damaged scans: whatever happens to the bytes, the answer is a volume or one of our sentences."""

from __future__ import annotations

import random
import shutil
import struct
import zipfile

import pydicom
import pytest
import SimpleITK
from ct_series import Series, at_most
from multiframe import enhanced, save
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from pipeline.core.errors import Ct2FlowError
from stages.ingest.settings import IngestSettings
from stages.ingest.stage import describe, read_scan

SETTINGS = IngestSettings()
MEMORY_BYTES = 64 * 2**20
"""The series holds 30 kB; a header that claims gigabytes must not be believed."""


def flip_bytes(path, generator):
    data = bytearray(path.read_bytes())
    for _ in range(generator.choice([1, 3, 20])):
        # Headers are where damage does most: half of the flips go there.
        end = min(len(data), 1200) if generator.random() < 0.7 else len(data)
        data[generator.randrange(end)] = generator.randrange(256)
    path.write_bytes(bytes(data))


def cut(path, generator):
    data = path.read_bytes()
    path.write_bytes(data[: generator.randrange(len(data))])


def delete_tag(path, generator):
    try:
        dataset = pydicom.dcmread(path)
    except Exception:  # noqa: BLE001 -- damaged before, in whatever way
        return
    tag = generator.choice([*dataset.keys(), *dataset.file_meta.keys()])
    # Cut the element out of the bytes: pydicom would not write what is no longer valid.
    data, start = path.read_bytes(), struct.pack("<HH", tag.group, tag.elem)
    place = data.find(start, 132)
    if place > 0:
        path.write_bytes(data[:place] + data[place + 8 + data[place + 6] :])


def replace_by_text(path, generator):
    path.write_text("not an image " * generator.randrange(200))


def remove(path, generator):
    path.unlink()


def insert_bytes(path, generator):
    data = path.read_bytes()
    place = generator.randrange(len(data))
    path.write_bytes(
        data[:place] + generator.randbytes(generator.choice([1, 8, 500])) + data[place:]
    )


MUTATIONS = (flip_bytes, flip_bytes, cut, delete_tag, replace_by_text, remove, insert_bytes)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    root = tmp_path_factory.mktemp("originals")
    small = {"count": 6, "rows": 8, "columns": 8, "pixel_mm": (4.0, 4.0), "spacing_mm": 4.0}

    def pack(dataset, k):
        dataset.compress(RLELossless)

    def deflate(dataset, k):
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    return [
        Series(**small).write(root / "plain"),
        Series(change=pack, **small).write(root / "packed"),
        Series(change=deflate, **small).write(root / "deflated"),
        save(enhanced(Series(**small)), root / "enhanced"),
    ]


def answer(scan):
    """Read a scan; return whether it gave a volume."""
    try:
        describe(scan, SETTINGS)
        read_scan(scan, SETTINGS)
    except Ct2FlowError as error:
        assert str(error).strip()  # noqa: PT017
        return False
    return True


def damage_many(originals, folder, seed, rounds):
    generator = random.Random(seed)
    for round_ in range(rounds):
        scan = folder / str(round_)
        shutil.copytree(generator.choice(originals), scan)
        for _ in range(generator.choice([1, 1, 4])):
            left = sorted(scan.iterdir())
            if left:
                generator.choice(MUTATIONS)(generator.choice(left), generator)
        with at_most(MEMORY_BYTES):
            answer(scan)
        shutil.rmtree(scan)


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_series_is_read_or_refused_in_bounded_memory(originals, tmp_path, seed):
    damage_many(originals, tmp_path, seed, 25)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 108))
def test_thousands_of_damaged_series_are_read_or_refused(originals, tmp_path, seed):
    damage_many(originals, tmp_path, seed, 250)


def test_a_damaged_zip_is_read_or_refused(originals, tmp_path):
    generator = random.Random(5)
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(originals[0].iterdir()):
            archive.write(path, path.name)
    for round_ in range(60):
        scan = tmp_path / f"{round_}.zip"
        shutil.copy(whole, scan)
        generator.choice((flip_bytes, cut, insert_bytes))(scan, generator)
        answer(scan)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_damaged_volume_file_is_read_or_refused(tmp_path, suffix):
    generator = random.Random(7)
    image = SimpleITK.GetImageFromArray(
        SimpleITK.GetArrayFromImage(SimpleITK.GaussianSource(SimpleITK.sitkInt16, [9, 8, 7]))
        - 1000
    )
    whole = tmp_path / f"whole{suffix}"
    SimpleITK.WriteImage(image, str(whole))
    for round_ in range(60):
        scan = tmp_path / f"{round_}{suffix}"
        shutil.copy(whole, scan)
        generator.choice((flip_bytes, cut, insert_bytes))(scan, generator)
        answer(scan)
