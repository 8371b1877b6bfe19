rule training_data:
    output:
        directory("results/training"),
    log:
        "logs/training_data.log",
    benchmark:
        "benchmarks/training_data.tsv"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        manifest=str(manifest()),
        root=SETTINGS.model.data_root or ".",
        code=[code_digest("phantom"), code_digest("ingest")],
    shell:
        "ct2flow manifest prepare {params.manifest:q} --data-root {params.root:q} --output {output:q} 2>&1 | tee {log:q}"


rule train:
    input:
        "results/training",
    output:
        directory("results/model"),
    log:
        "logs/train.log",
    benchmark:
        "benchmarks/train.tsv"
    threads: 2
    resources:
        mem_mb=8000,
    params:
        flags=flags(SETTINGS.training) + initial_flag(),
        code=code_digest("super_resolution"),
    shell:
        "ct2flow train {input}/manifest.csv --output {output:q} --overwrite {params.flags} 2>&1 | tee {log:q}"


rule restore:
    input:
        volume="results/triplets/{case}/lr.nii.gz",
        model=model,
    output:
        volume="results/restored/{case}/{method}.nii.gz",
        record="results/restored/{case}/{method}.nii.gz.json",
    log:
        "logs/restore/{case}/{method}.log",
    benchmark:
        "benchmarks/restore/{case}/{method}.tsv"
    wildcard_constraints:
        method="linear|spline|histospline|sr(-[0-9]+)?",
    threads: 2
    resources:
        mem_mb=8000,
    params:
        models=model_flags,
        flags=flags(SETTINGS.restoration),
        code=code_digest("super_resolution"),
    shell:
        "ct2flow restore {input.volume:q} {params.models} --output {output.volume:q} --overwrite {params.flags} 2>&1 | tee {log:q}"
