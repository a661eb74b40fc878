"""Putting tasks back into their queues: the dead letters above all, and whatever else has ended and kept its call."""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db import transaction

from djtasks import keys
from djtasks.db import messages, notify
from djtasks.db import requeue as table
from djtasks.db.connections import borrow
from djtasks.db.requeue import Ended
from djtasks.exceptions import DjtasksError
from djtasks.ids import as_task_id
from djtasks.messages import Message
from djtasks.payload import headers_of, unpack_call
from djtasks.registry import tasks

#: What became of an id: it runs again · its time need not come · it waits anyway · a worker has it · its arguments were
#: not kept · another task has its unique key · nobody knows it.
REQUEUED, HURRIED, WAITING, RUNNING = "requeued", "hurried", "waiting", "running"
NOT_KEPT, TAKEN, UNKNOWN = "not kept", "taken", "unknown"
#: So many in one transaction.
BATCH = 500


class _Changed(Exception):
    """A result is no longer what was read."""


def requeue(ids: Iterable[Any]) -> dict[str, str]:
    """Run these tasks again, each under its own id; what became of each, by the text that was given for it.

    A task that has ended is put into its queue as it was called, with no retries, no eta and no expiry, and its result
    is gone; a revocation of its id is forgotten. One that waits for its time may run now. One that waits or runs stays
    as it is.

    Raises TypeError and ValueError for what can be no id. Inside a transaction it happens with its commit.
    """
    given = {str(each): as_task_id(each) for each in ([ids] if isinstance(ids, str | UUID) else ids)}
    answers: dict[str, str] = {}
    for part in _parts(sorted(set(given.values()))):
        answers.update(_requeue(part))
    return {text: answers[task_id] for text, task_id in given.items()}


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), BATCH):
        yield ids[start : start + BATCH]


def _requeue(ids: Sequence[str]) -> dict[str, str]:
    while True:
        try:
            with transaction.atomic(using=borrow().alias):
                return _requeue_once(ids)
        except _Changed:
            continue


def _requeue_once(ids: Sequence[str]) -> dict[str, str]:
    """Raises _Changed when another transaction did something to one of them meanwhile."""
    conn = borrow()
    answers = dict.fromkeys(ids, UNKNOWN)
    ended = table.ended(conn, ids)
    answers.update((each.id, NOT_KEPT) for each in ended)
    made = {each.id: message_of(each) for each in ended if each.body is not None}
    queues: list[str] = []
    if made:
        written = messages.enqueue_unique(conn, list(made.values()))
        answers.update((task_id, REQUEUED if task_id in written else TAKEN) for task_id in made)
        letters = [each for each in ended if each.id in written]
        if letters and table.replace(conn, letters) != written:
            raise _Changed
        queues += [made[task_id].queue for task_id in written]
    others = [task_id for task_id in ids if answers[task_id] in (UNKNOWN, TAKEN)]
    if others:
        held = table.waiting(conn, others)
        answers.update((task_id, RUNNING if runs else WAITING) for task_id, runs in held.items())
        hurried = table.hurry(conn, list(held))
        answers.update(dict.fromkeys(hurried, HURRIED))
        queues += hurried.values()
    if queues:
        ring = functools.partial(notify.ring_workers, conn, set(queues), len(queues))
        transaction.on_commit(ring, using=conn.alias, robust=True)
    return answers


def message_of(letter: Ended) -> Message:
    """The message of a task that has ended, as it was before its first run."""
    headers = headers_of(letter.headers)
    said = _keys_of(letter)
    return Message(
        letter.id,
        letter.name,
        letter.queue,
        letter.body or b"",
        letter.content_type or "",
        letter.content_encoding or "",
        letter.priority,
        headers=letter.headers,
        unique_key=said.unique,
        limit_key=said.limit,
        root_id=_id_in(headers, "root_id"),
        parent_id=_id_in(headers, "parent_id"),
        # It is no part of its chord any more: that has got its end.
        group_id=_id_in(headers, "group"),
    )


def _id_in(headers: Mapping[str, Any], key: str) -> str | None:
    found = headers.get(key)
    return as_task_id(found) if isinstance(found, str) else None


def _keys_of(letter: Ended) -> keys.Keys:
    """The keys that its task gives a call with its arguments, where both can be known here."""
    task = tasks.get(letter.name)
    if task is None or letter.body is None or not keys.keyed(task):
        return keys.NONE
    try:
        args, kwargs = unpack_call(
            letter.body,
            letter.content_type or "",
            letter.content_encoding or "",
            letter.name,
            letter.id,
            letter.headers,
        )
        return keys.of_call(letter.name, args, kwargs, {}, task)
    except (DjtasksError, TypeError, ValueError):
        # It will fail where it runs, and say why.
        return keys.NONE
