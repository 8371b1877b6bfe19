"""The phantom's commands keep the exit codes of the command line."""

import pytest

from stages.phantom.cli import app

TINY = ["--matrix", "32", "--pixel-mm", "7.2", "--slice-spacing-mm", "20", "--below-mm", "20"]


def _run(*tokens):
    app(tokens, exit_on_error=False, print_error=False, result_action="return_none")


def test_volume_command_writes_a_volume_and_refuses_to_overwrite_it(tmp_path):
    from pipeline.core.errors import UsageError

    output = tmp_path / "head.nii.gz"
    _run("volume", "--seed", "5", *TINY, "--output", str(output))
    assert output.is_file()
    with pytest.raises(UsageError, match="overwrite"):
        _run("volume", "--seed", "5", *TINY, "--output", str(output))
    _run("volume", "--seed", "6", *TINY, "--output", str(output), "--overwrite")


@pytest.mark.parametrize(
    "wrong", [["--seed", "-1"], ["--matrix", "4"], ["--variant", "closed"], ["--pixel-mm", "nan"]]
)
def test_settings_out_of_bounds_are_refused_before_any_work(tmp_path, wrong):
    from cyclopts import CycloptsError
    from pydantic import ValidationError

    with pytest.raises((CycloptsError, ValidationError)):
        _run("dicom", *wrong, "--output", str(tmp_path / "series"))
    assert not list(tmp_path.iterdir())
