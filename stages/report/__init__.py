"""The report of one case: one self-contained page, the same as PDF, and results.json.

Purpose: gather the artefacts of a case into tables and figures that a researcher can send on. Inputs: the
result folders of the workflow. Outputs: report.html, report.pdf, results.json; pressures in Pa,
lengths in mm, grey values in HU. Principal reference: Liu et al., Future Generation Computer Systems
159 (2024) 474-488.
"""
