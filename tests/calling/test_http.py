"""The task that calls a URL, against a server of our own."""

import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from djtasks import http
from djtasks.http import RequestFailed, RequestRefused, http_request
from tests.keys import make_pair

LOCAL = ["127.0.0.1"]
Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Notes each request, and answers it as its path's function does."""

    protocol_version = "HTTP/1.1"
    server: "Site"

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.command, self.path, dict(self.headers), body))
        self.server.answers[self.path.partition("?")[0]](self)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _do

    def log_message(self, *args: Any) -> None:
        """Nothing."""

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        """An answer with a body."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Site(ThreadingHTTPServer):
    """A server on a port of its own."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answers: dict[str, Answer] = {}
        self.released = threading.Event()
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.scheme = "http" if context is None else "https"

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        """The address of a path."""
        return f"{self.scheme}://{host}:{self.server_address[1]}{path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what some tests are about."""


@pytest.fixture
def site() -> Iterator[Site]:
    yield from _served(Site())


def _served(site: Site) -> Iterator[Site]:
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield site
    site.released.set()
    site.shutdown()
    site.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def allowed() -> Iterator[None]:
    """The server may be called."""
    with override_settings(DJTASKS={"HTTP_TASK_HOSTS": LOCAL}):
        yield


def call(url: str, **kwargs: Any) -> Any:
    """What the task returns or raises, after its retries."""
    return http_request.apply([url], kwargs).get()


def test_json_is_posted_and_the_answer_returned(site: Site) -> None:
    site.answers["/paid"] = lambda request: request.reply(201, "grün".encode(), Content_Type="text/plain", X_Id="7")
    result = http_request.apply([site.url("/paid?a=1")], {"json": {"order": 7}, "headers": {"X-Token": "secret"}})
    answer = result.get()
    assert (answer["status"], answer["body"], answer["headers"]["x-id"]) == (201, "grün", "7")
    [(method, path, headers, body)] = site.seen
    assert (method, path, json.loads(body)) == ("POST", "/paid?a=1", {"order": 7})
    assert headers["Content-Type"] == "application/json"
    assert (headers["X-Token"], headers["Idempotency-Key"]) == ("secret", result.id)


def test_a_body_is_read_in_the_charset_that_it_names(site: Site) -> None:
    kind = {"Content_Type": 'text/plain; charset="latin-1"'}
    site.answers["/"] = lambda request: request.reply(200, "ü".encode("latin-1"), **kind)
    assert call(site.url(), method="get")["body"] == "ü"
    site.answers["/"] = lambda request: request.reply(200, b"x", Content_Type="text/plain; charset=nonsense")
    assert call(site.url(), method="GET")["body"] == "x"


# -- who may be called --------------------------------------------------------------------------------------------


def test_nobody_may_be_called_by_default(site: Site) -> None:
    with override_settings(DJTASKS={}), pytest.raises(RequestRefused, match="'127.0.0.1' is not in HTTP_TASK_HOSTS"):
        call(site.url())
    assert site.seen == []


def test_a_listed_name_with_a_private_address_is_refused_until_the_address_is_listed(site: Site) -> None:
    site.answers["/"] = lambda request: request.reply(200)
    with (
        override_settings(DJTASKS={"HTTP_TASK_HOSTS": ["localhost"]}),
        pytest.raises(RequestRefused, match="'localhost' is at .*, which is no public address; add the address"),
    ):
        call(site.url(host="localhost"))
    assert site.seen == []
    with override_settings(DJTASKS={"HTTP_TASK_HOSTS": ["localhost", "127.0.0.0/8", "::1"]}):
        assert call(site.url(host="localhost"))["status"] == 200


