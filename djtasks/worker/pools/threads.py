"""The threads pool: N threads of the worker's own process.

Python threads cannot be killed. A soft time limit is raised in the thread, as soon as that is in Python code. What is
over its hard one is given up: the task ends as TimeLimitExceeded at once, another thread takes the place of its own,
and the pool is `worn_out`: its process, which alone can be ended, is to be replaced.
"""

import contextlib
import itertools
import logging
import os
import queue
import selectors
import threading
import time
from collections.abc import Collection, Sequence
from typing import Self

from django.db import connections

from djtasks import tracer
from djtasks.commanding import MOST_SLOTS
from djtasks.exceptions import SoftTimeLimitExceeded
from djtasks.messages import Outcome, Progress
from djtasks.worker.clock import stale
from djtasks.worker.hygiene import clean_connections, clean_up
from djtasks.worker.pools.base import STUCK_AFTER, Begun, Event, Job, Lost, Pool, PoolOptions, Unstarted
from djtasks.worker.pools.seats import Seat
from djtasks.worker.pools.softlimit import SOFT_AGAIN

logger = logging.getLogger("djtasks.worker")


class ThreadsPool(Pool):
    """`concurrency` threads that take jobs from one queue."""

    name = "threads"
    soft_limits = hard_limits = resizes = True
    most = MOST_SLOTS

    def __init__(self, concurrency: int, hostname: str, prefetch_multiplier: int = 0) -> None:
        super().__init__(concurrency, prefetch_multiplier)
        self.hostname = hostname
        self.jobs: dict[int, Job] = {}
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._handed = 0.0
        #: The shortest limit of what has been handed over since the pool was last empty, in seconds.
        self._limited: float | None = None
        self._killed = False
        self._seats: list[Seat] = []
        self._numbers = itertools.count(1)
        self._wake, self._waker = os.pipe()
        for end in (self._wake, self._waker):
            os.set_blocking(end, False)

    @classmethod
    def make(cls, options: PoolOptions) -> Self:
        return cls(options.concurrency, options.hostname, options.prefetch_multiplier)

    @property
    def busy(self) -> int:
        return len(self.jobs)

    def start(self, selector: selectors.BaseSelector) -> None:
        selector.register(self._wake, selectors.EVENT_READ, self._drain_wake)
        for _ in range(self.concurrency):
            self._take_seat()

    def _take_seat(self) -> None:
        seat = Seat()
        name = f"ThreadPoolWorker-{next(self._numbers)}"
        seat.thread = threading.Thread(target=self._work, args=[seat], name=name, daemon=True)
        seat.thread.start()
        self._seats.append(seat)

    def _drain_wake(self) -> None:
        try:
            os.read(self._wake, 65536)
        except BlockingIOError:
            return

    def _say(self, event: Event) -> None:
        self._events.put(event)
        try:
            os.write(self._waker, b"x")
        except BlockingIOError:
            return

    def _work(self, seat: Seat) -> None:
        """One thread's life."""
        seat.arrive()
        try:
            while not seat.abandoned and (job := self._waiting.get()) is not None:
                self._run(seat, job)
        finally:
            connections.close_all()
            seat.left = True

    def _run(self, seat: Seat, job: Job) -> None:
        if stale(job.asked):
            self._say(Unstarted(job))
            return
        clean_connections()
        seat.enter(job)
        try:
            event = self._traced(job)
        except SoftTimeLimitExceeded as error:
            # The limit came in the last moment, when the task's own code was over.
            event = tracer.failure(job.message, error)
        seat.leave()
        self._say(event)
        clean_up()

    def _traced(self, job: Job) -> Event:
        try:
            return tracer.trace(job.message, hostname=self.hostname, reporter=self._report, owner=job.owner)
        except SoftTimeLimitExceeded as error:
            return tracer.failure(job.message, error)
        except BaseException as error:
            # What would end a process ends nothing but this run here.
            return Lost(job, f"{type(error).__name__} was raised")

    def _report(self, progress: Progress) -> None:
        self._say(progress)

    def room(self) -> int:
        wanted = self.depth() * self.concurrency
        free = wanted - len(self.jobs)
        return free if free * 2 >= wanted or len(self.jobs) < self.concurrency else 0

    def submit(self, jobs: Sequence[Job]) -> None:
        self._handed = time.monotonic()
        if not self.jobs:
            self._limited = None
        for job in jobs:
            if job.soft or job.hard:
                self._limited = min(limit for limit in (job.soft, job.hard, self._limited) if limit)
            self.jobs[job.message.claim] = job
            self._waiting.put(job)

    def collect(self) -> list[Event]:
        """What the threads have said."""
        events: list[Event] = []
        while True:
            try:
                event = self._events.get_nowait()
            except queue.Empty:
                return events
            if not isinstance(event, Progress):
                claim = event.claim if isinstance(event, Outcome) else event.job.message.claim
                if self.jobs.pop(claim, None) is None:
                    # Given up by `kill`, and ended after all.
                    continue
            if isinstance(event, Outcome):
                self.pace.saw(event.runtime)
            events.append(event)

    def tend(self, now: float) -> float | None:
        """Keep limits; what has lain behind long runs for too long goes back."""
        wanted: list[float] = []
        for seat in list(self._seats):
            job = seat.job
            if job is not None and (job.soft is not None or job.hard is not None):
                wanted.extend(self._keep_limits(seat, job, now))
        if len(self.jobs) > self.concurrency:
            if now - self._handed >= STUCK_AFTER:
                for job in self._untaken():
                    self._events.put(Unstarted(job))
            wanted.append(now + STUCK_AFTER)
        if self.jobs and self._limited:
            # Some may begin meanwhile.
            wanted.append(now + self._limited)
        return min(wanted, default=None)

    def _keep_limits(self, seat: Seat, job: Job, now: float) -> list[float]:
        """Raise the soft limit, give up at the hard one; when to look again."""
        message, ran = job.message, now - seat.since
        if job.hard is not None and ran >= job.hard:
            self._give_up(seat, job, job.hard)
            return []
        wanted = [] if job.hard is None else [seat.since + job.hard]
        if job.soft is not None and not seat.struck:
            if ran < job.soft:
                wanted.append(seat.since + job.soft)
            elif seat.strike(job, job.soft):
                logger.warning("Soft time limit (%ss) exceeded for %s[%s]", job.soft, message.name, message.id)
            else:
                wanted.append(now + SOFT_AGAIN)
        return wanted

    def _give_up(self, seat: Seat, job: Job, limit: float) -> None:
        """Nobody waits for this thread any more."""
        if not seat.abandon(job):
            return
        self.worn_out = True
        self._seats.remove(seat)
        self._events.put(Lost(job, "its thread was given up", limit))
        self._take_seat()

    def grow(self, n: int) -> None:
        self._forget_left()
        for _ in range(n):
            self._take_seat()
            self.concurrency += 1

    def shrink(self, n: int) -> int:
        """Whichever threads come first end: all of them are alike."""
        self._forget_left()
        n = min(n, self.concurrency - 1, max(0, self.concurrency - len(self.jobs)))
        self.concurrency -= n
        for _ in range(n):
            self._waiting.put(None)
        return n

    def _forget_left(self) -> None:
        self._seats = [seat for seat in self._seats if not seat.left]

    def running(self) -> list[int]:
        return [job.message.claim for seat in self._seats if (job := seat.job) is not None]

    def begun(self) -> dict[int, Begun]:
        found = [(seat.job, seat.since) for seat in list(self._seats)]
        return {job.message.claim: Begun(since, os.getpid()) for job, since in found if job is not None}

    def recall(self, claims: Collection[int]) -> list[Job]:
        found = []
        for job in self._untaken():
            if job.message.claim in claims:
                self.jobs.pop(job.message.claim, None)
                found.append(job)
            else:
                self._waiting.put(job)
        return found

    def withdraw(self) -> list[Job]:
        untaken = self._untaken()
        for job in untaken:
            self.jobs.pop(job.message.claim, None)
        return untaken

    def _untaken(self) -> list[Job]:
        """Take every job that no thread has taken out of their queue."""
        found: list[Job] = []
        ends = 0
        with contextlib.suppress(queue.Empty):
            while True:
                if (job := self._waiting.get_nowait()) is not None:
                    found.append(job)
                else:
                    ends += 1
        for _ in range(ends):
            # So many threads are still to end.
            self._waiting.put(None)
        return found

    def close(self) -> None:
        for _ in self._seats:
            self._waiting.put(None)

    def join(self, seconds: float) -> None:
        if self._killed:
            return
        deadline = time.monotonic() + seconds
        for seat in self._seats:
            if seat.thread is not None:
                seat.thread.join(max(0.0, deadline - time.monotonic()))

    def kill(self) -> None:
        """Threads cannot be killed: what they run is given up here, and ends with the process."""
        self._killed = True
        self.close()
        for claim in self.running():
            if (job := self.jobs.get(claim)) is not None:
                self._events.put(Lost(job, "the worker was stopped"))
