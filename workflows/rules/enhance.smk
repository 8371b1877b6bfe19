rule enhance:
    input:
        "results/volumes/{case}/hr.nii.gz",
    output:
        volume="results/enhanced/{case}/restored.nii.gz",
        record="results/enhanced/{case}/restored.nii.gz.json",
        sigma=SIGMA,
    log:
        "logs/enhance/{case}.log",
    benchmark:
        "benchmarks/enhance/{case}.tsv"
    threads: 2
    resources:
        mem_mb=8000,
    params:
        models=restoring_models(),
        sigma="--sigma" if SIGMA else "",
        flags=flags(SETTINGS.restoration),
        code=code_digest("super_resolution"),
    shell:
        "ct2flow restore {input:q} {params.models} --output {output.volume:q} {params.sigma} {output.sigma:q} --overwrite {params.flags} 2>&1 | tee {log:q}"


rule dicom_export:
    input:
        volume="results/enhanced/{case}/restored.nii.gz",
        original=original,
    output:
        directory("results/enhanced/{case}/dicom"),
    log:
        "logs/dicom_export/{case}.log",
    benchmark:
        "benchmarks/dicom_export/{case}.tsv"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        like=lambda wildcards, input: (
            f"--like {input.original}" if input.original else ""
        ),
        flags=flags(SETTINGS.dicom_export),
        code=code_digest("dicom_export"),
    shell:
        "ct2flow dicom-export {input.volume:q} --output {output:q} --overwrite {params.like} {params.flags} 2>&1 | tee {log:q}"
