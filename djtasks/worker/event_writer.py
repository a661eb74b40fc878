"""Writes the events of a worker, on the pulse's thread and connection: a statement every fifth of a second.

That a run has begun is seen by looking what runs, or told with its end: nothing has to be sent for it.
"""

import logging
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from typing import Any, Final

import psycopg

from djtasks.conf import settings
from djtasks.db import events as table
from djtasks.db.connections import LOST, reason
from djtasks.events.fields import row_of, utcoffset
from djtasks.messages import Claimed
from djtasks.worker.counting import OTHERS
from djtasks.worker.events import Events, Told, is_silent, shown_id
from djtasks.worker.pools.base import Begun

logger = logging.getLogger("djtasks.worker")

#: How often what there is to tell is written, in seconds.
FLUSH_EVERY: Final = 0.2
#: So many events are written in one statement.
BATCH: Final = 2000
#: What more kinds than that were told of is counted under one name for each type.
MOST_COUNTS: Final = 5000
#: Forgotten runs are looked for when there are so many.
_FORGET_AT: Final = 5000


class EventWriter:
    """Writes what has been told, and what can be seen. Belongs to the pulse's thread."""

    def __init__(
        self,
        events: Events,
        node: str,
        *,
        begun: Callable[[], Mapping[int, Begun]],
        held: Mapping[int, Claimed],
        processed: Callable[[], int],
    ) -> None:
        self.events = events
        self.node = node
        self.begun = begun
        self.held = held
        self.processed = processed
        #: The runs of which it has been told that they have begun.
        self._told: set[int] = set()
        #: What is on its way, and may have arrived when the connection is lost.
        self._rows: list[table.Event] = []
        self._since_prune = 0
        self._dropped = 0
        #: How many were written, by type and name of the task.
        self._counts: Counter[tuple[str, str]] = Counter()
        self._always = {"pid": os.getpid(), "utcoffset": utcoffset()}

    @property
    def pending(self) -> bool:
        """Whether anything is to be written now or soon."""
        return bool(self.events.on or self.events.waiting or self._rows)

    def counts(self) -> Mapping[tuple[str, str], int]:
        """How many were written, by type and name of the task; from any thread."""
        return dict(self._counts)

    def flush(self, conn: psycopg.Connection, has_time: Callable[[], bool] = lambda: True) -> None:
        """Write what there is. Raises psycopg.OperationalError when the connection is lost; what it was at is kept."""
        if self._rows:
            self._write(conn)
        running = self.begun() if self.events.on else {}
        ended: set[int] = set()
        while self.events.waiting and has_time():
            self._take(ended)
            self._write(conn)
        for claim, begun in running.items():
            # One that is not held has just been given up.
            if claim not in self._told and claim not in ended and (message := self.held.get(claim)) is not None:
                self._told.add(claim)
                if not is_silent(message.name):
                    self._rows.append(self._started(message, begun))
        self._write(conn)
        self._forget()
        self._say_dropped()

    def close(self, conn: psycopg.Connection) -> None:
        """Write what is left, and that the worker ends."""
        if self.events.on:
            self.events.put(Told("worker-offline", time.time(), {}))
        self.flush(conn)

    def _take(self, ended: set[int]) -> None:
        """The next batch; each run's begin stands before its end."""
        waiting = self.events.waiting
        for _ in range(min(BATCH, len(waiting))):
            told = waiting.popleft()
            if told.claim:
                ended.add(told.claim)
                if told.claim in self._told:
                    self._told.discard(told.claim)
                elif told.began and told.row is not None:
                    uuid = told.fields["uuid"]
                    started = Told("task-started", told.began, {"uuid": uuid}, told.row, name=told.name)
                    self._rows.append(self._row(started))
            elif told.type.startswith("worker-"):
                told = told._replace(fields=self._heartbeat(len(self.begun())))
            self._rows.append(self._row(told))

    def _started(self, message: Claimed, begun: Begun) -> table.Event:
        """That a run goes on."""
        at = time.time() - (0.0 if begun.since is None else max(0.0, time.monotonic() - begun.since))
        return self._row(Told("task-started", at, {"uuid": shown_id(message)}, message.id, name=message.name))

    def _row(self, told: Told) -> table.Event:
        key = told.type, told.name
        self._counts[key if key in self._counts or len(self._counts) < MOST_COUNTS else (told.type, OTHERS)] += 1
        return row_of(told.type, self.node, told.row, {**told.fields, "timestamp": told.at, **self._always})

    def _heartbeat(self, active: int) -> dict[str, Any]:
        return {
            "freq": settings.WORKER_HEARTBEAT_INTERVAL,
            "active": active,
            "processed": self.processed(),
            "loadavg": [round(each, 2) for each in os.getloadavg()],
            **_software(),
        }

    def _write(self, conn: psycopg.Connection) -> None:
        if not self._rows:
            return
        try:
            table.write(conn, self._rows)
        except LOST:
            raise
        except psycopg.Error as error:
            logger.error("%d events could not be written, and are dropped: %s", len(self._rows), reason(error))
        self._since_prune += len(self._rows)
        self._rows = []
        if self._since_prune > settings.EVENTS_MAX // 10:
            self.prune(conn)

    def prune(self, conn: psycopg.Connection, has_time: Callable[[], bool] = lambda: True) -> None:
        """Delete what is too old, and what is too much."""
        self._since_prune = 0
        expires = settings.EVENTS_EXPIRES.total_seconds()
        while table.prune(conn, settings.EVENTS_MAX, expires) == table.PRUNE_BATCH and has_time():
            pass

    def _forget(self) -> None:
        """Runs that are not held any more and never told their end: released, lost, refused."""
        if len(self._told) > _FORGET_AT:
            self._told &= set(self.held)

    def _say_dropped(self) -> None:
        if (dropped := self.events.dropped) != self._dropped:
            logger.warning("%d events were dropped: more came than can be written", dropped - self._dropped)
            self._dropped = dropped


@cache
def _software() -> dict[str, str]:
    return {"sw_ident": "djtasks", "sw_ver": version("djtasks"), "sw_sys": platform.system()}
