"""The keep-list: what survives de-identification, why, and which values it may have.

An element that is not named here does not survive, at any depth: no name, no description, no
comment, no private element, no overlay, no icon. An element that is named survives only with a value
of the form that its rule allows, so that text in the wrong place goes as well.

References
----------
DICOM PS3.15-2024e, table E.1-1; PS3.3-2024e, A.3 (CT Image), A.38 (Enhanced CT Image).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
)

KEPT_CLASSES = frozenset(
    {CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage}
)
"""Kinds of objects that are kept; everything else is left out and counted."""

LEFT_OUT = {
    "1.2.840.10008.1.3.10": "disc directories",
    "1.2.840.10008.5.1.4.1.1.7": "screen captures",
    "1.2.840.10008.5.1.4.1.1.88.": "structured reports",
    "1.2.840.10008.5.1.4.1.1.104.": "encapsulated documents",
    "1.2.840.10008.5.1.4.1.1.11.": "presentation states",
}
"""Beginnings of the UIDs of kinds that are left out, and how they are counted."""

SCREENS = frozenset({"SCREEN", "DOSE", "PROT", "PROTOCOL", "REPORT", "TEXT"})
"""Words of an image type that mean a page of text, which scanners file as CT images too."""


class Form(Enum):
    """Name what an element's value must look like to survive."""

    NUMBER = "finite numbers below 1e7: no date or register number of eight digits"
    TERM = "known terms; another becomes a code by HMAC, so that unlike images stay apart"
    KNOWN = "known terms; another is dropped"
    UID = "UIDs; those not of the standard are mapped by HMAC"
    TAG = "tags of the standard"
    DATE = "dates, shifted"
    TIME = "times of day"
    DATE_TIME = "dates with times, shifted"
    ITEMS = "items, each cleaned by this list"
    CODES = "items with a code of `CODES`; their meaning is written anew"


@dataclass(frozen=True)
class Rule:
    """Say in which form elements survive and why.

    Parameters
    ----------
    form
        What the value must look like.
    reason
        What it is needed for.
    keywords
        The elements.
    terms
        Regular expression of the known terms.
    """

    form: Form
    reason: str
    keywords: tuple[str, ...]
    terms: str = ""

    def knows(self, term: str) -> bool:
        """Say whether a term is known to be harmless."""
        return re.fullmatch(self.terms, term) is not None


