"""Crowds: one child process in which many tasks wait at the same time, as greenlets or as coroutines.

The worker itself stays as it is with prefork: its own threads and connections know nothing of greenlets, so that no
task can keep its heart from beating. The child begins as a copy of the fork server, and for greenlets at once becomes a
fresh interpreter, in which the library is patched before anything else is imported.
"""

import contextlib
import inspect
import logging
import selectors
import signal
import time
from collections.abc import Collection, Sequence
from typing import Any, Self

from djtasks.messages import Again, Outcome, Progress
from djtasks.registry import tasks
from djtasks.worker.pools.base import STUCK_AFTER, Begun, Event, Job, Lost, PoolOptions, Unstarted
from djtasks.worker.pools.child import ChildOptions
from djtasks.worker.pools.lone import CrowdHandle, LonePool

logger = logging.getLogger("djtasks.worker")

#: A run that should have been told of its limit, or its end, for so long (seconds) lets nothing else run: it is
#: interrupted by a signal.
HOGS = 0.3
#: And when it has not ended so long after that was due, the process is killed, with all that runs in it.
ENDS_WITHIN = 3.0
#: How often to look, while something that runs has a limit or is to end, in seconds.
WATCH = 0.2
#: How soon to try again to hand over what the socket had no room for.
FULL = 0.02


