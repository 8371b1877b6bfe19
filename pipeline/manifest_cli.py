"""Commands about data manifests."""

from __future__ import annotations

import sys
from pathlib import Path

from cyclopts import App

app = App(name="manifest", help="Check and prepare data manifests.")


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
