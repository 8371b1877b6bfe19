"""A run guards its folder, relays a stage's failure and cleans up after a killed one."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from pipeline import run
from pipeline.core.errors import InputError, UsageError

SLEEPER = """
rule all:
    output: "never"
    shell: "echo begun > begun; sleep 300; touch {output}"
"""
FAILING = """
rule all:
    input: "absent.txt"
rule restore:
    output: "absent.txt"
    log: "logs/restore/case.log"
    shell: "ct2flow restore no-such.nii.gz --model linear --output {output} 2>&1 | tee {log}"
"""
DRIVER = """
import sys
from pathlib import Path
from pipeline import run
folder = Path(sys.argv[1])
with run._only_run_in(folder):
    run.run_snakemake(folder, folder / "Snakefile", 1)
"""


@pytest.fixture
def workflow(tmp_path):
    def make(text):
        (tmp_path / "Snakefile").write_text(text)
        (tmp_path / "config.yaml").write_text("{}\n")
        return tmp_path

    return make


def start(folder):
    command = [sys.executable, "-c", DRIVER, str(folder)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def sleepers(folder):
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder) and "sleep" in process.cmdline()[0]:
                found.append(process)
        except (psutil.Error, IndexError):
            continue
    return found


def wait_until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


def test_fingerprint_changes_with_names_sizes_and_times_and_with_nothing_else(tmp_path):
    scan = tmp_path / "scan"
    scan.mkdir()
    (scan / "1").write_bytes(b"abc")
    before = run.fingerprint(scan)
    assert run.fingerprint(scan) == before
    os.utime(scan / "1", (1, 1))
    touched = run.fingerprint(scan)
    (scan / "2").write_bytes(b"")
    assert len({before, touched, run.fingerprint(scan)}) == 3


def test_a_failing_stage_is_relayed_with_its_sentence_and_class(workflow):
    folder = workflow(FAILING)
    with pytest.raises(InputError, match=r"no-such\.nii\.gz"):
        run.run_snakemake(folder, folder / "Snakefile", 1)


def test_two_runs_in_one_folder_are_refused(tmp_path):
    with run._only_run_in(tmp_path), pytest.raises(UsageError, match="another run"):
        run._only_run_in(tmp_path).__enter__()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_process(workflow, number):
    folder = workflow(SLEEPER)
    child = start(folder)
    assert wait_until((folder / "begun").exists)
    child.send_signal(number)
    child.wait(60)
    assert wait_until(lambda: not sleepers(folder))
    assert not (folder / ".session").exists()


def test_a_killed_run_is_cleaned_up_by_the_next(workflow):
    folder = workflow(SLEEPER)
    child = start(folder)
    assert wait_until(lambda: (folder / "begun").exists() and sleepers(folder))
    child.kill()
    child.wait(60)
    assert sleepers(folder)
    with run._only_run_in(folder):
        assert wait_until(lambda: not sleepers(folder))


def test_a_stale_record_of_another_program_is_left_alone(tmp_path):
    other = subprocess.Popen(["sleep", "300"], start_new_session=True)
    try:
        (tmp_path / ".session").write_text(json.dumps({"pid": other.pid}))
        with run._only_run_in(tmp_path):
            assert other.poll() is None
    finally:
        other.kill()
        other.wait()
