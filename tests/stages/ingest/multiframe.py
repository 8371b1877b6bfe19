"""Make a series as one enhanced multi-frame CT image."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage


def item(**elements):
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return Sequence([dataset])


def group_of(slice_, k):
    """Return the functional groups of one slice."""
    group = Dataset()
    group.FrameContentSequence = item(
        FrameAcquisitionNumber=1, FrameAcquisitionDateTime="20231117101112.5"
    )
    group.PlanePositionSequence = item(ImagePositionPatient=slice_.ImagePositionPatient)
    group.PixelValueTransformationSequence = item(
        RescaleSlope=slice_.RescaleSlope,
        RescaleIntercept=slice_.RescaleIntercept,
        RescaleType="HU",
    )
    return group


def shared_by(slice_):
    group = Dataset()
    group.PixelMeasuresSequence = item(
        PixelSpacing=slice_.PixelSpacing, SliceThickness=slice_.SliceThickness
    )
    group.PlaneOrientationSequence = item(ImageOrientationPatient=slice_.ImageOrientationPatient)
    group.CTImageFrameTypeSequence = item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])
    group.CTReconstructionSequence = item(ConvolutionKernel="H60s")
    group.CTXRayDetailsSequence = item(KVP="120")
    return group


def enhanced(series):
    """Return a series as one enhanced CT image."""
    slices = [dataset for _, dataset in series.slices()]
    whole = slices[0]
    pixels = b"".join(dataset.PixelData for dataset in slices)
    shared, own = shared_by(whole), [group_of(dataset, k) for k, dataset in enumerate(slices)]
    for keyword in (
        *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "KVP"),
        *("SliceThickness", "RescaleSlope", "RescaleIntercept", "ConvolutionKernel"),
    ):
        delattr(whole, keyword)
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    whole.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    whole.NumberOfFrames, whole.PixelData = len(slices), pixels
    whole["PixelData"].VR = "OW"
    whole.SharedFunctionalGroupsSequence = Sequence([shared])
    whole.PerFrameFunctionalGroupsSequence = Sequence(own)
    return whole


def save(dataset, folder):
    folder.mkdir(parents=True)
    dataset.save_as(folder / "enhanced.dcm", enforce_file_format=True)
    return folder
