"""The pulse: a thread with a connection of its own, on which no task's code ever runs.

It beats the worker's heart, looks after the dead, and sweeps up: expired messages, messages whose task is known
again, old results. It tells the consumer what it must know through `news`.
"""

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, NamedTuple

import psycopg

from djtasks import ending, tracer
from djtasks.conf import settings
from djtasks.db import ageing, chords, claims, control, groups, messages, notify, results, revocations, workers
from djtasks.db.connections import CONFLICTS, LOST, Link, reason
from djtasks.exceptions import ChordError, TaskRevokedError
from djtasks.messages import Claimed, Outcome
from djtasks.panel import Panel
from djtasks.payload import pack_exception
from djtasks.queuenames import is_broadcast
from djtasks.stamps import stamps_of
from djtasks.states import FAILURE
from djtasks.worker import broadcasts, governor
from djtasks.worker.clock import since_boot
from djtasks.worker.event_writer import FLUSH_EVERY, EventWriter
from djtasks.worker.patience import HOPELESS, Patience, Unworkable
from djtasks.worker.rescue import Rescuer
from djtasks.worker.sampling import Sampler
from djtasks.worker.state import State

logger = logging.getLogger("djtasks.worker")

#: How often the other workers are looked at, in seconds; with the proof of death this bounds a rescue on one machine.
LOOK_EVERY = 2.0
#: And how often commands, where the consumer itself may be at a task.
ANSWER_EVERY = 0.1
PRUNE_EVERY = 60.0
FIRST_ID = "00000000-0000-0000-0000-000000000000"
PRUNE_BATCH = 1000
AGED_BATCH = 500
PRUNE_PAUSE = 0.05
#: How often chords are looked for that wait in vain.
FORSAKE_EVERY = 3600.0
#: How long the thread waits after a lost connection, at first and at most.
BACKOFF = (0.2, 5.0)


class News(NamedTuple):
    """What the consumer has to know: «beating» (the heartbeat of this incarnation was written), «disowned» (it was
    declared dead)."""

    kind: str
    incarnation: int
    #: When that was asked, by `since_boot`.
    at: float


