"""The claimer: takes messages, and knows when there is nothing left to take.

Before a worker sleeps it says so, commits, and claims once more from the start of its lanes: whoever makes a message
runnable after that claim sees that it sleeps, and rings it.
"""

import functools
import logging
import random
import time
from collections.abc import Callable, Mapping

import psycopg

from djtasks.conf import settings
from djtasks.db import claims, health, limits, messages, notify, queues, workers
from djtasks.db.connections import LOST
from djtasks.db.pipe import Question
from djtasks.db.workers import Registration
from djtasks.keys import definition
from djtasks.messages import Claimed, Message
from djtasks.worker import broadcasts
from djtasks.worker.governor import Governor
from djtasks.worker.identity import new_incarnation
from djtasks.worker.lanes import Lanes
from djtasks.worker.limits import rerun_names
from djtasks.worker.state import State

logger = logging.getLogger("djtasks.worker")

#: A worker that has found work for this long says that it no longer sleeps, in seconds. Until then a ring too many
#: costs less than two writes.
BUSY_AFTER = 0.1
#: A message that is due and still parked is another one's to promote at this moment: look again so much later.
SOONEST = 0.01
#: Limits of rates are looked after no more often than that, in seconds: all that is due by then goes on together.
BETWEEN_ADMISSIONS = 0.02
#: How often a worker looks which queues are paused, in seconds.
PAUSED_EVERY = 0.8
UNHEARD = -1
#: A claim scans so many lanes that have something, and two for each message that it is to take.
LANES = 32
#: No look at the lanes finds more than so many.
MOST_LANES = 1_000_000


class Disowned(Exception):
    """This worker has been declared dead."""


