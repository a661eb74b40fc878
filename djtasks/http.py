"""A task that calls a URL: `http_request.delay("https://hooks.example.com/paid", json={"order": 7})`.

Who may be called stands in HTTP_TASK_HOSTS, and is nobody by default. A host that is listed may still have an address
inside of our own network: that is refused too, unless the address or its network is listed itself. The address that was
checked is the one that is connected to, redirects pass the same checks, and proxies of the environment are not asked.
"""

import functools
import http.client
import ipaddress
import json as jsonlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, urljoin, urlsplit

from djtasks.backoff import exponential
from djtasks.conf import settings
from djtasks.decorators import shared_task
from djtasks.exceptions import DjtasksError, SecurityError, safe_repr

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Seconds.
TIMEOUT_MAX: Final = 3600.0
RETRY_DELAY_MAX: Final = 600
REDIRECTS_MAX: Final = 5
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: Headers that are ours to write.
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "expect", "upgrade", "te"})
#: Redirects after which the call is made again as it was; after the others a GET follows.
_AS_IT_WAS: Final = frozenset({HTTPStatus.TEMPORARY_REDIRECT, HTTPStatus.PERMANENT_REDIRECT})
_REDIRECTS: Final = frozenset({HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.FOUND, HTTPStatus.SEE_OTHER}) | _AS_IT_WAS
_TRY_AGAIN: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
#: NAT64: the last four bytes are the address of version 4 that is meant.
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


class RequestRefused(SecurityError):
    """The URL may not be called from here."""


class RequestFailed(DjtasksError):
    """The URL was called, and did not answer as it should."""


