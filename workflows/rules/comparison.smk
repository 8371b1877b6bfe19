rule compare_images:
    input:
        reference="results/triplets/{case}/hr.nii.gz",
        airway="results/airway/{case}/hr",
        restored=expand("results/restored/{{case}}/{method}.nii.gz", method=METHODS),
    output:
        "results/comparison/{case}/images.json",
    log:
        "logs/comparison/{case}/images.log",
    benchmark:
        "benchmarks/comparison/{case}/images.tsv"
    threads: 1
    resources:
        mem_mb=6000,
    params:
        flags=flags(SETTINGS.comparison),
        code=code_digest("comparison"),
    shell:
        "ct2flow compare images {input.restored:q} --reference {input.reference:q} --airway {input.airway:q} --output {output:q} --overwrite {params.flags} 2>&1 | tee {log:q}"


rule compare_surfaces:
    input:
        surfaces,
    output:
        "results/comparison/{case}/surfaces.json",
    log:
        "logs/comparison/{case}/surfaces.log",
    benchmark:
        "benchmarks/comparison/{case}/surfaces.tsv"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        code=code_digest("comparison"),
    shell:
        "ct2flow compare surfaces {input:q} --reference {input[0]:q} --output {output:q} --overwrite 2>&1 | tee {log:q}"


rule compare_flows:
    input:
        flows=flows,
        coarse=coarse_flows,
        members=member_flows,
    output:
        "results/comparison/{case}/flows.json",
    log:
        "logs/comparison/{case}/flows.log",
    benchmark:
        "benchmarks/comparison/{case}/flows.tsv"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        coarse=lambda wildcards, input: "--coarse" if input.coarse else "",
        members=lambda wildcards, input: "--members" if input.members else "",
        code=code_digest("comparison"),
    shell:
        "ct2flow compare {input.flows:q} --baseline {input.flows[0]:q} {params.coarse} {input.coarse:q} {params.members} {input.members:q} --output {output:q} --overwrite 2>&1 | tee {log:q}"
