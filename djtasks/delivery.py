"""Delivery: a message gets into its table for good, and a worker that sleeps hears of it.

Inside the caller's transaction that is one INSERT, and the commit is the caller's. Outside of one it is tried again
while the database is lost, and never so that a task runs twice: see `_insert_again`.
"""

import contextlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import psycopg
from django.db import DatabaseError, InterfaceError, OperationalError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from djtasks.backoff import intervals
from djtasks.conf import settings
from djtasks.db import messages as table
from djtasks.db import notify, results
from djtasks.db.connections import LOST, Connection, Link, borrow, direct, pooled
from djtasks.db.pipe import Pipe, Question, ask
from djtasks.exceptions import EnqueueUncertain
from djtasks.messages import Message

logger = logging.getLogger("djtasks.outbox")

#: A message whose time comes sooner than this rings a sleeping worker, which then sleeps no longer than until then.
SOON = 2.0
#: As Django says it, and as psycopg does: the connection is gone, or never came to be.
_LOST = (OperationalError, InterfaceError, *LOST)


class Posting(NamedTuple):
    """What the outbox has to know about messages that are written together."""

    #: The ids are the caller's own: their earlier results are forgotten.
    anew: bool = False
    #: No result will tell, after a lost answer, whether the message had arrived.
    ignore_result: bool = False
    retry: bool = True
    policy: Mapping[str, Any] | None = None


def in_transaction(conn: BaseDatabaseWrapper) -> bool:
    """Whether what is written through this connection waits for its user's commit. Does not connect."""
    if conn.in_atomic_block:
        return True
    return not (conn.settings_dict["AUTOCOMMIT"] if conn.connection is None else conn.get_autocommit())


# -- writing ------------------------------------------------------------------------------------------------------


class _Ended(Exception):
    """Some of the messages had arrived after all, and have ended meanwhile."""

    def __init__(self, ids: set[str]) -> None:
        self.ids = ids
        super().__init__()


class _Lent:
    """Django's connection of this thread, while no transaction is open on it."""

    __slots__ = ("conn",)

    def __init__(self, conn: BaseDatabaseWrapper) -> None:
        self.conn = conn

    def connect(self) -> BaseDatabaseWrapper:
        self.conn.ensure_connection()
        return self.conn

    def begin(self) -> AbstractContextManager[Any]:
        return transaction.atomic(using=self.conn.alias, durable=True)

    def lost(self) -> None:
        self.conn.close()


class _Private(threading.local):
    """The connection of a thread for what is written beside its transaction."""

    pid = 0
    link: Link

    def connect(self) -> psycopg.Connection:
        if self.pid != os.getpid():
            self.pid, self.link = os.getpid(), Link("enqueue")
        return self.link.connection()

    def begin(self) -> AbstractContextManager[Any]:
        return self.connect().transaction()

    def lost(self) -> None:
        self.link.lost()


_private = _Private()


def write(messages: Sequence[Message], posting: Posting) -> None:
    """Write through Django's connection; ring at once, or when its transaction commits."""
    conn = borrow()
    if in_transaction(conn):
        _insert(conn, messages, posting)
        _ring_later(conn, messages)
    else:
        _commit(_Lent(conn), messages, posting)


def write_immediately(messages: Sequence[Message], posting: Posting) -> None:
    """Write beside the transaction of Django's connection, if there is one."""
    conn = borrow()
    if in_transaction(conn):
        with conn.wrap_database_errors:
            _commit(_private, messages, posting)
    else:
        _commit(_Lent(conn), messages, posting)


def write_many(parts: Iterable[Sequence[Message]], posting: Posting) -> None:
    """Write parts as they come, each committed by itself: the next one is made while the server writes the last.

    Through a connection of its own, since what makes the messages may use Django's at the same time.
    """
    way, sent = _Streaming(), None
    try:
        for part in parts:
            if sent is not None:
                arriving, sent = sent, None
                way.arrive(arriving, posting)
            sent = way.send(part)
    finally:
        try:
            if sent is not None:
                way.arrive(sent, posting)
        finally:
            way.link.close()


class _Streaming:
    """A connection for many parts."""

    def __init__(self) -> None:
        self.link = Link("enqueue many")
        self.lost = self.link.lost
        self.connect = self.link.connection

    def begin(self) -> AbstractContextManager[Any]:
        return self.connect().transaction()

    def send(self, part: Sequence[Message]) -> "_Sent":
        """Send a part on its way."""
        sent = _Sent(part, time.monotonic())
        with borrow().wrap_database_errors:
            try:
                sent.pipe = Pipe(self.connect(), prepares=not pooled(borrow()))
                queues, count = _runnable(part)
                sent.insert = table.enqueuing(part)
                sent.pipe.send(sent.insert, *([notify.ringing(queues, count)] if count else []))
            except LOST as error:
                sent.error = error
        return sent

    def arrive(self, sent: "_Sent", posting: Posting) -> None:
        """Wait until it is written."""
        with borrow().wrap_database_errors:
            try:
                if sent.error is not None:
                    raise sent.error
                if sent.pipe is not None and sent.insert is not None:
                    sent.pipe.settle()
                    sent.insert.answer()
            except LOST as error:
                if not posting.retry:
                    raise
                logger.warning("An enqueue failed (%s); trying again", str(error).strip())
                self.lost()
                _commit(self, sent.messages, posting, sent.began)


