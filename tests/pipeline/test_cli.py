"""The command line answers quickly and ends with the exit code of its kind of failure."""

import subprocess
import sys

import pytest

from pipeline import cli
from pipeline.core.errors import Ct2FlowError, InputError, NumericalError, UsageError

HEAVY = ("torch", "monai", "vtk", "pyvista", "scipy", "numba", "SimpleITK", "skimage", "pydicom")
COMMANDS = [
    "run",
    "demo",
    "enhance",
    "config",
    "manifest",
    "phantom",
    "ingest",
    "triplets",
    "train",
    "restore",
    "airway",
    "surface",
    "simulate",
    "compare",
    "report",
    "dicom-export",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_imports_no_heavy_library(command):
    code = (
        "import sys; from pipeline.cli import exit_code;"
        f"code = exit_code([{command!r}, '--help']);"
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules];"
        "sys.exit(1 if code or heavy else 0)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.parametrize("error", [UsageError, InputError, NumericalError])
def test_each_kind_of_failure_has_its_exit_code_and_one_sentence(monkeypatch, capsys, error):
    def fail(*_arguments, **_keywords):
        raise error("The sentence.")

    monkeypatch.setattr(cli, "dispatch", fail)
    assert cli.exit_code([]) == error.exit_code
    assert capsys.readouterr().err == f"ct2flow: error [{error.exit_code}]: The sentence.\n"


def test_an_unknown_failure_is_not_hidden(monkeypatch):
    def fail(*_arguments, **_keywords):
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli, "dispatch", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.exit_code([])


def test_interruption_ends_with_130(monkeypatch):
    def fail(*_arguments, **_keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "dispatch", fail)
    assert cli.exit_code([]) == cli.EXIT_INTERRUPTED


def test_interrupted_command_says_so(monkeypatch, capsys):
    def interrupt(*_arguments, **_keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr("stages.super_resolution.stage.export", interrupt)
    arguments = ["export-onnx", "shipped", "--output", "x.onnx"]
    assert cli.exit_code(arguments) == cli.EXIT_INTERRUPTED
    assert "run the same command again" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["run"],
        ["run", "somewhere"],
        ["run", "somewhere", "--output", "x", "--cores", "0"],
        ["triplets", "hr.nii.gz", "--output", "x", "--factor", "2"],
        ["simulate", "surface", "--output", "x", "--spacing-mm", "-1"],
        ["simulate", "surface", "--output", "x", "--flow-rate-ml-s", "many"],
        ["restore", "--model"],
        ["config", "check"],
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(arguments, capsys):
    assert cli.exit_code(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("ct2flow: error [2]: ")
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (
            ["compare", "flow", "A", "B", "--baseline", "A", "--output", "x.json"],
            3,
            "flow: is no file or folder here and no command of 'ct2flow compare', which has "
            "images, surfaces;",
        ),
        (["compare", "flow", "A", "B"], 2, "which has images, surfaces;"),
        (["compare", "image", "A", "--reference", "B", "--output", "x"], 2, "image: is no"),
        (["train", "on-the-flyy", "A"], 2, "which has on-the-fly, tensorboard, compare;"),
        (["simulate", "validat"], 2, "no command of 'ct2flow simulate', which has "),
    ],
)
def test_a_misspelt_command_is_answered_with_those_that_there_are(
    arguments, code, sentence, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert cli.exit_code(arguments) == code
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("word", ["flow", "flow.json", "some/flow", "flow2"])
def test_a_file_that_is_there_or_looks_like_one_is_not_taken_for_a_command(
    word, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flow").mkdir()
    arguments = ["compare", word, "--baseline", word, "--output", "x.json"]
    assert cli.exit_code(arguments) == 3
    assert "no such file" in capsys.readouterr().err


def test_a_missing_scan_is_named_and_ends_with_3(tmp_path, capsys):
    arguments = ["run", str(tmp_path / "absent"), "--output", str(tmp_path / "out")]
    assert cli.exit_code(arguments) == 3
    assert "absent" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_error_class_has_its_own_exit_code():
    kinds = [Ct2FlowError, *Ct2FlowError.__subclasses__()]
    assert len({kind.exit_code for kind in kinds}) == len(kinds)
