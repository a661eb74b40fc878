"""The dispatcher: events of one's own, from any process."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Self

from django.db import Error

from djtasks.db import events as table
from djtasks.events.fields import make, node_of_process, row_of_event, utcoffset
from djtasks.events.writing import write_now

#: So many events are kept while the database is lost.
MOST: Final = 10_000


class Dispatcher:
    """Sends events: `dispatcher.send("task-custom", uuid=..., step=3)`. May be used from any thread.

    While it is disabled it sends nothing, and with `groups` only types that begin with one of these and a hyphen.
    With `buffer_while_offline` what cannot be written is kept for the next time, else the error is raised. Events of
    the groups of `buffer_group` are written `buffer_limit` at a time, or at `flush`. Celery's other arguments mean
    nothing here.
    """

    def __init__(
        self,
        connection: Any = None,
        hostname: str | None = None,
        channel: Any = None,
        enabled: bool = True,
        buffer_while_offline: bool = True,
        app: Any = None,
        serializer: Any = None,
        groups: Iterable[str] | None = None,
        delivery_mode: int = 1,
        buffer_group: Iterable[str] | None = None,
        buffer_limit: int = 24,
        on_send_buffered: Callable[[], object] | None = None,
    ) -> None:
        self.connection = connection
        self.app = app
        self.hostname = hostname or node_of_process()
        self.pid = os.getpid()
        self.enabled = False
        self.buffer_while_offline = buffer_while_offline
        self.groups = set(groups or ())
        self.buffer_group = frozenset(buffer_group or ())
        self.buffer_limit = buffer_limit
        self.on_send_buffered = on_send_buffered
        #: Called when it is enabled, or disabled.
        self.on_enabled: set[Callable[[], object]] = set()
        self.on_disabled: set[Callable[[], object]] = set()
        self._kept: deque[table.Event] = deque(maxlen=MOST)
        self._mutex = threading.RLock()
        if enabled:
            self.enable()

    def enable(self) -> None:
        """Send from now on."""
        self.enabled = True
        for each in self.on_enabled:
            each()

    def disable(self) -> None:
        """Send nothing more."""
        if self.enabled:
            self.enabled = False
            self.close()
            for each in self.on_disabled:
                each()

    def send(
        self,
        type: str,
        blind: bool = False,
        utcoffset: Callable[[], int] = utcoffset,
        retry: bool = False,
        retry_policy: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        """Send an event of this type with these fields: what JSON can say, other objects as their repr.

        With `blind` without the number of the clock. Raises TypeError for what is no type or no id, and, unless they
        are kept for later, Django's database errors.
        """
        group = type.partition("-")[0] if isinstance(type, str) else ""
        if not self.enabled or (self.groups and group not in self.groups):
            return
        event = make(type, fields, utcoffset=utcoffset(), pid=self.pid)
        event.setdefault("hostname", self.hostname)
        row = row_of_event(event, self.hostname)
        with self._mutex:
            self._kept.append(row)
            if group not in self.buffer_group or len(self._kept) >= self.buffer_limit:
                self._write()

    def publish(self, type: str, fields: Mapping[str, Any], producer: Any = None, **kwargs: Any) -> None:
        """Send an event, whether or not this is enabled."""
        event = {"hostname": self.hostname, "pid": self.pid, "utcoffset": utcoffset(), **make(type, fields)}
        write_now([row_of_event(event, self.hostname)])

    def flush(self, errors: bool = True, groups: bool = True) -> None:
        """Write what was kept. Raises Django's database errors."""
        with self._mutex:
            self._write(keep=False)

    def _write(self, keep: bool | None = None) -> None:
        rows = list(self._kept)
        if not rows:
            return
        keeps = self.buffer_while_offline if keep is None else keep
        try:
            write_now(rows)
        except Error:
            if not keeps:
                self._kept.clear()
                raise
            return
        self._kept.clear()
        if self.on_send_buffered is not None and len(rows) > 1:
            self.on_send_buffered()

    def extend_buffer(self, other: "Dispatcher") -> None:
        """Take over what another one has kept."""
        self._kept.extend(other._kept)

    def close(self) -> None:
        """Write what was kept, if that can be done."""
        with self._mutex:
            self._write(keep=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
