"""De-identification: whatever is put into a file, nothing of it comes out."""

from __future__ import annotations

import logging
import struct
from datetime import date

import pydicom
import pytest
from ct_series import Series
from hypothesis import given, settings
from hypothesis import strategies as st
from multiframe import enhanced
from pydicom.datadict import DicomDictionary, keyword_dict
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_file_meta_info
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from pipeline.cli import exit_code
from stages.deidentify.keep_list import RULES, Form

MARKER = "IDENTITY^MARKER"
MARKER_DATE = "19431207"
MARKER_UID = "1.2.826.0.1.555555555.7"
NEEDED = frozenset(
    {"SOPClassUID", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelData"}
    | {"PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames"}
    | {"ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"}
)
"""Without these a file is no image and is left out, which would prove nothing."""
FILLED = sorted(
    keyword
    for keyword, tag in keyword_dict.items()
    if keyword not in NEEDED and 0x0008 <= tag >> 16 < 0xFFFA and (tag & 0xFFFF)
)
SEQUENCES = [keyword for keyword in FILLED if DicomDictionary[keyword_dict[keyword]][0] == "SQ"]
ONE_OF_EACH_VR = {
    DicomDictionary[keyword_dict[keyword]][0]: keyword
    for keyword in FILLED
    if not keyword.startswith("Retired")
}
KEPT = [k for rule in RULES for k in rule.keywords if k not in NEEDED]
KEPT_TEXTS = [k for rule in RULES if rule.form is not Form.ITEMS for k in rule.keywords]


def put(dataset, keyword_or_tag, vr, value):
    """Give an element these bytes, whatever its VR would allow."""
    tag = Tag(keyword_or_tag)
    data = value.encode()
    data += b" " * (len(data) % 2)
    dataset._dict[tag] = RawDataElement(
        tag, vr, len(data), data, 0, is_implicit_VR=False, is_little_endian=True
    )


def vr_of(keyword):
    vr = DicomDictionary[keyword_dict[keyword]][0]
    return {"US or SS": "US", "OB or OW": "OW", "US or OW": "OW", "US or SS or OW": "OW"}.get(
        vr, vr
    )


def filled_item(text, keywords, depth):
    """Return an item with a marker in every element, and such items below it."""
    item = Dataset()
    for keyword in keywords:
        vr = vr_of(keyword)
        if vr not in {"SQ", "NONE"}:
            put(item, keyword, vr, text)
    put(item, 0x00190010, "LO", text)
    put(item, 0x00191001, "UN", text)
    if depth > 1:
        for keyword in (SEQUENCES[0], "SourceImageSequence", "CTExposureSequence"):
            below = filled_item(text, keywords, depth - 1)
            item[keyword] = DataElement(Tag(keyword), "SQ", Sequence([below]))
    return item


def fill(dataset, text, keywords):
    """Put a marker into elements of every kind, three levels deep, private ones too."""
    few = sorted(ONE_OF_EACH_VR.values())
    for keyword in keywords:
        vr = vr_of(keyword)
        if vr == "SQ":
            item = filled_item(
                text, few if keyword in KEPT else few[:4], 3 if keyword in KEPT else 1
            )
            dataset[keyword] = DataElement(Tag(keyword), "SQ", Sequence([item]))
        elif vr != "NONE":
            put(dataset, keyword, vr, text)
    for group in (0x0009, 0x0019, 0x0029, 0x0043, 0x7FE1):
        put(dataset, (group, 0x0010), "LO", text)
        for element, vr in enumerate(("LO", "OB", "UN", "DS", "PN", "UI"), start=0x1001):
            put(dataset, (group, element), vr, text)
    for group in (0x5000, 0x6000):
        for element, vr in ((0x0022, "LO"), (0x1500, "LO"), (0x3000, "OW"), (0x4000, "LT")):
            put(dataset, (group, element), vr, text)
    put(dataset, (0xFFFC, 0xFFFC), "OB", text)


def save_raw(dataset, path, text):
    """Write a file with a marker in its preamble and its head too; pydicom refuses such values."""
    meta = dataset.file_meta
    meta.SourceApplicationEntityTitle = text[:16]
    meta.PrivateInformationCreatorUID = MARKER_UID
    meta.PrivateInformation = text.encode() + b" " * (len(text) % 2)
    head = DicomBytesIO()
    head.is_little_endian, head.is_implicit_VR = True, False
    write_file_meta_info(head, meta, enforce_standard=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    preamble = (text.encode() * 20)[:128]
    path.write_bytes(preamble + b"DICM" + head.getvalue() + encoded(dataset))


def encoded(dataset):
    """Return a data set's bytes, explicit VR little endian, with raw elements as they are."""
    out = DicomBytesIO()
    out.is_little_endian, out.is_implicit_VR = True, False
    for tag in sorted(dataset.keys()):
        element = dataset.get_item(tag)
        if isinstance(element, RawDataElement):
            out.write(header(tag, element.VR, len(element.value)) + element.value)
        elif element.VR == "SQ":
            items = [encoded(item) for item in element.value]
            body = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(i)) + i for i in items)
            out.write(header(tag, "SQ", len(body)) + body)
        else:
            write_data_element(out, element)
    return out.getvalue()