class _Sent:
    """A part that is on its way."""

    def __init__(self, messages: Sequence[Message], began: float) -> None:
        self.messages = messages
        self.began = began
        self.pipe: Pipe | None = None
        self.insert: Question | None = None
        self.error: Exception | None = None


def _commit(
    way: "_Lent | _Private | _Streaming", messages: Sequence[Message], posting: Posting, before: float | None = None
) -> None:
    """Write, commit and ring; a lost connection is opened again as often as the policy says.

    `before` is when an earlier attempt was made whose answer was lost, in monotonic seconds.
    """
    began = time.monotonic() if before is None else before
    waits: Iterator[float] | None = None
    uncertain = before is not None
    while True:
        conn: BaseDatabaseWrapper | psycopg.Connection | None = None
        try:
            conn = way.connect()
            if uncertain:
                _repeat(way, conn, messages, posting, began)
            elif posting.anew:
                with way.begin():
                    _insert(conn, messages, posting)
            elif _in_one_trip(conn, messages):
                return
            else:
                _insert(conn, messages, posting)
            break
        except _LOST as error:
            if waits is None:
                waits = intervals({**settings.TASK_PUBLISH_RETRY_POLICY, **(posting.policy or {})})
            wait = next(waits, None)
            if not posting.retry or wait is None:
                raise
            uncertain = uncertain or conn is not None
            logger.warning("An enqueue failed (%s); trying again", str(error).strip())
            way.lost()
        time.sleep(wait)
    _ring_now(conn, messages)


def _in_one_trip(conn: BaseDatabaseWrapper | psycopg.Connection, messages: Sequence[Message]) -> bool:
    """Write, commit and ring in one round trip; False where each statement must go Django's way."""
    driver = direct(conn)
    if driver is None:
        return False
    queues, count = _runnable(messages)
    ring = [notify.ringing(queues, count)] if count else []
    with conn.wrap_database_errors if isinstance(conn, BaseDatabaseWrapper) else contextlib.nullcontext():
        insert = table.enqueuing(messages)
        try:
            ask(driver, insert, *ring, prepares=not pooled(borrow()))
        except LOST as error:
            if not insert.settled:
                raise
            # It is written; only the ring was lost, with the connection.
            conn.close()
            _not_rung(error)
        insert.answer()
    if ring and ring[0].error is not None:
        _not_rung(ring[0].error)
    return True


def _insert(conn: Connection, messages: Sequence[Message], posting: Posting) -> None:
    written = table.enqueue(conn, messages)
    if posting.anew and written:
        results.forget_ended(conn, sorted(written))


def _repeat(
    way: "_Lent | _Private | _Streaming", conn: Connection, messages: Sequence[Message], posting: Posting, began: float
) -> None:
    """Write again what may have been written: a message that has meanwhile ended must not run a second time."""
    while messages:
        try:
            with way.begin():
                _insert_again(conn, messages, posting, began)
            return
        except _Ended as ended:
            messages = [message for message in messages if message.id not in ended.ids]


def _insert_again(conn: Connection, messages: Sequence[Message], posting: Posting, began: float) -> None:
    """`began` is when the first attempt was made, in monotonic seconds. Raises _Ended, EnqueueUncertain."""
    written = sorted(table.enqueue(conn, messages))
    if not written:
        return
    if posting.ignore_result:
        raise EnqueueUncertain(
            "the database's answer was lost, and a task without a result leaves no trace to tell whether it was"
            f" accepted: {', '.join(written[:5])}. Call it again if it may run twice"
        )
    ages = results.ages(conn, written)
    passed = time.monotonic() - began
    # A caller's own id may have the result of an earlier call: that one is older than this one.
    ended = {task_id for task_id, age in ages.items() if age <= passed or not posting.anew}
    if ended:
        raise _Ended(ended)
    if posting.anew:
        results.forget_ended(conn, written)


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
        _ring(self.conn, queues, count)


_rings: "weakref.WeakKeyDictionary[BaseDatabaseWrapper, list[weakref.ref[_Ring]]]" = weakref.WeakKeyDictionary()


def _runnable(messages: Sequence[Message]) -> tuple[set[str], int]:
    """The queues of the messages that may run at once or very soon, and how many those are."""
    latest = time.time() + SOON
    queues: set[str] = set()
    count = 0
    for message in messages:
        if message.countdown is not None:
            soon = message.countdown < SOON
        else:
            soon = message.eta is None or message.eta < latest
        if soon:
            queues.add(message.queue)
            count += 1
    return queues, count


def _ring_now(conn: Connection, messages: Sequence[Message]) -> None:
    queues, count = _runnable(messages)
    if count:
        _ring(conn, queues, count)


def _ring_later(conn: BaseDatabaseWrapper, messages: Sequence[Message]) -> None:
    """Ring when the transaction commits; what a rolled-back savepoint wrote rings nobody."""
    queues, count = _runnable(messages)
    if not count:
        return
    if not conn.in_atomic_block:
        # Autocommit is off: nobody tells us of the commit. A notification is sent by it, too.
        _ring(conn, queues, count)
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


def _ring(conn: Connection, queues: set[str], count: int) -> None:
    try:
        notify.ring_workers(conn, queues, count)
    except (DatabaseError, *LOST) as error:
        _not_rung(error)


def _not_rung(error: Exception) -> None:
    """The message is there, and a worker's poll finds it."""
    logger.warning("Could not ring a worker: %s", str(error).strip())
