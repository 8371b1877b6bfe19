"""The `ct2flow` command: one lazy line per command, one exit code per kind of failure."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter
from pydantic import ValidationError

from pipeline.core.command import command_words
from pipeline.core.errors import Ct2FlowError, UsageError
from pipeline.core.progress import progress_file as progress_file_variable

EXIT_INTERRUPTED = 130
_COMMAND_WORD = re.compile(r"[A-Za-z][A-Za-z-]*")

app = App(
    name="ct2flow",
    help="From a CT scan to the pressure loss of a nose. Research use only.",
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,  # `exit_code` says that it was one
)
app.meta.suppress_keyboard_interrupt = False
app.command("pipeline.run_cli:run", name="run", help="One scan, end to end, to a report.")
app.command("pipeline.run_cli:demo", name="demo", help="The embedded default case, end to end.")
app.command("pipeline.run_cli:enhance", name="enhance", help="A coarse scan in, thin slices out.")
app.command("pipeline.config_cli:app", name="config", help="Show or check workflow settings.")
app.command(
    "pipeline.manifest_cli:app", name="manifest", help="Fetch, check and prepare data manifests."
)
app.command("stages.phantom.cli:app", name="phantom", help="Make a head with a known airway.")
app.command("stages.ingest.cli:app", name="ingest", help="Read a CT series into a volume in HU.")
app.command(
    "stages.deidentify.cli:app", name="deidentify", help="Copy CT images without identity."
)
app.command("stages.triplets.cli:app", name="triplets", help="Simulate thick slices.")
app.command("pipeline.train_cli:app", name="train", help="Train a network.")
app.command("stages.super_resolution.cli:restore_app", name="restore", help="Restore thin slices.")
app.command(
    "stages.super_resolution.cli:export_app", name="export-onnx", help="Write a model as ONNX."
)
app.command("stages.airway.cli:app", name="airway", help="Find the airway, nostrils to pharynx.")
app.command("stages.surface.cli:app", name="surface", help="Make the airway's closed surface.")
app.command("stages.flow.cli:app", name="simulate", help="Simulate the air flow.")
app.command("stages.comparison.cli:app", name="compare", help="Compare with a baseline.")
app.command("stages.report.cli:app", name="report", help="Write the report of one case.")
app.command("stages.dicom_export.cli:app", name="dicom-export", help="Write a volume as DICOM.")


@app.meta.default
def launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    progress_file: Path | None = None,
) -> None:
    """Run one command.

    Parameters
    ----------
    progress_file
        File that receives progress as JSON lines.
    """
    progress_file_variable.set(progress_file)
    app(tokens, exit_on_error=False, print_error=False, result_action="return_none")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    # OpenMP threads that spin while they wait fall to a 25th of their speed beside a busy core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(exit_code(sys.argv[1:] if arguments is None else arguments))


def exit_code(arguments: Sequence[str]) -> int:
    """Run the command line and return 0, 2, 3, 4 or 130; an unknown exception is our bug."""
    _log_to_stderr()
    try:
        dispatch(arguments)
    except Ct2FlowError as error:
        return _fail(error.exit_code, _no_such_command(arguments) or str(error))
    except (CycloptsError, ValidationError) as error:
        return _fail(UsageError.exit_code, _no_such_command(arguments) or _one_sentence(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return _fail(EXIT_INTERRUPTED, "interrupted; run the same command again to go on.")
    except MemoryError:
        return _fail(4, "not enough memory; use a coarser spacing or a machine with more.")
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        return _fail(
            3, f"{_base_name(error.filename)}: {error.strerror}; check the path and disc."
        )
    return 0


def dispatch(arguments: Sequence[str]) -> None:
    """Parse the arguments and run their command; failures are raised."""
    command_words.set(tuple(arguments))
    app.meta(list(arguments), exit_on_error=False, print_error=False, result_action="return_none")


def _base_name(filename: object) -> str:
    """Return the last part of a path: folders may be named after patients."""
    return Path(str(filename)).name if filename else "file"


def _fail(code: int, sentence: str) -> int:
    sys.stderr.write(f"ct2flow: error [{code}]: {sentence}\n")
    return code


def _no_such_command(arguments: Sequence[str]) -> str:
    """Return the commands there are, where a failed word was meant as one; else nothing.

    A command that takes files and has commands below it, such as compare, takes a misspelt one for
    a file: only the failure shows that it was none.
    """
    above, apps, rest = app.parse_commands(arguments)
    names = [name for name in apps[-1] if not name.startswith("-")]
    if apps[-1].default_command is None or not names or not rest:
        return ""
    word = rest[0]
    if not _COMMAND_WORD.fullmatch(word) or Path(word).exists():
        return ""
    command = " ".join(("ct2flow", *above))
    return (
        f"{word}: is no file or folder here and no command of '{command}', which has "
        f"{', '.join(names)}; correct it or see '{command} --help'."
    )


def _one_sentence(error: CycloptsError | ValidationError) -> str:
    if isinstance(error, ValidationError):
        return validation_sentence(error)
    cause = error.__cause__
    if isinstance(cause, ValidationError):
        return validation_sentence(cause)
    return " ".join(str(error).split())


def validation_sentence(error: ValidationError) -> str:
    """Say in one sentence which settings are wrong, what was found and what is needed."""
    parts = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"]) or "settings"
        found = item.get("input")
        shown = f" (found {found!r})" if isinstance(found, (int, float, str, bool)) else ""
        parts.append(f"{name}: {item['msg']}{shown}")
    return "; ".join(parts) + "; correct the setting and run again."


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("ct2flow")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False


if __name__ == "__main__":
    main()
