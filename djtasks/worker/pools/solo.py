"""The solo pool: one task at a time, in the worker's own thread, which does nothing else meanwhile."""

import logging
import os
import selectors
import signal
import threading
import time
from collections import deque
from collections.abc import Collection, Sequence
from types import FrameType
from typing import Self

from djtasks import aio, signals, tracer
from djtasks.messages import Progress
from djtasks.worker.clock import stale
from djtasks.worker.hygiene import clean_connections, clean_up
from djtasks.worker.pools.base import Begun, Event, Job, Lost, Pool, PoolOptions, Unstarted
from djtasks.worker.pools.softlimit import SOFT_AGAIN, may_strike, soft_limit

logger = logging.getLogger("djtasks.worker")


class SoloPool(Pool):
    """Runs a job when its events are asked for. Keeps soft limits by SIGALRM; hard ones it cannot."""

    name = "solo"
    soft_limits = runs_here = True
    most = usual = 1

    def __init__(self, hostname: str, prefetch_multiplier: int = 0) -> None:
        super().__init__(1, prefetch_multiplier)
        self.hostname = hostname
        self._waiting: deque[Job] = deque()
        self._events: list[Event] = []
        self._running: Job | None = None
        #: When that began, in monotonic seconds.
        self._since = 0.0
        self._soft: float | None = None

    @classmethod
    def make(cls, options: PoolOptions) -> Self:
        return cls(options.hostname, options.prefetch_multiplier)

    @property
    def busy(self) -> int:
        return len(self._waiting) + len(self._events)

    def start(self, selector: selectors.BaseSelector) -> None:
        if signals.worker_process_init.receivers:
            signals.worker_process_init.send(sender=None)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGALRM, self._on_alarm)
        else:
            # Signals reach the main thread only.
            self.soft_limits = False

    def _on_alarm(self, _: int, frame: FrameType | None) -> None:
        limit = self._soft
        if limit is not None and aio.strike(limit):
            self._soft = limit = None
        if limit is not None and may_strike(frame):
            self._soft = None
            raise soft_limit(limit)
        if limit is not None:
            signal.setitimer(signal.ITIMER_REAL, SOFT_AGAIN)

    def room(self) -> int:
        return max(0, self.depth() - len(self._waiting))

    def submit(self, jobs: Sequence[Job]) -> None:
        self._waiting.extend(jobs)

    def collect(self) -> list[Event]:
        """Run one job, if one waits."""
        if self._waiting:
            job = self._waiting.popleft()
            if stale(job.asked):
                self._events.append(Unstarted(job))
            else:
                self._run(job)
        events, self._events = self._events, []
        return events

    def _run(self, job: Job) -> None:
        self._since = time.monotonic()
        self._running = job
        clean_connections()
        self._soft = job.soft if self.soft_limits else None
        if self._soft is not None:
            signal.setitimer(signal.ITIMER_REAL, self._soft)
        try:
            outcome = tracer.trace(job.message, hostname=self.hostname, reporter=self._report, owner=job.owner)
            self._running = None
            if self.soft_limits and job.soft is not None and self._soft is None:
                logger.warning("Soft time limit (%ss) exceeded for %s[%s]", job.soft, job.message.name, job.message.id)
        finally:
            # A worker that is told to end raises in here: the job stays, for `kill` to give up.
            self._soft = None
            if self.soft_limits and job.soft is not None:
                signal.setitimer(signal.ITIMER_REAL, 0)
            clean_up()
        self.pace.saw(outcome.runtime)
        self._events.append(outcome)

    def _report(self, progress: Progress) -> None:
        # The thread that would write it is this one: nobody would see it before the task's end.
        if self.tell_now is not None:
            self.tell_now(progress)
        else:
            self._events.append(progress)

    def tend(self, now: float) -> float | None:
        """At once, while a job waits."""
        return now if self._waiting else None

    def running(self) -> list[int]:
        return [] if self._running is None else [self._running.message.claim]

    def begun(self) -> dict[int, Begun]:
        job = self._running
        return {} if job is None else {job.message.claim: Begun(self._since, os.getpid())}

    def withdraw(self) -> list[Job]:
        jobs = list(self._waiting)
        self._waiting.clear()
        return jobs

    def recall(self, claims: Collection[int]) -> list[Job]:
        found = [job for job in self._waiting if job.message.claim in claims]
        for job in found:
            self._waiting.remove(job)
        return found

    def close(self) -> None:
        """Nothing to do: nothing runs while the worker decides."""

    def join(self, seconds: float) -> None:
        """Nothing to wait for."""

    def kill(self) -> None:
        """Give up the job whose run was broken off, if there is one."""
        if self._running is not None:
            self._events.append(Lost(self._running, "the worker was stopped"))
            self._running = None
