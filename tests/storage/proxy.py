"""A wire between a client and the server that can be cut at the worst moment."""

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable
from typing import Literal

from tests.waits import wait_until

#: Where a statement is lost: on its way to the server, or its answer on the way back.
Cut = Literal["before", "after"]


class Proxy:
    """Listens on a port of loopback and passes everything on to the server, until it is told to cut.

    `cuts` holds, in order, what becomes of each statement that contains `marker`: "before" ends the session before the
    server sees it, "after" when the server has answered and the client has not heard it. `meanwhile` is called after
    such a cut, before the client learns of it.
    """

    def __init__(self, host: str, port: int, marker: bytes = b"INSERT INTO djtasks_message") -> None:
        self.host, self.server_port = host, port
        self.marker = marker
        self.cuts: list[Cut] = []
        self.meanwhile: Callable[[], object] = lambda: None
        #: How many connections are turned away before the first one is let in.
        self.refuse = 0
        self.sessions = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self._run(self._accept)

    def _run(self, work: Callable[..., None], *args: socket.socket) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                if self.refuse:
                    self.refuse -= 1
                    client.close()
                else:
                    self.sessions += 1
                    self._run(self._serve, client)

    def _connect(self) -> socket.socket:
        if not self.host.startswith("/"):
            return socket.create_connection((self.host, self.server_port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{self.host}/.s.PGSQL.{self.server_port}")
        return server

    def _serve(self, client: socket.socket) -> None:
        """One session."""
        with client, contextlib.suppress(OSError), self._connect() as server:
            self._open.append(server)
            with selectors.DefaultSelector() as selector:
                selector.register(client, selectors.EVENT_READ, server)
                selector.register(server, selectors.EVENT_READ, client)
                while True:
                    for key, _ in selector.select():
                        source, sink = key.fileobj, key.data
                        assert isinstance(source, socket.socket)
                        if not (data := source.recv(65536)):
                            return
                        if source is client and self.cuts and self.marker in data:
                            if self.cuts.pop(0) == "after":
                                self._swallow(server, data)
                            self.meanwhile()
                            return
                        sink.sendall(data)

    @staticmethod
    def _swallow(server: socket.socket, data: bytes) -> None:
        """Let the server do it, and keep its answer."""
        server.sendall(data)
        answer = b""
        # ReadyForQuery ends an answer; its last byte says whether a transaction block is open.
        while answer[-6:-1] != b"Z\x00\x00\x00\x05":
            answer += (heard := server.recv(65536))
            if not heard:
                return

    def close(self) -> None:
        """End all sessions."""
        # A blocked accept() is woken by shutdown, not by close.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            wait_until(lambda thread=thread: not thread.is_alive(), "the end of a proxy's thread")  # type: ignore[misc]
