rule flow:
    input:
        "results/surface/{case}/{resolution}",
    output:
        directory("results/{grid}/{case}/{resolution}"),
    log:
        "logs/{grid}/{case}/{resolution}.log",
    benchmark:
        "benchmarks/{grid}/{case}/{resolution}.tsv"
    threads: 2
    resources:
        mem_mb=8000,
    params:
        flags=flow_flags,
        code=code_digest("flow"),
    shell:
        "ct2flow simulate {input:q} --output {output:q} --overwrite {params.flags} 2>&1 | tee {log:q}"
