"""Make a de-identified CT image: the kept elements, those that must be there, and the pixels."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import PYDICOM_ROOT_UID, UID, CTImageStorage

from stages.deidentify.cleaning import Cleaner
from stages.deidentify.keep_list import CHARACTERISTICS, DUMMIES, FACELESS_PARTS, TYPE_2
from stages.deidentify.opening import DAMAGED, transfer_syntax
from stages.deidentify.pseudonyms import Pseudonyms, cap_age
from stages.deidentify.settings import DeidentifySettings

METHOD = "ct2flow keep-list after DICOM PS3.15-2024e Annex E"
_BASIC = ("113100", "Basic Application Confidentiality Profile")
_FULL_DATES = ("113106", "Retain Longitudinal Temporal Information Full Dates Option")
_MODIFIED_DATES = ("113107", "Retain Longitudinal Temporal Information Modified Dates Option")
_CHARACTERISTICS = ("113108", "Retain Patient Characteristics Option")
_UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
_SEXES = ("M", "F", "O")


@dataclass(frozen=True)
class CleanImage:
    """Hold a de-identified image and what is counted of it.

    Parameters
    ----------
    data
        The file.
    patient, study, series, instance
        Pseudonym and new UIDs.
    burnt_in
        The header says that text is burnt into the pixels.
    may_show_face
        The part of the body, or its absence, does not exclude a face.
    named
        The original named its patient by number.
    """

    data: bytes
    patient: str
    study: str
    series: str
    instance: str
    burnt_in: bool
    may_show_face: bool
    named: bool


def clean_image(
    original: FileDataset, pseudonyms: Pseudonyms, settings: DeidentifySettings
) -> CleanImage:
    """Return the de-identified copy of an image; pixels keep their bytes and their encoding."""
    identity, named = patient_identity(original)
    days = pseudonyms.shift_days(identity)
    cleaner = Cleaner(pseudonyms, days, is_signed=original.get("PixelRepresentation") == 1)
    cleaned = cleaner.clean(original)
    patient = pseudonyms.patient(identity)
    cleaned.PatientID, cleaned.PatientName = patient, patient.replace("-", "^")
    if settings.keep_characteristics:
        _keep_characteristics(cleaned, original)
    for keyword in _UIDS:
        if not cleaned.get(keyword):
            setattr(cleaned, keyword, pseudonyms.uid(_substitute(keyword, identity, original)))
    burnt_in = cleaned.get("BurnedInAnnotation") == "YES"
    face = may_show_face(cleaned) or _text(original, "RecognizableVisualFeatures") == "YES"
    if face:
        cleaned.RecognizableVisualFeatures = "YES"
    _state_method(cleaned, settings)
    _complete(cleaned)
    return CleanImage(
        data=_encode(cleaned, original),
        patient=patient,
        study=cleaned.StudyInstanceUID,
        series=cleaned.SeriesInstanceUID,
        instance=cleaned.SOPInstanceUID,
        burnt_in=burnt_in,
        may_show_face=face,
        named=named,
    )


def patient_identity(dataset: Dataset) -> tuple[str, bool]:
    """Return what tells a patient from others, and whether it is the patient's number.

    Without a number it is name and date of birth, without these the study: what is nameless
    belongs together within a study only.
    """
    number = _text(dataset, "PatientID")
    if number:
        return f"number {number}", True
    name = f"{_text(dataset, 'PatientName')} {_text(dataset, 'PatientBirthDate')}".strip()
    return (f"name {name}" if name else f"study {_text(dataset, 'StudyInstanceUID')}"), False


def may_show_face(dataset: Dataset) -> bool:
    """Say whether a face may be seen in the images or in a surface made from them."""
    return _text(dataset, "BodyPartExamined") not in FACELESS_PARTS


def _text(dataset: Dataset, keyword: str) -> str:
    try:
        return str(dataset.get(keyword) or "").strip(" \0").upper()
    except DAMAGED:
        return ""


def _keep_characteristics(cleaned: Dataset, original: Dataset) -> None:
    sex, age = (_text(original, keyword) for keyword in CHARACTERISTICS)
    if sex in _SEXES:
        cleaned.PatientSex = sex
    capped = cap_age(age)
    if capped:
        cleaned.PatientAge = capped


def _substitute(keyword: str, identity: str, original: Dataset) -> str:
    """Return what a missing UID is made from: the image itself, or its patient and study."""
    if keyword != "SOPInstanceUID":
        return f"{keyword} {identity} {_text(original, 'StudyInstanceUID')}"
    pixels = hashlib.sha256(original.PixelData).hexdigest()
    return f"{keyword} {pixels} {_text(original, 'ImagePositionPatient')}"


def _state_method(cleaned: Dataset, settings: DeidentifySettings) -> None:
    cleaned.PatientIdentityRemoved = "YES"
    cleaned.DeidentificationMethod = METHOD
    cleaned.LongitudinalTemporalInformationModified = (
        "UNMODIFIED" if settings.keep_dates else "MODIFIED"
    )
    options = [_BASIC, _FULL_DATES if settings.keep_dates else _MODIFIED_DATES]
    if settings.keep_characteristics:
        options.append(_CHARACTERISTICS)
    cleaned.DeidentificationMethodCodeSequence = Sequence([_code(*option) for option in options])


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def _complete(cleaned: Dataset) -> None:
    """Add what the kind of object demands: empty where that is allowed, else a dummy."""
    kind = cleaned.SOPClassUID
    for keyword in (*TYPE_2[""], *TYPE_2[kind]):
        if keyword not in cleaned:
            setattr(cleaned, keyword, None)
    for keyword, dummy in DUMMIES.items() if kind != CTImageStorage else ():
        if not cleaned.get(keyword):
            setattr(cleaned, keyword, dummy)


def _encode(cleaned: Dataset, original: FileDataset) -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = cleaned.SOPClassUID
    meta.MediaStorageSOPInstanceUID = cleaned.SOPInstanceUID
    meta.TransferSyntaxUID = transfer_syntax(original)
    # Own marks, so that the bytes do not change with the version of pydicom.
    meta.ImplementationClassUID = UID(PYDICOM_ROOT_UID + "1")
    meta.ImplementationVersionName = "CT2FLOW"
    dataset = FileDataset("", cleaned, file_meta=meta, preamble=b"\0" * 128)
    dataset.add(_pixels(original, meta.TransferSyntaxUID))
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _pixels(original: FileDataset, syntax: UID) -> DataElement:
    """Return the pixels as they are; what follows the last one is cut off."""
    found = original["PixelData"]
    value = found.value
    if not syntax.is_encapsulated:
        count = int(original.get("NumberOfFrames") or 1) * original.Rows * original.Columns
        size = count * original.BitsAllocated // 8
        value = value[:size] + b"\0" * (size % 2 if len(value) >= size else 0)
    pixels = DataElement(found.tag, found.VR, value)
    pixels.is_undefined_length = syntax.is_encapsulated
    return pixels
