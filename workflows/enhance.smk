# One coarse CT in, one fine CT out, as NIfTI and as a derived DICOM series.


include: "rules/common.smk"
include: "rules/ingest.smk"
include: "rules/enhance.smk"


localrules:
    all,


rule all:
    default_target: True
    input:
        expand("results/enhanced/{case}/restored.nii.gz", case=CASES),
        expand("results/enhanced/{case}/dicom", case=CASES),
