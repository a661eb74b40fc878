"""The outbox: when a message is written, and through which connection.

    on_commit        after the caller's transaction has committed (at once, when there is none)
    in_transaction   inside the caller's transaction: data and task commit or vanish together
    immediately      through a connection of its own: survives a rollback

Whatever the mode, workers are rung only after the commit that shows them the message.
"""

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from djtasks.backoff import intervals
from djtasks.conf import settings
from djtasks.db import messages as table
from djtasks.db import notify, results
from djtasks.db.connections import LOST, Connection, Link, borrow
from djtasks.exceptions import EnqueueUncertain, ImproperlyConfigured
from djtasks.messages import Message

logger = logging.getLogger("djtasks.outbox")

ON_COMMIT, IN_TRANSACTION, IMMEDIATELY = MODES = ("on_commit", "in_transaction", "immediately")
#: A message whose time comes sooner than this rings a sleeping worker, which then sleeps no longer than until then.
SOON = 2.0


class Posting(NamedTuple):
    """What the outbox has to know about messages that are written together."""

    #: The ids are the caller's own: their earlier results are forgotten.
    anew: bool = False
    #: No result will tell, after a lost answer, whether the message had arrived.
    ignore_result: bool = False
    retry: bool = True
    policy: Mapping[str, Any] | None = None


class _Waiting:
    """Messages that wait for their transaction's commit: a callback of which Django holds the only reference.

    A rolled-back savepoint drops it, and with it the messages.
    """

    __slots__ = ("__weakref__", "_box", "messages", "posting", "sent")

    def __init__(self, box: "_Box", messages: Sequence[Message], posting: Posting) -> None:
        self._box = box
        self.messages = messages
        self.posting = posting
        self.sent = False

    def __call__(self) -> None:
        if not self.sent:
            self._box.flush()


class _Ring:
    """Rings the workers of these queues after the commit, once for all messages of a transaction."""

    __slots__ = ("__weakref__", "conn", "count", "queues", "savepoints")

    def __init__(self, conn: BaseDatabaseWrapper) -> None:
        self.conn = conn
        self.savepoints = tuple(conn.savepoint_ids)
        self.queues: set[str] = set()
        self.count = 0

    def __call__(self) -> None:
        _ring(self.conn, self.queues, self.count)


class _Box:
    """What waits for the commit of one of Django's connections."""

    def __init__(self) -> None:
        self.waiting: list[weakref.ref[_Waiting]] = []
        self.ring: weakref.ref[_Ring] | None = None

    def alive(self) -> list[_Waiting]:
        """What Django has not dropped; forgets the rest."""
        found = [(ref, waiting) for ref in self.waiting if (waiting := ref()) is not None and not waiting.sent]
        self.waiting = [ref for ref, _ in found]
        return [waiting for _, waiting in found]

    def flush(self) -> None:
        """Write everything that is left, in one statement for each kind of posting."""
        left = self.alive()
        self.waiting = []
        kinds: dict[tuple[Any, ...], list[_Waiting]] = {}
        for waiting in left:
            waiting.sent = True
            anew, ignore_result, retry, policy = waiting.posting
            kinds.setdefault((anew, ignore_result, retry, id(policy)), []).append(waiting)
        for group in kinds.values():
            found = group[0].messages if len(group) == 1 else [each for one in group for each in one.messages]
            _write(found, group[0].posting)


_boxes: "weakref.WeakKeyDictionary[BaseDatabaseWrapper, _Box]" = weakref.WeakKeyDictionary()


def _box_of(conn: BaseDatabaseWrapper) -> _Box:
    box = _boxes.get(conn)
    if box is None:
        box = _boxes[conn] = _Box()
    return box


def enqueue(
    message: Message,
    *,
    mode: str | None = None,
    using: str | None = None,
    own_id: bool = False,
    ignore_result: bool = False,
    retry: bool = True,
    policy: Mapping[str, Any] | None = None,
) -> None:
    """Write a message, now or when the transaction of `using` (default: Django's default database) commits.

    Raises ImproperlyConfigured for an unknown mode, or one that cannot hold here; and, outside of a transaction,
    EnqueueUncertain or Django's OperationalError when the database stays lost for all retries of `policy`.
    """
    post([message], Posting(own_id, ignore_result, retry, policy), mode, using)


def enqueue_many(
    messages: Iterable[Message],
    *,
    mode: str | None = None,
    using: str | None = None,
    chunk: int = 1000,
    posting: Posting | None = None,
) -> None:
    """Write many messages, `chunk` at a time, as they come; only `on_commit` inside a transaction keeps them all.

    Outside of a transaction each chunk is committed by itself: an error leaves those before it enqueued.
    """
    posting = posting or Posting()
    stream = iter(messages)
    while batch := list(islice(stream, chunk)):
        post(batch, posting, mode, using)