class Response(NamedTuple):
    """What a server has answered."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Call(NamedTuple):
    method: str
    url: str
    body: bytes | None
    headers: dict[str, str]


@shared_task(bind=True, name="djtasks.http.request", max_retries=5, sensitive=("headers",))
def http_request(
    self: Any,
    url: str,
    method: str = "POST",
    json: Any = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 10.0,
) -> dict[str, Any]:
    """Call `url`, and return `{"status": 200, "headers": {…}, "body": "…"}`; header names are in lower case.

    `json` is sent as the body; `timeout` is in seconds, for everything together, redirects too. What may be better the
    next time (no connection, no answer in time, status 5xx, 408, 425, 429) is tried again, 5 times: at random within 1,
    2, 4 … s, or when the server's Retry-After says, 10 minutes at most. Every attempt carries the header
    `Idempotency-Key` with the task's id, for a server to know them by.

    Raises RequestRefused for what HTTP_TASK_HOSTS does not allow, RequestFailed for other answers than 2xx and for
    those over HTTP_TASK_MAX_BYTES, TypeError and ValueError for arguments that make no request.
    """
    call = _prepare(url, method, json, headers, self.request.id)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= TIMEOUT_MAX:
        raise ValueError(
            f"timeout must be a number of seconds, {TIMEOUT_MAX:.0f} at most, not {safe_repr(timeout, 200)}"
        )
    try:
        response = fetch(call.method, call.url, call.body, call.headers, timeout)
    except (OSError, http.client.HTTPException) as error:
        failed = RequestFailed(f"{call.method} {_shown(url)}: {type(error).__name__}: {error}")
        raise self.retry(exc=failed, countdown=_delay(self.request.retries, None)) from error
    if 200 <= response.status < 300:
        return {"status": response.status, "headers": response.headers, "body": _text(response)}
    failed = RequestFailed(f"{call.method} {_shown(url)} answered {response.status}: {_text(response)[:500]}")
    if response.status >= 500 or response.status in _TRY_AGAIN:
        raise self.retry(exc=failed, countdown=_delay(self.request.retries, response))
    raise failed


def fetch(method: str, url: str, body: bytes | None, headers: Mapping[str, str], timeout: float) -> Response:
    """The answer to a request, after redirects.

    Raises RequestRefused, RequestFailed for an answer that is too large or redirects too often, OSError (TimeoutError
    when `timeout` seconds are over) and http.client.HTTPException.
    """
    deadline = time.monotonic() + timeout
    sent = dict(headers)
    for _ in range(REDIRECTS_MAX + 1):
        response = _exchange(method, _checked(url), body, sent, deadline)
        where = response.headers.get("location")
        if response.status not in _REDIRECTS or not where:
            return response
        before, url = urlsplit(url), urljoin(url, where)
        after = urlsplit(url)
        if before.scheme == "https" and after.scheme != "https":
            raise RequestRefused(f"{_shown(before.geturl())} redirects from https to {_shown(url)}")
        if before.netloc.lower() != after.netloc.lower():
            # What the caller says to one host is not for another.
            sent = {name: value for name, value in sent.items() if name.lower() in ("content-type", "user-agent")}
        if response.status not in _AS_IT_WAS and method != "HEAD":
            method, body = "GET", None
    raise RequestFailed(f"{_shown(url)} was redirected more than {REDIRECTS_MAX} times")


# -- what may be called -------------------------------------------------------------------------------------------


def is_allowed(host: str, port: int) -> bool:
    """Whether HTTP_TASK_HOSTS lists this host: by name, glob or address, with or without a port."""
    host = host.lower().rstrip(".")
    bracketed = f"[{host}]" if ":" in host else host
    named = (host, bracketed, f"{bracketed}:{port}")
    if any(fnmatchcase(name, _as_pattern(pattern)) for pattern in settings.HTTP_TASK_HOSTS for name in named):
        return True
    address = _as_address(host)
    return address is not None and _is_listed(address)


def _as_pattern(text: str) -> str:
    """An entry of HTTP_TASK_HOSTS as a glob; brackets are those of an address of version 6, not of a glob."""
    return text.lower().rstrip(".").replace("[", "[[]") if text.startswith("[") else text.lower().rstrip(".")


def _is_listed(address: _Address) -> bool:
    for entry in settings.HTTP_TASK_HOSTS:
        try:
            if address in ipaddress.ip_network(entry.strip("[]")):
                return True
        except ValueError:
            continue
    return False


def _as_address(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_public(address: _Address) -> bool:
    """Whether an address is on the internet at large; what is wrapped in one of version 6 counts."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if address in _NAT64:
            inner = ipaddress.IPv4Address(address.packed[-4:])
        if inner:
            return _is_public(inner)
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _checked(url: str) -> SplitResult:
    """The URL in its parts. Raises RequestRefused, ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise RequestRefused(f"only http and https are called, not {parts.scheme!r}")
    if not parts.hostname:
        raise ValueError(f"there is no host in {_shown(url)!r}")
    if parts.username is not None or parts.password is not None:
        raise RequestRefused("a URL must not hold a user or password: send them in a header")
    if not is_allowed(parts.hostname, _port(parts)):
        raise RequestRefused(
            f"{parts.hostname!r} is not in HTTP_TASK_HOSTS; add it there if tasks are to call it (globs are allowed)"
        )
    return parts


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _addresses(host: str, port: int) -> list[str]:
    """Where a host can be reached. Raises RequestRefused when one of its addresses is our own network's, OSError."""
    found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for text in found:
        address = ipaddress.ip_address(text.partition("%")[0])
        if not _is_public(address) and not _is_listed(address):
            raise RequestRefused(
                f"{host!r} is at {text}, which is no public address; add the address, or its network, to"
                " HTTP_TASK_HOSTS if tasks are to call it"
            )
    return list(dict.fromkeys(found))


# -- one request --------------------------------------------------------------------------------------------------


class _Plain(http.client.HTTPConnection):
    """A connection to an address that was checked."""

    def __init__(self, parts: SplitResult, deadline: float) -> None:
        super().__init__(_ascii(parts.hostname or ""), _port(parts), timeout=_left(deadline))
        self.deadline = deadline

    def connect(self) -> None:
        """Try the addresses one by one."""
        error: OSError | None = None
        for address in _addresses(self.host, self.port):
            try:
                self.sock = self.secured(socket.create_connection((address, self.port), _left(self.deadline)))
                return
            except OSError as failed:
                error = failed
        raise error or OSError(f"{self.host} has no address")

    def secured(self, sock: socket.socket) -> socket.socket:
        """The socket to speak through."""
        return sock


