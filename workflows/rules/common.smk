import shlex
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
MEMBERS = {f"sr-{i}": m for i, m in enumerate(SETTINGS.model.members, start=1)}
GRIDS = ["flow", "flow-coarse", *(f"flow-coarse-{k}" for k in range(2, 5))][
    : SETTINGS.lattices
]
SIGMA = ["results/enhanced/{case}/sigma.nii.gz"] if MEMBERS else []


wildcard_constraints:
    case="[A-Za-z0-9][A-Za-z0-9_-]*",
    resolution="hr|lr|interpolated|sr(-[0-9]+)?",
    variant="lr|interpolated|sr(-[0-9]+)?",
    grid="flow|flow-coarse(-[0-9]+)?",


def patent(airway):
    return read_json(Path(airway) / "airway.json")["patent"]


def model_folder():
    """Return the MODEL_DIR of this run: trained here, shipped or the user's."""
    source = SETTINGS.model.source
    return "results/model" if source == "train" else source


def restoring_models():
    """Write the models that restore a scan from its own folder as flags."""
    return as_flags(SETTINGS.model.members or [SETTINGS.model.source])


def as_flags(models):
    return " ".join(f"--model {shlex.quote(m)}" for m in models)


def initial_flag():
    initial = SETTINGS.model.initial
    return f" --initial {initial}" if initial else ""


def manifest():
    """Return the training manifest: one that ct2flow ships, or the user's path."""
    shipped = share_folder("data_manifests") / SETTINGS.model.manifest
    return shipped if shipped.is_file() else Path(SETTINGS.model.manifest).resolve()


def flow_flags(wildcards):
    """Write the flow's settings; coarser lattices differ in their spacing alone."""
    ratio = SETTINGS.coarse_ratio ** GRIDS.index(wildcards.grid)
    spacing = round(SETTINGS.flow.spacing_mm * ratio, 6)
    return flags(SETTINGS.flow.model_copy(update={"spacing_mm": spacing}))


def coarser_flows(wildcards):
    """List the same flow on coarser lattices; the networks of an ensemble have none."""
    case, resolution = wildcards.case, wildcards.resolution
    later = GRIDS[GRIDS.index(wildcards.grid) + 1 :]
    return [
        f"results/{g}/{case}/{resolution}" for g in later if resolution not in MEMBERS
    ]


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
    }.get(resolution, f"results/restored/{case}/{resolution}.nii.gz")


def models(method):
    """List what restores by a method: a baseline, the network, or the members of an ensemble."""
    if not method.startswith("sr"):
        return [method]
    if method in MEMBERS:
        return [MEMBERS[method]]
    return [*MEMBERS.values()] or [model_folder()]


def model(wildcards):
    """Return the networks' folders as inputs, if they are ones that this run can wait for."""
    return [m for m in models(wildcards.method) if "/" in m]


def model_flags(wildcards):
    return as_flags(models(wildcards.method))


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


def member_flows(wildcards):
    """List the flows of an ensemble's single networks whose airway is open."""
    case = wildcards.case
    if "sr" not in open_resolutions(wildcards):
        return []
    get = checkpoints.airway_variant.get
    found = [m for m in MEMBERS if patent(get(case=case, variant=m).output[0])]
    return [f"results/flow/{case}/{m}" for m in found]


def flows(wildcards):
    return [f"results/flow/{wildcards.case}/{r}" for r in open_resolutions(wildcards)]


def coarse_flows(wildcards):
    case = wildcards.case
    return [
        f"results/{g}/{case}/{r}"
        for g in GRIDS[1:]
        for r in open_resolutions(wildcards)
    ]


def comparisons(wildcards):
    """List the comparisons that exist: images always, surfaces and flows for an open airway."""
    kinds = ["images", *(["surfaces", "flows"] if open_resolutions(wildcards) else [])]
    return [f"results/comparison/{wildcards.case}/{kind}.json" for kind in kinds]
