"""A TCP proxy before PostgreSQL which can be told to misbehave.

`freeze` cuts both ways, or only the answers, without a word to either side: what is on its way waits, as in a network
that is partitioned. `heal` lets it flow; `sever` closes all that is open. With `lose_every` the answer to a statement
is now and then dropped and the connection closed: the statement has been carried out, and nobody is told.
"""

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

CHUNK = 1 << 16
#: The end of every complete answer: the server is ready for the next statement, in no transaction.
READY, READY_IN_TRANSACTION = b"Z\0\0\0\x05I", b"Z\0\0\0\x05T"
#: How long to wait for the end of an answer that is to be lost, in seconds.
PATIENCE = 1.0
SPARED = 20
LOOPBACK = "127.0.0.1"


class Pair:
    """One connection: the client's end and the server's."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        #: The server has said that it is ready for a first statement.
        self.ready = False
        #: So many statements are answered before one may be lost: not always the first one of a session.
        self.spared = random.randint(1, SPARED)
        #: The answer to the statement now on its way will be lost.
        self.doomed = False
        self.tail = b""
        #: What the client has said before that: who it is.
        self.hello = b""
        #: The size of the answer so far.
        self.size = 0

    def close(self) -> None:
        """Close both ends, at once."""
        for end in (self.client, self.server):
            end.transport.abort()

    def ends_answer(self, data: bytes) -> bytes:
        """What the server's bytes end with, if it is the end of an answer."""
        self.tail = (self.tail + data)[-len(READY) :]
        return self.tail if self.tail in (READY, READY_IN_TRANSACTION) else b""


class Proxy(threading.Thread):
    """Listens on `port` of loopback and forwards to `target`, another port there. Ends with `close`."""

    def __init__(self, target: int) -> None:
        super().__init__(name="proxy", daemon=True)
        self.target = target
        self.port = 0
        #: How many answers were lost.
        self.lost = 0
        self.lose_every: float | None = None
        #: Forward no answers any more when one is larger than this, in bytes.
        self.freeze_over: int | None = None
        self._lose_at = 0.0
        self._only = b""
        self._pairs: set[Pair] = set()
        self._up = threading.Event()
        self.start()
        self._up.wait()

    def run(self) -> None:
        """Serve until closed."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._requests, self._answers, self._closing = (asyncio.Event() for _ in range(3))
        self._requests.set()
        self._answers.set()
        listener = await asyncio.start_server(self._connected, LOOPBACK, 0)
        self.port = listener.sockets[0].getsockname()[1]
        self._up.set()
        await self._closing.wait()
        listener.close()
        await self._sever()

    # -- what a scenario asks for ---------------------------------------------------------------------------------

    def freeze(self, *, answers_only: bool = False, only: str = "") -> None:
        """Forward nothing, or no answers, until healed; `only` for sessions with this in their name."""
        self._only = only.encode()
        self._do(self._set(requests=answers_only, answers=False))

    def heal(self) -> None:
        """Forward what has waited, and everything from now on."""
        self._do(self._set(requests=True, answers=True))

    def sever(self) -> None:
        """Close all connections; what waits in them is gone."""
        self._do(self._sever())

    def lose_answers(self, every: float | None) -> None:
        """Lose an answer every so many seconds; None for no more."""
        self._lose_at = time.monotonic()
        self.lose_every = every

    def close(self) -> None:
        """End the thread and all connections."""
        if self.is_alive():
            self._loop.call_soon_threadsafe(self._closing.set)
            self.join()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _set(self, *, requests: bool, answers: bool) -> None:
        for event, flows in ((self._requests, requests), (self._answers, answers)):
            if flows:
                event.set()
            else:
                event.clear()

    async def _sever(self) -> None:
        for pair in list(self._pairs):
            pair.close()

    # -- connections ----------------------------------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._only:
            await self._requests.wait()
        try:
            from_server, to_server = await asyncio.open_connection(LOOPBACK, self.target)
        except OSError:
            writer.transport.abort()
            return
        pair = Pair(writer, to_server)
        self._pairs.add(pair)
        ways = [
            asyncio.ensure_future(way) for way in (self._up_stream(reader, pair), self._down_stream(from_server, pair))
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            pair.close()
            self._pairs.discard(pair)
            for way in ways:
                way.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*ways, return_exceptions=True)

    async def _up_stream(self, reader: asyncio.StreamReader, pair: Pair) -> None:
        """From the client to the server."""
        while data := await reader.read(CHUNK):
            if not pair.ready:
                pair.hello += data
            if self._only in pair.hello:
                await self._requests.wait()
            if pair.ready and self.lose_every is not None:
                pair.spared -= 1
                if pair.spared < 0 and time.monotonic() >= self._lose_at:
                    self._lose_at = time.monotonic() + self.lose_every
                    pair.doomed = True
            pair.server.write(data)
            await pair.server.drain()

    async def _down_stream(self, reader: asyncio.StreamReader, pair: Pair) -> None:
        """From the server to the client."""
        while data := await self._answer(reader, pair):
            end = pair.ends_answer(data)
            pair.size = 0 if end else pair.size + len(data)
            if self.freeze_over is not None and pair.size > self.freeze_over:
                self.freeze_over = None
                self._answers.clear()
            if self._only in pair.hello:
                await self._answers.wait()
            pair.ready = pair.ready or bool(end)
            if pair.doomed and end != READY_IN_TRANSACTION:
                if end == READY:
                    self.lost += 1
                    return
                continue
            pair.client.write(data)
            await pair.client.drain()

    async def _answer(self, reader: asyncio.StreamReader, pair: Pair) -> bytes:
        try:
            return await asyncio.wait_for(reader.read(CHUNK), PATIENCE if pair.doomed else None)
        except TimeoutError:
            return b""
