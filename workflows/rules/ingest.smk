rule ingest:
    input:
        scan,
    output:
        volume="results/volumes/{case}/hr.nii.gz",
        record="results/volumes/{case}/hr.nii.gz.json",
    log:
        "logs/ingest/{case}.log",
    benchmark:
        "benchmarks/ingest/{case}.tsv"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        flags=flags(SETTINGS.ingest),
        fingerprint=fingerprint,
        code=code_digest("ingest"),
    shell:
        "ct2flow ingest {input:q} --output {output.volume:q} --overwrite {params.flags} 2>&1 | tee {log:q}"
