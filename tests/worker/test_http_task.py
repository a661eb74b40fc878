"""Every worker knows the task that calls a URL."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from djtasks.http import http_request
from tests.worker.running import Workers, error, value


class Handler(BaseHTTPRequestHandler):
    """Says no once, and then yes."""

    asked = 0

    def do_POST(self) -> None:
        type(self).asked += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(503 if self.asked == 1 else 200)
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    """The address of a server that is busy at first."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_worker_calls_a_url_again_when_its_server_was_busy(workers: Workers, url: str) -> None:
    workers.start("-c", "1", HTTP_TASK_HOSTS=["127.0.0.1"])
    assert value(http_request.delay(url, json=[1]))["body"] == "ok"
    assert Handler.asked == 2
    assert "'localhost' is not in HTTP_TASK_HOSTS" in error(http_request.delay("http://localhost/"))
