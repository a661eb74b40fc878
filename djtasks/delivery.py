"""Delivery: a message gets into its table for good, and a worker that sleeps hears of it.

Inside the caller's transaction that is one INSERT, and the commit is the caller's. Outside of one it is tried again
while the database is lost, and never so that a task runs twice: see `_insert_again`.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import psycopg
from django.db import InterfaceError, OperationalError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from djtasks import keyed, rings
from djtasks.backoff import intervals
from djtasks.conf import settings
from djtasks.db import chords, notify, results
from djtasks.db import messages as table
from djtasks.db.connections import LOST, Connection, Link, borrow, direct, in_transaction, pooled, reason
from djtasks.db.pipe import Pipe, Question, ask
from djtasks.events import sent as sending
from djtasks.exceptions import EnqueueUncertain
from djtasks.exceptions import OperationalError as TaskOperationalError
from djtasks.messages import Chord, Message

logger = logging.getLogger("djtasks.outbox")

#: As Django says it, and as psycopg does: the connection is gone, or never came to be.
_LOST = (OperationalError, InterfaceError, *LOST)


class NotEnqueued(TaskOperationalError, OperationalError):
    """The database could not be reached, or did not answer: Django's error as well as ours, and Celery's."""


class Posting(NamedTuple):
    """What the outbox has to know about messages that are written together."""

    #: The ids are the caller's own: their earlier results are forgotten.
    anew: bool = False
    #: No result will tell, after a lost answer, whether the message had arrived.
    ignore_result: bool = False
    retry: bool = True
    policy: Mapping[str, Any] | None = None
    #: Written with the messages, in one transaction.
    chords: tuple[Chord, ...] = ()
    #: The ids of what is to come of the messages, for who waits for it.
    behind: tuple[str, ...] = ()


class Part(NamedTuple):
    """Some of many messages that are written as they come."""

    messages: Sequence[Message]
    #: The chords whose headers are whole with these messages.
    chords: tuple[Chord, ...] = ()
    #: False when a chord that they belong to is still to come: they are committed with the next part.
    whole: bool = True


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


def close() -> None:
    """Close the connection that this thread keeps for what it writes beside its transactions, if there is one."""
    if _private.pid == os.getpid():
        _private.link.close()


def write(messages: Sequence[Message], posting: Posting) -> None:
    """Write through Django's connection; ring at once, or when its transaction commits."""
    conn = borrow()
    if in_transaction(conn):
        _insert(conn, messages, posting)
        rings.ring_later(conn, messages)
        rings.admit_later(conn, messages)
        if settings.TASK_SEND_SENT_EVENT:
            sending.tell_later(conn, messages)
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


def write_many(parts: Iterable[Part], posting: Posting) -> None:
    """Write parts as they come, each committed by itself: the next one is made while the server writes the last.

    Parts that are not whole are committed with the one after them. Through a connection of its own, since what makes
    the messages may use Django's at the same time.
    """
    way, sent, left = _Streaming(), None, iter(parts)
    try:
        for part in left:
            if sent is not None:
                arriving, sent = sent, None
                way.arrive(arriving, posting)
            if not part.whole:
                way.write_together(part, left, posting)
            elif part.chords or posting.anew or keyed.keyed(part.messages):
                with borrow().wrap_database_errors:
                    _commit(way, part.messages, posting._replace(chords=part.chords))
            elif part.messages:
                sent = way.send(part.messages)
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
                queues, count = rings.runnable(part)
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
                    _tell_sent(self.connect(), sent.messages)
            except LOST as error:
                if not posting.retry:
                    raise NotEnqueued(reason(error)) from error
                logger.warning("An enqueue failed (%s); trying again", str(error).strip())
                self.lost()
                _commit(self, sent.messages, posting, sent.began)

    def write_together(self, part: Part, more: Iterator[Part], posting: Posting) -> None:
        """Write a part, and those that come up to the next whole one, in one transaction.

        It is not repeated: what makes the messages makes them once. Raises NotEnqueued, EnqueueUncertain.
        """
        queues: set[str] = set()
        limited: dict[str, Any] = {}
        written: list[Message] = []
        count, ready = 0, False
        with borrow().wrap_database_errors:
            try:
                with self.begin():
                    conn = self.connect()
                    while True:
                        _insert(conn, part.messages, posting._replace(chords=part.chords))
                        new, runnable = rings.runnable(part.messages)
                        queues, count = queues | new, count + runnable
                        limited.update(keyed.definitions(part.messages))
                        written.extend(part.messages if settings.TASK_SEND_SENT_EVENT else ())
                        if part.whole:
                            break
                        part = next(more)
                    ready = True
            except LOST as error:
                if not ready:
                    raise NotEnqueued(reason(error)) from error
                raise EnqueueUncertain(
                    "the database's answer to a COMMIT was lost: look whether the workflow is there before it is sent"
                    " again"
                ) from error
            if count:
                rings.ring_for(conn, queues, count)
            _tell_sent(conn, written)
            if limited:
                rings.admit(conn, limited, self.begin)


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
            elif posting.anew or posting.chords or keyed.keyed(messages):
                with way.begin():
                    _insert(conn, messages, posting)
            elif _in_one_trip(conn, messages):
                _tell_sent(conn, messages)
                return
            else:
                _insert(conn, messages, posting)
            break
        except _LOST as error:
            if waits is None:
                waits = intervals({**settings.TASK_PUBLISH_RETRY_POLICY, **(posting.policy or {})})
            wait = next(waits, None)
            if not posting.retry or wait is None:
                raise NotEnqueued(reason(error)) from error
            uncertain = uncertain or conn is not None
            logger.warning("An enqueue failed (%s); trying again", str(error).strip())
            way.lost()
        time.sleep(wait)
    rings.ring_now(conn, messages)
    _tell_sent(conn, messages)
    if wanted := keyed.definitions(messages):
        rings.admit(conn, wanted, way.begin)


def _tell_sent(conn: Connection, messages: Sequence[Message]) -> None:
    if settings.TASK_SEND_SENT_EVENT:
        sending.tell(conn, messages)


def _in_one_trip(conn: BaseDatabaseWrapper | psycopg.Connection, messages: Sequence[Message]) -> bool:
    """Write, commit and ring in one round trip; False where each statement must go Django's way."""
    driver = direct(conn)
    if driver is None:
        return False
    queues, count = rings.runnable(messages)
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
            rings.not_rung(error)
        insert.answer()
    if ring and ring[0].error is not None:
        rings.not_rung(ring[0].error)
    return True


def _insert(conn: Connection, messages: Sequence[Message], posting: Posting) -> None:
    if posting.chords:
        chords.open_chords(conn, posting.chords)
    if not messages:
        return
    written = keyed.write(conn, messages) if keyed.unique(messages) else table.enqueue(conn, messages)
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
            if posting.chords:
                # They were written together.
                return
            messages = [message for message in messages if message.id not in ended.ids]


def _insert_again(conn: Connection, messages: Sequence[Message], posting: Posting, began: float) -> None:
    """`began` is when the first attempt was made, in monotonic seconds. Raises _Ended, EnqueueUncertain."""
    if posting.chords and len(chords.open_chords(conn, posting.chords)) < len(posting.chords):
        raise _Ended(set())
    written = sorted(keyed.write(conn, messages) if keyed.unique(messages) else table.enqueue(conn, messages))
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
