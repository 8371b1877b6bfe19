"""DICOM export: a volume in HU becomes a derived CT series that viewers and archives accept.

Input artefact: ``volume`` (NIfTI, HU); optionally the DICOM series that it was made from, whose
patient, study and frame of reference the new series shares. Output artefact: ``dicom``, a folder
with one file per slice; lengths in mm, LPS. Research use only, and it says so.

References
----------
DICOM PS3.3, A.3 (CT Image IOD), C.7.6.2 (Image Plane), C.8.2.1 (CT Image).
"""