@pytest.mark.parametrize(
    ("listed", "host", "port", "answer"),
    [
        (["example.com"], "example.com", 80, True),
        (["Example.com."], "EXAMPLE.com.", 80, True),
        (["example.com"], "www.example.com", 80, False),
        (["*.example.com"], "www.example.com", 443, True),
        (["*.example.com"], "example.com", 443, False),
        (["*.example.com"], "example.com.evil.org", 443, False),
        (["example.com:8080"], "example.com", 8080, True),
        (["example.com:8080"], "example.com", 80, False),
        (["*"], "example.com", 80, True),
        (["10.0.0.0/8"], "10.1.2.3", 80, True),
        (["10.0.0.0/8"], "11.1.2.3", 80, False),
        (["::1"], "::1", 80, True),
        (["[::1]"], "::1", 80, True),
        (["[::1]:8080"], "::1", 8080, True),
        (["fd00::/8"], "fd00::7", 80, True),
        ([], "example.com", 80, False),
    ],
)
def test_a_host_is_listed_by_name_glob_port_address_or_network(
    listed: list[str], host: str, port: int, answer: bool
) -> None:
    with override_settings(DJTASKS={"HTTP_TASK_HOSTS": listed}):
        assert http.is_allowed(host, port) is answer


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "192.168.1.1",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104 -- to be refused
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "2002:0a00:0001::",
        "64:ff9b::a9fe:a9fe",
    ],
)
def test_an_address_of_our_own_network_is_not_public(text: str) -> None:
    assert not http._is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_an_address_of_the_internet_is_public(text: str) -> None:
    assert http._is_public(ipaddress.ip_address(text))


