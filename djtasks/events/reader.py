"""Reads events as they come: rung where LISTEN works, else asking five times a second."""

import logging
import random
import selectors
import time
from typing import Any, Final

import psycopg
from psycopg import sql

from djtasks.db import events as table
from djtasks.db.connections import LOST, Link, listens, reason
from djtasks.exceptions import OperationalError

logger = logging.getLogger("djtasks.events")

#: So many are read at a time.
BATCH: Final = 1000
#: How often is asked where nothing rings, or a number is missing; and else, in case a ring is lost.
POLL_EVERY, LOOK_EVERY = 0.2, 1.0
#: A number that is missing belongs to a transaction that has not been committed yet, or never will be: it is waited
#: for so many seconds. More of them than that were deleted before they could be read.
GAP_SECONDS, GAPS_MOST, FIRST_GAPS = 5.0, 1000, 100
BACKOFF: Final = (0.2, 5.0)


class Reader:
    """The events from now on, or with `replay` also those that are still there. Belongs to one thread."""

    def __init__(self, *, replay: bool = False) -> None:
        self._link = Link("events")
        self._replay = replay
        self._conn: psycopg.Connection | None = None
        self._last = -1
        #: Numbers that have not been seen, and until when they are waited for.
        self._gaps: dict[int, float] = {}
        self._rung = False
        self._retry_at = 0.0
        self._backoff = BACKOFF[0]

    def start(self) -> None:
        """Connect, and note where to begin. Raises OperationalError when the database cannot be reached."""
        try:
            self._connection()
        except LOST as error:
            raise OperationalError(f"events cannot be read, the database is not there: {reason(error)}") from error

    def _connection(self) -> psycopg.Connection:
        conn = self._link.connection()
        if conn is not self._conn:
            if listens():
                conn.add_notify_handler(self._on_ring)
                conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(table.CHANNEL)))
            if self._last < 0:
                self._last = 0 if self._replay else table.newest(conn)
            self._conn = conn
        return conn

    def _on_ring(self, _: Any) -> None:
        self._rung = True

    def read(self) -> list[tuple[Any, ...]]:
        """The next events, as `db.events.since` returns them; [] for none, also while the database is lost."""
        if time.monotonic() < self._retry_at:
            return []
        try:
            conn = self._connection()
            self._rung = False
            found = table.since(conn, self._last, BATCH)
            late = table.numbered(conn, self._gaps) if self._gaps else []
            if not found and table.newest(conn) < self._last:
                # The server has crashed: the table is empty, and its numbers begin anew.
                self._last = 0
                self._gaps.clear()
                found = table.since(conn, 0, BATCH)
        except LOST as error:
            logger.warning("Lost the database (%s); trying again in %.1f s", reason(error), self._backoff)
            self._link.lost()
            self._conn = None
            self._retry_at = time.monotonic() + self._backoff * random.uniform(0.5, 1.0)
            self._backoff = min(BACKOFF[1], self._backoff * 2)
            return []
        self._backoff = BACKOFF[0]
        self._note(found, late)
        return late + found

    def _note(self, found: list[tuple[Any, ...]], late: list[tuple[Any, ...]]) -> None:
        now = time.monotonic()
        for row in late:
            self._gaps.pop(row[0], None)
        self._gaps = {number: until for number, until in self._gaps.items() if until > now}
        for number, *_ in found:
            # Of what was before the first one, only the last may still come.
            missing = range(self._last + 1 if self._last else max(1, number - FIRST_GAPS), number)
            if len(missing) + len(self._gaps) <= GAPS_MOST:
                self._gaps.update(dict.fromkeys(missing, now + GAP_SECONDS))
            self._last = number

    def wait(self, seconds: float) -> None:
        """Wait until somebody rings, or it is time to look, so many seconds at the most."""
        conn = self._conn
        if conn is None or conn.closed or not listens():
            time.sleep(min(seconds, POLL_EVERY))
            return
        seconds = min(seconds, POLL_EVERY if self._gaps else LOOK_EVERY)
        with selectors.DefaultSelector() as selector:
            try:
                selector.register(conn.fileno(), selectors.EVENT_READ)
                if not self._rung and not self._hears(conn):
                    selector.select(max(0.0, seconds))
                    self._hears(conn)
            except (*LOST, OSError, ValueError):
                time.sleep(min(seconds, POLL_EVERY))

    def _hears(self, conn: psycopg.Connection) -> bool:
        """Take in what has come, without waiting: whether somebody has rung."""
        conn.pgconn.consume_input()
        while conn.pgconn.notifies() is not None:
            self._rung = True
        return self._rung

    def close(self) -> None:
        """End the session."""
        self._link.close()
        self._conn = None
