"""Messages with keys on their way into the table: unique ones, and those that wait for a limit.

A unique message that finds its key taken is not written: what becomes of its call, its `on_conflict` says. A message
with a limit is written without a lane, and admission opens it after the commit.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from djtasks import ending
from djtasks.conf import settings
from djtasks.db import messages as table
from djtasks.db import notify, uniques
from djtasks.db.chords import Cause
from djtasks.db.connections import Connection, borrow, speaking_arrays
from djtasks.db.limits import Definitions
from djtasks.exceptions import OperationalError, TaskAlreadyQueued, TaskRevokedError
from djtasks.keys import RAISE, REPLACE, definition
from djtasks.messages import Fallen, Message, Outcome
from djtasks.payload import headers_of, pack_exception
from djtasks.registry import tasks
from djtasks.states import FAILURE, REVOKED

#: How often a call is written again whose key was taken, and then free.
ATTEMPTS = 20
#: The least time for which an id stands for another task, in seconds.
ALIAS_SECONDS = 86_400.0


def unique(messages: Iterable[Message]) -> bool:
    """Whether any of them has a unique key."""
    return any(message.unique_key is not None for message in messages)


def keyed(messages: Iterable[Message]) -> bool:
    """Whether any of them has a key."""
    return any(message.unique_key is not None or message.limit_key is not None for message in messages)


# -- unique keys --------------------------------------------------------------------------------------------------


def write(conn: Connection, messages: Sequence[Message]) -> set[str]:
    """Write the messages; return the ids that were not there yet.

    A call whose key is taken becomes an alias of the one that has it, or takes its place. Call it in a transaction.
    Raises TaskAlreadyQueued.
    """
    refused: list[tuple[Message, Exception]] = []
    messages, aliases = _latest(messages, refused)
    written = table.enqueue_unique(conn, messages)
    left = [message for message in messages if message.unique_key is not None and message.id not in written]
    for _ in range(ATTEMPTS):
        if not left:
            break
        holders = uniques.holders(conn, {str(message.unique_key) for message in left})
        own = {holder.id for holder in holders.values()}
        # A repeated call, of an id that is there already, is no conflict.
        left = _settle(conn, [message for message in left if message.id not in own], holders, aliases, refused)
        if left:
            more = table.enqueue_unique(conn, left)
            written |= more
            left = [message for message in left if message.id not in more]
    if left:
        raise OperationalError(
            f"the unique key {left[0].unique_key!r} was taken and freed over and over while {left[0].name} was called;"
            " call it again"
        )
    if aliases:
        age = settings.RESULT_EXPIRES
        seconds = ALIAS_SECONDS if age is None else max(ALIAS_SECONDS, age.total_seconds())
        final = {task_id: aliases.get(target, target) for task_id, target in aliases.items()}
        uniques.store_aliases(conn, final, seconds)
    if refused:
        _refuse(conn, refused)
    return written


def _latest(
    messages: Sequence[Message], refused: list[tuple[Message, Exception]]
) -> tuple[list[Message], dict[str, str]]:
    """Of calls that are written together and replace one another only the last is; the others are its aliases.

    Another task's end is no end of a workflow's step: what has a place in one is `refused`.
    """
    last = {message.unique_key: message.id for message in messages if message.on_conflict == REPLACE}
    kept, aliases = [], {}
    for message in messages:
        if message.unique_key is None or message.on_conflict != REPLACE or last[message.unique_key] == message.id:
            kept.append(message)
        elif _in_workflow(message):
            refused.append((message, TaskRevokedError("replaced")))
        else:
            aliases[message.id] = last[message.unique_key]
    return kept, aliases


def _settle(
    conn: Connection,
    left: list[Message],
    holders: dict[str, uniques.Holder],
    aliases: dict[str, str],
    refused: list[tuple[Message, Exception]],
) -> list[Message]:
    """Decide about calls whose keys are taken; those that are to be written again are returned."""
    again: list[Message] = []
    replaced: set[str] = set()
    for message in left:
        holder = holders.get(str(message.unique_key))
        if holder is None:
            again.append(message)
        elif message.on_conflict == RAISE:
            raise TaskAlreadyQueued(message.name, str(message.unique_key), holder.id)
        elif message.on_conflict == REPLACE and not holder.runs:
            again.append(message)
            replaced.add(holder.key)
        elif _in_workflow(message):
            refused.append((message, TaskAlreadyQueued(message.name, str(message.unique_key), holder.id)))
        else:
            aliases[message.id] = holder.id
    if replaced:
        _replace(conn, replaced)
    return again


def _in_workflow(message: Message) -> bool:
    return message.chord is not None or '"chain"' in (message.headers or "")


def _refuse(conn: Connection, refused: list[tuple[Message, Exception]]) -> None:
    """End calls that have a place in a workflow: others wait for them."""
    fallen = []
    for message, error in refused:
        state = REVOKED if isinstance(error, TaskRevokedError) else FAILURE
        content_type, encoding, body = pack_exception(error)
        own = Fallen(*(getattr(message, name) for name in Fallen._fields))
        rest = [Fallen._make(each) for behind in _behind for each in behind(message.id, message.headers)]
        fallen.append((Cause(state.value, body, content_type, encoding), [own, *rest]))
    speaking = speaking_arrays(conn)
    ending.tell(speaking, ending.fall(speaking, fallen))


#: Say what stands behind a message, by its id and its headers; stands above, and puts itself here.
_behind: list[Callable[[str, str | None], Sequence[tuple[Any, ...]]]] = []


def hand_over(behind: Callable[[str, str | None], Sequence[tuple[Any, ...]]]) -> None:
    """This says what never runs because a message does not: the rest of its chain."""
    _behind[:] = [behind]


def _replace(conn: Connection, keys: set[str]) -> None:
    """End what waits under these keys as REVOKED."""
    owner = random.getrandbits(62) | 1
    taken = uniques.take(conn, owner, keys)
    if not taken:
        return
    content_type, encoding, body = pack_exception(TaskRevokedError("replaced"))
    ends = [
        Outcome(each.claim, each.id, REVOKED.value, body, content_type, encoding, store=_stored(each), keep=True)
        for each in taken
    ]
    outcomes = [
        end._replace(fallen=tuple(fallen for behind in _behind for fallen in behind(each.id, each.headers)))
        for each, end in zip(taken, ends, strict=True)
    ]
    speaking = speaking_arrays(conn)
    done = ending.end(speaking, owner, outcomes, None)
    ending.tell(speaking, done)
    notify.ring_waiters(conn, [outcome.id for outcome in outcomes])


def _stored(taken: uniques.Taken) -> bool:
    ignored = headers_of(taken.headers).get("ignore_result")
    if not isinstance(ignored, bool):
        task = tasks.get(taken.name)
        ignored = None if task is None else task.ignore_result
    return not (settings.TASK_IGNORE_RESULT if ignored is None else ignored)


def stands_for(task_id: str) -> str | None:
    """The task that stands for this id, because it was there first; None where the id stands for itself."""
    return uniques.resolve(borrow(), [task_id]).get(task_id)


# -- limits -------------------------------------------------------------------------------------------------------


def definitions(messages: Iterable[Message]) -> Definitions:
    """The limits for which these messages wait."""
    return {message.limit_key: definition(message.name) for message in messages if message.limit_key is not None}


ending.hand_over(write)
