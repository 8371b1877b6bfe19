"""Commands about the workflow's configuration."""

from __future__ import annotations

import sys
from pathlib import Path

from cyclopts import App

app = App(name="config", help="Show or check the settings of the workflow.")


@app.command
def show() -> None:
    """Print every setting with its default and meaning as YAML."""
    from pipeline.config import commented_defaults

    sys.stdout.write(commented_defaults())


@app.command
def schema() -> None:
    """Print the JSON Schema of the configuration."""
    from pipeline.config import json_schema

    sys.stdout.write(json_schema())


@app.command
def check(path: Path, /) -> None:
    """Check a configuration or experiment file.

    Parameters
    ----------
    path
        YAML file.
    """
    from pipeline.config import complete, load_experiment

    complete(load_experiment(str(path)))
    sys.stdout.write(f"{path.name}: valid\n")