class _Secure(_Plain):
    default_port = 443

    def secured(self, sock: socket.socket) -> socket.socket:
        """With TLS; the certificate must be the host's."""
        try:
            return _tls().wrap_socket(sock, server_hostname=self.host)
        except BaseException:
            sock.close()
            raise


@functools.cache
def _tls() -> ssl.SSLContext:
    """What the system trusts: reading its certificates takes tens of milliseconds."""
    return ssl.create_default_context()


def _exchange(
    method: str, parts: SplitResult, body: bytes | None, headers: Mapping[str, str], deadline: float
) -> Response:
    connection = (_Secure if parts.scheme == "https" else _Plain)(parts, deadline)
    try:
        connection.connect()
        with _ended_at(deadline, connection.sock):
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request(method, target, body, dict(headers))
            answer = connection.getresponse()
            limit = settings.HTTP_TASK_MAX_BYTES
            data = answer.read(limit + 1)
            if answer.length and len(data) <= limit:
                raise http.client.IncompleteRead(data, answer.length)
    finally:
        connection.close()
    if len(data) > limit:
        raise RequestFailed(f"the answer of {_shown(parts.geturl())} is over HTTP_TASK_MAX_BYTES ({limit:,})")
    return Response(answer.status, {name.lower(): value for name, value in answer.getheaders()}, data)


@contextmanager
def _ended_at(deadline: float, sock: Any) -> Iterator[None]:
    """Shut the socket when the time is over: a timeout of its own begins anew with every byte that comes."""

    def end() -> None:
        over.set()
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    over = threading.Event()
    timer = threading.Timer(_left(deadline), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        if over.is_set():
            raise TimeoutError("it did not answer in time") from error
        raise
    else:
        if over.is_set():
            raise TimeoutError("it did not answer in time")
    finally:
        timer.cancel()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("it did not answer in time")
    return left


# -- words --------------------------------------------------------------------------------------------------------


def _prepare(url: Any, method: Any, json: Any, headers: Any, task_id: str | None) -> _Call:
    """The request in a form that can be sent. Raises TypeError, ValueError."""
    if not isinstance(url, str):
        raise TypeError(f"url must be a text, not {safe_repr(url, 200)}")
    if any(character <= " " or character == "\x7f" for character in url):
        raise ValueError("url holds a blank or a control character: quote it with urllib.parse.quote")
    if not isinstance(method, str) or method.upper() not in _METHODS:
        raise ValueError(f"method must be one of {', '.join(sorted(_METHODS))}, not {safe_repr(method, 200)}")
    said: dict[str, str] = {"User-Agent": "djtasks", "Accept-Encoding": "identity"}
    if task_id:
        said["Idempotency-Key"] = task_id
    body = None
    if json is not None:
        body = jsonlib.dumps(json, allow_nan=False).encode()
        said["Content-Type"] = "application/json"
    names = {name.lower(): name for name in said}
    for name, value in dict(headers or {}).items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"headers must map texts to texts, not {safe_repr(name, 200)} to {type(value).__name__}")
        if name.lower() in _OURS:
            raise ValueError(f"the header {name!r} is written by djtasks itself")
        said.pop(names.get(name.lower(), ""), None)
        said[name] = value
    return _Call(method.upper(), url, body, said)


def _ascii(host: str) -> str:
    """A host's name as the name system has it. Raises ValueError."""
    return host if host.isascii() else host.encode("idna").decode()


def _delay(retries: int, response: Response | None) -> float:
    """Seconds until the next attempt."""
    said = "" if response is None else response.headers.get("retry-after", "")
    if said.isascii() and said.isdigit():
        return float(min(int(said[:10]), RETRY_DELAY_MAX))
    return float(exponential(retries, maximum=RETRY_DELAY_MAX))


def _text(response: Response) -> str:
    kind = response.headers.get("content-type", "")
    charset = kind.partition("charset=")[2].partition(";")[0].strip("\"' ") or "utf-8"
    try:
        return response.body.decode(charset, "replace")
    except LookupError:
        return response.body.decode("utf-8", "replace")


def _shown(url: str) -> str:
    """A URL without what may be secret in it: its user, its query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
