"""The worker's HTTP page, for probes and for Prometheus: /healthz and /metrics, on threads of their own.

Nothing that is asked here changes anything, or waits for what the worker does. A few at a time are answered, each
within a few seconds; whoever is slower is hung up on.
"""

import json
import logging
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import urlsplit

from djtasks import metrics
from djtasks.conf.kinds import host_and_port
from djtasks.exceptions import ImproperlyConfigured
from djtasks.worker.measuring import Page
from djtasks.worker.vitals import Vitals

logger = logging.getLogger("djtasks.worker")

#: So many are answered at a time.
AT_ONCE: Final = 8
#: How long one of them may take to say what it wants and to take the answer, in seconds.
PATIENCE: Final = 5.0
#: How long whoever is hung up on may take to be gone.
ROOM_WITHIN: Final = 0.5


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: "Server"
    server_version = "djtasks"
    sys_version = ""
    timeout = PATIENCE

    def do_GET(self) -> None:
        """Answer."""
        path = urlsplit(self.path).path.rstrip("/")
        if path == "/healthz":
            self._healthz()
        elif path == "/metrics":
            self._metrics()
        else:
            self._say_json(404, {"error": "there is no such page; ask for /healthz or /metrics"})

    do_HEAD = do_GET

    def _healthz(self) -> None:
        vitals = self.server.page.vitals
        problems = vitals.problems()
        found = {
            "ok": not problems,
            "worker": vitals.node,
            "problems": problems,
            "heartbeat_age": round(vitals.heartbeat_age(), 1),
            "running": vitals.busy(),
            "processes": len(vitals.pool.processes()),
        }
        self._say_json(503 if problems else 200, found)

    def _metrics(self) -> None:
        try:
            self._say(200, metrics.CONTENT_TYPE, self.server.page.read())
        except ImproperlyConfigured as error:
            self._say_json(501, {"error": str(error)})

    def _say_json(self, status: int, found: dict[str, Any]) -> None:
        self._say(status, "application/json", f"{json.dumps(found)}\n".encode())

    def _say(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Probes ask every few seconds: that is for nobody's log."""
        logger.debug(f"HTTP {self.address_string()}: {format}", *args)


class Server(ThreadingHTTPServer):
    """Listens; each request has a thread of its own."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, host: str, port: int, page: Page) -> None:
        self.page = page
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._free = threading.BoundedSemaphore(AT_ONCE)
        #: Whoever is being answered, and until when, in monotonic seconds.
        self._open: dict[Any, float] = {}
        super().__init__((host, port), Handler)

    def server_bind(self) -> None:
        """As its parent, which would look up the host's name, however long that takes."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread. When too many ask, whoever has been at it for longest makes room."""
        if not self._free.acquire(blocking=False):
            for slowest in list(self._open)[:1]:
                self._hang_up(slowest)
            if not self._free.acquire(timeout=ROOM_WITHIN):
                self.shutdown_request(request)
                return
        self._open[request] = time.monotonic() + PATIENCE
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """In that thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.pop(request, None)
            self._free.release()

    def service_actions(self) -> None:
        """Twice a second: hang up on who is too slow, byte by byte."""
        now = time.monotonic()
        for request, until in list(self._open.items()):
            if now >= until:
                self._hang_up(request)

    def _hang_up(self, request: Any) -> None:
        """Its thread finds the end of the stream."""
        try:
            request.shutdown(socket.SHUT_RDWR)
        except OSError:
            self._open.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked is gone, or speaks no HTTP: nothing that the worker's log has to know."""
        logger.debug("HTTP: a request failed", exc_info=True)


class Site:
    """One worker's page. `bind` before anything is started, `start` once there is no more to fork."""

    def __init__(self, address: str, vitals: Vitals, queues: Callable[[], Sequence[str]]) -> None:
        self.address = address
        self.page = Page(vitals, queues)
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        host, port = self._server.server_address[:2] if self._server else host_and_port(self.address)
        name = str(host)
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

    def bind(self) -> None:
        """Take the port. Raises ImproperlyConfigured when that is not possible."""
        host, port = host_and_port(self.address)
        try:
            self._server = Server(host, port, self.page)
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise ImproperlyConfigured(
                f"--http {self.address} (WORKER_HTTP): {host}:{port} cannot be listened at ({why}); name another"
                " port, one for each worker of this machine, or end what listens there"
            ) from error

    def start(self) -> None:
        """Answer from now on."""
        if self._server is None:
            return
        if (cure := metrics.missing()) is not None:
            logger.warning("%s/metrics answers nothing: %s. /healthz works", self.url, cure)
        thread = threading.Thread(target=self._server.serve_forever, name="djtasks-http", daemon=True)
        thread.start()
        self._thread = thread
        logger.info("Answering at %s", self.url)

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            if self._thread is not None:
                self._server.shutdown()
            self._server.server_close()
            self._server = None
        self.page.close()
