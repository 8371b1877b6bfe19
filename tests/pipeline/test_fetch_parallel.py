"""Downloads side by side: what ends one ends all, and nothing ends in silence."""

from __future__ import annotations

import errno
from threading import Event

import pytest

from pipeline.core.errors import InputError
from pipeline.fetching import parallel
from pipeline.fetching.https import Patience
from pipeline.fetching.parallel import download_all
from pipeline.fetching.remote_file import RemoteFile

FILES = [RemoteFile(f"https://server/{k}.dcm", f"{k}.dcm", size_bytes=1000) for k in range(5)]


def fetch(folder, monkeypatch, download, jobs=2):
    monkeypatch.setattr(parallel, "download", download)
    patience = Patience(timeout_s=1, contact_s=1, attempts=1, first_pause_s=0.001)
    stop, total = Event(), sum(file.size_bytes for file in FILES)
    download_all(
        FILES, folder, jobs=jobs, patience=patience, stop=stop, description="d", total_bytes=total
    )
    return stop


@pytest.mark.parametrize("jobs", [1, 2, 9])
def test_every_file_is_fetched_once(tmp_path, monkeypatch, jobs):
    fetched = []

    def download(file, folder, *, report, **_):
        fetched.append((folder, file.name))
        report(file.size_bytes)

    stop = fetch(tmp_path, monkeypatch, download, jobs)
    assert sorted(fetched) == [(tmp_path, file.name) for file in FILES]
    assert not stop.is_set()


@pytest.mark.parametrize("error", [InputError("refused"), OSError(errno.ENOSPC, "disc full")])
def test_first_failure_stops_all_and_is_raised_here(tmp_path, monkeypatch, error):
    begun = []

    def download(file, _folder, *, stop, **_):
        begun.append(file.name)
        if file.name == "0.dcm":
            raise error
        stop.wait(5.0)

    with pytest.raises(type(error)) as raised:
        fetch(tmp_path, monkeypatch, download)
    assert raised.value is error
    assert len(begun) <= 2


def test_an_error_of_our_own_ends_the_run_and_shows_where_it_was_raised(tmp_path, monkeypatch):
    """A worker that died in silence would leave files out, or the run waiting for ever."""
    shown = []
    monkeypatch.setattr("threading.excepthook", shown.append)

    def download(*_, **__):
        raise ZeroDivisionError

    with pytest.raises(RuntimeError, match="error of our own"):
        fetch(tmp_path, monkeypatch, download, jobs=1)
    assert [hook.exc_type for hook in shown] == [ZeroDivisionError]