class Claimer:
    """Claims for one worker; belongs to the consumer's thread."""

    def __init__(self, state: State, lanes: Lanes, registration: Callable[[], Registration]) -> None:
        self.state = state
        self.lanes = lanes
        self.registration = registration
        #: The database says that this worker sleeps until it is rung.
        self.idle = False
        #: There is nothing left to take; only a ring, or the next poll, can change that.
        self.drained = False
        #: When to look for what no ring announces, in monotonic seconds.
        self.poll_at = 0.0
        #: How often the connection had been lost when the last claim's answers came; UNHEARD until they do.
        self._losses = 0
        #: How often this worker was rung: a ring during a claim is for what that claim may not have seen.
        self._rings = 0
        self._rings_polled = 0
        #: The last claim got all that it asked for: there may be more behind it.
        self._full = False
        self._busy_since: float | None = None
        #: A claim has been sent, and its answer is still to come.
        self.in_flight = False
        self.rerun = rerun_names()
        self.governor = Governor(lambda: self.lanes.open)
        #: When to look which queues are paused, in monotonic seconds.
        self._paused_at = 0.0

    def rung(self) -> None:
        """Somebody made a message runnable, or parked one that will be so soon."""
        self.drained = False
        self._rings += 1

    def claim(self, conn: psycopg.Connection, room: int, losses: int) -> list[Claimed]:
        """Take up to `room` messages. Raises Disowned.

        `losses` is how often the connection has been lost: a claim whose answer is lost is given back first.
        """
        if self.state.registered != self.state.incarnation:
            self.register(conn)
        if losses != self._losses:
            self._reclaim(conn)
            self._losses, self.idle = losses, False
        # Until all answers are in, none of them counts: what a part of them took is given back.
        self._losses = UNHEARD
        rings, from_start = self._rings, not self._full
        if time.monotonic() >= self._paused_at:
            self.look_at_queues(conn)
        if time.monotonic() >= self.poll_at:
            self.poll(conn)
            from_start = True
        if self.governor.crowded:
            self.governor.clear(conn)
        pulled = self._pull(conn, room) if self.governor.due else []
        room -= len(pulled)
        found = self._take(conn, room, from_start=from_start)
        if len(found) < room and not (from_start and self.idle):
            # Nothing more in sight: say that we are about to sleep, and look once more, behind the marks too.
            self.say_idle(conn, True)
            found += self._take(conn, room - len(found), from_start=True)
        self._full = len(found) == room
        self.drained = not self._full and rings == self._rings
        self._note_busy(conn)
        self.state.take(pulled + found)
        self._losses = losses
        found = pulled + self.governor.sift(found, self._full)
        self.poll_at = min(self.poll_at, max(self.governor.next_at(), time.monotonic() + SOONEST))
        return found

    def may_start(self, message: Message) -> bool:
        """Whether a message that nobody had to claim may start: its queue is open here, and its name has no rate."""
        return self.lanes.takes(message.queue) and self.governor.rate_of(message.name) is None

    def look_at_queues(self, conn: psycopg.Connection) -> None:
        """Learn which queues are paused: nothing is taken from them."""
        self.lanes.pause(queues.paused(conn))
        self._paused_at = time.monotonic() + PAUSED_EVERY

    def _pull(self, conn: psycopg.Connection, room: int) -> list[Claimed]:
        """What was set aside for its rate, and may start now."""
        return self.governor.pull(conn, self.state.incarnation, self._number(room), room, self.rerun)

    def launch(self, room: int, losses: int, claimed: Callable[[list[Claimed]], None]) -> Question | None:
        """A claim like the last one, which was full, to be sent without waiting; None when it is for `claim`."""
        now = time.monotonic()
        if self.idle and self._busy_since is not None and now - self._busy_since > BUSY_AFTER:
            return None
        if not self._full or self._losses != losses or now >= min(self.poll_at, self._paused_at):
            return None
        if self.governor.crowded or self.governor.due or self.lanes.due():
            return None
        if not (scans := self.lanes.scans(most=LANES + 2 * room)):
            return None
        self._losses, self.in_flight = UNHEARD, True
        first = self._number(room)
        return claims.claiming(
            self.state.incarnation,
            first,
            scans,
            room,
            functools.partial(self._landed, self.state.incarnation, room, losses, claimed),
            rerun=self.rerun,
            unknown=sorted(self.state.unknown),
            aged=settings.QUEUE_AGEING is not None,
        )

    def _landed(
        self, incarnation: int, room: int, losses: int, claimed: Callable[[list[Claimed]], None], question: Question
    ) -> None:
        """The answer to a claim is there, or lost; what it took is then given back by the next one."""
        self.in_flight = False
        if isinstance(question.error, LOST) or incarnation != self.state.incarnation:
            return
        found, positions = claims.claimed(question.answer())
        self.lanes.mark(found, positions)
        self._full = len(found) == room
        self.state.take(found)
        self._losses = losses
        claimed(self.governor.sift(found, self._full))

    def _number(self, room: int) -> int:
        """The first of so many claim numbers."""
        first = self.state.last_claim + 1
        self.state.last_claim += room
        return first

    def _take(self, conn: psycopg.Connection, room: int, *, from_start: bool) -> list[Claimed]:
        state = self.state
        if not room:
            return []
        if from_start or self.lanes.due():
            self._look(conn)
        scans = self.lanes.scans(from_start=from_start, most=None if from_start else LANES + 2 * room)
        if not scans:
            return []
        found, positions = claims.claim(
            conn,
            state.incarnation,
            self._number(room),
            scans,
            room,
            rerun=self.rerun,
            unknown=sorted(state.unknown),
            aged=settings.QUEUE_AGEING is not None,
        )
        self.lanes.mark(found, positions)
        return found

    def _look(self, conn: psycopg.Connection) -> None:
        """Where there is anything, of many lanes. A lane that is filled later rings, or is found by the next look."""
        lanes = self.lanes
        if listening := lanes.listening:
            broadcasts.pass_on(conn, lanes.node, listening)
        if lanes.many:
            began = time.monotonic()
            filled = health.filled(conn, MOST_LANES)
            lanes.looked(filled, time.monotonic() - began)
        else:
            lanes.looked(None)

    def register(self, conn: psycopg.Connection) -> None:
        """Write this worker's row; a repeated INSERT finds its own."""
        workers.register(conn, self.registration()._replace(incarnation=self.state.incarnation))
        self.state.registered = self.state.incarnation

    def reincarnate(self) -> int:
        """Be a new worker from the next claim on. Returns how many messages were dropped."""
        self.idle = self.drained = self._full = False
        return self.state.reincarnate(new_incarnation())

    @property
    def in_doubt(self) -> bool:
        """Whether a claim was sent whose answer is lost: it may have taken something."""
        return self._losses == UNHEARD and not self.in_flight

    def retreat(self, conn: psycopg.Connection, losses: int) -> None:
        """Before the end: give back, and tell others of, what a claim took whose answer is lost. Raises Disowned."""
        if losses == self._losses:
            return
        if self.state.registered == self.state.incarnation and (count := self._reclaim(conn)):
            self.ring_another(conn, count)
        self._losses = losses

    def _reclaim(self, conn: psycopg.Connection) -> int:
        """Give back what a claim took whose answer never came; returns how many those are."""
        with conn.transaction():
            if not claims.lock_worker(conn, self.state.incarnation):
                raise Disowned
            released = claims.reclaim(conn, self.state.incarnation, self.state.held)
        if released:
            logger.warning("Released %d tasks of a claim whose answer was lost", len(released))
        return len(released)

    @property
    def looks_ahead(self) -> bool:
        """Whether it is about to sleep and was rung for what may have to wait a little: then it should `poll`."""
        return self.drained and self._rings != self._rings_polled

    def poll(self, conn: psycopg.Connection) -> None:
        """What a ring may not have told: whose time has come, and when the next one's does."""
        rings = self._rings
        limited: dict[str, str] = {}
        opened = messages.promote(conn, limited=limited)
        dues = [messages.next_eta(conn), limits.next_due(conn)]
        if limited or (dues[1] is not None and dues[1] <= 0):
            opened += self._admit(conn, limited)
            dues[1] = limits.next_due(conn)
            if dues[1] is not None:
                dues[1] = max(dues[1], BETWEEN_ADMISSIONS)
        if opened:
            self.drained = False
            self.ring_another(conn, len(opened))
        self.governor.look(conn)
        interval = settings.WORKER_POLL_INTERVAL * random.uniform(0.75, 1.25)
        due = min([each for each in dues if each is not None], default=interval)
        # A name's next start is as good a reason to look as a time that comes.
        now = time.monotonic()
        self.poll_at = max(now + SOONEST, min(now + min(interval, due), self.governor.next_at()))
        self._rings_polled = rings

    def _admit(self, conn: psycopg.Connection, limited: Mapping[str, str]) -> list[str]:
        """Let those go on whose limit has room now; returns the queues of the lanes that were opened."""
        opened: list[str] = []
        if limited:
            with conn.transaction():
                opened += limits.admit(conn, {key: definition(name) for key, name in limited.items()})
        with conn.transaction():
            return opened + limits.admit_due(conn)

    def say_idle(self, conn: psycopg.Connection, idle: bool) -> None:
        """Say whether this worker sleeps. Raises Disowned."""
        if self.idle != idle:
            if not workers.set_idle(conn, self.state.incarnation, idle):
                raise Disowned
            self.idle = idle

    def _note_busy(self, conn: psycopg.Connection) -> None:
        if not self._full:
            self._busy_since = None
            return
        if self._busy_since is None:
            self._busy_since = time.monotonic()
            # Perhaps there is more than this worker has room for, and another one sleeps.
            self.ring_another(conn, 1)
        elif self.idle and time.monotonic() - self._busy_since > BUSY_AFTER:
            self.say_idle(conn, False)

    def pass_on(self, conn: psycopg.Connection) -> None:
        """We were rung and have no room: we do not sleep, and it is another one's turn."""
        self.say_idle(conn, False)
        self.ring_another(conn, 1)

    def ring_another(self, conn: psycopg.Connection, count: int) -> None:
        """Wake other workers of these lanes."""
        notify.ring_workers(conn, self.lanes.names, count, but=self.state.incarnation)
