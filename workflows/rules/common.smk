from pathlib import Path

from snakemake.utils import validate

from pipeline.config import complete, flags, share_folder
from pipeline.core.artefacts import read_json
from pipeline.core.provenance import code_digest

validate(config, "../schemas/config.schema.json", set_default=False)
SETTINGS = complete(config)
CASES = sorted(SETTINGS.cases)
VARIANTS = ["lr", "interpolated", "sr"]
METHODS = ["linear", "spline", "histospline", "sr"]


wildcard_constraints:
    case="[A-Za-z0-9][A-Za-z0-9_-]*",
    resolution="hr|lr|interpolated|sr",
    variant="lr|interpolated|sr",
    grid="flow|flow-coarse",


def patent(airway):
    return read_json(Path(airway) / "airway.json")["patent"]


def model_folder():
    """Return the MODEL_DIR of this run: trained here, shipped or the user's."""
    source = SETTINGS.model.source
    return "results/model" if source == "train" else source


def initial_flag():
    initial = SETTINGS.model.initial
    return f" --initial {initial}" if initial else ""


def manifest():
    """Return the training manifest: one that ct2flow ships, or the user's path."""
    shipped = share_folder("data_manifests") / SETTINGS.model.manifest
    return shipped if shipped.is_file() else Path(SETTINGS.model.manifest).resolve()


def flow_flags(wildcards):
    """Write the flow's settings; the coarse lattice differs in its spacing alone."""
    ratio = SETTINGS.coarse_ratio if wildcards.grid == "flow-coarse" else 1.0
    spacing = round(SETTINGS.flow.spacing_mm * ratio, 6)
    return flags(SETTINGS.flow.model_copy(update={"spacing_mm": spacing}))


def scan(wildcards):
    return SETTINGS.cases[wildcards.case].input


def original(wildcards):
    """Return the scan whose patient and study the restored series joins, if it shall."""
    return [scan(wildcards)] if SETTINGS.join_study else []


def fingerprint(wildcards):
    return SETTINGS.cases[wildcards.case].fingerprint


def volume(wildcards):
    """Return the volume of a resolution: HR, LR, the chosen interpolation or the network's."""
    case = wildcards.case
    resolution = wildcards.get("resolution", wildcards.get("variant"))
    return {
        "hr": f"results/triplets/{case}/hr.nii.gz",
        "lr": f"results/triplets/{case}/lr.nii.gz",
        "interpolated": f"results/restored/{case}/{SETTINGS.model.interpolation}.nii.gz",
        "sr": f"results/restored/{case}/sr.nii.gz",
    }[resolution]


def model(wildcards):
    """Return the network's folder as an input, if it is one that this run can wait for."""
    waits = wildcards.method == "sr" and "/" in model_folder()
    return [model_folder()] if waits else []


def model_name(wildcards):
    return model_folder() if wildcards.method == "sr" else wildcards.method


def open_resolutions(wildcards):
    """List the resolutions whose airway is open: only they have a surface and a flow."""
    case = wildcards.case
    if not patent(checkpoints.airway.get(case=case).output[0]):
        return []
    get = checkpoints.airway_variant.get
    return ["hr"] + [v for v in VARIANTS if patent(get(case=case, variant=v).output[0])]


def airways(wildcards):
    case = wildcards.case
    found = patent(checkpoints.airway.get(case=case).output[0])
    return [f"results/airway/{case}/{r}" for r in ["hr", *(VARIANTS if found else [])]]


def surfaces(wildcards):
    return [
        f"results/surface/{wildcards.case}/{r}" for r in open_resolutions(wildcards)
    ]


def flows(wildcards):
    return [f"results/flow/{wildcards.case}/{r}" for r in open_resolutions(wildcards)]


def coarse_flows(wildcards):
    return [
        f"results/flow-coarse/{wildcards.case}/{r}" for r in open_resolutions(wildcards)
    ]


def comparisons(wildcards):
    """List the comparisons that exist: images always, surfaces and flows for an open airway."""
    kinds = ["images", *(["surfaces", "flows"] if open_resolutions(wildcards) else [])]
    return [f"results/comparison/{wildcards.case}/{kind}.json" for kind in kinds]
