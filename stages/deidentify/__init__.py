"""De-identification: DICOM that may leave the clinic, and a head without its face.

Input artefacts: a folder, zip or DICOMDIR of CT images; or a ``volume`` (NIfTI, HU). Output
artefacts: ``dicom``, a folder of CT images that hold what `keep_list.RULES` names and nothing else;
or a ``volume`` whose surface of the face is cut away while the airway keeps every voxel. Lengths
in mm, LPS.

References
----------
DICOM PS3.15-2024e, Annex E (Attribute Confidentiality Profiles), table E.1-1.
Schwarz et al., "Identification of Anonymous MRI Research Participants with Face-Recognition
Software", New England Journal of Medicine 381 (2019) 1684-1686, doi:10.1056/NEJMc1908881.
"""
