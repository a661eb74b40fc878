"""The threads pool: N threads of the worker's own process.

Python threads cannot be killed: a hard time limit is not kept here, and a soft one is not either; the worker says so
when it starts with a limit set.
"""

import contextlib
import os
import queue
import selectors
import threading
import time
from collections.abc import Sequence

from django.db import connections

from djtasks import tracer
from djtasks.messages import Outcome, Progress
from djtasks.worker.clock import stale
from djtasks.worker.hygiene import clean_connections
from djtasks.worker.pools.base import STUCK_AFTER, Event, Job, Lost, Pool, Unstarted


class ThreadsPool(Pool):
    """`concurrency` threads that take jobs from one queue."""

    name = "threads"

    def __init__(self, concurrency: int, hostname: str, prefetch_multiplier: int = 0) -> None:
        super().__init__(concurrency, prefetch_multiplier)
        self.hostname = hostname
        self.jobs: dict[int, Job] = {}
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._running: set[int] = set()
        self._handed = 0.0
        self._killed = False
        self._threads: list[threading.Thread] = []
        self._wake, self._waker = os.pipe()
        for end in (self._wake, self._waker):
            os.set_blocking(end, False)

    @property
    def busy(self) -> int:
        return len(self.jobs)

    def start(self, selector: selectors.BaseSelector) -> None:
        selector.register(self._wake, selectors.EVENT_READ, self._drain_wake)
        for number in range(self.concurrency):
            thread = threading.Thread(target=self._work, name=f"ThreadPoolWorker-{number + 1}", daemon=True)
            thread.start()
            self._threads.append(thread)

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

    def _work(self) -> None:
        """One thread's life."""
        try:
            while (job := self._waiting.get()) is not None:
                self._run(job)
        finally:
            connections.close_all()

    def _run(self, job: Job) -> None:
        claim = job.message.claim
        if stale(job.asked):
            self._say(Unstarted(job))
            return
        self._running.add(claim)
        clean_connections()
        try:
            self._say(tracer.trace(job.message, hostname=self.hostname, reporter=self._report))
        except BaseException as error:
            # What would end a process ends nothing but this run here.
            self._say(Lost(job, f"{type(error).__name__} was raised"))
        finally:
            self._running.discard(claim)
            clean_connections()

    def _report(self, progress: Progress) -> None:
        self._say(progress)

    def room(self) -> int:
        wanted = self.depth() * self.concurrency
        free = wanted - len(self.jobs)
        return free if free * 2 >= wanted or len(self.jobs) < self.concurrency else 0

    def submit(self, jobs: Sequence[Job]) -> None:
        self._handed = time.monotonic()
        for job in jobs:
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
        """What has lain behind long runs for too long goes back."""
        if len(self.jobs) <= self.concurrency:
            return None
        if now - self._handed >= STUCK_AFTER:
            for job in self._untaken():
                self._events.put(Unstarted(job))
        return now + STUCK_AFTER

    def running(self) -> list[int]:
        return list(self._running)

    def withdraw(self) -> list[Job]:
        untaken = self._untaken()
        for job in untaken:
            self.jobs.pop(job.message.claim, None)
        return untaken

    def _untaken(self) -> list[Job]:
        """Take everything that no thread has taken out of their queue."""
        found: list[Job] = []
        with contextlib.suppress(queue.Empty):
            while True:
                if (job := self._waiting.get_nowait()) is not None:
                    found.append(job)
        return found

    def close(self) -> None:
        for _ in self._threads:
            self._waiting.put(None)

    def join(self, seconds: float) -> None:
        if self._killed:
            return
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def kill(self) -> None:
        """Threads cannot be killed: what they run is given up here, and ends with the process."""
        self._killed = True
        self.close()
        for claim in list(self._running):
            if (job := self.jobs.get(claim)) is not None:
                self._events.put(Lost(job, "the worker was stopped"))
