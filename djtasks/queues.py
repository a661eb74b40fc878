"""Queues, as a person or a program says what becomes of them: from a paused one no worker takes anything.

What runs goes on, and what is called waits. A pause is a row: it holds for all workers, and across their restarts,
until somebody resumes the queue. Workers see it within a second.
"""

from collections.abc import Iterable

from django.db.backends.base.base import BaseDatabaseWrapper

from djtasks.conf.kinds import Unfit, queue_name
from djtasks.db import queues as table
from djtasks.db.connections import borrow, in_transaction
from djtasks.exceptions import safe_repr
from djtasks.rings import ring_for


def pause(*names: str, by: str = "", note: str = "") -> list[str]:
    """Let no worker take anything more from these queues; returns those that were not paused yet.

    `by` and `note` are shown in the admin. Inside a transaction it holds from its commit on. Raises TypeError,
    ValueError for what is no name of a queue.
    """
    return table.pause(borrow(), _checked(names), by, note)


def resume(*names: str, by: str = "") -> list[str]:
    """Let workers take from these queues again; returns those that were paused. Raises TypeError, ValueError."""
    conn = borrow()
    resumed = table.resume(conn, _checked(names), by)
    if resumed:
        if in_transaction(conn):
            if conn.in_atomic_block:
                conn.on_commit(lambda: _ring(conn, resumed), robust=True)
        else:
            _ring(conn, resumed)
    return resumed


def paused() -> set[str]:
    """The names of the queues that are paused now."""
    return table.paused(borrow())


def _ring(conn: BaseDatabaseWrapper, names: list[str]) -> None:
    # As many as there may be: what waits was counted by nobody.
    ring_for(conn, set(names), 1000)


def _checked(names: Iterable[str]) -> list[str]:
    found = list(names)
    if not found:
        raise TypeError("name at least one queue")
    for name in found:
        if not isinstance(name, str):
            raise TypeError(f"a queue is named by a text, not by {safe_repr(name, 200)}")
        try:
            queue_name(name)
        except Unfit as error:
            raise ValueError(f"queue {error}") from None
    return found
