"""A pool of a project's own, for the tests of workers, and what is none."""

import os
import selectors
from collections.abc import Collection, Sequence
from typing import Self

from djtasks import tracer
from djtasks.worker.hygiene import clean_connections, clean_up
from djtasks.worker.pools.base import Event, Job, Pool, PoolOptions


class Inline(Pool):
    """Runs what it is given when it is asked what has happened."""

    name = "inline"
    most = 3

    def __init__(self, hostname: str, concurrency: int) -> None:
        super().__init__(concurrency)
        self.hostname = hostname
        self.waiting: list[Job] = []
        self.wake, self.waker = os.pipe()

    @classmethod
    def make(cls, options: PoolOptions) -> Self:
        return cls(options.hostname, options.concurrency)

    @property
    def busy(self) -> int:
        return len(self.waiting)

    def start(self, selector: selectors.BaseSelector) -> None:
        selector.register(self.wake, selectors.EVENT_READ, lambda: os.read(self.wake, 1024))

    def room(self) -> int:
        return self.concurrency - len(self.waiting)

    def submit(self, jobs: Sequence[Job]) -> None:
        self.waiting.extend(jobs)
        os.write(self.waker, b"x")

    def collect(self) -> list[Event]:
        found: list[Event] = []
        while self.waiting:
            clean_connections()
            job = self.waiting.pop(0)
            found.append(tracer.trace(job.message, hostname=self.hostname, owner=job.owner))
            clean_up()
        return found

    def tend(self, now: float) -> float | None:
        return None

    def running(self) -> list[int]:
        return []

    def withdraw(self) -> list[Job]:
        found, self.waiting = self.waiting, []
        return found

    def recall(self, claims: Collection[int]) -> list[Job]:
        found = [job for job in self.waiting if job.message.claim in claims]
        self.waiting = [job for job in self.waiting if job not in found]
        return found

    def close(self) -> None:
        return

    def kill(self) -> None:
        return

    def join(self, seconds: float) -> None:
        return


class Unfinished(Pool):
    """Lacks most of a pool."""

    name = "unfinished"


class NoPool:
    """Is none."""
