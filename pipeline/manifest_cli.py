"""Commands about data manifests."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter, validators

app = App(name="manifest", help="Fetch, check and prepare the data of manifests.")


@app.command
def check(manifest: Path, /, *, data_root: Path = Path()) -> None:
    """Check a manifest and the data it names; exit code 3 if anything is amiss.

    Parameters
    ----------
    manifest
        CSV file; data_manifests/README.md describes it.
    data_root
        Folder that the manifest's paths are relative to.
    """
    from pipeline.prepare import check_all

    check_all(manifest, data_root, sys.stdout)


@app.command
def prepare(manifest: Path, /, *, data_root: Path = Path(), output: Path) -> None:
    """Turn every case of a manifest into a volume; a second run makes only what is missing.

    Parameters
    ----------
    manifest
        CSV file; data_manifests/README.md describes it.
    data_root
        Folder that the manifest's paths are relative to.
    output
        Folder to write: CASE.nii.gz for each case, and manifest.csv that points to them.
    """
    from pipeline.prepare import prepare_all

    prepare_all(manifest, data_root, output)


@app.command
def phantoms(
    *,
    output: Path,
    count: Annotated[int, Parameter(validator=validators.Number(gte=1))],
    validation: Annotated[int, Parameter(validator=validators.Number(gte=0))] = 1,
    first_seed: Annotated[int, Parameter(validator=validators.Number(gte=0))] = 1000,
    overwrite: bool = False,
) -> None:
    """Write a manifest of phantom patients: random anatomy, contrast, kernel, noise and slices.

    A larger count keeps the patients there were: 'ct2flow manifest prepare' then makes the new ones
    alone.

    Parameters
    ----------
    output
        CSV file to write, for 'ct2flow manifest prepare'.
    count
        Patients.
    validation
        Patients, the first ones, that choose the weights instead of being learnt from.
    first_seed
        Seed of the first patient; the others follow.
    overwrite
        Replace an existing output.
    """
    from pipeline.phantom_cohort import write_cohort

    write_cohort(output, count, first_seed=first_seed, validation=validation, overwrite=overwrite)


@app.command
def fetch(
    manifest: Path,
    /,
    *,
    output: Path,
    case: tuple[str, ...] = (),
    base_url: str = "",
    jobs: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=16))] = 4,
    lock: Path | None = None,
) -> None:
    """Fetch the scans of a manifest; an interrupted run goes on, a complete one finds nothing to do.

    Parameters
    ----------
    manifest
        CSV file; data_manifests/README.md describes it.
    output
        Folder to write: a folder for each case, manifest.csv that points to them, and fetched.json
        with the size and sha256 of every file.
    case
        Name of a case to fetch; give it several times for several cases. Default: all.
    base_url
        Server to fetch from instead of the manifest's own, such as a mirror; {bucket} in it stands
        for the bucket's name. Default: https://{bucket}.s3.amazonaws.com for s3:// addresses.
    jobs
        Files fetched at the same time.
    lock
        The fetched.json of an earlier fetch, of any machine; every file must be the same.
    """
    from pipeline.fetching.fetch import FetchSettings, fetch_all

    settings = FetchSettings(base_url=base_url, jobs=jobs)
    fetch_all(manifest, output, settings, names=case, lock=lock)