class CrowdPool(LonePool):
    """`concurrency` seats in one process."""

    soft_limits = hard_limits = terminates = True

    def __init__(self, concurrency: int, options: ChildOptions, prefetch_multiplier: int = 0) -> None:
        super().__init__(concurrency, options, prefetch_multiplier)
        self._handed = self._nudged = 0.0

    @classmethod
    def make(cls, options: PoolOptions) -> Self:
        child = ChildOptions(
            options.hostname,
            loglevel=options.loglevel,
            logfile=options.logfile,
            include=options.include,
            app=options.app,
            crowd=cls.name,
        )
        return cls(options.concurrency, child, options.prefetch_multiplier)

    @property
    def busy(self) -> int:
        return len(self.events) + (len(self.child.jobs) if self.child is not None else 0)

    # -- jobs -----------------------------------------------------------------------------------------------------

    def room(self) -> int:
        if self.child is None or not self.child.up or self._closing:
            return 0
        # One process runs no more than so many fast ones in a moment, however many wait.
        wanted = max(self.concurrency, self.depth())
        free = wanted - len(self.child.jobs)
        return max(0, free) if free * 2 >= wanted or len(self.child.jobs) < self.concurrency else 0

    def submit(self, jobs: Sequence[Job]) -> None:
        child = self.child
        if child is None:
            self.events.extend(Unstarted(job) for job in jobs)
            return
        self._handed = time.monotonic()
        for job in jobs:
            if job.soft is not None or job.hard is not None:
                self.limited[job.message.claim] = job
            child.give(job)

    def collect(self) -> list[Event]:
        self.take_in_news()
        events, self.events = self.events, []
        return events

    def hear(self, child: CrowdHandle) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while (packet := child.outcomes.read()) is not None:
                self._hear(child, packet)
            # The end of the stream is only news to the selector: the server reports the child's end.
            with contextlib.suppress(KeyError):
                self.selector.unregister(child.outcomes.end)
        if child.unsent:
            child.push()

    def _hear(self, child: CrowdHandle, packet: tuple[Any, ...]) -> None:
        kind = packet[0]
        if kind == "ready":
            child.up = True
            return
        if kind == "progress":
            self.events.append(Progress._make(packet[1:]))
            return
        job = child.jobs.pop(packet[1], None)
        if job is None:
            return
        self.limited.pop(packet[1], None)
        self.ending.pop(packet[1], None)
        if kind == "outcome":
            child.ended += 1
            outcome = Outcome._make(packet[1:])
            if outcome.again is not None:
                outcome = outcome._replace(again=Again._make(outcome.again))
            self.pace.saw(outcome.runtime)
            self.events.append(outcome)
        elif kind == "ended":
            self.events.append(Lost(job, "it was broken off", packet[2], packet[3]))
        elif kind == "lost":
            self.events.append(Lost(job, packet[2]))
        else:
            self.events.append(Unstarted(job))

    # -- limits ---------------------------------------------------------------------------------------------------

    def tend(self, now: float) -> float | None:
        """Replace what has died, take back what lies too long, see that limits are kept."""
        wanted = self.see_to_processes(now)
        child = self.child
        if child is not None and child.jobs:
            wanted.extend(self._tend_child(child, now))
        return min(wanted, default=None)

    def _tend_child(self, child: CrowdHandle, now: float) -> list[float]:
        wanted = []
        if child.unsent:
            child.push()
            wanted.append(now + FULL)
        if len(child.jobs) > self.concurrency:
            if now - self._handed >= STUCK_AFTER:
                self._take_back(child)
            wanted.append(now + STUCK_AFTER)
        if self.limited or self.ending:
            self._see_to_limits(child, now)
            wanted.append(now + WATCH)
        return wanted

    def _take_back(self, child: CrowdHandle) -> None:
        for job in child.take_back():
            self.limited.pop(job.message.claim, None)
            self.events.append(Unstarted(job))

    def _see_to_limits(self, child: CrowdHandle, now: float) -> None:
        """The child keeps them itself: interrupt it where it does not, and kill it where that does not help either."""
        begun = self.has_begun(child)
        late = 0.0
        for claim, (_, asked) in self.ending.items():
            if claim in begun:
                late = max(late, self._overdue(child, claim, now - max(asked, begun[claim][1]), None))
        for claim, job in self.limited.items():
            if claim not in begun:
                continue
            slot, since = begun[claim]
            if job.hard is not None and now - since > job.hard:
                late = max(late, self._overdue(child, claim, now - since - job.hard, job.hard))
            elif job.soft is not None and now - since > job.soft and self.slots.heard_soft(slot) != claim:
                late = max(late, now - since - job.soft)
        if late > HOGS and child.pid and now - self._nudged >= WATCH:
            self._nudged = now
            self.server.tell("kill", 0, child.pid, int(signal.SIGUSR1))

    def _overdue(self, child: CrowdHandle, claim: int, late: float, hard: float | None) -> float:
        """How late it is; kill the process when that is too late."""
        if late > ENDS_WITHIN and child.killed_for is None and child.pid:
            message = child.jobs[claim].message
            child.killed_for = (claim, hard)
            logger.error(
                "Task %s[%s] does not let itself be ended: its process pid:%d is killed, and all that runs in it",
                message.name,
                message.id,
                child.pid,
            )
            self.server.tell("kill", 0, child.pid, int(signal.SIGKILL))
        return late

    def running(self) -> list[int]:
        return [] if self.child is None else list(self.has_begun(self.child))

    def begun(self) -> dict[int, Begun]:
        child = self.child
        if child is None:
            return {}
        return {claim: Begun(since, child.pid) for claim, (_, since) in self.has_begun(child).items()}

    def withdraw(self) -> list[Job]:
        return [] if self.child is None else self._unread(self.child)

    def recall(self, claims: Collection[int]) -> list[Job]:
        child = self.child
        if child is None or child.jobs.keys().isdisjoint(claims):
            return []
        begun = self.has_begun(child)
        if all(claim in begun for claim in claims if claim in child.jobs):
            return []
        found = []
        for job in self._unread(child):
            if job.message.claim in claims:
                found.append(job)
            else:
                self.events.append(Unstarted(job))
        return found

    def _unread(self, child: CrowdHandle) -> list[Job]:
        found = child.take_back()
        for job in found:
            self.limited.pop(job.message.claim, None)
        return found

    def terminate(self, claim: int, signum: int) -> bool:
        child = self.child
        if child is None or claim not in child.jobs:
            return False
        if claim not in self.ending:
            self.ending[claim] = signum, time.monotonic()
            child.order_end(claim, signum)
        return True


class _GreenPool(CrowdPool):
    """Greenlets, of whatever library."""

    fresh = True

    def start(self, selector: selectors.BaseSelector) -> None:
        found = sorted(name for name, task in tasks.items() if inspect.iscoroutinefunction(task.run))
        if found:
            logger.warning(
                "The %s pool runs no async def tasks, and ends those that it is given as failed: %s. Give them a queue"
                " of their own, and a worker with --pool asyncio, prefork or threads",
                self.name,
                ", ".join(found),
            )
        super().start(selector)


class GeventPool(_GreenPool):
    """gevent's greenlets."""

    name = "gevent"


class EventletPool(_GreenPool):
    """eventlet's greenlets."""

    name = "eventlet"


class AsyncioPool(CrowdPool):
    """Coroutines, and a few threads for tasks that are none."""

    name = "asyncio"
    usual = 1000
