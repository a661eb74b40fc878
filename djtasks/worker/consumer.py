"""The consumer: finish what is done, claim what there is room for, start it, wait.

It owns the worker's state: other threads post to its inbox. While the database is lost it keeps what it has, lets the
pool run, and tries again.
"""

import contextlib
import logging
import math
import os
import queue
import selectors
import time
from collections.abc import Callable

import psycopg

from djtasks import signals, tracer
from djtasks.conf import settings
from djtasks.db.notify import worker_channel
from djtasks.messages import Claimed, Outcome, Progress
from djtasks.registry import tasks
from djtasks.worker.births import Births
from djtasks.worker.claimer import Claimer, Disowned
from djtasks.worker.clock import since_boot
from djtasks.worker.commands import Commands
from djtasks.worker.completer import Completer
from djtasks.worker.database import Database
from djtasks.worker.hooks import Hooks
from djtasks.worker.intake import Intake
from djtasks.worker.limits import NO_LIMITS, Limits, Promises
from djtasks.worker.node import Node
from djtasks.worker.pools.base import Job, Pool
from djtasks.worker.pulse import News
from djtasks.worker.receiving import tell_received, tell_unknown
from djtasks.worker.requests import Requests
from djtasks.worker.revoker import Revoker
from djtasks.worker.state import State

logger = logging.getLogger("djtasks.worker")

#: The longest wait, in seconds, for what needs no deadline.
LONGEST_WAIT = 5.0
#: A worker whose last heartbeat is older than this share of WORKER_DEAD_AFTER claims nothing more.
SILENT_SHARE = 0.75