def test_the_address_that_was_checked_is_the_one_that_is_called(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.answers["/"] = lambda request: request.reply(200)
    answers = iter(["127.0.0.1", "169.254.169.254"])
    asked: list[str] = []

    def resolve(host: str, port: int, **kwargs: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    monkeypatch.setattr(http.socket, "getaddrinfo", resolve)
    with override_settings(DJTASKS={"HTTP_TASK_HOSTS": ["rebound.example", "127.0.0.1"]}):
        parts = http._checked(site.url(host="rebound.example"))
        connection = http._Plain(parts, time.monotonic() + 10)
        addresses = http._addresses(connection.host, connection.port)
    assert (addresses, asked) == (["127.0.0.1"], ["rebound.example"])


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("file:///etc/passwd", "only http and https are called, not 'file'"),
        ("http://user:pass@127.0.0.1/", "must not hold a user or password"),
        ("http:///path", "there is no host"),
        ("http://127.0.0.1:99999/", "ort"),
        ("http://127.0.0.1/a b", "holds a blank or a control character"),
        ("http://127.0.0.1/a\r\nX: y", "holds a blank or a control character"),
        (7, "url must be a text"),
    ],
)
def test_a_url_that_makes_no_request_is_refused(url: Any, says: str) -> None:
    with pytest.raises((RequestRefused, TypeError, ValueError), match=says):
        call(url)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": "BREW"}, "method must be one of DELETE, GET"),
        ({"timeout": 0}, "timeout must be a number of seconds"),
        ({"timeout": True}, "timeout must be a number of seconds"),
        ({"headers": {"Host": "evil"}}, "written by djtasks itself"),
        ({"headers": {"X": 1}}, "headers must map texts to texts"),
        ({"headers": {"X": "a\r\nY: b"}}, "Invalid header value"),
        ({"json": float("nan")}, "not JSON compliant"),
    ],
)
def test_an_option_that_makes_no_request_is_refused(site: Site, options: dict[str, Any], says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        call(site.url(), **options)
    assert site.seen == []


# -- redirects ----------------------------------------------------------------------------------------------------


def test_a_redirect_to_a_host_that_is_not_listed_is_not_followed(site: Site) -> None:
    for target in ("http://169.254.169.254/latest/meta-data/", "http://[::1]/", "file:///etc/passwd"):
        site.answers["/"] = lambda request, target=target: request.reply(302, Location=target)  # type: ignore[misc]
        with pytest.raises(RequestRefused):
            call(site.url())


def test_a_redirect_is_followed_with_a_get_or_as_it_was(site: Site) -> None:
    site.answers["/new"] = lambda request: request.reply(200, b"here")
    for status, method in ((301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")):
        site.answers["/old"] = lambda request, status=status: request.reply(status, Location="/new")  # type: ignore[misc]
        assert call(site.url("/old"), json=[1])["body"] == "here"
        assert site.seen[-1][0] == method
        assert site.seen[-1][3] == (b"[1]" if method == "POST" else b"")


def test_what_is_said_to_one_host_is_not_said_to_the_next(site: Site) -> None:
    other = Site()
    served = _served(other)
    next(served)
    other.answers["/"] = lambda request: request.reply(200)
    site.answers["/"] = lambda request: request.reply(307, Location=other.url())
    assert call(site.url(), headers={"Authorization": "secret"})["status"] == 200
    assert "Authorization" in site.seen[0][2]
    assert "Authorization" not in other.seen[0][2]
    assert next(served, None) is None


def test_redirects_that_never_end_are_ended(site: Site) -> None:
    site.answers["/"] = lambda request: request.reply(302, Location="/")
    with pytest.raises(RequestFailed, match="redirected more than 5 times"):
        call(site.url())
    assert len(site.seen) == 6


# -- answers that are none ----------------------------------------------------------------------------------------


def test_an_answer_that_is_too_large_is_a_failure_and_not_asked_for_again(site: Site) -> None:
    site.answers["/"] = lambda request: request.reply(200, b"x" * 101)
    with (
        override_settings(DJTASKS={"HTTP_TASK_HOSTS": LOCAL, "HTTP_TASK_MAX_BYTES": 100}),
        pytest.raises(RequestFailed, match=r"over HTTP_TASK_MAX_BYTES \(100\)"),
    ):
        call(site.url())
    assert len(site.seen) == 1


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_what_may_be_better_next_time_is_tried_again_six_times_in_all(site: Site, status: int) -> None:
    site.answers["/"] = lambda request: request.reply(status, b"busy")
    with pytest.raises(RequestFailed, match=f"POST {site.url()} answered {status}: busy"):
        call(site.url())
    assert len(site.seen) == 6
    assert len({headers["Idempotency-Key"] for _, _, headers, _ in site.seen}) == 1


def test_a_server_that_recovers_is_a_success(site: Site) -> None:
    site.answers["/"] = lambda request: request.reply(503 if len(site.seen) < 3 else 200, b"x")
    assert call(site.url())["status"] == 200
    assert len(site.seen) == 3


@pytest.mark.parametrize("status", [400, 403, 404, 304])
def test_what_would_be_the_same_next_time_is_not_tried_again(site: Site, status: int) -> None:
    site.answers["/"] = lambda request: request.reply(status)
    with pytest.raises(RequestFailed, match=f"answered {status}"):
        call(site.url("/?token=secret"))
    assert len(site.seen) == 1


def test_an_error_holds_no_query(site: Site) -> None:
    site.answers["/"] = lambda request: request.reply(400)
    with pytest.raises(RequestFailed) as raised:
        call(site.url("/?token=secret"))
    assert "secret" not in str(raised.value)


def test_a_retry_waits_as_long_as_the_server_says_and_ten_minutes_at_most() -> None:
    def answer(after: str) -> http.Response:
        return http.Response(503, {"retry-after": after}, b"")

    assert [http._delay(0, answer(text)) for text in ("7", "999999999999999999999")] == [7.0, 600.0]
    assert all(http._delay(3, answer(text)) <= 8 for text in ("soon", "", "-1", "Wed, 21 Oct 2026 07:28:00 GMT"))
    assert max(http._delay(40, None) for _ in range(200)) <= 600


def test_a_server_that_is_not_there_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    attempts: list[Any] = []
    connect = socket.create_connection

    def counting(*args: Any) -> socket.socket:
        attempts.append(args)
        return connect(*args)

    monkeypatch.setattr(http.socket, "create_connection", counting)
    with pytest.raises(RequestFailed, match="ConnectionRefusedError"):
        call(f"http://127.0.0.1:{port}/")
    assert len(attempts) == 6


def _fetch(site: Site, timeout: float) -> http.Response:
    return http.fetch("GET", site.url(), None, {}, timeout)


def test_a_server_that_says_nothing_is_given_up_when_the_time_is_over(site: Site) -> None:
    site.answers["/"] = lambda request: site.released.wait(30) and None
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        _fetch(site, 0.3)
    assert time.monotonic() - began < 10


def test_a_server_that_drips_is_given_up_when_the_time_is_over(site: Site) -> None:
    def drip(request: Handler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not site.released.wait(0.02):
            request.wfile.write(b"X-More: 1\r\n")
            request.wfile.flush()

    site.answers["/"] = drip
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="did not answer in time"):
        _fetch(site, 0.4)
    assert time.monotonic() - began < 10


def test_an_answer_that_breaks_off_is_no_answer(site: Site) -> None:
    def cut(request: Handler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "100")
        request.end_headers()
        request.wfile.write(b"half")
        request.close_connection = True

    site.answers["/"] = cut
    with pytest.raises(RequestFailed, match="IncompleteRead"):
        call(site.url())


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    for site in _served(Site(context)):
        with pytest.raises(ssl.SSLCertVerificationError):
            _fetch(site, 10)
        assert site.seen == []
