"""Events: what happens to tasks and workers, told while it happens. Celery's `app.events`."""

from collections.abc import Iterator
from contextlib import contextmanager

from djtasks.events import dispatcher as _dispatcher
from djtasks.events.dispatcher import Dispatcher
from djtasks.events.fields import make as Event
from djtasks.events.receiver import Receiver
from djtasks.events.state import State

__all__ = ["Dispatcher", "Event", "EventDispatcher", "EventReceiver", "Events", "Receiver", "State"]

EventDispatcher, EventReceiver = Dispatcher, Receiver


class Events:
    """`app.events`."""

    Receiver = Receiver
    Dispatcher = Dispatcher
    State = State

    @contextmanager
    def default_dispatcher(
        self, hostname: str | None = None, enabled: bool = True, buffer_while_offline: bool = False
    ) -> Iterator[_dispatcher.Dispatcher]:
        """A dispatcher, for as long as the `with` lasts; what it cannot write it raises."""
        with Dispatcher(hostname=hostname, enabled=enabled, buffer_while_offline=buffer_while_offline) as dispatcher:
            yield dispatcher
