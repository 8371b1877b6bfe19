"""Ingest: a scan as it left the clinic becomes a de-identified volume in Hounsfield units.

Input artefacts: a folder, zip or DICOMDIR of DICOM slices, or a NIfTI, NRRD or MetaImage volume.
Output artefact: ``volume`` (NIfTI), HU, axis 0 along the slice normal; lengths in mm, LPS.

Geometry comes from Image Position and Image Orientation alone (DICOM PS3.3, C.7.6.2); file
names, instance numbers and Slice Thickness never order or place a slice. De-identification is a
keep-list (PS3.15, annex E): what `headers.KEPT_TAGS` does not name is never read.

References
----------
Li et al., "The first step for neuroimaging data analysis: DICOM to NIfTI conversion", Journal of
Neuroscience Methods 264 (2016) 47-56, doi:10.1016/j.jneumeth.2016.03.001.
"""
