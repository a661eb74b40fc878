"""The receiver: calls handlers with events as they come."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from djtasks import broadcasting
from djtasks.events.fields import Event, event_of
from djtasks.events.reader import Reader
from djtasks.ids import new_task_id

Handler = Callable[[Event], object]


class Receiver:
    """`Receiver(connection, handlers={"task-failed": f, "*": g}).capture()`: `*` is called where no other handler is.

    `routing_key` chooses types as a topic does ("task.#"). With `replay` the events that are still kept come first.
    Celery's other arguments, and the connection, mean nothing here: it opens one of its own.
    """

    def __init__(
        self,
        channel: Any = None,
        handlers: Mapping[str, Handler] | None = None,
        routing_key: str = "#",
        node_id: str | None = None,
        app: Any = None,
        queue_prefix: Any = None,
        accept: Any = None,
        queue_ttl: Any = None,
        queue_expires: Any = None,
        queue_exclusive: Any = None,
        queue_durable: Any = None,
        *,
        replay: bool = False,
    ) -> None:
        self.channel = channel
        self.app = app
        self.handlers: Mapping[str, Handler] = {} if handlers is None else handlers
        self.routing_key = routing_key
        self.node_id = node_id or new_task_id()
        #: To be set by a handler, or another thread: the capture ends.
        self.should_stop = False
        self._replay = replay
        self._wanted = _topic(routing_key)

    @property
    def connection(self) -> Any:
        """What it was given."""
        return self.channel

    def process(self, type: str, event: Event) -> None:
        """Call the handler of this type with the event."""
        handler = self.handlers.get(type) or self.handlers.get("*")
        if handler is not None:
            handler(event)

    def capture(self, limit: int | None = None, timeout: float | None = None, wakeup: bool = True) -> None:
        """Call handlers until `limit` events have come, or `should_stop` is set.

        Raises TimeoutError once no event has come for `timeout` seconds, and OperationalError when the database cannot
        be reached at the start; later it is waited for. With `wakeup` workers are asked for a heartbeat.
        """
        for _ in self.itercapture(limit, timeout, wakeup):
            pass

    def itercapture(
        self, limit: int | None = None, timeout: float | None = None, wakeup: bool = True
    ) -> Iterator[Event]:
        """As `capture`, and yields each event once its handler has been called."""
        reader, count, heard = Reader(replay=self._replay), 0, time.monotonic()
        reader.start()
        try:
            if wakeup:
                self.wakeup_workers()
            while not self.should_stop:
                for row in (found := reader.read()):
                    event = event_of(row)
                    if self._wanted is not None and not self._wanted.fullmatch(event["type"].replace("-", ".")):
                        continue
                    self.process(event["type"], event)
                    yield event
                    count += 1
                    heard = time.monotonic()
                    if self.should_stop or count == limit:
                        return
                silent = time.monotonic() - heard
                if timeout is not None and silent >= timeout:
                    raise TimeoutError(f"no event came for {timeout:g} seconds")
                if not found:
                    reader.wait(60.0 if timeout is None else timeout - silent)
        finally:
            reader.close()

    def wakeup_workers(self, channel: Any = None) -> None:
        """Ask all workers for a heartbeat, now."""
        broadcasting.broadcast("heartbeat")


def _topic(key: str) -> re.Pattern[str] | None:
    """What a routing key lets through; None for everything."""
    if key == "#":
        return None
    words = [{"#": r"(?:[^.]+(?:\.[^.]+)*)?", "*": "[^.]+"}.get(word, re.escape(word)) for word in key.split(".")]
    return re.compile(r"\.".join(words).replace(r"\.(?:", r"\.?(?:"))
