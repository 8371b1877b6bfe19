checkpoint airway:
    input:
        "results/triplets/{case}/hr.nii.gz",
    output:
        directory("results/airway/{case}/hr"),
    log:
        "logs/airway/{case}/hr.log",
    benchmark:
        "benchmarks/airway/{case}/hr.tsv"
    threads: 1
    resources:
        mem_mb=6000,
    params:
        flags=flags(SETTINGS.airway),
        code=code_digest("airway"),
    shell:
        "ct2flow airway {input:q} --output {output:q} --overwrite {params.flags} 2>&1 | tee {log:q}"


checkpoint airway_variant:
    input:
        volume=volume,
        reference="results/airway/{case}/hr",
    output:
        directory("results/airway/{case}/{variant}"),
    log:
        "logs/airway/{case}/{variant}.log",
    benchmark:
        "benchmarks/airway/{case}/{variant}.tsv"
    threads: 1
    resources:
        mem_mb=6000,
    params:
        flags=flags(SETTINGS.airway),
        code=code_digest("airway"),
    shell:
        "ct2flow airway {input.volume:q} --reference {input.reference:q} --output {output:q} --overwrite {params.flags} 2>&1 | tee {log:q}"