def post(messages: Sequence[Message], posting: Posting, mode: str | None, using: str | None) -> None:
    """Write the messages in this mode."""
    mode = mode or settings.ENQUEUE
    if mode == ON_COMMIT:
        caller = connections[using or DEFAULT_DB_ALIAS]
        if caller.in_atomic_block or not caller.get_autocommit():
            box = _box_of(caller)
            waiting = _Waiting(box, messages, posting)
            caller.on_commit(waiting)
            box.waiting.append(weakref.ref(waiting))
        else:
            _write(messages, posting)
    elif mode == IN_TRANSACTION:
        if (using or settings.DATABASE) != settings.DATABASE:
            raise ImproperlyConfigured(
                f"enqueue={mode!r} writes into the transaction of the task database {settings.DATABASE!r}; it cannot"
                f" be tied to a transaction of {using!r}. Use 'on_commit' there"
            )
        _write(messages, posting)
    elif mode == IMMEDIATELY:
        _write_immediately(messages, posting)
    else:
        raise ImproperlyConfigured(f"there is no enqueue mode {mode!r}; choose one of {', '.join(MODES)}")


def is_pending(task_id: str) -> bool:
    """Whether the task waits for the commit of a transaction that is open in this very thread."""
    for conn in connections.all(initialized_only=True):
        box = _boxes.get(conn)
        if box is None or not box.waiting:
            continue
        if any(message.id == task_id for waiting in box.alive() for message in waiting.messages):
            return True
    return False


# -- writing ------------------------------------------------------------------------------------------------------


def _write(messages: Sequence[Message], posting: Posting) -> None:
    """Write through Django's connection; ring at once, or when its transaction commits."""
    conn = borrow()
    if conn.in_atomic_block:
        table.enqueue(conn, messages, anew=posting.anew)
        _ring_later(conn, messages)
        return
    _with_retries(conn, posting, lambda: _first(conn, messages, posting), lambda: _repeat(conn, messages, posting))
    _ring_now(conn, messages)


def _first(conn: BaseDatabaseWrapper, messages: Sequence[Message], posting: Posting) -> None:
    table.enqueue(conn, messages, anew=posting.anew)


def _repeat(conn: BaseDatabaseWrapper, messages: Sequence[Message], posting: Posting) -> None:
    """Write again what may have been written: a message that has meanwhile ended must not run a second time."""
    with transaction.atomic(using=conn.alias, durable=True):
        written = table.enqueue(conn, messages)
        if not written:
            return
        if posting.ignore_result:
            transaction.set_rollback(True, using=conn.alias)
            uncertain = True
        else:
            uncertain = False
            ended = results.known(conn, sorted(written))
            if ended:
                transaction.set_rollback(True, using=conn.alias)
    if uncertain:
        raise EnqueueUncertain(
            "the database's answer was lost, and a task without a result leaves no trace to tell whether it was"
            f" accepted: {', '.join(sorted(written)[:5])}. Call it again if it may run twice"
        )
    if ended:
        _repeat(conn, [message for message in messages if message.id not in ended], posting)


def _with_retries(
    conn: BaseDatabaseWrapper, posting: Posting, first: Callable[[], None], repeat: Callable[[], None]
) -> None:
    """Try until it is written; a lost connection is opened again as often as the policy says."""
    waits = intervals({**settings.TASK_PUBLISH_RETRY_POLICY, **(posting.policy or {})})
    work = first
    while True:
        connected = False
        try:
            conn.ensure_connection()
            connected = True
            work()
            return
        except (OperationalError, InterfaceError) as error:
            wait = next(waits, None)
            if not posting.retry or wait is None:
                raise
            if connected:
                work = repeat
            logger.warning("An enqueue failed (%s); trying again", str(error).strip())
            conn.close()
        time.sleep(wait)


class _Private(threading.local):
    """The connection of a thread for what is written beside its transaction."""

    pid = 0
    link: Link

    def connection(self) -> Any:
        if self.pid != os.getpid():
            self.pid, self.link = os.getpid(), Link("enqueue")
        return self.link.connection()


_private = _Private()


def _write_immediately(messages: Sequence[Message], posting: Posting) -> None:
    if not borrow().in_atomic_block:
        _write(messages, posting)
        return
    try:
        table.enqueue(_private.connection(), messages, anew=posting.anew)
    except LOST as error:
        _private.link.lost()
        raise OperationalError(*error.args) from error
    _ring_now(_private.connection(), messages)


# -- ringing ------------------------------------------------------------------------------------------------------


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
    """One ring for all messages of a transaction; a savepoint's own, since it may be rolled back."""
    queues, count = _runnable(messages)
    if not count:
        return
    box = _box_of(conn)
    ring = box.ring() if box.ring else None
    if ring is None or ring.savepoints != tuple(conn.savepoint_ids):
        ring = _Ring(conn)
        conn.on_commit(ring, robust=True)
        box.ring = weakref.ref(ring)
    ring.queues |= queues
    ring.count += count


def _ring(conn: Connection, queues: set[str], count: int) -> None:
    try:
        notify.ring_workers(conn, queues, count)
    except (DatabaseError, *LOST) as error:
        # The message is there, and a worker's poll finds it.
        logger.warning("Could not ring a worker: %s", str(error).strip())
