rule surface:
    input:
        volume=volume,
        airway="results/airway/{case}/{resolution}",
    output:
        directory("results/surface/{case}/{resolution}"),
    log:
        "logs/surface/{case}/{resolution}.log",
    benchmark:
        "benchmarks/surface/{case}/{resolution}.tsv"
    threads: 1
    resources:
        mem_mb=6000,
    params:
        flags=flags(SETTINGS.surface),
        code=code_digest("surface"),
    shell:
        "ct2flow surface {input.volume:q} --airway {input.airway:q} --output {output:q} --overwrite {params.flags} 2>&1 | tee {log:q}"