def header(tag, vr, length):
    start = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    if vr in EXPLICIT_VR_LENGTH_32:
        return start + struct.pack("<HI", 0, length)
    return start + struct.pack("<H", length)


def all_output(folder, capsys):
    """Return every byte that a run left, on disk and on the screen, with the files' names."""
    shown = capsys.readouterr()
    parts = [shown.out.encode(), shown.err.encode()]
    for path in sorted(folder.rglob("*")):
        parts += [str(path.relative_to(folder)).encode()]
        parts += [path.read_bytes()] if path.is_file() else []
    return b"\n".join(parts)


def run(scan, output, secret, *more):
    arguments = [str(scan), "--output", str(output), "--secret", str(secret), "--create-secret"]
    return exit_code(["deidentify", *arguments, *more])


def only_file(folder):
    (path,) = folder.rglob("*.dcm")
    return path


@pytest.mark.parametrize("keep", [(), ("--keep-dates", "--keep-characteristics")])
def test_no_marker_in_any_element_of_the_dictionary_comes_out(tmp_path, capsys, keep):
    _, dataset = next(Series(count=1).slices())
    fill(dataset, MARKER, FILLED)
    save_raw(dataset, tmp_path / "scan" / MARKER / f"{MARKER}.dcm", MARKER)
    assert len(FILLED) > 4000
    assert set(ONE_OF_EACH_VR) >= {
        "AE",
        "AS",
        "AT",
        "CS",
        "DA",
        "DS",
        "DT",
        "FD",
        "IS",
        "LO",
        "LT",
    }
    assert run(tmp_path / "scan", tmp_path / "out", tmp_path / "secret", *keep) == 0
    found = all_output(tmp_path / "out", capsys)
    for part in (b"IDENTITY", b"MARKER", b"555555555"):
        assert part not in found
    image = pydicom.dcmread(only_file(tmp_path / "out"))
    assert image.pixel_array.shape == (20, 24)


def test_no_marker_comes_out_of_a_multi_frame_image(tmp_path, capsys):
    whole = enhanced(Series(count=3))
    inner = sorted({*ONE_OF_EACH_VR.values(), *KEPT_TEXTS} - NEEDED)
    for group in (*whole.PerFrameFunctionalGroupsSequence, *whole.SharedFunctionalGroupsSequence):
        for item in [element.value[0] for element in group if element.VR == "SQ"]:
            place = {key: item[key] for key in item.keys() if item[key].keyword in NEEDED}  # noqa: SIM118
            item.update(filled_item(MARKER, inner, 3))
            item.update(place)
    save_raw(whole, tmp_path / "scan" / "one.dcm", MARKER)
    assert run(tmp_path / "scan", tmp_path / "out", tmp_path / "secret") == 0
    found = all_output(tmp_path / "out", capsys)
    assert b"IDENTITY" not in found
    assert b"555555555" not in found


