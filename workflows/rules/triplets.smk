rule triplets:
    input:
        "results/volumes/{case}/hr.nii.gz",
    output:
        lr="results/triplets/{case}/lr.nii.gz",
        hr="results/triplets/{case}/hr.nii.gz",
        record="results/triplets/{case}/artefact.json",
    log:
        "logs/triplets/{case}.log",
    benchmark:
        "benchmarks/triplets/{case}.tsv"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        folder=subpath(output.lr, parent=True),
        flags=flags(SETTINGS.triplets),
        code=code_digest("triplets"),
    shell:
        "ct2flow triplets {input:q} --output {params.folder:q} --overwrite {params.flags} 2>&1 | tee {log:q}"
