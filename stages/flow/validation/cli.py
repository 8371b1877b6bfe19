"""The command that validates the flow solver."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from stages.flow.validation.settings import ValidationSettings


def validate(
    *,
    output: Path,
    settings: Annotated[ValidationSettings, Parameter(name="*")] = ValidationSettings(),  # noqa: B008
) -> None:
    """Compare the flow solver with closed forms and published measurements.

    Parameters
    ----------
    output
        Folder to write: validation.json, .html and .md, and cases/. A second run computes only what is
        missing or was made by other code.
    settings
        Which cases are computed, and how.
    """
    from stages.flow.validation.stage import run

    run(output, settings)
