"""Make a head with a known airway: anatomy by signed distances, seen through a simulated scanner.

In: a seed, and settings of anatomy and scanner. Out: a DICOM series (kind ``dicom-series``), the
same scan as a volume (``volume``, HU), and the truth (``phantom-truth``): planes.json, the
airway's surface (LPS, mm), its lumen and its volumes and areas. Lengths are mm in DICOM LPS.

Principal reference: Osher and Fedkiw (2003), Level Set Methods and Dynamic Implicit Surfaces,
chapter 2, doi:10.1007/b98879.
"""
