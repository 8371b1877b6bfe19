"""Commands of the report stage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from stages.report.settings import ReportSettings

app = App(name="report", help="Write the report of one case.")


@app.default
def report(
    results: Path,
    /,
    *,
    case: str,
    output: Path,
    interpolation: str = "spline",
    command: str = "",
    settings: Annotated[ReportSettings, Parameter(name="*")] = ReportSettings(),  # noqa: B008
    overwrite: bool = False,
) -> None:
    """Write report.html, report.pdf and results.json of one case.

    Parameters
    ----------
    results
        Results folder of the workflow.
    case
        Name of the case.
    output
        Folder to write.
    interpolation
        Method that 'interpolated' names: linear, spline or histospline.
    command
        Command that repeats the case, shown in the report.
    settings
        Display of grey values.
    overwrite
        Replace an existing output.
    """
    from stages.report.stage import run

    run(
        results,
        output,
        settings,
        case=case,
        interpolation=interpolation,
        command=command,
        overwrite=overwrite,
    )
