rule flow:
    input:
        surface="results/surface/{case}/{resolution}",
        coarser=coarser_flows,
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
        coarser=lambda wildcards, input: "--coarser" if input.coarser else "",
        code=code_digest("flow"),
    shell:
        "ct2flow simulate {input.surface:q} {params.coarser} {input.coarser:q} --output {output:q} --overwrite {params.flags} 2>&1 | tee {log:q}"
