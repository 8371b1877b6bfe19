"""Talk to a file server over https: wait with patience, never go where nothing vouches for."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Event
from typing import IO, TypeVar
from urllib.parse import urljoin, urlsplit

from pipeline.core.errors import InputError

_WORTHWHILE_BYTES = 1 << 20
"""An attempt that brought this much was no failure, however it ended; a drip is one."""
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_PAUSE_S = 8.0

Result = TypeVar("Result")


@dataclass(frozen=True)
class Patience:
    """Say how long to wait for a server and how often to ask again.

    Parameters
    ----------
    timeout_s
        Longest silence of a server that answers.
    contact_s
        Longest wait for the first contact: without a network the answer must come quickly.
    attempts
        Attempts without progress before a file is given up.
    first_pause_s
        Pause after the first failure; it doubles with each.
    """

    timeout_s: float = 15.0
    contact_s: float = 6.0
    attempts: int = 5
    first_pause_s: float = 0.5

    def pause_s(self, failures: int) -> float:
        """Return the pause after the n-th failure in a row, s."""
        return min(self.first_pause_s * 2.0 ** (failures - 1), _LONGEST_PAUSE_S)


class TransientError(Exception):
    """A failure that may pass: worth another attempt."""


class NoSuchRangeError(TransientError):
    """The server does not send the bytes that were asked for: start again."""


class Stopped(Exception):  # noqa: N818 -- an order, no error
    """The user interrupted the run; what is on disk stays for the next."""


def check_url(url: str, *, plain_http: bool = False) -> None:
    """Refuse an address that is not https, unless the user chose its server or it is this machine.

    Raises
    ------
    InputError
        If the scheme or the host is not allowed.
    """
    parts = urlsplit(url)
    is_plain = parts.scheme == "http" and (plain_http or _is_this_machine(parts.hostname or ""))
    if not parts.hostname or not (parts.scheme == "https" or is_plain):
        raise InputError(f"{url}: is not fetched; needed is an address that begins with https://.")


def check_reachable(url: str, patience: Patience) -> None:
    """Try the server of an address once, so that a missing network is said at once.

    Raises
    ------
    InputError
        If the server's name is unknown or it does not answer.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        # Two addresses, not all that a large archive has: each may cost the whole wait.
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[:2]
        _connect_to_any([address[4] for address in addresses], patience.contact_s)
    except OSError as error:
        raise InputError(
            f"{parts.netloc}: cannot be reached ({_reason(error)}); needed is a connection to it. "
            "Check the network, the address and the proxy, and run the same command again.",
            host=parts.netloc,
        ) from error


def _connect_to_any(addresses: list[tuple[object, ...]], timeout_s: float) -> None:
    for k, address in enumerate(addresses, start=1):
        try:
            socket.create_connection((str(address[0]), int(str(address[1]))), timeout_s).close()
        except OSError:
            if k == len(addresses):
                raise
        else:
            return


def read_body(url: str, limit_bytes: int, patience: Patience, stop: Event) -> bytes:
    """Read a short answer whole; it may not come from another host than the one asked.

    Raises
    ------
    InputError
        If the server refuses, does not answer in the end, or sends more than the limit.
    """

    def attempt() -> bytes:
        with open_url(url, {}, patience, any_host=False) as response:
            return _whole(response, limit_bytes + 1)

    body = with_patience(attempt, lambda: 0, url, patience, stop)
    if len(body) > limit_bytes:
        raise InputError(
            f"{host_of(url)}: answers with more than {limit_bytes} bytes, which is no list of files; "
            "check --base-url.",
            url=url,
        )
    return body


def with_patience(
    attempt: Callable[[], Result],
    length: Callable[[], int],
    url: str,
    patience: Patience,
    stop: Event,
) -> Result:
    """Try, and try again after failures that may pass, as long as there is hope.

    Raises
    ------
    InputError
        If too many attempts in a row brought nothing.
    Stopped
        If `stop` was set meanwhile.
    """
    failures = 0
    while True:
        before = length()
        try:
            return attempt()
        except TransientError as error:
            failures = 1 if length() - before >= _WORTHWHILE_BYTES else failures + 1
            if failures >= patience.attempts:
                raise InputError(
                    f"{url}: failed {failures} times in a row ({error}); what is here is kept. "
                    "Check the network and run the same command again.",
                    url=url,
                ) from error
        if stop.wait(patience.pause_s(failures)):
            raise Stopped