class Consumer:
    """Turns the handle of one worker; see `run`."""

    def __init__(self, state: State, pool: Pool, claimer: Claimer, limits: Limits, name: str) -> None:
        self.state = state
        self.pool = pool
        self.claimer = claimer
        self.limits = limits
        self.promises = Promises(pool)
        self.name = name
        self.births = Births(
            state, self._room_for_births, claimer.may_start, claimer.rerun, self._claimed, claimer.rung
        )
        self.completer = Completer(state, name, tracer.failure, self.births)
        claimer.governor.hold = self.completer.hold
        self.hooks = Hooks(name)
        self.requests = Requests(tasks, name, state.held, self.hooks.post)
        self.intake = Intake(state, self.completer, self.hooks, self.requests, self)
        self.commands = Commands(Node(name, self))
        self.revoker = Revoker(state, pool, self.commands, self.end)
        self.selector = selectors.DefaultSelector()
        self.database = Database(f"worker {name}", self.selector, self._rung)
        self.database.channel = worker_channel(state.incarnation)
        self.inbox: queue.SimpleQueue[News | Callable[[], None]] = queue.SimpleQueue()
        self.accepting = True
        #: When the worker wants to be asked again at the latest, in monotonic seconds.
        self.wake_at = math.inf
        #: It goes on until then (monotonic seconds), also with nothing in hand.
        self.stays_until = -math.inf
        #: So many losses of the database have been acted on.
        self._losses = 0
        #: Looks after the pool's size while tasks are taken: called with the time, it says when it wants to be again.
        self.autoscale: Callable[[float], float] | None = None
        #: When the last heartbeat was written, by `since_boot`: it is for us to see that none comes any more, since the
        #: pulse may hang.
        self.beat_at = since_boot()
        #: No heartbeat for too long: others may be about to declare this worker dead.
        self.stalled = False
        self._wake, self._waker = os.pipe()
        for end in (self._wake, self._waker):
            os.set_blocking(end, False)

    def start(self) -> None:
        """Start the pool and watch what may wake us."""
        self.beat_at = since_boot()
        self.selector.register(self._wake, selectors.EVENT_READ, self._drain_wake)
        self.pool.tell_now = self._tell_now
        self.pool.start(self.selector)
        self.promises.check_tasks()
        self.database.attempt(self.commands.start)

    def run(self) -> None:
        """Turn the handle until told to stop and nothing is left in hand."""
        while self.unfinished:
            self.turn()

    @property
    def unfinished(self) -> bool:
        """Whether there is a reason to go on."""
        claimer = self.claimer
        in_hand = (
            self.pool.busy or self.completer.pending or claimer.in_flight or claimer.in_doubt or self.revoker.suspects
        )
        return bool(self.accepting or in_hand) or time.monotonic() < self.stays_until

    def turn(self) -> None:
        """Finish what is done, claim what there is room for, start it, wait."""
        self.read_inbox()
        if self._losses != self.database.losses:
            self._losses = self.database.losses
            if settings.WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS:
                self.intake.cancel(self.pool)
        if self.completer.due(idle=not self.pool.busy):
            self.flush()
        self.look_around()
        if room := self.room():
            self.take_more(room)
        elif not self.accepting and self.claimer.in_doubt:
            # What it took is nobody's else: it would end with this worker.
            self.database.attempt(self.retreat)
        self.wait()

    def retreat(self, conn: psycopg.Connection) -> None:
        """Give back what may have been taken, and is not in hand."""
        try:
            self.claimer.retreat(conn, self.database.losses)
        except Disowned:
            self.reincarnate()

    def flush(self) -> None:
        """Write what has ended: plain outcomes without waiting for the answer."""
        if self.database.down:
            return
        if questions := self.completer.launch():
            self.database.ask(*questions)
        elif self.database.attempt(self.completer.flush) and self.completer.reopened:
            self.claimer.rung()

    def look_around(self) -> None:
        """Look for revocations and commands, when it is time; let begin what has been waiting for that."""
        revoker, now = self.revoker, time.monotonic()
        if revoker.due(now, self.database.losses):
            self.database.attempt(lambda conn: revoker.look(conn, now, told=self.database.hears))
        while revoker.suspects and self.database.attempt(self._sort):
            pass

    def _sort(self, conn: psycopg.Connection) -> None:
        found, asked = self.revoker.suspects[0]
        left = self.revoker.sort(conn, found)
        self.revoker.suspects.pop(0)
        self._claimed([message._replace(suspect=False) for message in left], asked)

    def end(self, message: Claimed, outcome: Outcome) -> None:
        """It ends without having begun here; who wants to know is told."""
        self.completer.add(outcome, lambda: self.hooks.ended(message, outcome))

    def room(self) -> int:
        """How many messages to claim now."""
        if not self.accepting or not self.beats() or self.database.down or self.claimer.in_flight:
            return 0
        if self._sleeps() and time.monotonic() < self.claimer.poll_at:
            return 0
        return max(0, self.pool.room() - self.births.unborn)

    def _room_for_births(self) -> int:
        """How much room there is while nothing else waits for it."""
        free = self.accepting and not self.stalled and not self.claimer.in_flight and self._sleeps()
        return self.pool.room() if free else 0

    def beats(self) -> bool:
        """Whether the heart beats, as far as other workers can see."""
        silent = since_boot() - self.beat_at > SILENT_SHARE * settings.WORKER_DEAD_AFTER
        if silent != self.stalled:
            self.stalled = silent
            logger.warning("Claiming %s", "stops: no heartbeat could be written" if silent else "goes on")
        return not silent

    def _sleeps(self) -> bool:
        """There is nothing to claim, and a ring would be heard."""
        return self.claimer.drained and self.database.connected

    def wait(self) -> None:
        """Wait for an event, a ring, news, or the next thing to do; then take in what has happened."""
        now = time.monotonic()
        resize_at = None if self.autoscale is None or not self.accepting else self.autoscale(now)
        tend_at = self.pool.tend(now)
        if resize_at is not None:
            tend_at = resize_at if tend_at is None else min(resize_at, tend_at)
        self.take_in_events()
        self.database.hear()
        for key, _ in self.selector.select(self._timeout(tend_at)):
            key.data()
        # First what may say that nothing more is to begin: the solo pool runs a task when it is asked for events.
        self.read_inbox()
        self.take_in_events()

    def _timeout(self, tend_at: float | None) -> float:
        if not self.unfinished:
            return 0.0
        now = time.monotonic()
        wanted = [now + LONGEST_WAIT, self.wake_at]
        if self.state.held or self.revoker.told:
            # What runs may be revoked; an idle worker looks when it is told, or wakes anyway.
            wanted.append(max(self.revoker.look_at, self.database.retry_at))
        if tend_at is not None:
            wanted.append(tend_at)
        if not self.accepting and self.claimer.in_doubt:
            wanted.append(self.database.retry_at)
        if (due := self.completer.deadline()) is not None:
            wanted.append(max(due if self.pool.busy else now, self.database.retry_at))
        if self.accepting and not self.stalled and not self.claimer.in_flight and self.pool.room():
            poll_at = self.claimer.poll_at if self._sleeps() else now
            wanted.append(max(poll_at, self.database.retry_at))
        return max(0.0, min(wanted) - now)

    def take_more(self, room: int) -> None:
        """Claim up to `room` messages and start them; under load without waiting for the answer."""
        asked = since_boot()
        if question := self.claimer.launch(room, self.database.losses, lambda found: self._claimed(found, asked)):
            self.database.ask(question)
            return
        self.start_jobs(self.claim(room), asked)
        self.look_around()
        if self.claimer.looks_ahead:
            self.database.attempt(self.claimer.poll)

    def _claimed(self, found: list[Claimed], asked: float) -> None:
        if self.accepting:
            self.start_jobs(found, asked)
        else:
            self.completer.release([message.claim for message in found])

    def claim(self, room: int) -> list[Claimed]:
        """Take up to `room` messages."""
        found: list[Claimed] = []

        def work(conn: psycopg.Connection) -> None:
            try:
                found.extend(self.claimer.claim(conn, room, self.database.losses))
            except Disowned:
                self.reincarnate()

        self.database.attempt(work)
        return found

    def start_jobs(self, found: list[Claimed], asked: float) -> None:
        """Hand messages over to the pool; what cannot run here ends, or goes to others, at once.

        They were claimed at `asked` (`since_boot`), or a little later.
        """
        if any(message.suspect for message in found):
            self.revoker.suspects.append((found, asked))
            return
        jobs: list[Job] = []
        for message in found:
            task = tasks.get(message.name)
            if task is None:
                self._unknown(message)
            elif message.expired:
                self.completer.add(tracer.trace(message, hostname=self.name))
            else:
                limits = self.limits.of(message, task)
                if limits != NO_LIMITS and not self.promises.whole:
                    self.promises.check(message, limits)
                jobs.append(Job(message, *limits, asked, self.state.incarnation))
        if not jobs:
            return
        self.state.total.update([job.message.name for job in jobs])
        tell_received(jobs, self, self.name)
        if self.state.events.on:
            self.state.events.received([job.message for job in jobs], self.name)
        if self.requests.classes:
            self.requests.accepted(jobs)
        self.pool.submit(jobs)

    def _unknown(self, message: Claimed) -> None:
        requeue = settings.ON_UNKNOWN_TASK == "requeue"
        tell_unknown(message, self, requeue)
        if requeue:
            self.state.unknown.add(message.name)
            self.completer.park(message.claim)
        else:
            self.intake.take(tracer.trace(message, hostname=self.name))

    def read_inbox(self) -> None:
        """Act on all that has been posted."""
        while not self.inbox.empty():
            self.read(self.inbox.get_nowait())

    def take_in_events(self) -> None:
        """What the pool has to say means something for the messages."""
        for event in self.pool.collect():
            self.intake.take(event)

    def _tell_now(self, progress: Progress) -> None:
        self.completer.report(progress)
        self.database.attempt(self.completer.flush)

    def release_unstarted(self) -> None:
        """Give back what has not begun."""
        self.completer.release([job.message.claim for job in self.pool.withdraw()])
        for found, _ in self.revoker.suspects:
            self.completer.release([message.claim for message in found])
        self.revoker.suspects.clear()

    # -- news -----------------------------------------------------------------------------------------------------

    def post(self, news: News | Callable[[], None]) -> None:
        """Tell the consumer something, from any thread or signal handler."""
        self.inbox.put(news)
        with contextlib.suppress(BlockingIOError):
            os.write(self._waker, b"x")

    def _drain_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 4096)

    def read(self, news: News | Callable[[], None]) -> None:
        """Act on what has been posted."""
        if callable(news):
            news()
        elif news.kind == "disowned":
            if news.incarnation == self.state.incarnation:
                self.reincarnate()
        else:
            # An older one may be read after we have become a new worker, which beats only once it has claimed.
            self.beat_at = max(self.beat_at, news.at)
            if signals.heartbeat_sent.receivers:
                # Not in the pulse: authors' code must never keep a heart from beating.
                signals.heartbeat_sent.send(sender=self)

    def reincarnate(self) -> None:
        """We have been declared dead: what we held is others' now; go on as a new worker."""
        self.pool.withdraw()
        self.revoker.suspects.clear()
        refused = self.completer.drop()
        dropped = self.claimer.reincarnate()
        self.database.channel = worker_channel(self.state.incarnation)
        self.beat_at = since_boot()
        logger.warning(
            "This worker had been declared dead: %d tasks in its hands are no longer its own, %d outcomes were refused",
            dropped,
            refused,
        )

    def _rung(self, about: str) -> None:
        """Somebody made a row runnable; with no room for it, it is another one's turn. Or it is about our own."""
        if about:
            self.revoker.rung()
            return
        self.claimer.rung()
        if not self.pool.room() and self.claimer.idle:
            self.post(self._pass_on)

    def _pass_on(self) -> None:
        def work(conn: psycopg.Connection) -> None:
            try:
                self.claimer.pass_on(conn)
            except Disowned:
                self.reincarnate()

        if not self.pool.room():
            self.database.attempt(work)
