"""The scheduler: what is due becomes messages, and is due again later, in one transaction.

Whoever locks a row first sends it; who is killed before the commit has sent nothing, and the next one does it.
"""

import logging
import random
import time
from collections.abc import Sequence
from typing import NamedTuple

import psycopg
from django.db import close_old_connections

from djtasks import announce, keyed, rings, signals
from djtasks.beat.due import decide, following
from djtasks.db import messages as table
from djtasks.db import schedules, uniques
from djtasks.db.connections import LOST
from djtasks.db.schedules import Advance, Due
from djtasks.periodic import Entry, deadline_of, first_due, schedule_of
from djtasks.runs import Run, complaint, run_of

logger = logging.getLogger("djtasks.beat")

#: How many periodic tasks are locked at a time, how many runs are sent before more are looked at, and how long their
#: messages may take to be made: what they are made with is other people's code, and locks wait for it.
BATCH = 100
BUILD_SECONDS = 2.0
#: How long to wait when what is due is in another beat's hands, at first and at most (seconds).
HELD = (0.005, 0.5)


class _Work(NamedTuple):
    """What one transaction does."""

    sent: list[Run]
    advances: list[Advance]
    over: list[int]


class Scheduler:
    """Sends what is due. Belongs to one thread."""

    def __init__(self) -> None:
        #: How many tasks it has sent.
        self.sent = 0
        self._held = HELD[0]

    def tick(self, conn: psycopg.Connection) -> float | None:
        """Send what is due, and compute the times of what has been written; returns in how many seconds to call again.

        None: when something is written. Raises psycopg's errors for a lost connection.
        """
        done = self.send(conn)
        ahead = schedules.next_in(conn)
        if ahead.stale:
            done += self.plan(conn)
        if not ahead.now or done:
            self._held = HELD[0]
            return 0.0 if ahead.now else ahead.first
        # Somebody else has it. That may take long: what comes meanwhile does not wait for it.
        self._held = min(HELD[1], self._held * 2)
        wait = self._held * random.uniform(0.5, 1.0)
        return wait if ahead.coming is None else min(wait, ahead.coming)

    # -- times ----------------------------------------------------------------------------------------------------

    def plan(self, conn: psycopg.Connection) -> int:
        """Compute when periodic tasks are due that have been written; how many they were."""
        with conn.transaction():
            found = schedules.stale(conn, BATCH)
            if found:
                schedules.advance(conn, [_planned(each) for each in found])
        return len(found)

    # -- runs -----------------------------------------------------------------------------------------------------

    def send(self, conn: psycopg.Connection) -> int:
        """Send what is due, up to a batch; how many periodic tasks have been dealt with."""
        batch: list[Due] = []
        try:
            with conn.transaction():
                batch = schedules.due(conn, BATCH)
                work = self._write(conn, batch)
        except LOST:
            raise
        except Exception:
            if not batch:
                raise
            # One of them the database, or a unique key, refuses.
            return sum(self._send_one(conn, each.entry.id) for each in batch)
        self._tell(conn, work)
        return len(work.advances)

    def _send_one(self, conn: psycopg.Connection, task: int) -> int:
        """Send this one, if it is due; where that fails, say so on its row and go on to its next time."""
        try:
            with conn.transaction():
                work = self._write(conn, schedules.due_one(conn, task))
        except LOST:
            raise
        except Exception as error:
            with conn.transaction():
                found = schedules.due_one(conn, task)
                advances = [_failed(each, error) for each in found]
                schedules.advance(conn, advances)
            return len(advances)
        self._tell(conn, work)
        return len(work.advances)

    def _write(self, conn: psycopg.Connection, found: Sequence[Due]) -> _Work:
        """Write the messages of what is due, and what is next. Call it in the transaction that has locked it."""
        work = _Work([], [], [])
        if not found:
            return work
        close_old_connections()
        asked = [each.last_task_id for each in found if each.entry.overlap == "skip" and each.last_task_id is not None]
        unfinished = schedules.unfinished(conn, asked) if asked else set()
        until = time.monotonic() + BUILD_SECONDS
        for each in found:
            _prepare(work, each, each.last_task_id in unfinished)
            if len(work.sent) >= BATCH or time.monotonic() > until:
                break
        if work.sent:
            _enqueue(conn, work)
        if work.over:
            schedules.disable(conn, work.over)
        schedules.advance(conn, work.advances)
        return work

    def _tell(self, conn: psycopg.Connection, work: _Work) -> None:
        """What follows the commit: the workers are rung, the log and the receivers are told."""
        if not work.sent:
            return
        messages = [each.message for each in work.sent]
        rings.ring_now(conn, messages)
        if wanted := keyed.definitions(messages):
            rings.admit(conn, wanted, conn.transaction)
        self.sent += len(messages)
        for each in work.sent:
            entry, message = each.entry, each.message
            logger.info("Scheduler: Sending due task %s (%s)", entry.name, entry.task)
            logger.debug("%s sent. id->%s", entry.task, message.id)
            if signals.after_task_publish.receivers or signals.task_sent.receivers:
                announce.after(message, each.args, each.kwargs, each.options)


