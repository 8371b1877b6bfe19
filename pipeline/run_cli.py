"""Commands that run the whole chain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

Cores = Annotated[int, Parameter(validator=validators.Number(gte=1))]


def run(
    source: Annotated[Path, Parameter(name="INPUT")],
    /,
    *,
    output: Path,
    experiment: str | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=False)] = (),
    cores: Cores = 2,
    case: str = "case",
    dry_run: bool = False,
) -> None:
    """Run one scan from DICOM to report; run again, it goes on or finds nothing to do.

    Parameters
    ----------
    source
        Folder, zip or DICOMDIR of DICOM, or a .nii[.gz], .nrrd or .mha volume in HU.
    output
        Folder for report.html, report.pdf, results.json and all artefacts.
    experiment
        Name of a built-in experiment, or a YAML file with the settings that differ.
    set_
        One setting, such as flow.spacing_mm=0.4; may be given many times.
    cores
        Processor cores to use.
    case
        Name of the case in the report; do not use the patient's name.
    dry_run
        Only show what would be done.
    """
    from pipeline.run import run_case
    from pipeline.summary import print_summary

    results = run_case(
        source,
        output,
        experiment=experiment,
        assignments=set_,
        cores=cores,
        case=case,
        dry_run=dry_run,
    )
    if results:
        print_summary(results, output)


def demo(
    *,
    output: Path,
    seed: int = 7,
    cores: Cores = 2,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=False)] = (),
) -> None:
    """Make the embedded head phantom and run the whole chain on it, training included.

    Parameters
    ----------
    output
        Folder for the phantom, the report and all artefacts.
    seed
        Seed of the phantom patient.
    cores
        Processor cores to use.
    set_
        One setting, such as flow.spacing_mm=0.4; may be given many times.
    """
    from pipeline.demo import run_demo
    from pipeline.summary import print_summary

    print_summary(run_demo(output, seed=seed, cores=cores, assignments=set_), output)


def enhance(
    source: Annotated[Path, Parameter(name="INPUT")],
    /,
    *,
    output: Path,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=False)] = (),
    cores: Cores = 2,
    case: str = "case",
) -> None:
    """Restore thin slices from a coarse scan, as NIfTI and as a derived DICOM series.

    Parameters
    ----------
    source
        Folder, zip or DICOMDIR of DICOM, or a .nii[.gz], .nrrd or .mha volume in HU.
    output
        Folder for restored.nii.gz, the folder dicom and their records.
    set_
        One setting; may be given many times.
    cores
        Processor cores to use.
    case
        Name of the case; do not use the patient's name.
    """
    from pipeline.run import enhance_case

    enhance_case(source, output, assignments=set_, cores=cores, case=case)
