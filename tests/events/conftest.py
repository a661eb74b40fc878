"""What the tests of events share: the database of the tests of workers, and a receiver that hears all of it."""

import threading
from collections.abc import Callable, Iterator

import pytest
from django.db import connections

from djtasks.events import Receiver
from djtasks.events.fields import Event
from tests.waits import wait_until
from tests.worker.conftest import database, gate, migrated, nothing_waits, shared, workers
from tests.worker.running import query

__all__ = ["database", "gate", "migrated", "nothing_waits", "shared", "workers"]


class Listener:
    """A receiver on a thread."""

    def __init__(self, replay: bool) -> None:
        self.events: list[Event] = []
        self.receiver = Receiver(handlers={"*": self.events.append}, replay=replay)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.receiver.capture(wakeup=False)
        connections.close_all()

    def heard(self, *types: str, uuid: str | None = None) -> list[Event]:
        """Wait until each of these has been heard, of this task; all that was, in order."""

        def look() -> list[Event]:
            found = [event for event in list(self.events) if uuid is None or event.get("uuid") == uuid]
            return found if set(types) <= {event["type"] for event in found} else []

        return wait_until(look, f"{types} of {uuid} have been heard; there are {self.events}")

    def one(self, type_: str, uuid: str | None = None) -> Event:
        """Wait for one of this type; the last one."""
        return [event for event in self.heard(type_, uuid=uuid) if event["type"] == type_][-1]

    def stop(self) -> None:
        """Listen no more."""
        self.receiver.should_stop = True
        query("SELECT pg_notify('djtasks_event', '')")
        self._thread.join(10)


@pytest.fixture
def listen(database: str) -> Iterator[Callable[..., Listener]]:
    """Listens from now on, or with `replay` to everything that is there."""
    started: list[Listener] = []

    def start(replay: bool = True) -> Listener:
        started.append(Listener(replay))
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.fixture
def no_events(database: str) -> None:
    """No event is left of others."""
    query("TRUNCATE djtasks_event")
