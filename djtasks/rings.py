"""Rings and admissions: what follows the commit that shows workers a message.

Inside of a transaction it is a callback of that transaction's commit.
"""

import logging
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from django.db import DatabaseError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from djtasks import keyed
from djtasks.db import limits, notify
from djtasks.db.connections import LOST, Connection
from djtasks.db.limits import Definitions
from djtasks.messages import Message

logger = logging.getLogger("djtasks.outbox")

#: A message whose time comes sooner than this rings a sleeping worker, which then sleeps no longer than until then.
SOON = 2.0

# -- limits -------------------------------------------------------------------------------------------------------


def admit(conn: Connection, wanted: Definitions, begin: Callable[[], AbstractContextManager[Any]]) -> None:
    """Let those go on that may, now that the messages are there; a worker's maintenance does it else."""
    try:
        with begin():
            queues = limits.admit(conn, wanted)
    except (DatabaseError, *LOST) as error:
        logger.warning("Could not open lanes for limited tasks: %s", str(error).strip())
        return
    if queues:
        ring_for(conn, set(queues), len(queues))


def admit_later(conn: BaseDatabaseWrapper, messages: Sequence[Message]) -> None:
    """When the transaction commits; what a rolled-back savepoint wrote asks for nothing."""
    wanted = keyed.definitions(messages)
    if wanted and conn.in_atomic_block:
        conn.on_commit(
            lambda: admit(conn, wanted, lambda: transaction.atomic(using=conn.alias, durable=True)), robust=True
        )


# -- ringing ------------------------------------------------------------------------------------------------------


class _Ring:
    """Rings the workers of these queues after the commit: a callback of which Django holds the only reference.

    There is one for each savepoint, since that may be rolled back; the first one to be called rings for all.
    """

    __slots__ = ("__weakref__", "conn", "count", "queues", "savepoints")

    def __init__(self, conn: BaseDatabaseWrapper, savepoints: Sequence[str]) -> None:
        self.conn = conn
        self.savepoints = savepoints
        self.queues: set[str] = set()
        self.count = 0

    def __call__(self) -> None:
        if not self.count:
            return
        queues: set[str] = set()
        count = 0
        for ref in _rings.pop(self.conn, ()):
            if (ring := ref()) is not None:
                queues |= ring.queues
                count += ring.count
                ring.count = 0
        ring_for(self.conn, queues, count)


_rings: "weakref.WeakKeyDictionary[BaseDatabaseWrapper, list[weakref.ref[_Ring]]]" = weakref.WeakKeyDictionary()


def runnable(messages: Sequence[Message]) -> tuple[set[str], int]:
    """The queues of the messages that may run at once or very soon, and how many those are."""
    latest = time.time() + SOON
    queues: set[str] = set()
    count = 0
    for message in messages:
        if message.limit_key is not None:
            # Its admission rings.
            continue
        if message.countdown is not None:
            soon = message.countdown < SOON
        else:
            soon = message.eta is None or message.eta < latest
        if soon:
            queues.add(message.queue)
            count += 1
    return queues, count


def ring_now(conn: Connection, messages: Sequence[Message]) -> None:
    """Ring for messages that are committed."""
    queues, count = runnable(messages)
    if count:
        ring_for(conn, queues, count)


def ring_later(conn: BaseDatabaseWrapper, messages: Sequence[Message]) -> None:
    """Ring when the transaction commits; what a rolled-back savepoint wrote rings nobody."""
    queues, count = runnable(messages)
    if not count:
        return
    if not conn.in_atomic_block:
        # Autocommit is off: nobody tells us of the commit. A notification is sent by it, too.
        ring_for(conn, queues, count)
        return
    rings = _rings.setdefault(conn, [])
    while rings and rings[-1]() is None:
        rings.pop()
    savepoints = [savepoint for savepoint in conn.savepoint_ids if savepoint]
    ring = rings[-1]() if rings else None
    if ring is None or ring.savepoints != savepoints:
        ring = _Ring(conn, savepoints)
        conn.on_commit(ring, robust=True)
        rings.append(weakref.ref(ring))
    ring.queues |= queues
    ring.count += count


def ring_for(conn: Connection, queues: set[str], count: int) -> None:
    """Ring the workers of these queues for so many messages."""
    try:
        notify.ring_workers(conn, queues, count)
    except (DatabaseError, *LOST) as error:
        not_rung(error)


def not_rung(error: Exception) -> None:
    """The message is there, and a worker's poll finds it."""
    logger.warning("Could not ring a worker: %s", str(error).strip())
