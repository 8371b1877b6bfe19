"""Damaged scans: whatever happens to the bytes, the answer is a volume or one of our sentences."""

from __future__ import annotations

import random
import re
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

VOLUME = "a volume"
SENTENCE = re.compile(r"\S.*[.)]")
"""What a refusal looks like: one line that says something and ends as a sentence does."""


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
    """Read a scan; return VOLUME, or the sentence that refuses it."""
    try:
        describe(scan, SETTINGS)
        read_scan(scan, SETTINGS)
    except Ct2FlowError as error:
        return str(error)
    return VOLUME


def is_answer(text):
    """Say whether a scan was read, or refused by one line that says something."""
    return text == VOLUME or bool(SENTENCE.fullmatch(text))


def damaged_series(originals, folder, seed, rounds):
    """Yield so many damaged copies of the series, one at a time."""
    generator = random.Random(seed)
    for round_ in range(rounds):
        scan = folder / str(round_)
        shutil.copytree(generator.choice(originals), scan)
        for _ in range(generator.choice([1, 1, 4])):
            left = sorted(scan.iterdir())
            if left:
                generator.choice(MUTATIONS)(generator.choice(left), generator)
        yield scan
        shutil.rmtree(scan)


def damaged_files(whole, folder, seed, rounds):
    """Yield so many damaged copies of a file."""
    generator = random.Random(seed)
    for round_ in range(rounds):
        scan = folder / f"{round_}{''.join(whole.suffixes)}"
        shutil.copy(whole, scan)
        generator.choice((flip_bytes, cut, insert_bytes))(scan, generator)
        yield scan


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_series_is_read_or_refused_in_bounded_memory(originals, tmp_path, seed):
    answers = []
    for scan in damaged_series(originals, tmp_path, seed, 25):
        with at_most(MEMORY_BYTES):
            answers.append(answer(scan))
    assert [text for text in answers if not is_answer(text)] == []
    assert VOLUME in answers  # harmless damage is no reason to refuse


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 108))
def test_thousands_of_damaged_series_are_read_or_refused(originals, tmp_path, seed):
    answers = []
    for scan in damaged_series(originals, tmp_path, seed, 250):
        with at_most(MEMORY_BYTES):
            answers.append(answer(scan))
    assert [text for text in answers if not is_answer(text)] == []


def test_a_damaged_zip_is_read_or_refused(originals, tmp_path):
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(originals[0].iterdir()):
            archive.write(path, path.name)
    answers = [answer(scan) for scan in damaged_files(whole, tmp_path, 5, 60)]
    assert [text for text in answers if not is_answer(text)] == []


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_damaged_volume_file_is_read_or_refused(tmp_path, suffix):
    image = SimpleITK.GetImageFromArray(
        SimpleITK.GetArrayFromImage(SimpleITK.GaussianSource(SimpleITK.sitkInt16, [9, 8, 7]))
        - 1000
    )
    whole = tmp_path / f"whole{suffix}"
    SimpleITK.WriteImage(image, str(whole))
    answers = [answer(scan) for scan in damaged_files(whole, tmp_path, 7, 60)]
    assert [text for text in answers if not is_answer(text)] == []
