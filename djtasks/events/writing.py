"""Writing events from anywhere: at once, whatever transaction is open here."""

import asyncio
import os
import threading
from collections.abc import Sequence

import psycopg

from djtasks.db import events as table
from djtasks.db.connections import LOST, Link, borrow, in_transaction


class _Own(threading.local):
    """The connection of a thread for events that are not to wait for its transaction."""

    pid = 0
    link: Link

    def connect(self) -> psycopg.Connection:
        if self.pid != os.getpid():
            self.pid, self.link = os.getpid(), Link("events")
        return self.link.connection()


_own = _Own()


def write_now(rows: Sequence[table.Event]) -> None:
    """Write these, and commit. Raises Django's OperationalError, and what else the database says."""
    conn = borrow()
    if not _in_loop() and not in_transaction(conn):
        table.write(conn, rows)
        return
    with conn.wrap_database_errors:
        try:
            table.write(_own.connect(), rows)
        except LOST:
            _own.link.lost()
            # It may just have been closed for being idle.
            table.write(_own.connect(), rows)


def close() -> None:
    """Close the connection that this thread keeps for events, if there is one."""
    if _own.pid == os.getpid():
        _own.link.close()


def _in_loop() -> bool:
    """Whether this is a coroutine's thread, in which Django's connections refuse to work."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
