"""The outbox: when a message is written, and through which connection.

    on_commit        after the caller's transaction has committed (at once, when there is none)
    in_transaction   inside the caller's transaction: data and task commit or vanish together
    immediately      through a connection of its own: survives a rollback

Whatever the mode, workers are rung only after the commit that shows them the message.
"""

import itertools
import sys
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError

from djtasks.conf import settings
from djtasks.current import running
from djtasks.db.connections import borrow, in_transaction
from djtasks.delivery import Part, Posting, write, write_immediately, write_many
from djtasks.exceptions import ImproperlyConfigured
from djtasks.keys import RAISE
from djtasks.messages import Message

#: One statement carries bodies of about so many bytes at the most: PostgreSQL takes one of 1 GB.
STATEMENT_BYTES = 64_000_000
ON_COMMIT, IN_TRANSACTION, IMMEDIATELY = MODES = ("on_commit", "in_transaction", "immediately")


def _parts(messages: Iterable[Message], count: int) -> Iterator[list[Message]]:
    """Up to `count` messages at a time, and no more than fit into a statement."""
    part: list[Message] = []
    size = 0
    for message in messages:
        part.append(message)
        size += len(message.body)
        if len(part) >= count or size >= STATEMENT_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


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


class _Box:
    """What waits for the commit of one of Django's connections."""

    def __init__(self) -> None:
        self.waiting: list[weakref.ref[_Waiting]] = []

    def alive(self) -> list[_Waiting]:
        """What Django has not dropped; forgets the rest."""
        found = [(ref, waiting) for ref in self.waiting if (waiting := ref()) is not None and not waiting.sent]
        self.waiting = [ref for ref, _ in found]
        return [waiting for _, waiting in found]

    def flush(self) -> None:
        """Write everything that is left, in one statement for each kind of posting (and for each 64 MB of them)."""
        left = self.alive()
        self.waiting = []
        kinds: dict[tuple[Any, ...], list[_Waiting]] = {}
        for waiting in left:
            waiting.sent = True
            anew, ignore_result, retry, policy = waiting.posting[:4]
            kinds.setdefault((anew, ignore_result, retry, id(policy)), []).append(waiting)
        for group in kinds.values():
            parts = list(_parts((message for one in group for message in one.messages), sys.maxsize))
            chords = tuple(chord for one in group for chord in one.posting.chords)
            if chords and len(parts) > 1:
                *first, last = parts
                write_many([*(Part(part, (), False) for part in first), Part(last, chords)], group[0].posting)
                continue
            for part in parts:
                write(part, group[0].posting._replace(chords=chords))


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
    parts = _parts(messages, chunk)
    if (first := next(parts, None)) is None:
        return
    full = len(first) >= chunk or sum(len(message.body) for message in first) >= STATEMENT_BYTES
    if full and not posting.anew and _commits_each(mode or settings.ENQUEUE, using):
        write_many(map(Part, itertools.chain((first,), parts)), posting)
        return
    for part in itertools.chain((first,), parts):
        post(part, posting, mode, using)


def enqueue_parts(
    parts: Iterable[Part], *, mode: str | None = None, using: str | None = None, posting: Posting
) -> None:
    """Write the messages and chords of a workflow as they come; only `on_commit` inside a transaction keeps them all.

    Outside of a transaction whole parts are committed by themselves: an error leaves those before it enqueued.
    """
    left = iter(parts)
    first, second = next(left, None), next(left, None)
    if first is None:
        return
    if second is None:
        post(first.messages, posting._replace(chords=first.chords), mode, using)
        return
    left = itertools.chain((first, second), left)
    del first, second
    if _commits_each(mode or settings.ENQUEUE, using):
        write_many(left, posting)
        return
    for part in left:
        post(part.messages, posting._replace(chords=part.chords), mode, using)


def _commits_each(mode: str, using: str | None) -> bool:
    """Whether what is written in this mode is committed at once."""
    if mode == ON_COMMIT and in_transaction(connections[using or DEFAULT_DB_ALIAS]):
        return False
    return mode == IMMEDIATELY or (mode in MODES and not in_transaction(borrow()))


def post(messages: Sequence[Message], posting: Posting, mode: str | None, using: str | None) -> None:
    """Write the messages in this mode."""
    mode = mode or settings.ENQUEUE
    if mode == ON_COMMIT:
        caller = connections[using or DEFAULT_DB_ALIAS]
        if in_transaction(caller) and not (caller.alias == settings.DATABASE and _in_atomic_task()):
            _wait_for_commit(caller, messages, posting)
        else:
            write(messages, posting)
    elif mode == IN_TRANSACTION:
        if (using or settings.DATABASE) != settings.DATABASE:
            raise ImproperlyConfigured(
                f"enqueue={mode!r} writes into the transaction of the task database {settings.DATABASE!r}; it cannot"
                f" be tied to a transaction of {using!r}. Use 'on_commit' there"
            )
        write(messages, posting)
    elif mode == IMMEDIATELY:
        write_immediately(messages, posting)
    else:
        raise ImproperlyConfigured(f"there is no enqueue mode {mode!r}; choose one of {', '.join(MODES)}")


def _in_atomic_task() -> bool:
    """Whether an atomic task runs here: what it enqueues belongs to its transaction."""
    frame = running()
    return frame is not None and bool(frame.task.atomic) and not frame.request.is_eager


def _wait_for_commit(caller: BaseDatabaseWrapper, messages: Sequence[Message], posting: Posting) -> None:
    if not caller.in_atomic_block:
        raise TransactionManagementError(
            f"enqueue={ON_COMMIT!r} is not told of a commit while autocommit is off: use atomic(),"
            f" or enqueue={IN_TRANSACTION!r}, or {IMMEDIATELY!r}"
        )
    if any(message.on_conflict == RAISE for message in messages):
        raise ImproperlyConfigured(
            f"on_conflict={RAISE!r} cannot be kept by enqueue={ON_COMMIT!r} inside a transaction: whether the key is"
            f" free shows only after its commit. Use 'return' or 'replace' there, or enqueue={IN_TRANSACTION!r}"
        )
    box = _box_of(caller)
    while box.waiting and box.waiting[-1]() is None:
        box.waiting.pop()
    waiting = _Waiting(box, messages, posting)
    caller.on_commit(waiting)
    box.waiting.append(weakref.ref(waiting))


def _unwritten() -> Iterator[_Waiting]:
    """What waits for the commits of the transactions that are open in this very thread."""
    for conn in connections.all(initialized_only=True):
        box = _boxes.get(conn)
        if box is not None and box.waiting:
            yield from box.alive()


def is_pending(task_id: str) -> bool:
    """Whether the task waits for the commit of a transaction that is open in this very thread."""
    return any(
        task_id in waiting.posting.behind or any(message.id == task_id for message in waiting.messages)
        for waiting in _unwritten()
    )


def pending(task_id: str) -> Message | None:
    """The message of the task, where it waits for the commit of a transaction that is open in this very thread."""
    found = (message for waiting in _unwritten() for message in waiting.messages if message.id == task_id)
    return next(found, None)
