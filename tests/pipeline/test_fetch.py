"""Scans are fetched whole or not at all, each byte once, and only what was announced."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
from fetch_server import serving
from pydicom import examples

from pipeline.cli import exit_code
from pipeline.core.artefacts import digest
from pipeline.core.errors import InputError, UsageError
from pipeline.core.manifests import Case, Manifest, check_manifest, read_manifest, write_manifest
from pipeline.core.volume import read_volume
from pipeline.fetching import fetch, https
from pipeline.fetching.fetch import FetchSettings, fetch_all
from pipeline.fetching.https import Patience, _Redirects, check_url

PREFIX = "9f6e0000-aaaa-bbbb-cccc-000000000001/"
HASTY = Patience(timeout_s=3, contact_s=2, attempts=4, first_pause_s=0.001)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def bucket():
    with serving() as bucket:
        for k in range(3):
            bucket.objects[f"{PREFIX}{k}.dcm"] = random.Random(k).randbytes(40_000 + k)
        yield bucket


def series_case(bucket, **changes):
    sizes = [len(body) for key, body in bucket.objects.items() if key.startswith(PREFIX)]
    fields = {"case": "head", "patient": "p", "role": "test", "source": "dicom", "path": "head"}
    fields |= {"url": f"s3://open-data/{PREFIX}", "files": len(sizes), "size_bytes": sum(sizes)}
    return Case(**(fields | changes))


def write(tmp_path, *cases):
    path = tmp_path / "m.csv"
    write_manifest(path, Manifest(cases))
    return path


def run(bucket, manifest, output, *, jobs=2, **options):
    fetch_all(manifest, output, FetchSettings(bucket.url, jobs, HASTY), **options)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def is_exact(bucket, folder):
    files = {f"{PREFIX}{path.name}": path.read_bytes() for path in folder.iterdir()}
    return files == {key: body for key, body in bucket.objects.items() if key.startswith(PREFIX)}


def gets(bucket):
    return [path for path, _ in bucket.asked if "list-type" not in path]


def test_a_series_is_fetched_whole_and_its_manifest_checks(bucket, tmp_path):
    manifest, output = write(tmp_path, series_case(bucket)), tmp_path / "out"
    run(bucket, manifest, output)
    assert is_exact(bucket, output / "head")
    assert names_in(output) == ["fetched.json", "head", "manifest.csv"]
    made = read_manifest(output / "manifest.csv")
    assert made.cases[0].sha256 == digest(output / "head")
    assert [check.problem for check in check_manifest(made, output)] == [""]
    lock = json.loads((output / "fetched.json").read_text())["cases"]["head"]["files"]
    for entry in lock:
        body = bucket.objects[PREFIX + entry["name"]]
        assert entry["sha256"] == hashlib.sha256(body).hexdigest()
        assert entry["size_bytes"] == len(body)
    assert [entry["name"] for entry in lock] == ["0.dcm", "1.dcm", "2.dcm"]


def test_a_second_run_asks_for_nothing_and_changes_nothing(bucket, tmp_path):
    manifest, output = write(tmp_path, series_case(bucket)), tmp_path / "out"
    run(bucket, manifest, output)
    bucket.asked.clear()
    before = {path: path.stat().st_mtime_ns for path in (output / "head").iterdir()}
    run(bucket, manifest, output)
    assert bucket.asked == []
    assert {path: path.stat().st_mtime_ns for path in (output / "head").iterdir()} == before


def test_a_cut_connection_is_resumed_and_no_byte_is_sent_twice(bucket, tmp_path):
    key = f"{PREFIX}1.dcm"
    bucket.faults[key].extend([("drop", 12_345), ("drop", 20_000)])
    run(bucket, write(tmp_path, series_case(bucket)), tmp_path / "out")
    assert is_exact(bucket, tmp_path / "out" / "head")
    assert bucket.ranges(key) == [None, "bytes=12345-", "bytes=32345-"]
    assert bucket.sent[key] == [(0, 12_345), (12_345, 32_345), (32_345, 40_001)]


def test_a_second_run_resumes_what_the_first_gave_up(bucket, tmp_path):
    key = f"{PREFIX}0.dcm"
    manifest, output = write(tmp_path, series_case(bucket)), tmp_path / "out"
    bucket.faults[key].extend([("drop", 1000), ("drop", 1000), ("drop", 0), ("drop", 0)])
    with pytest.raises(InputError, match=r"0\.dcm: failed 4 times in a row .*ended early"):
        run(bucket, manifest, output, jobs=1)
    assert not (output / "fetched.json").exists()
    assert not (output / "head" / "0.dcm").exists()
    bucket.asked.clear()
    run(bucket, manifest, output)
    assert bucket.ranges(key) == ["bytes=2000-"]
    assert is_exact(bucket, output / "head")


def test_files_that_are_whole_are_not_fetched_again_after_a_failure(bucket, tmp_path):
    manifest, output = write(tmp_path, series_case(bucket)), tmp_path / "out"
    bucket.faults[f"{PREFIX}2.dcm"].append(("status", 404))
    with pytest.raises(InputError, match="404"):
        run(bucket, manifest, output, jobs=1)
    bucket.asked.clear()
    run(bucket, manifest, output)
    assert gets(bucket) == [f"/{PREFIX}2.dcm"]


def test_content_that_is_not_what_the_list_announced_is_thrown_away(bucket, tmp_path):
    key = f"{PREFIX}1.dcm"
    bucket.etags[key] = '"' + "0" * 32 + '"'
    with pytest.raises(InputError, match=rf"1\.dcm from 127.*md5 .*needed is {'0' * 32}"):
        run(bucket, write(tmp_path, series_case(bucket)), tmp_path / "out", jobs=1)
    assert names_in(tmp_path / "out" / "head") == ["0.dcm"]


def test_an_entity_tag_of_an_upload_in_parts_is_no_checksum(bucket, tmp_path):
    bucket.etags[f"{PREFIX}1.dcm"] = '"' + "0" * 32 + '-3"'
    run(bucket, write(tmp_path, series_case(bucket)), tmp_path / "out")
    assert is_exact(bucket, tmp_path / "out" / "head")


def test_a_file_that_changed_since_it_was_listed_is_never_glued_together(bucket, tmp_path):
    key = f"{PREFIX}0.dcm"
    old, new = bucket.objects[key], random.Random(9).randbytes(40_000)
    manifest, output = write(tmp_path, series_case(bucket)), tmp_path / "out"
    bucket.faults[key].extend([("drop", 10_000), *[("drop", 0)] * 3])
    with pytest.raises(InputError, match="failed 4 times in a row"):
        run(bucket, manifest, output, jobs=1)
    assert (output / "head" / ".partial.0.dcm").read_bytes() == old[:10_000]
    bucket.objects[key] = new
    bucket.asked.clear()
    run(bucket, manifest, output)
    assert bucket.ranges(key) == [None]
    assert (output / "head" / "0.dcm").read_bytes() == new


def test_a_file_that_changes_while_it_is_fetched_is_refused(bucket, tmp_path, monkeypatch):
    key = f"{PREFIX}0.dcm"
    answers = iter(['"first"', '"first"', '"second"'])
    monkeypatch.setattr(bucket, "etag", lambda k: next(answers) if k == key else '"x-1"')
    bucket.faults[key].append(("drop", 10_000))
    with pytest.raises(InputError, match=r'changed on the server .*"second", listed was "first"'):
        run(bucket, write(tmp_path, series_case(bucket)), tmp_path / "out", jobs=1)
    assert not (tmp_path / "out" / "head" / "0.dcm").exists()


def test_a_damaged_start_is_found_by_its_checksum_and_fetched_afresh(bucket, tmp_path):
    key = f"{PREFIX}0.dcm"
    manifest, output = write(tmp_path, series_case(bucket)), tmp_path / "out"
    bucket.faults[key].extend([("drop", 10_000), *[("drop", 0)] * 3])
    with pytest.raises(InputError):
        run(bucket, manifest, output, jobs=1)
    (output / "head" / ".partial.0.dcm").write_bytes(bytes(10_000))
    bucket.asked.clear()
    run(bucket, manifest, output)
    assert bucket.ranges(key) == ["bytes=10000-", None]
    assert is_exact(bucket, output / "head")


def test_a_server_that_answers_with_another_range_is_asked_from_the_start(bucket, tmp_path):
    key = f"{PREFIX}0.dcm"
    bucket.faults[key].extend([("drop", 10_000), ("shifted",)])
    run(bucket, write(tmp_path, series_case(bucket)), tmp_path / "out")
    assert bucket.ranges(key) == [None, "bytes=10000-", None]
    assert is_exact(bucket, tmp_path / "out" / "head")


@pytest.mark.parametrize("status", [404, 403, 410])
def test_a_file_that_is_gone_is_named_and_asked_for_once(bucket, tmp_path, status):
    key = f"{PREFIX}1.dcm"
    bucket.faults[key].extend([("status", status)] * 2)
    with pytest.raises(InputError, match=rf"1\.dcm: the server answers {status}"):
        run(bucket, write(tmp_path, series_case(bucket)), tmp_path / "out")
    assert len(bucket.ranges(key)) == 1


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_in_trouble_is_asked_again(bucket, tmp_path, status):
    bucket.faults[f"{PREFIX}1.dcm"].extend([("status", status)] * 3)
    bucket.faults[""].append(("status", status))
    run(bucket, write(tmp_path, series_case(bucket)), tmp_path / "out")
    assert is_exact(bucket, tmp_path / "out" / "head")


def test_a_server_that_stays_in_trouble_is_given_up(bucket, tmp_path):
    bucket.faults[f"{PREFIX}1.dcm"].extend([("status", 503)] * 50)
    with pytest.raises(InputError, match=r"failed 4 times in a row .*503"):
        run(bucket, write(tmp_path, series_case(bucket)), tmp_path / "out")
    assert len(bucket.ranges(f"{PREFIX}1.dcm")) == 4


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (("length", 50_000), "holds 50000 bytes, announced were 40001"),
        (("length", 10), "holds 10 bytes, announced were 40001"),
        (("endless", 5), "sends more than the 40001 bytes announced"),
    ],
)
def test_a_file_of_another_length_than_announced_is_cut_and_refused(
    bucket, tmp_path, fault, reason
):
    bucket.faults[f"{PREFIX}1.dcm"].append(fault)
    with pytest.raises(InputError, match=reason):
        run(bucket, write(tmp_path, series_case(bucket)), tmp_path / "out", jobs=1)
    assert names_in(tmp_path / "out" / "head") == ["0.dcm"]


def test_a_series_redirected_to_another_host_is_refused(bucket, tmp_path):
    with serving() as other:
        other.objects.update(bucket.objects)
        key = f"{PREFIX}0.dcm"
        bucket.faults[key].append(("redirect", f"{other.url}/{key}"))
        with pytest.raises(InputError, match=f"redirects to {other.url}.* not followed"):
            run(bucket, write(tmp_path, series_case(bucket)), tmp_path / "out")
        assert other.asked == []


def test_a_redirection_on_the_same_host_is_followed(bucket, tmp_path):
    key = f"{PREFIX}0.dcm"
    bucket.faults[key].append(("redirect", f"/{key}?again"))
    run(bucket, write(tmp_path, series_case(bucket)), tmp_path / "out")
    assert is_exact(bucket, tmp_path / "out" / "head")


@pytest.mark.parametrize(
    ("start", "target", "any_host", "is_followed"),
    [
        ("https://a.org/x", "https://b.org/x", True, True),
        ("https://a.org/x", "https://b.org/x", False, False),
        ("https://a.org/x", "https://a.org/y", False, True),
        ("https://a.org/x", "http://a.org/x", True, False),
        ("https://a.org/x", "http://127.0.0.1/x", True, False),
        ("https://a.org/x", "https://localhost/x", True, False),
        ("https://a.org/x", "file:///etc/passwd", True, False),
    ],
)
def test_redirections_lead_neither_off_https_nor_into_this_machine(
    start, target, any_host, is_followed
):
    request = urllib.request.Request(start)
    arguments = (request, io.BytesIO(), 302, "Found", {}, target)
    if is_followed:
        new = _Redirects(any_host=any_host).redirect_request(*arguments)
        assert new is not None
        assert new.full_url == target
    else:
        with pytest.raises(InputError, match="not followed"):
            _Redirects(any_host=any_host).redirect_request(*arguments)


@pytest.mark.parametrize(
    "name",
    ["../evil.dcm", "a/b.dcm", "/etc/passwd", "..", ".hidden", "a\\b.dcm", "C:x", "a\x00b", "a b",
     "artefact.json", "x" * 201],
)  # fmt: skip
def test_a_name_that_would_leave_the_folder_is_refused(bucket, tmp_path, name):
    key = f"{PREFIX}{name}".replace("\x00", "")
    bucket.listing = (
        f"<ListBucketResult><Contents><Key>{PREFIX}{name}</Key><Size>2</Size></Contents>"
        "</ListBucketResult>"
    ).encode()
    bucket.objects = {key: b"ab"}
    with pytest.raises(InputError, match=r"may not be written|something else"):
        run(bucket, write(tmp_path, series_case(bucket)), tmp_path / "out")
    assert gets(bucket) == []
    assert names_in(tmp_path) == ["m.csv"]


def test_a_key_outside_the_series_and_a_name_listed_twice_are_refused(bucket, tmp_path):
    entry = "<Contents><Key>{}</Key><Size>2</Size></Contents>"
    for keys in (["other/a.dcm"], [f"{PREFIX}a.dcm", f"{PREFIX}A.dcm"]):
        items = "".join(entry.format(key) for key in keys)
        bucket.listing = f"<ListBucketResult>{items}</ListBucketResult>".encode()
        with pytest.raises(InputError, match=r"may not be written|two files of one name"):
            run(bucket, write(tmp_path, series_case(bucket)), tmp_path / "out")
    assert gets(bucket) == []


@pytest.mark.parametrize(
    "body",
    [
        b"<!DOCTYPE x [<!ENTITY a 'aaaa'>]><ListBucketResult>&a;</ListBucketResult>",
        "<!DOCTYPE x [<!ENTITY a 'aaaa'>]><ListBucketResult/>".encode("utf-16"),
        b"<html><body>Please log in</body></html>",
        b"<ListBucketResult>",
        b"",
        b"<ListBucketResult><Contents><Key>PREFIXa</Key></Contents></ListBucketResult>",
    ],
)
def test_an_answer_that_is_no_plain_list_is_refused(bucket, tmp_path, body):
    bucket.listing = body.replace(b"PREFIX", PREFIX.encode())
    with pytest.raises(InputError, match="answers with something else than the list"):
        run(bucket, write(tmp_path, series_case(bucket)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_attempts_that_bring_much_are_no_failures(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(https, "_WORTHWHILE_BYTES", 5000)
    bucket.faults[f"{PREFIX}1.dcm"].extend([("drop", 5000)] * 7)
    run(bucket, write(tmp_path, series_case(bucket)), tmp_path / "out")
    assert len(bucket.ranges(f"{PREFIX}1.dcm")) == 8


def test_a_list_too_long_to_be_one_is_not_read_to_its_end(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "PAGE_BYTES", 100)
    with pytest.raises(InputError, match="more than 100 bytes"):
        run(bucket, write(tmp_path, series_case(bucket)), tmp_path / "out")


def test_a_list_over_several_pages_is_read_to_its_end(bucket, tmp_path):
    bucket.page_size = 1
    run(bucket, write(tmp_path, series_case(bucket)), tmp_path / "out")
    assert is_exact(bucket, tmp_path / "out" / "head")
    assert sum("list-type" in path for path, _ in bucket.asked) == 3


def test_a_list_that_goes_in_circles_is_left(bucket, tmp_path):
    bucket.page_size, bucket.repeat_token = 1, True
    with pytest.raises(InputError, match="does not end"):
        run(bucket, write(tmp_path, series_case(bucket)), tmp_path / "out")
    assert len(bucket.asked) == 2


@pytest.mark.parametrize("change", [{"files": 4}, {"size_bytes": 5}])
def test_a_series_that_is_not_what_the_manifest_says_is_not_fetched(bucket, tmp_path, change):
    with pytest.raises(InputError, match=r"lists 3 files of 120003 bytes .*the manifest says"):
        run(bucket, write(tmp_path, series_case(bucket, **change)), tmp_path / "out")
    assert gets(bucket) == []


def test_a_withdrawn_series_is_said_to_be_so(bucket, tmp_path):
    manifest = write(tmp_path, series_case(bucket))
    bucket.objects.clear()
    with pytest.raises(InputError, match=r"lists 0 files .*revised or withdrawn"):
        run(bucket, manifest, tmp_path / "out")


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_without_a_server_it_ends_at_once_with_3_and_leaves_nothing(bucket, tmp_path, capsys):
    manifest = write(tmp_path, series_case(bucket))
    address = f"127.0.0.1:{closed_port()}"
    arguments = ["manifest", "fetch", str(manifest), "--output", str(tmp_path / "out")]
    start = time.monotonic()
    assert exit_code([*arguments, "--base-url", f"http://{address}"]) == 3
    assert time.monotonic() - start < 5
    message = capsys.readouterr().err
    assert f"{address}: cannot be reached (Connection refused)" in message
    assert message.count("\n") == 1
    assert names_in(tmp_path) == ["m.csv"]


def test_without_a_network_the_archive_is_named(bucket, tmp_path, capsys, monkeypatch):
    def no_names(*_arguments, **_keywords):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_names)
    manifest = write(tmp_path, series_case(bucket))
    assert exit_code(["manifest", "fetch", str(manifest), "--output", str(tmp_path / "out")]) == 3
    message = capsys.readouterr().err
    assert "open-data.s3.amazonaws.com: cannot be reached (Temporary failure in name" in message
    assert names_in(tmp_path) == ["m.csv"]


def test_a_silent_server_is_left_after_the_contact_time(bucket, tmp_path, monkeypatch):
    seen = []

    def silent(address, timeout):
        seen.append((address, timeout))
        raise TimeoutError

    many = [(2, 1, 6, "", (f"192.0.2.{k}", 443)) for k in range(8)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: many)
    monkeypatch.setattr(socket, "create_connection", silent)
    with pytest.raises(InputError, match="no answer in time"):
        fetch_all(
            write(tmp_path, series_case(bucket)), tmp_path / "out", FetchSettings(patience=HASTY)
        )
    assert [timeout for _, timeout in seen] == [HASTY.contact_s] * 2


def test_a_local_file_that_was_damaged_is_fetched_again(bucket, tmp_path):
    manifest, output = write(tmp_path, series_case(bucket)), tmp_path / "out"
    run(bucket, manifest, output)
    file = output / "head" / "1.dcm"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    bucket.asked.clear()
    run(bucket, manifest, output)
    assert [path for path, _ in bucket.asked] == [f"/{PREFIX}1.dcm"]
    assert is_exact(bucket, output / "head")


def test_a_lock_from_another_machine_is_enforced(bucket, tmp_path):
    manifest = write(tmp_path, series_case(bucket))
    run(bucket, manifest, tmp_path / "first")
    lock = tmp_path / "first" / "fetched.json"
    run(bucket, manifest, tmp_path / "second", lock=lock)
    assert is_exact(bucket, tmp_path / "second" / "head")
    bucket.objects[f"{PREFIX}2.dcm"] = bytes(40_002)
    with pytest.raises(InputError, match=r"2\.dcm from .*has sha256 .*needed is"):
        run(bucket, manifest, tmp_path / "third", lock=lock)
    assert not (tmp_path / "third" / "head" / "2.dcm").exists()


def test_a_lock_without_the_case_or_of_another_place_is_refused(bucket, tmp_path):
    manifest = write(tmp_path, series_case(bucket))
    run(bucket, manifest, tmp_path / "first")
    lock = tmp_path / "first" / "fetched.json"
    for change in ({"case": "other"}, {"url": "s3://open-data/elsewhere/"}):
        changed = write(tmp_path, series_case(bucket, **change))
        with pytest.raises(InputError, match="give the lock of this manifest"):
            run(bucket, changed, tmp_path / "second", lock=lock)
    with pytest.raises(UsageError, match="no such file"):
        run(bucket, manifest, tmp_path / "second", lock=tmp_path / "absent.json")
    lock.write_text('{"format": 1, "cases": {"head": {"url": ""}}}')
    with pytest.raises(InputError, match="is no list of fetched files"):
        run(bucket, manifest, tmp_path / "second", lock=lock)


def test_a_lock_cannot_name_a_file_outside_the_folder(bucket, tmp_path):
    manifest = write(tmp_path, series_case(bucket))
    run(bucket, manifest, tmp_path / "first")
    lock = tmp_path / "first" / "fetched.json"
    lock.write_text(lock.read_text().replace("1.dcm", "../../1.dcm"))
    with pytest.raises(InputError, match="is no list of fetched files"):
        run(bucket, manifest, tmp_path / "second", lock=lock)


def file_case(bucket, body, **changes):
    bucket.objects["data/scan.nrrd"] = body
    fields = {"case": "scan", "patient": "q", "role": "train", "source": "volume", "files": 1}
    fields |= {"path": "x/scan.nrrd", "url": f"{bucket.url}/data/scan.nrrd"}
    return Case(**(fields | {"sha256": hashlib.sha256(body).hexdigest()} | changes))


def test_a_plain_file_is_fetched_and_verified_against_the_manifest(bucket, tmp_path):
    manifest = write(tmp_path, file_case(bucket, b"volume" * 999))
    output = tmp_path / "out"
    fetch_all(manifest, output, FetchSettings(patience=HASTY))
    assert (output / "scan" / "scan.nrrd").read_bytes() == b"volume" * 999
    made = read_manifest(output / "manifest.csv")
    assert made.cases[0].path == "scan/scan.nrrd"
    assert [check.problem for check in check_manifest(made, output)] == [""]
    bucket.asked.clear()
    fetch_all(manifest, output, FetchSettings(patience=HASTY))
    assert bucket.asked == []


def test_a_plain_file_with_another_checksum_is_thrown_away(bucket, tmp_path):
    manifest = write(tmp_path, file_case(bucket, b"volume", sha256="0" * 64))
    found = hashlib.sha256(b"volume").hexdigest()
    with pytest.raises(InputError, match=f"has sha256 {found}, needed is {'0' * 64}"):
        fetch_all(manifest, tmp_path / "out", FetchSettings(patience=HASTY))
    assert names_in(tmp_path / "out" / "scan") == []


def test_a_plain_file_that_changes_between_attempts_is_not_glued_together(bucket, tmp_path):
    new = b"new" * 3000
    manifest = write(
        tmp_path, file_case(bucket, b"old" * 3000, sha256=hashlib.sha256(new).hexdigest())
    )
    bucket.faults["data/scan.nrrd"].extend([("drop", 4000), *[("drop", 0)] * 3])
    with pytest.raises(InputError, match="ended early"):
        fetch_all(manifest, tmp_path / "out", FetchSettings(patience=HASTY))
    bucket.objects["data/scan.nrrd"] = new
    bucket.asked.clear()
    fetch_all(manifest, tmp_path / "out", FetchSettings(patience=HASTY))
    assert bucket.ranges("data/scan.nrrd") == ["bytes=4000-"]
    assert bucket.sent["data/scan.nrrd"][-1] == (0, 9000)
    assert (tmp_path / "out" / "scan" / "scan.nrrd").read_bytes() == new


def test_without_a_strong_entity_tag_a_file_is_fetched_from_its_start(bucket, tmp_path):
    manifest = write(tmp_path, file_case(bucket, b"old" * 3000))
    bucket.etags["data/scan.nrrd"] = 'W/"weak"'
    bucket.faults["data/scan.nrrd"].append(("drop", 4000))
    fetch_all(manifest, tmp_path / "out", FetchSettings(patience=HASTY))
    assert bucket.ranges("data/scan.nrrd") == [None, None]
    assert (tmp_path / "out" / "scan" / "scan.nrrd").read_bytes() == b"old" * 3000


def test_a_row_with_only_a_page_about_the_data_is_refused_before_anything_is_asked(
    bucket, tmp_path
):
    for change in ({"url": f"{bucket.url}/about.html"}, {"sha256": ""}, {"url": ""}):
        with pytest.raises(InputError, match="cannot be fetched by itself"):
            run(bucket, write(tmp_path, file_case(bucket, b"v", **change)), tmp_path / "out")
    assert bucket.asked == []


@pytest.mark.parametrize(
    "url", ["http://a.org/x", "ftp://a.org/x", "file:///etc/passwd", "https:///x", "x"]
)
def test_an_address_that_is_not_https_is_refused(url):
    with pytest.raises(InputError, match="needed is an address that begins with https"):
        check_url(url)


def test_an_address_on_this_machine_or_of_the_users_choice_may_be_plain():
    check_url("https://a.org/x")
    check_url("http://localhost:1/x")
    check_url("http://a.org/x", plain_http=True)
    with pytest.raises(InputError):
        check_url("file:///x", plain_http=True)


@pytest.mark.parametrize(
    "url", ["s3://open-data/", "s3://open-data/../x/", "s3://UP/x/", "s3://a b/"]
)
def test_an_address_that_is_no_folder_of_a_bucket_is_refused(bucket, tmp_path, url):
    with pytest.raises(InputError, match="is no folder of a bucket"):
        run(bucket, write(tmp_path, series_case(bucket, url=url)), tmp_path / "out")


def test_only_the_named_cases_are_fetched_and_the_others_follow(bucket, tmp_path):
    manifest = write(tmp_path, series_case(bucket), file_case(bucket, b"v"))
    output = tmp_path / "out"
    run(bucket, manifest, output, names=["scan"])
    assert [case.case for case in read_manifest(output / "manifest.csv").cases] == ["scan"]
    run(bucket, manifest, output)
    assert [case.case for case in read_manifest(output / "manifest.csv").cases] == ["head", "scan"]


def test_wrong_usage_ends_with_2(bucket, tmp_path, capsys):
    manifest = write(tmp_path, series_case(bucket))
    (tmp_path / "file").touch()
    start = ["manifest", "fetch", str(manifest)]
    output = ["--output", str(tmp_path / "out")]
    for arguments in (
        [],
        [*output, "--case", "absent"],
        [*output, "--jobs", "0"],
        [*output, "--base-url", "ftp://a.org"],
        [*output, "--lock", str(tmp_path / "absent")],
        ["--output", str(tmp_path / "file")],
    ):
        assert exit_code([*start, *arguments]) == 2
        assert capsys.readouterr().err.startswith("ct2flow: error [2]: ")
    assert bucket.asked == []
    assert not (tmp_path / "out").exists()


def test_cases_of_another_manifest_are_not_mixed_in(bucket, tmp_path):
    run(bucket, write(tmp_path, series_case(bucket)), tmp_path / "out")
    with pytest.raises(UsageError, match="holds cases of another manifest"):
        run(bucket, write(tmp_path, file_case(bucket, b"v")), tmp_path / "out")


def test_other_files_in_the_folder_of_a_case_are_not_taken_for_slices(bucket, tmp_path):
    (tmp_path / "out" / "head").mkdir(parents=True)
    (tmp_path / "out" / "head" / "mine.dcm").touch()
    with pytest.raises(InputError, match=r"first: mine\.dcm"):
        run(bucket, write(tmp_path, series_case(bucket)), tmp_path / "out")
    assert gets(bucket) == []


def test_a_disc_too_small_is_refused_before_the_first_byte(bucket, tmp_path, monkeypatch):
    usage = SimpleNamespace(free=100_100_000)
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(InputError, match=r"0\.1 GB are free, needed are"):
        run(bucket, write(tmp_path, series_case(bucket)), tmp_path / "out")
    assert gets(bucket) == []
    assert not (tmp_path / "out").exists()


def test_phantoms_of_a_manifest_need_no_server(tmp_path, bucket):
    phantom = Case(case="ph", patient="ph", role="train", source="phantom", path="seed=7")
    run(bucket, write(tmp_path, phantom), tmp_path / "out")
    assert read_manifest(tmp_path / "out" / "manifest.csv").cases == (phantom,)
    assert bucket.asked == []


def test_a_mirror_may_hold_the_name_of_the_bucket_in_its_path(bucket, tmp_path):
    bucket.objects = {f"open-data/{key}": body for key, body in bucket.objects.items()}
    manifest = write(tmp_path, series_case(bucket, files=3, size_bytes=120_003))
    settings = FetchSettings(f"{bucket.url}/{{bucket}}", 2, HASTY)
    with pytest.raises(InputError, match="404"):
        fetch_all(manifest, tmp_path / "out", settings)
    assert bucket.asked[0][0].startswith("/open-data/?list-type=2&prefix=")


def test_progress_goes_to_stderr_and_nothing_to_stdout(bucket, tmp_path, capsys):
    manifest = write(tmp_path, series_case(bucket))
    arguments = ["manifest", "fetch", str(manifest), "--output", str(tmp_path / "out")]
    assert exit_code([*arguments, "--base-url", bucket.url, "--jobs", "3"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "fetch head: 1 of 1 MB" in err
    logging.getLogger("ct2flow").handlers.clear()


def small_ct_series():
    """Yield the bytes of twelve slices, 1 mm apart, made of pydicom's own small CT."""
    for k in range(12):
        dataset = examples.ct
        dataset.ImagePositionPatient = [-50.0, -50.0, float(k)]
        dataset.InstanceNumber = k + 1
        dataset.SliceThickness = 1.0
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{k + 1}"
        buffer = io.BytesIO()
        dataset.save_as(buffer)
        yield buffer.getvalue()