class Pulse(threading.Thread):
    """Beats until it is stopped."""

    def __init__(
        self,
        state: State,
        name: str,
        *,
        tell: Callable[[News], None],
        concurrency: Callable[[], int],
        process_group: Callable[[], int | None],
        known: Callable[[], Collection[str]],
        queues: Collection[str],
        ended: Callable[[Claimed, Outcome], None] = lambda message, outcome: None,
        answer: Callable[[psycopg.Connection], None] | None = None,
        say: Callable[[], dict[str, Any]] = dict,
        sampler: Sampler | None = None,
        give_up: Callable[[Unworkable], None] | None = None,
    ) -> None:
        super().__init__(name="djtasks-pulse", daemon=True)
        self.state = state
        self.node = name
        self.tell = tell
        self.concurrency = concurrency
        self.process_group = process_group
        self.known = known
        self.queues = list(queues)
        #: Whether the worker takes anything more.
        self.accepting: Callable[[], bool] = lambda: True
        self.link = Link(f"pulse {name}")
        #: Called, once it is committed, with what was ended here and how.
        self.ended = ended
        self.rescuer = Rescuer(name, ended)
        #: Answers what the consumer cannot while it runs a task itself.
        self.answer = answer
        #: What is said with each heartbeat.
        self.say = say
        #: When the last one was written, by `since_boot`.
        self.beaten_at = since_boot()
        self.sampler = sampler
        #: Told once, when no heartbeat can be written and no waiting cures that.
        self.give_up = give_up
        self.patience = Patience()
        #: Writes what is told of tasks, and of this worker.
        self.writer: EventWriter | None = None
        #: When the next beat is due, in monotonic seconds.
        self._beat_at = math.inf
        self._halt = threading.Event()
        #: Set where there is something to do before the next beat.
        self._nudged = threading.Event()
        self._prune_at = time.monotonic() + random.uniform(0, PRUNE_EVERY)
        self._forsake_at = self._prune_at
        self._wait = BACKOFF[0]

    def stop(self) -> None:
        """Stop beating; the thread ends soon."""
        self._halt.set()
        self._nudged.set()

    def nudge(self) -> None:
        """Look again now: there is something to tell."""
        self._nudged.set()

    def run(self) -> None:
        """Beat, look, sweep, and again."""
        try:
            self._run()
        except Unworkable as error:
            if self.give_up is not None:
                self.give_up(error)
        self._write_the_rest()
        self.link.close()

    def _run(self) -> None:
        self._beat_at = look_at = 0.0
        while not self._halt.is_set():
            now = time.monotonic()
            try:
                conn = self.link.connection()
                if now >= self._beat_at:
                    self.beat(conn)
                    self._beat_at = now + settings.WORKER_HEARTBEAT_INTERVAL * random.uniform(0.9, 1.0)
                if now >= look_at:
                    look_at = now + min(LOOK_EVERY, settings.WORKER_HEARTBEAT_INTERVAL) * random.uniform(0.8, 1.0)
                    self.rescuer.look(conn, self.state.incarnation)
                    self.sweep(conn)
                    if self.sampler is not None:
                        self.sampler.look(conn)
                if self.answer is not None:
                    self.answer(conn)
                if self.writer is not None and self.writer.pending:
                    self.writer.flush(conn, self.has_time)
                self._wait = BACKOFF[0]
            except CONFLICTS as error:
                # Undone, so that another session could go on: what there is to sweep up is found again.
                logger.info("The pulse met another session: %s", reason(error))
            except LOST as error:
                self.lost(error)
            except HOPELESS as error:
                logger.error("The pulse may not do what it has to: %s", reason(error))
                self._halt.wait(BACKOFF[1] / 5)
            except Exception:
                logger.exception("The pulse missed a beat")
                self._halt.wait(BACKOFF[0])
            else:
                until = min(self._beat_at, look_at, math.inf if self.answer is None else now + ANSWER_EVERY)
                if self.writer is not None and self.writer.pending:
                    until = min(until, now + FLUSH_EVERY)
                self._nudged.wait(max(0.01, until - time.monotonic()))
                self._nudged.clear()

    def _write_the_rest(self) -> None:
        if self.sampler is not None and self.link.opened:
            with suppress(psycopg.Error):
                self.sampler.write(self.link.connection())
        if self.writer is not None and self.link.opened:
            with suppress(psycopg.Error):
                self.writer.close(self.link.connection())

    def beat(self, conn: psycopg.Connection) -> None:
        """Say that the worker lives; learn that it has been declared dead."""
        incarnation = self.state.incarnation
        if self.state.registered != incarnation:
            return
        asked = since_boot()
        counters = dict(self.state.counters)
        try:
            alive = workers.beat(conn, incarnation, counters, self.concurrency(), self.process_group(), self._said())
        except HOPELESS as error:
            self.patience.failed(error)
            raise
        self.patience.worked(with_rights=True)
        self.beaten_at = asked
        self.tell(News("beating" if alive else "disowned", incarnation, asked))
        self.state.events.beat()

    def _said(self) -> dict[str, Any]:
        """What is said besides: nothing of it may keep the heart from beating."""
        try:
            return self.say()
        except Exception:
            logger.debug("Nothing is said with this heartbeat", exc_info=True)
            return {}

    def lost(self, error: Exception) -> None:
        """The connection is gone: nothing seen before counts."""
        logger.warning("The pulse lost its connection: %s", reason(error))
        self.link.lost()
        self.patience.failed(error)
        self.rescuer.forget_sightings()
        self._halt.wait(self._wait * random.uniform(0.5, 1.0))
        # Well within the time after which those that are back sooner would take us for dead.
        self._wait = min(BACKOFF[1], settings.WORKER_DEAD_AFTER / 8, self._wait * 2)

    def sweep(self, conn: psycopg.Connection) -> None:
        """What any worker may do, and what is harmless to do twice; the rest of it after the next beat."""
        self.expire(conn)
        self.adopt(conn)
        if (heard := [queue for queue in self.queues if is_broadcast(queue)]) and self.accepting():
            # The consumer, where all is busy, looks for nothing.
            broadcasts.pass_on(conn, self.node, heard)
        self.age(conn)
        governor.sweep(conn, self.has_time)
        if time.monotonic() >= self._prune_at:
            self.prune(conn)

    def has_time(self) -> bool:
        """Whether the next beat is not yet due: however much there is to do, the heart beats in time."""
        return not self._halt.is_set() and time.monotonic() < self._beat_at

    def expire(self, conn: psycopg.Connection) -> None:
        """End what waits past its expiry as REVOKED, under an incarnation that lives for this transaction only."""
        while True:
            with conn.transaction():
                owner = random.getrandbits(62) | 1
                found = claims.claim_expired(conn, owner, 1)
                outcomes = [tracer.failure(message, TaskRevokedError("expired")) for message in found]
                done = ending.end(conn, owner, outcomes, None) if outcomes else None
            if done is None:
                return
            for message, outcome in zip(found, outcomes, strict=True):
                tracer.log_discarded(message)
                self.ended(message, outcome)
            notify.ring_waiters(conn, [outcome.id for outcome in outcomes])
            ending.tell(conn, done)
            if not self.has_time():
                return

    def adopt(self, conn: psycopg.Connection) -> None:
        """Open the lanes of what was set aside by workers that did not know its task."""
        while adopted := messages.adopt(conn, self.known(), self.queues):
            notify.ring_workers(conn, set(adopted), len(adopted))
            if not self.has_time():
                return

    def age(self, conn: psycopg.Connection) -> None:
        """Let what has waited long run earlier, where that is wanted."""
        if (seconds := settings.QUEUE_AGEING) is None:
            return
        risen = AGED_BATCH
        while risen == AGED_BATCH and self.has_time():
            with conn.transaction():
                risen = len(ageing.age(conn, seconds, AGED_BATCH)) if ageing.try_lock(conn) else 0

    def revoke(self, conn: psycopg.Connection) -> None:
        """End what waits although it is revoked: it was put back, or has come, after that was said."""
        revocations.prune(conn)
        while found := revocations.waiting(conn):
            self.discard(conn, found)
            if not self.has_time():
                return
        if stamped := revocations.stamps(conn):
            meant = {(stamp.name, stamp.value) for stamp in stamped}
            after = FIRST_ID
            while (part := revocations.stamped(conn, after)) and self.has_time():
                after = part[-1][0]
                if found := [task_id for task_id, headers in part if not meant.isdisjoint(stamps_of(headers))]:
                    self.discard(conn, found)

    def discard(self, conn: psycopg.Connection, ids: list[str]) -> None:
        """End those of these that wait as REVOKED."""
        with conn.transaction():
            owner = random.getrandbits(62) | 1
            found = revocations.take(conn, owner, 1, ids)
            outcomes = [tracer.failure(message, TaskRevokedError("revoked")) for message in found]
            done = ending.end(conn, owner, outcomes, None) if outcomes else None
        for message, outcome in zip(found, outcomes, strict=True):
            tracer.log_discarded(message)
            self.ended(message, outcome)
        if done is not None:
            notify.ring_waiters(conn, [outcome.id for outcome in outcomes])
            ending.tell(conn, done)

    def forsake(self, conn: psycopg.Connection) -> None:
        """Close chords of which a part can no longer come, because somebody has removed its message by hand."""
        chords.prune_parts(conn)
        if not (age := settings.RESULT_EXPIRES) or time.monotonic() < self._forsake_at:
            return
        if found := chords.stale(conn, age.total_seconds()):
            content_type, encoding, body = pack_exception(ChordError("A part never came: its message is gone."))
            cause = chords.Cause(FAILURE.value, body, content_type, encoding)
            logger.warning("Chords whose parts can no longer come have failed: %s", ", ".join(found))
            ending.tell(conn, ending.forsake(conn, found, cause))
        self._forsake_at = time.monotonic() + FORSAKE_EVERY * random.uniform(0.8, 1.2)

    def prune(self, conn: psycopg.Connection) -> None:
        """Delete results past RESULT_EXPIRES, and dead letters past theirs, a small batch at a time."""
        self.revoke(conn)
        control.prune(conn, settings.COMMAND_EXPIRES.total_seconds(), reading=Panel.reading())
        governor.prune(conn)
        if self.writer is not None:
            self.writer.prune(conn, self.has_time)
        self.forsake(conn)
        while groups.prune(conn, PRUNE_BATCH) == PRUNE_BATCH and self.has_time():
            self._halt.wait(PRUNE_PAUSE)
        for age, prune in (
            (settings.RESULT_EXPIRES, results.prune),
            (settings.DEAD_LETTER_EXPIRES, results.prune_dead),
        ):
            while age and prune(conn, age.total_seconds(), PRUNE_BATCH) == PRUNE_BATCH:
                if not self.has_time():
                    return
                self._halt.wait(PRUNE_PAUSE)
        self._prune_at = time.monotonic() + PRUNE_EVERY * random.uniform(0.8, 1.2)