def _planned(found: Due) -> Advance:
    """When it is due, as its schedule says; an error, where that says nothing that can be read."""
    entry = found.entry
    try:
        moment = first_due(entry, found.since) if entry.enabled else None
    except Exception as error:
        logger.error("Scheduler: %s has no schedule that can be read: %s", entry.name, complaint(error))
        return Advance(entry.id, None, error=complaint(error))
    if moment is None and entry.enabled and entry.kind == "clocked" and found.last_run_at is None:
        return Advance(entry.id, None, error="Its time had passed when it was written: it never runs")
    return Advance(entry.id, moment, error="" if entry.enabled else None)


def _prepare(work: _Work, found: Due, unfinished: bool) -> None:
    """Make the messages of one that is due; what is wrong with it is its own affair."""
    entry, due = found.entry, found.next_run_at or found.now
    try:
        schedule = schedule_of(entry)
        decision = decide(
            entry, schedule, due, found.now, deadline=deadline_of(entry), unfinished=unfinished, most=BATCH
        )
    except Exception as error:
        logger.error("Scheduler: %s has no schedule that can be read: %s", entry.name, complaint(error))
        work.advances.append(Advance(entry.id, None, error=complaint(error)))
        return
    try:
        sent = [run_of(entry, moment) for moment in decision.runs]
    except Exception as error:
        work.advances.append(_failed(found, error))
        return
    if not sent:
        _log_left_out(entry, decision.skipped)
    work.sent.extend(sent)
    if decision.over:
        work.over.append(entry.id)
    work.advances.append(
        Advance(
            entry.id,
            decision.next_run_at,
            sent[-1].moment if sent else None,
            sent[-1].message.id if sent else None,
            len(sent),
            decision.skipped,
            "" if sent else None,
        )
    )


def _log_left_out(entry: Entry, skipped: int) -> None:
    why = "its last run has not ended" if skipped else "its time has passed"
    logger.info("Scheduler: Leaving out %s (%s): %s", entry.name, entry.task, why)


def _enqueue(conn: psycopg.Connection, work: _Work) -> None:
    """Write the messages; who has lost its unique key to another task stands for that one."""
    messages = [each.message for each in work.sent]
    if not keyed.unique(messages):
        table.enqueue(conn, messages)
        return
    keyed.write(conn, messages)
    stands_for = uniques.resolve(conn, [each.id for each in messages if each.unique_key is not None])
    for number, each in enumerate(work.advances):
        if each.task_id in stands_for:
            work.advances[number] = each._replace(task_id=stands_for[each.task_id])


def _failed(found: Due, error: Exception) -> Advance:
    """What becomes of one whose message the database did not take."""
    logger.error("Message Error: %s (%s): %s", found.entry.name, found.entry.task, complaint(error))
    try:
        moment = following(found.entry, schedule_of(found.entry), found.next_run_at or found.now, found.now)
    except Exception:
        moment = None
    return Advance(found.entry.id, moment, error=complaint(error))