RULES = (
    Rule(
        Form.UID,
        "identity: which images belong together",
        (
            *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"),
            *("FrameOfReferenceUID", "ReferencedSOPClassUID", "ReferencedSOPInstanceUID"),
            *("DimensionOrganizationUID", "IrradiationEventUID", "ConcatenationUID"),
        ),
    ),
    Rule(
        Form.NUMBER,
        "identity: order of the images",
        (
            *("SeriesNumber", "AcquisitionNumber", "InstanceNumber", "FrameAcquisitionNumber"),
            *("ReferencedFrameNumber", "DimensionIndexValues", "InStackPositionNumber"),
            *("TemporalPositionIndex", "InConcatenationNumber", "InConcatenationTotalNumber"),
            *("ConcatenationFrameOffsetNumber",),
        ),
    ),
    Rule(Form.TERM, "identity: order of the images", ("StackID",), r"\d{1,4}"),
    Rule(Form.TAG, "identity: order", ("DimensionIndexPointer", "FunctionalGroupPointer")),
    Rule(
        Form.DATE,
        "time: intervals between scans",
        ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"),
    ),
    Rule(
        Form.TIME,
        "time: order of the acquisitions",
        ("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime"),
    ),
    Rule(
        Form.DATE_TIME,
        "time: order of the acquisitions",
        ("AcquisitionDateTime", "FrameAcquisitionDateTime", "FrameReferenceDateTime"),
    ),
    Rule(
        Form.NUMBER,
        "geometry",
        (
            *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
            *("SliceThickness", "SpacingBetweenSlices", "SliceLocation", "GantryDetectorTilt"),
            *("TableHeight", "ReconstructionDiameter", "DataCollectionDiameter"),
            *("DistanceSourceToDetector", "DistanceSourceToPatient", "TablePosition"),
            *("ReconstructionTargetCenterPatient", "DataCollectionCenterPatient"),
            *("ReconstructionFieldOfView", "ReconstructionPixelSpacing", "ReconstructionAngle"),
        ),
    ),
    Rule(Form.KNOWN, "geometry", ("PatientPosition",), r"[HF]F(S|P|DR|DL)|[AP]F(DR|DL)"),
    Rule(Form.KNOWN, "geometry", ("PatientOrientation",), r"[LRAPHF]{1,3}"),
    Rule(
        Form.NUMBER,
        "pixels",
        (
            *("SamplesPerPixel", "Rows", "Columns", "NumberOfFrames", "BitsAllocated"),
            *("BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue"),
            *("PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "WindowCenter"),
            *("WindowWidth", "LossyImageCompressionRatio", "PixelAspectRatio"),
        ),
    ),
    Rule(Form.KNOWN, "pixels", ("PhotometricInterpretation",), r"MONOCHROME[12]"),
    Rule(Form.KNOWN, "pixels", ("RescaleType",), r"HU|HU_MOD|US|OD|MGML|Z_EFF|ED|EDW|PCT"),
    Rule(Form.KNOWN, "pixels", ("PresentationLUTShape",), r"IDENTITY|INVERSE"),
    Rule(Form.KNOWN, "pixels", ("VOILUTFunction",), r"LINEAR|LINEAR_EXACT|SIGMOID"),
    Rule(Form.KNOWN, "pixels", ("LossyImageCompression",), r"00|01"),
    Rule(Form.KNOWN, "pixels", ("LossyImageCompressionMethod",), r"ISO_\d{4,5}(_\d)?"),
    Rule(Form.KNOWN, "privacy: says what the pixels show", ("BurnedInAnnotation",), r"YES|NO"),
    Rule(
        Form.TERM,
        "kind of image",
        ("ImageType", "FrameType"),
        r"ORIGINAL|DERIVED|PRIMARY|SECONDARY|AXIAL|LOCALIZER|VOLUME|NONE|MIXED|OTHER|MPR|MIP|"
        r"MINIP|AVERAGE|HELIX|CT_SOM[57]|SPI|SEQ|TOP|DUAL|PROJECTION IMAGE|REFORMATTED|RESAMPLED|"
        r"VOLUME_RENDER|FILTERED|MAXIMUM|MINIMUM|MEAN|MONOENERGETIC|",
    ),
    Rule(Form.KNOWN, "kind of image", ("Modality",), r"CT"),
    Rule(
        Form.KNOWN,
        "kind of image: choice of the series",
        ("BodyPartExamined",),
        r"HEAD|BRAIN|SKULL|FACE|SINUS|PARANASALSINUS|NOSE|NECK|HEADNECK|HEAD_NECK|ORBIT|EAR|IAC|JAW|"
        r"MAXILLA|MANDIBLE|TMJ|CSPINE|TSPINE|LSPINE|SPINE|CHEST|THORAX|LUNG|HEART|ABDOMEN|"
        r"PELVIS|CHESTABDOMEN|CHESTABDPELVIS|ABDOMENPELVIS|WHOLEBODY|EXTREMITY|SHOULDER|ARM|HAND|"
        r"HIP|KNEE|LEG|FOOT|ANKLE|PHANTOM",
    ),
    Rule(Form.KNOWN, "kind of image", ("Laterality", "FrameLaterality"), r"[LRUB]"),
    Rule(
        Form.KNOWN,
        "kind of image",
        ("PixelPresentation", "VolumetricProperties", "VolumeBasedCalculationTechnique"),
        r"MONOCHROME|COLOR|MIXED|NONE|VOLUME|SAMPLED|DISTORTED|MAX_IP|MIN_IP|MPR|CURVED_MPR|"
        r"VOLUME_RENDER|SURFACE_RENDER|STATISTICS|AVERAGE",
    ),
    Rule(Form.KNOWN, "kind of image", ("ContentQualification",), r"PRODUCT|RESEARCH|SERVICE"),
    Rule(Form.CODES, "kind of image", ("AnatomicRegionSequence",)),
    Rule(Form.CODES, "kind of image", ("PurposeOfReferenceCodeSequence",)),
    Rule(
        Form.NUMBER,
        "acquisition: noise and sharpness",
        (
            *(
                "KVP",
                "ExposureTime",
                "XRayTubeCurrent",
                "Exposure",
                "ExposureInuAs",
                "ExposureInmAs",
            ),
            *("ExposureTimeInms", "XRayTubeCurrentInmA", "GeneratorPower", "FocalSpots"),
            *("RevolutionTime", "SingleCollimationWidth", "TotalCollimationWidth", "TableSpeed"),
            *("TableFeedPerRotation", "SpiralPitchFactor", "CTDIvol", "AcquisitionDuration"),
            *("FrameAcquisitionDuration",),
        ),
    ),
    Rule(
        Form.TERM,
        "acquisition: sharpness of the reconstruction",
        ("ConvolutionKernel",),
        r"[A-Za-z]{1,2}\d{2,3}[a-z]{0,2}|[0-5]|FC\d{2}[A-Z]?|GAUSS\d\.\d\d|STANDARD|STD\+?|SOFT|"
        r"DETAIL|BONE(PLUS)?|EDGE|ULTRA|LUNG|CHST|SMOOTH|SHARP|UB|UC|UA|YA|YB|YC|EB|EC|FLAT|NONE",
    ),
    Rule(
        Form.KNOWN,
        "acquisition",
        ("FilterType",),
        r"BODY FILTER|HEAD FILTER|LARGE|MEDIUM|SMALL|FLAT|WEDGE(_\d)?|UB|NONE|[0-9]",
    ),
    Rule(Form.KNOWN, "acquisition", ("RotationDirection",), r"CW|CC"),
    Rule(
        Form.KNOWN,
        "acquisition",
        ("ScanOptions",),
        r"AXIAL MODE|HELICAL MODE|CINE MODE|SCOUT MODE|HELIX|HELICAL|AXIAL|SPIRAL|SEQUENCE",
    ),
    Rule(
        Form.KNOWN,
        "acquisition",
        ("AcquisitionType",),
        r"SEQUENCED|SPIRAL|CONSTANT_ANGLE|STATIONARY|FREE",
    ),
    Rule(
        Form.KNOWN,
        "acquisition",
        ("ReconstructionAlgorithm",),
        r"FILTER_BACK_PROJ|ITERATIVE",
    ),
    Rule(
        Form.KNOWN,
        "acquisition",
        ("ExposureModulationType",),
        r"NONE|ANGULAR|LONGITUDINAL|Z MODULATION|XYZ_EC|Z_EC|XY_EC|TISSUE_DENSITY",
    ),
    Rule(Form.KNOWN, "acquisition", ("MultienergyCTAcquisition",), r"YES|NO"),
    Rule(
        Form.KNOWN,
        "acquisition: quirks of a maker's numbers",
        ("Manufacturer",),
        r"GE MEDICAL SYSTEMS|SIEMENS|Siemens|Siemens Healthineers|SIEMENS HEALTHINEERS|Philips|"
        r"Philips Medical Systems|Philips Healthcare|PHILIPS|TOSHIBA|CANON_MEC|"
        r"Canon Medical Systems|UIH|NeuroLogica|Hitachi Medical Corporation|HITACHI|Shimadzu|"
        r"Carestream|Planmeca|Picker International, Inc\.|Marconi Medical Systems|ELSCINT|ct2flow",
    ),
    Rule(
        Form.ITEMS,
        "geometry and pixels of multi-frame images",
        (
            *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
            *("PixelMeasuresSequence", "PlanePositionSequence", "PlaneOrientationSequence"),
            *("PixelValueTransformationSequence", "FrameContentSequence", "FrameVOILUTSequence"),
            *("FrameAnatomySequence", "CTImageFrameTypeSequence", "CTReconstructionSequence"),
            *("CTXRayDetailsSequence", "CTExposureSequence", "CTAcquisitionDetailsSequence"),
            *("CTAcquisitionTypeSequence", "CTGeometrySequence", "CTTableDynamicsSequence"),
            *("CTPositionSequence", "IrradiationEventIdentificationSequence"),
            *("DimensionOrganizationSequence", "DimensionIndexSequence"),
        ),
    ),
    Rule(
        Form.ITEMS,
        "identity: which images an image was made from",
        ("SourceImageSequence", "ReferencedImageSequence"),
    ),
)
"""The keep-list. Pixel Data survives unchanged, at the top level only."""

CODES = {
    ("69536005", "SCT"): "Head",
    ("T-D1100", "SRT"): "Head",
    ("T-D1100", "SNM3"): "Head",
    ("12738006", "SCT"): "Brain",
    ("89546000", "SCT"): "Skull",
    ("45048000", "SCT"): "Neck",
    ("774007", "SCT"): "Head and Neck",
    ("2095001", "SCT"): "Nasal sinus",
    ("51185008", "SCT"): "Chest",
    ("121320", "DCM"): "Uncompressed predecessor",
    ("121322", "DCM"): "Source image for image processing operation",
    ("121311", "DCM"): "Localizer",
}
"""Codes that survive (value, scheme), and their meaning, which is not taken from the file."""

CHARACTERISTICS = ("PatientSex", "PatientAge")
"""Kept on demand: Retain Patient Characteristics Option (PS3.15, E.3.7)."""

TYPE_2 = {
    "": (
        *("PatientBirthDate", "PatientSex", "ReferringPhysicianName", "StudyID", "StudyDate"),
        *("StudyTime", "AccessionNumber", "SeriesNumber", "PositionReferenceIndicator"),
        *("Manufacturer", "InstanceNumber"),
    ),
    CTImageStorage: ("AcquisitionNumber", "KVP", "PatientPosition"),
    EnhancedCTImageStorage: ("AcquisitionContextSequence",),
    LegacyConvertedEnhancedCTImageStorage: ("AcquisitionContextSequence",),
}
"""Elements that must be there, possibly without a value, by class; '' for all."""

DUMMIES = {
    "Manufacturer": "REMOVED",
    "ManufacturerModelName": "REMOVED",
    "DeviceSerialNumber": "REMOVED",
    "SoftwareVersions": "REMOVED",
}
"""Values of elements that enhanced images must have (PS3.3, C.7.5.2)."""

FACELESS_PARTS = frozenset(
    {"CHEST", "THORAX", "LUNG", "HEART", "ABDOMEN", "PELVIS", "CHESTABDOMEN", "CHESTABDPELVIS"}
    | {"ABDOMENPELVIS", "TSPINE", "LSPINE", "EXTREMITY", "SHOULDER", "ARM", "HAND", "HIP", "KNEE"}
    | {"LEG", "FOOT", "ANKLE", "PHANTOM"}
)
"""Body parts whose images show no face; any other, or none named, may."""