@settings(max_examples=25)
@given(
    text=st.text(st.characters(min_codepoint=0x41, max_codepoint=0x5A), min_size=7, max_size=12),
    keywords=st.lists(st.sampled_from(KEPT), min_size=1, max_size=20, unique=True),
    punctuation=st.sampled_from(["", "^", " ", "_", "\\", "=", "/"]),
)
def test_a_name_in_a_kept_element_does_not_come_out(tmp_path_factory, text, keywords, punctuation):
    folder = tmp_path_factory.mktemp("kept")
    _, dataset = next(Series(count=1).slices())
    text = f"QZ{text}"
    marked = f"{text}{punctuation}ZZ"
    fill(dataset, marked, keywords)
    save_raw(dataset, folder / "scan" / "a.dcm", marked)
    assert run(folder / "scan", folder / "out", folder / "secret") == 0
    assert text.encode() not in only_file(folder / "out").read_bytes()
    assert text not in (folder / "out" / "artefact.json").read_text()


def test_well_formed_dates_and_uids_of_the_original_do_not_come_out(tmp_path, capsys):
    _, dataset = next(Series(count=1).slices())
    for rule in RULES:
        for keyword in rule.keywords:
            if rule.form is Form.DATE:
                setattr(dataset, keyword, MARKER_DATE)
            elif rule.form is Form.DATE_TIME:
                setattr(dataset, keyword, f"{MARKER_DATE}101112.5+0200")
            elif rule.form is Form.UID and "Class" not in keyword:
                setattr(dataset, keyword, MARKER_UID)
    dataset.file_meta.MediaStorageSOPInstanceUID = MARKER_UID
    save_raw(dataset, tmp_path / "scan" / "a.dcm", MARKER)
    assert run(tmp_path / "scan", tmp_path / "out", tmp_path / "secret") == 0
    found = all_output(tmp_path / "out", capsys)
    assert MARKER_DATE.encode() not in found
    assert b"555555555" not in found
    moved = pydicom.dcmread(only_file(tmp_path / "out"))
    assert date.fromisoformat(moved.StudyDate) < date(1943, 12, 7)
    assert moved.AcquisitionDateTime == f"{moved.StudyDate}101112.5+0200"


def test_text_behind_the_last_pixel_does_not_come_out(tmp_path, capsys):
    _, dataset = next(Series(count=1).slices())
    pixels = dataset.PixelData
    dataset.PixelData = pixels + MARKER.encode() + b" "
    save_raw(dataset, tmp_path / "scan" / "a.dcm", MARKER)
    assert run(tmp_path / "scan", tmp_path / "out", tmp_path / "secret") == 0
    assert b"IDENTITY" not in all_output(tmp_path / "out", capsys)
    assert pydicom.dcmread(only_file(tmp_path / "out")).PixelData == pixels


def test_names_of_folders_and_files_and_the_secret_are_never_shown(tmp_path, capsys, caplog):
    caplog.set_level(logging.DEBUG)
    Series(count=3, name=lambda k: f"Mustermann_Erika/IM{k}").write(tmp_path / "scan")
    broken = (tmp_path / "scan" / "Mustermann_Erika" / "IM0").read_bytes()[:700]
    (tmp_path / "scan" / "Mustermann_Erika" / "cut.dcm").write_bytes(broken)
    (tmp_path / "scan" / "Mustermann.txt").write_text("Erika")
    (tmp_path / "secret").write_bytes(b"shibboleth of the project")
    assert run(tmp_path / "scan", tmp_path / "out", tmp_path / "secret") == 0
    found = all_output(tmp_path / "out", capsys) + caplog.text.encode()
    for part in (b"Mustermann", b"Erika", b"shibboleth", str(tmp_path).encode()):
        assert part not in found
