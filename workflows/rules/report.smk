rule report:
    input:
        ingested="results/volumes/{case}/hr.nii.gz",
        airways=airways,
        surfaces=surfaces,
        flows=flows,
        comparisons=comparisons,
    output:
        html=report(
            "results/report/{case}/report.html",
            category="Reports",
            labels={"case": "{case}"},
        ),
        pdf="results/report/{case}/report.pdf",
        results="results/report/{case}/results.json",
        settings="results/report/{case}/settings.yaml",
    log:
        "logs/report/{case}.log",
    benchmark:
        "benchmarks/report/{case}.tsv"
    threads: 2
    resources:
        mem_mb=6000,
    params:
        folder=subpath(output.html, parent=True),
        interpolation=SETTINGS.model.interpolation,
        flags=flags(SETTINGS.report),
        code=code_digest("report"),
    shell:
        "ct2flow report results --case {wildcards.case} --interpolation {params.interpolation} --output {params.folder:q} --overwrite {params.flags} 2>&1 | tee {log:q}"
