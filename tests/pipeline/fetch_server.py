"""A bucket on this machine that answers like a public one, and fails on demand."""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict, deque
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class Bucket:
    """Objects by key, what was asked for them, and the faults still to come.

    A fault is a tuple: ("drop", n) closes after n bytes, ("hold", n) stalls after n bytes until
    `release` is set, ("status", code), ("redirect", url), ("length", n) announces n bytes,
    ("endless", n) announces none and sends n bytes, ("shifted",) answers a range with another.
    """

    def __init__(self):
        self.objects = {}
        self.etags = {}
        self.faults = defaultdict(deque)
        self.page_size = 1000
        self.listing = None
        self.repeat_token = False
        self.asked = []
        self.sent = defaultdict(list)
        self.release = threading.Event()
        self.url = ""

    def etag(self, key):
        return self.etags.get(key, f'"{hashlib.md5(self.objects[key]).hexdigest()}"')

    def ranges(self, key):
        return [header for path, header in self.asked if path == f"/{key}"]

    def page(self, query):
        if self.listing is not None:
            return self.listing
        prefix = query["prefix"][0]
        keys = sorted(key for key in self.objects if key.startswith(prefix))
        start = int(query.get("continuation-token", ["0"])[0])
        end = start + self.page_size
        items = "".join(
            f"<Contents><Key>{escape(key)}</Key><ETag>{escape(self.etag(key))}</ETag>"
            f"<Size>{len(self.objects[key])}</Size></Contents>"
            for key in keys[start:end]
        )
        more = end < len(keys)
        token = f"<NextContinuationToken>{0 if self.repeat_token else end}</NextContinuationToken>"
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{token if more else ''}"
            f"{items}</ListBucketResult>"
        ).encode()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        bucket = self.server.bucket
        parts = urlsplit(self.path)
        bucket.asked.append((self.path, self.headers.get("Range")))
        faults = bucket.faults[unquote(parts.path).lstrip("/")]
        fault = faults.popleft() if faults else ("none",)
        if fault[0] == "status":
            self.answer(fault[1], b"no", {})
        elif fault[0] == "redirect":
            self.answer(302, b"", {"Location": fault[1]})
        elif parts.path == "/" and "list-type=2" in parts.query:
            self.answer(200, bucket.page(parse_qs(parts.query)), {})
        elif unquote(parts.path).lstrip("/") in bucket.objects:
            self.send_object(unquote(parts.path).lstrip("/"), fault)
        else:
            self.answer(404, b"<Error/>", {})

    def answer(self, status, body, headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def send_object(self, key, fault):
        bucket = self.server.bucket
        body, etag, start = bucket.objects[key], bucket.etag(key), 0
        asked = self.headers.get("Range")
        if asked and self.headers.get("If-Range", etag) == etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if fault[0] == "shifted":
                start -= 1
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("ETag", etag)
        rest = body[start:]
        if fault[0] == "endless":
            rest = rest + b"x" * fault[1]
        else:
            length = fault[1] if fault[0] == "length" else len(rest)
            self.send_header("Content-Length", str(length))
        self.end_headers()
        count = fault[1] if fault[0] in {"drop", "hold"} else len(rest)
        with suppress(OSError):
            self.wfile.write(rest[:count])
        bucket.sent[key].append((start, start + len(rest[:count])))
        if fault[0] == "hold":
            bucket.release.wait(30)

    def log_message(self, *_arguments):
        pass


@contextmanager
def serving():
    """Serve an empty bucket at 127.0.0.1; its `url` is the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.bucket = bucket = Bucket()
    bucket.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield bucket
    finally:
        bucket.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
