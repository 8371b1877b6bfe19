"""Give each frame of an enhanced multi-frame CT the flat header that a single slice has.

An enhanced object keeps what all frames share once and what differs per frame in nested
sequences, the functional groups. A frame's own group wins over the shared one.

References
----------
DICOM PS3.3, A.38 (Enhanced CT Image IOD), C.7.6.16 (Multi-frame Functional Groups).
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.tag import Tag

SHARED, PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_BULKY = frozenset(Tag(name) for name in (SHARED, PER_FRAME, "PixelData"))
TAKEN = {
    "PixelMeasuresSequence": {"PixelSpacing": "PixelSpacing", "SliceThickness": "SliceThickness"},
    "PlanePositionSequence": {"ImagePositionPatient": "ImagePositionPatient"},
    "PlaneOrientationSequence": {"ImageOrientationPatient": "ImageOrientationPatient"},
    "PixelValueTransformationSequence": {
        "RescaleSlope": "RescaleSlope",
        "RescaleIntercept": "RescaleIntercept",
        "RescaleType": "RescaleType",
    },
    "CTReconstructionSequence": {"ConvolutionKernel": "ConvolutionKernel"},
    "CTXRayDetailsSequence": {"KVP": "KVP"},
    "CTImageFrameTypeSequence": {"FrameType": "ImageType"},
    "FrameContentSequence": {
        "FrameAcquisitionNumber": "AcquisitionNumber",
        "FrameAcquisitionDateTime": "AcquisitionTime",
    },
}
"""Functional groups, the elements taken from them, and what a single slice calls these."""


def count_described(dataset: Dataset) -> int:
    """Return how many frames the functional groups describe; 0 if there are none."""
    return len(dataset.get(PER_FRAME) or [])


def flat_frames(dataset: Dataset) -> Iterator[Dataset]:
    """Yield the header of each frame that the functional groups describe, without pixels."""
    top = _shared(dataset)
    for index in range(count_described(dataset)):
        yield _with_own(top, dataset, index)


def flat_frame(dataset: Dataset, index: int) -> Dataset:
    """Return the header of one frame, without pixels."""
    return _with_own(_shared(dataset), dataset, index)


def _shared(dataset: Dataset) -> Dataset:
    top = Dataset()
    tags = dataset.keys() - _BULKY
    top.update({tag: dataset[tag] for tag in tags})
    for group in (dataset.get(SHARED) or [])[:1]:
        _take(top, group)
    return top


def _with_own(top: Dataset, dataset: Dataset, index: int) -> Dataset:
    flat = Dataset()
    flat.update(top)
    flat.InstanceNumber = index + 1
    _take(flat, dataset[PER_FRAME].value[index])
    return flat


def _take(flat: Dataset, group: Dataset) -> None:
    for sequence, names in TAKEN.items():
        items = group.get(sequence)
        for source, target in names.items() if items else ():
            if source in items[0]:
                _put(flat, target, items[0].get(source))


def _put(flat: Dataset, keyword: str, value: object) -> None:
    # A date and time of acquisition orders frames as well as a time of day does.
    setattr(flat, keyword, str(value).split("+")[0][8:] if keyword == "AcquisitionTime" else value)
