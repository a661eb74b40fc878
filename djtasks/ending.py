"""The one way to end messages: whoever ends one, for whatever reason, does it here.

A completer's batch, a rescue, an expiry, a purge, a revocation: each is outcomes of messages that are under somebody's
fence. What belongs to an end (the result, what follows it, the limits it frees) is written in the same transaction.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import psycopg

from djtasks.db import finish, limits, messages, results
from djtasks.db.connections import Connection
from djtasks.keys import RAISE, RETURN, definition
from djtasks.messages import Message, Outcome
from djtasks.states import IGNORED

#: Where the body of a message stands, in what travels as a tuple.
_BODY = Message._fields.index("body")


def is_plain(outcome: Outcome) -> bool:
    """Whether its end is the one statement of a finish, and nothing more."""
    return outcome.dead is None and not outcome.successors


def awaited(ends: Sequence[Outcome]) -> list[str]:
    """The ids for which somebody may wait. A task that raised Ignore may have reported its end itself."""
    return [outcome.id for outcome in ends if outcome.store or outcome.state == IGNORED]


def size_of(outcome: Outcome) -> int:
    """The bytes that its end takes to the database, about."""
    return len(outcome.result or b"") + sum(len(each[_BODY]) for each in outcome.successors)


def end(conn: Connection, owner: int, outcomes: Sequence[Outcome], worker: str | None) -> set[str]:
    """End the messages and store their results; return the ids whose fence still held.

    `owner` is the incarnation that holds them, `worker` the name of the node that ran them. Once it is committed, ring
    the workers of `successors_of`.
    """
    more = [outcome for outcome in outcomes if not is_plain(outcome)]
    if not more:
        return finish.finish(conn, owner, outcomes, worker)
    with _together(conn):
        accepted = finish.finish(conn, owner, outcomes, worker)
        if dead := {each.id: each.dead for each in more if each.dead is not None and each.id in accepted}:
            results.mark_dead(conn, dead)
        if successors := successors_of(more, accepted):
            written = _write(conn, successors)
            # An id that its caller has chosen may be that of an earlier task.
            results.forget_ended(conn, sorted(written))
            limited = {each.limit_key: definition(each.name) for each in successors if each.limit_key is not None}
            limits.admit(conn, limited)
    return accepted


#: Writes messages that may have unique keys; it stands above, and puts itself here.
_unique_writers: list[Callable[[Connection, Sequence[Message]], set[str]]] = []


def hand_over(write: Callable[[Connection, Sequence[Message]], set[str]]) -> None:
    """This writes messages that may have unique keys."""
    _unique_writers[:] = [write]


def _write(conn: Connection, successors: Sequence[Message]) -> set[str]:
    if not any(message.unique_key is not None for message in successors):
        return messages.enqueue(conn, successors)
    # There is nobody to raise anything to.
    willing = [
        message._replace(on_conflict=RETURN) if message.on_conflict == RAISE else message for message in successors
    ]
    written: set[str] = set()
    for write in _unique_writers:
        written |= write(conn, willing)
    return written


def successors_of(outcomes: Sequence[Outcome], accepted: Collection[str]) -> list[Message]:
    """The messages that were written with the end of those that were accepted."""
    return [Message._make(each) for outcome in outcomes if outcome.id in accepted for each in outcome.successors]


def _together(conn: Connection) -> AbstractContextManager[Any]:
    """One transaction; that of Django's connection is its user's."""
    return conn.transaction() if isinstance(conn, psycopg.Connection) else nullcontext()