def test_what_was_fetched_is_prepared_as_any_other_manifest(bucket, tmp_path):
    bucket.objects = {f"{PREFIX}{k:02}.dcm": body for k, body in enumerate(small_ct_series())}
    output = tmp_path / "out"
    run(bucket, write(tmp_path, series_case(bucket)), output)
    arguments = ["manifest", "prepare", str(output / "manifest.csv"), "--data-root", str(output)]
    assert exit_code([*arguments, "--output", str(tmp_path / "prepared")]) == 0
    grid = read_volume(tmp_path / "prepared" / "head.nii.gz").grid
    assert grid.shape == (12, 128, 128)
    assert grid.spacing_mm[0] == pytest.approx(1.0, rel=1e-6)


def start_and_stall(bucket, tmp_path, after_bytes):
    """Run the command in its own process until the server stalls amid the first file."""
    bucket.faults[f"{PREFIX}0.dcm"].append(("hold", after_bytes))
    command = [sys.executable, "-m", "pipeline.cli", "manifest", "fetch", str(tmp_path / "m.csv")]
    command += ["--output", str(tmp_path / "out"), "--base-url", bucket.url, "--jobs", "1"]
    environment = {**os.environ, "PYTHONPATH": str(Path(fetch.__file__).parents[1])}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    partial = tmp_path / "out" / "head" / ".partial.0.dcm"
    deadline = time.monotonic() + 30
    while not (partial.exists() and partial.stat().st_size == after_bytes):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    return process


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)]
)
def test_an_interrupted_run_goes_on_where_it_was(bucket, tmp_path, number, code):
    manifest = write(tmp_path, series_case(bucket))
    process = start_and_stall(bucket, tmp_path, 30_000)
    process.send_signal(number)
    _, message = process.communicate(timeout=15)
    assert process.returncode == code
    assert "Traceback" not in message
    assert not (tmp_path / "out" / "head" / "0.dcm").exists()
    bucket.release.set()
    bucket.asked.clear()
    run(bucket, manifest, tmp_path / "out")
    assert bucket.ranges(f"{PREFIX}0.dcm") == ["bytes=30000-"]
    assert is_exact(bucket, tmp_path / "out" / "head")