def read_some(response: http.client.HTTPResponse, count: int) -> bytes:
    """Read what has come, at most a count of bytes; nothing at the end.

    Raises
    ------
    TransientError
        If the connection breaks.
    """
    try:
        return response.read1(count)
    except (OSError, http.client.HTTPException) as error:
        raise TransientError(_reason(error)) from error


def _whole(response: http.client.HTTPResponse, limit_bytes: int) -> bytes:
    announced = response.length
    try:
        body = response.read(limit_bytes)
    except (OSError, http.client.HTTPException) as error:
        raise TransientError(_reason(error)) from error
    if announced is not None and len(body) < min(announced, limit_bytes):
        raise TransientError("the connection ended early")
    return body


def open_url(
    url: str, headers: Mapping[str, str], patience: Patience, *, any_host: bool
) -> http.client.HTTPResponse:
    """Ask for an address; the answer is one of success.

    Parameters
    ----------
    url
        Address that `check_url` let pass.
    headers
        What to ask with.
    patience
        Time-outs.
    any_host
        Follow redirections to other hosts: only for content whose digest is known.

    Raises
    ------
    TransientError
        If it failed and may not fail again; `NoSuchRangeError` if there are no bytes at that range.
    InputError
        If the server refuses, redirects where we do not go, or is not who it says.
    """
    request = urllib.request.Request(  # noqa: S310 -- check_url has seen the scheme
        url, headers={"User-Agent": "ct2flow", "Accept-Encoding": "identity", **headers}
    )
    opener = urllib.request.build_opener(_Redirects(any_host=any_host))
    try:
        response: http.client.HTTPResponse = opener.open(request, timeout=patience.timeout_s)
    except urllib.error.HTTPError as error:
        return _refused(url, error)
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise InputError(
                f"{host_of(url)}: shows a certificate that does not hold ({cause.verify_message}); "
                "nothing was fetched. Check the address, the clock and the proxy.",
                url=url,
            ) from error
        raise TransientError(_reason(cause)) from error
    return response


def _refused(url: str, error: urllib.error.HTTPError) -> http.client.HTTPResponse:
    """Sort an answer of failure: try again, start again, or give up."""
    error.close()
    if error.code in _TRANSIENT:
        raise TransientError(f"the server answers {error.code} {error.reason}") from error
    if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise NoSuchRangeError("the file became shorter") from error
    raise InputError(
        f"{url}: the server answers {error.code} {error.reason}; needed is the file. It was moved "
        "or withdrawn: look for a newer manifest or ask the archive.",
        url=url,
        status=error.code,
    ) from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow a redirection only where it cannot do harm."""

    max_redirections = 5

    def __init__(self, *, any_host: bool) -> None:
        self._any_host = any_host

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Refuse a way off https, into this machine, or to a host that nothing vouches for."""
        old, new = urlsplit(req.full_url), urlsplit(urljoin(req.full_url, newurl))
        is_same_host = (old.scheme, old.netloc) == (new.scheme, new.netloc)
        is_inward = _is_this_machine(new.hostname or "") > _is_this_machine(old.hostname or "")
        is_safe = self._any_host and new.scheme in {"https", old.scheme} and not is_inward
        if is_same_host or is_safe:
            return super().redirect_request(req, fp, code, msg, headers, newurl)
        fp.close()
        raise InputError(
            f"{req.full_url}: redirects to {new.scheme}://{new.netloc}, which is not followed "
            "without a sha256 in the manifest and not off https; check the address.",
            url=req.full_url,
            target=new.netloc,
        )


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_of(url: str) -> str:
    """Return the host of an address, with its port."""
    return urlsplit(url).netloc


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split()) or type(error).__name__
