"""The one way to end messages: whoever ends one, for whatever reason, does it here.

A completer's batch, a rescue, an expiry, a purge, a revocation: each is outcomes of messages that are under somebody's
fence. What belongs to an end (the result, what follows it, the part of a chord, the limits it frees) is written in the
same transaction.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import psycopg

from djtasks.db import chords, finish, limits, messages, notify, results
from djtasks.db.chords import Cause, Complete
from djtasks.db.connections import Connection
from djtasks.keys import RAISE, RETURN, definition
from djtasks.messages import Chord, Fallen, Message, Outcome
from djtasks.states import IGNORED, REVOKED

#: Where the body and the headers of a message stand, in what travels as a tuple.
_BODY, _HEADERS = map(Message._fields.index, ("body", "headers"))
#: One statement carries about so much at the most: PostgreSQL takes one of 1 GB.
_STATEMENT_BYTES = 64_000_000


class Ended(NamedTuple):
    """What an end has done."""

    #: The ids whose fence still held.
    accepted: set[str]
    #: The messages that were written with it: ring their workers once it is committed.
    successors: list[Message]
    #: The ids of what never runs, and has ended with it: ring who waits for them.
    fallen: list[str]


class Sequel(NamedTuple):
    """What is to be written because something has ended."""

    messages: Sequence[Message] = ()
    chords: Sequence[Chord] = ()
    fallen: Sequence[tuple[Cause, Sequence[Fallen]]] = ()


def is_plain(outcome: Outcome) -> bool:
    """Whether its end is the one statement of a finish, and nothing more, if it is no part of a chord."""
    return outcome.dead is None and not outcome.successors and not outcome.fallen


def awaited(ends: Sequence[Outcome]) -> list[str]:
    """The ids for which somebody may wait. A task that raised Ignore may have reported its end itself."""
    return [outcome.id for outcome in ends if outcome.store or outcome.state == IGNORED]


def size_of(outcome: Outcome) -> int:
    """The bytes that its end takes to the database, about."""
    return len(outcome.result or b"") + sum(len(each[_BODY]) + len(each[_HEADERS] or "") for each in outcome.successors)


def end(conn: Connection, owner: int, outcomes: Sequence[Outcome], worker: str | None) -> Ended:
    """End the messages and store their results, and write what follows.

    `owner` is the incarnation that holds them, `worker` the name of the node that ran them.
    """
    done = Ended(set(), [], [])
    with _together(conn):
        accepted, complete = finish.finish_parts(conn, owner, outcomes, worker)
        done.accepted.update(accepted)
        if dead := {each.id: each.dead for each in outcomes if each.dead is not None and each.id in accepted}:
            results.mark_dead(conn, dead)
        _go_on(conn, _sequel_of([outcome for outcome in outcomes if outcome.id in accepted]), complete, done)
    return done


def forsake(conn: Connection, chord_ids: Sequence[str], cause: Cause) -> Ended:
    """Let the parts that these chords miss have failed, and write what follows."""
    done = Ended(set(), [], [])
    with _together(conn):
        _go_on(conn, _NOTHING, chords.forsake(conn, cause, chord_ids), done)
    return done


_NOTHING = Sequel()


def fall(conn: Connection, fallen: Sequence[tuple[Cause, Sequence[Fallen]]]) -> Ended:
    """End what never runs, and write what follows. Call it in a transaction."""
    done = Ended(set(), [], [])
    _go_on(conn, Sequel(fallen=fallen), [], done)
    return done


def _go_on(conn: Connection, sequel: Sequel, complete: list[str], done: Ended) -> None:
    """Write the sequel, close these chords, and so on until nothing more follows."""
    while sequel != _NOTHING or complete:
        complete += follow(conn, sequel, done)
        sequel = _close(conn, chords.take(conn, complete)) if complete else _NOTHING
        complete = []


def _sequel_of(outcomes: Sequence[Outcome]) -> Sequel:
    written = [Message._make(each) for outcome in outcomes for each in outcome.successors]
    opened = [Chord._make(each) for outcome in outcomes for each in outcome.opened]
    fallen = [(_cause_of(outcome), list(map(Fallen._make, outcome.fallen))) for outcome in outcomes if outcome.fallen]
    return Sequel(written, opened, fallen) if written or opened or fallen else _NOTHING


def _cause_of(outcome: Outcome) -> Cause:
    # What stands behind a task that was ignored will never run, and somebody may wait for it.
    state = REVOKED.value if outcome.state == IGNORED else outcome.state
    return Cause(state, outcome.result, outcome.content_type, outcome.content_encoding, outcome.traceback)


def follow(conn: Connection, sequel: Sequel, done: Ended) -> list[str]:
    """Write a sequel, and note it in `done`; return the chords that are complete by it."""
    complete: list[str] = []
    if sequel.chords:
        chords.open_chords(conn, sequel.chords)
    if sequel.messages:
        done.successors.extend(sequel.messages)
        written = _write(conn, sequel.messages)
        # An id that its caller has chosen may be that of an earlier task.
        results.forget_ended(conn, sorted(written))
        limited = {each.limit_key: definition(each.name) for each in sequel.messages if each.limit_key is not None}
        limits.admit(conn, limited)
    for cause, fallen in sequel.fallen:
        if fallen:
            done.fallen.extend(each.id for each in fallen)
            complete += chords.fall(conn, cause, fallen)
    return complete


#: Write messages that may have unique keys; stands above, and puts itself here.
_unique_writers: list[Callable[[Connection, Sequence[Message]], set[str]]] = []
#: Says what follows a chord whose parts have all ended; stands above, and puts itself here.
_closers: list[Callable[[Complete, Sequence[chords.Ended]], Sequel]] = []


def hand_over(write: Callable[[Connection, Sequence[Message]], set[str]]) -> None:
    """This writes messages that may have unique keys."""
    _unique_writers[:] = [write]


def hand_over_closer(close: Callable[[Complete, Sequence[chords.Ended]], Sequel]) -> None:
    """This says what follows a chord whose parts have all ended. It must not raise."""
    _closers[:] = [close]


def _close(conn: Connection, complete: Sequence[Complete]) -> Sequel:
    """What follows these chords. Their parts are read by a statement of its own: see `chords.ended`."""
    parts = chords.ended(conn, [chord.id for chord in complete])
    sequels = [close(chord, parts[chord.id]) for chord in complete for close in _closers]
    return Sequel(
        [message for sequel in sequels for message in sequel.messages],
        [chord for sequel in sequels for chord in sequel.chords],
        [fallen for sequel in sequels for fallen in sequel.fallen],
    )


def _write(conn: Connection, successors: Sequence[Message]) -> set[str]:
    if not any(message.unique_key is not None for message in successors):
        return {written for part in _slices(successors) for written in messages.enqueue(conn, part)}
    # There is nobody to raise anything to.
    willing = [
        message._replace(on_conflict=RETURN) if message.on_conflict == RAISE else message for message in successors
    ]
    written: set[str] = set()
    for write in _unique_writers:
        written |= write(conn, willing)
    return written


def _slices(successors: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """Parts that fit into a statement each: a task may be followed by a group of very many."""
    start = size = 0
    for number, message in enumerate(successors):
        size += len(message.body) + len(message.headers or "")
        if size >= _STATEMENT_BYTES:
            yield successors[start : number + 1]
            start, size = number + 1, 0
    if start < len(successors):
        yield successors[start:]


def tell(conn: Connection, done: Ended, but: int = 0) -> None:
    """Ring for what was written with an end, once it is committed. `but` is the incarnation not to wake."""
    if done.successors:
        queues = {message.queue for message in done.successors}
        notify.ring_workers(conn, queues, len(done.successors), but=but)
    if done.fallen:
        notify.ring_waiters(conn, done.fallen)


def _together(conn: Connection) -> AbstractContextManager[Any]:
    """One transaction; that of Django's connection is its user's."""
    return conn.transaction() if isinstance(conn, psycopg.Connection) else nullcontext()
