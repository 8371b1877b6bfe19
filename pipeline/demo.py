"""The embedded default case: a head phantom of known airway through the whole chain."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.core.artefacts import read_sidecar
from pipeline.core.errors import Ct2FlowError
from pipeline.run import run_case


def run_demo(
    output: Path, *, seed: int, cores: int, assignments: Sequence[str] = ()
) -> dict[str, Any]:
    """Make the phantom patient's DICOM series, unless it is there, and run it end to end.

    Raises
    ------
    Ct2FlowError
        As the failing stage says.
    """
    scan = output / f"phantom-{seed}"
    if not read_sidecar(scan):
        command = [sys.executable, "-m", "pipeline.cli", "phantom", "dicom", "--seed", str(seed)]
        finished = subprocess.run([*command, "--output", str(scan), "--overwrite"], check=False)  # noqa: S603
        if finished.returncode != 0:
            raise Ct2FlowError("the phantom could not be made; the message above says why.")
    return run_case(
        scan,
        output,
        experiment="demo",
        assignments=assignments,
        cores=cores,
        case=f"phantom-{seed}",
    )
