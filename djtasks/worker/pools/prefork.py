"""The prefork pool: N child processes, one task at a time each.

The pool owns the worker's ends of the children's sockets. What a child has taken is known from its outcomes, from
the shared slot (what it has in hand) and from what can still be read back out of its socket.
"""

import contextlib
import functools
import itertools
import logging
import selectors
import signal
import time
from collections.abc import Collection, Sequence
from typing import Self

from djtasks import signals
from djtasks.commanding import MOST_SLOTS
from djtasks.exceptions import ImproperlyConfigured
from djtasks.messages import Again, Outcome, Progress
from djtasks.worker.pools.base import Begun, Event, Job, Pool, PoolOptions, Unstarted
from djtasks.worker.pools.child import RECYCLED, ChildOptions
from djtasks.worker.pools.forkserver import ForkServer, Ready, Refused, Spawned
from djtasks.worker.pools.handle import ChildHandle
from djtasks.worker.pools.keeping import in_words, keep, losses
from djtasks.worker.pools.nursery import Nursery, allow_files
from djtasks.worker.pools.servers import Servers
from djtasks.worker.pools.slots import Slots

logger = logging.getLogger("djtasks.worker")

#: A child that ends sooner than this without having ended a task is not replaced at once.
TOO_SOON = 1.0
#: Nothing more is laid behind a run that has already lasted this long.
LONG_RUN = 0.1


class PreforkPool(Pool):
    """`concurrency` children of one fork server, and those of the one before that still end a task."""

    name = "prefork"
    soft_limits = hard_limits = terminates = recycles = resizes = restarts = True
    most = MOST_SLOTS

    def __init__(self, concurrency: int, options: ChildOptions, prefetch_multiplier: int = 0) -> None:
        super().__init__(concurrency, prefetch_multiplier)
        self.options = options
        # A restart has two of each, for a while. What no child has touched takes no memory.
        self.slots = Slots(2 * max(MOST_SLOTS, concurrency))
        self.servers = Servers(self.slots, options)
        #: By slot: those that take jobs.
        self.children: dict[int, ChildHandle] = {}
        #: By slot: those that take none any more.
        self.leaving: dict[int, ChildHandle] = {}
        self.events: list[Event] = []
        self._ready: set[ChildHandle] = set()
        self.nursery = Nursery(self._spawn, self._read)
        self._closing = self._killed = False

    @classmethod
    def make(cls, options: PoolOptions) -> Self:
        child = ChildOptions(
            options.hostname,
            options.max_tasks_per_child,
            options.max_memory_per_child,
            options.loglevel,
            options.logfile,
            options.include,
            app=options.app,
        )
        return cls(options.concurrency, child, options.prefetch_multiplier)

    def prepare(self) -> None:
        """Fork the server."""
        try:
            allow_files(self.concurrency)
        except ValueError as error:
            raise ImproperlyConfigured(str(error)) from None
        self.servers.current.fork()

    @property
    def busy(self) -> int:
        held = sum(len(child.jobs) for child in self.children.values()) + len(self.events)
        return held + sum(len(child.jobs) for child in self.leaving.values()) if self.leaving else held

    @property
    def at_work(self) -> int:
        return sum(1 for child in list(self.children.values()) if child.jobs)

    @property
    def process_group(self) -> int | None:
        return self.servers.group or None

    def start(self, selector: selectors.BaseSelector) -> None:
        self.selector = selector
        self.servers.watch(selector)
        self._fill()

    def _spawn(self) -> ChildHandle:
        if signals.worker_before_create_process.receivers:
            signals.worker_before_create_process.send(sender=self)
        slot = next(each for each in itertools.count() if each not in self.children and each not in self.leaving)
        child = ChildHandle(slot, self.servers.current, self.options.max_tasks)
        self.children[slot] = child
        self.selector.register(child.outcomes.end, selectors.EVENT_READ, functools.partial(self._ready.add, child))
        return child

    def _fill(self) -> None:
        """Start all that lack."""
        self.nursery.due = [0.0] * (self.concurrency - len(self.children))
        self.nursery.tend(time.monotonic())

    def room(self) -> int:
        """None while all children have more than three quarters of what they may hold: a claim is to be worth it."""
        depth, now = self.depth(), time.monotonic()
        room, worth_it = 0, False
        for child in self.children.values():
            if free := self._free(child, depth, now):
                room += free
                worth_it = worth_it or len(child.jobs) * 4 <= depth * 3
        return room if worth_it else 0

    def _free(self, child: ChildHandle, depth: int, now: float) -> int:
        free = depth - len(child.jobs)
        if child.jobs and free > 0:
            claim, since = self.slots.in_hand(child.slot)
            if now - since > LONG_RUN and claim in child.jobs:
                return 0
        return max(0, free if child.remaining is None else min(free, child.remaining))

    def submit(self, jobs: Sequence[Job]) -> None:
        now = time.monotonic()
        depth = self.depth()
        free = {child.slot: self._free(child, depth, now) for child in self.children.values()}
        for job in jobs:
            slot = max(free, key=free.__getitem__, default=None)
            if slot is None:
                self.events.append(Unstarted(job))
                continue
            free[slot] -= 1
            self.children[slot].give(job)

    def collect(self) -> list[Event]:
        while self.servers.speaking:
            self._hear(self.servers.speaking.pop())
        while self._ready:
            self._read(self._ready.pop())
        events, self.events = self.events, []
        return events

    def _read(self, child: ChildHandle) -> None:
        """Everything the child has sent."""
        jobs, events, saw = child.jobs, self.events, self.pace.saw
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while (packet := child.outcomes.read()) is not None:
                kind = packet[0]
                if kind == "outcome":
                    outcome = Outcome._make(packet[1:])
                    if outcome.again is not None:
                        outcome = outcome._replace(again=Again._make(outcome.again))
                    if jobs.pop(outcome.claim, None) is not None:
                        child.ended += 1
                        saw(outcome.runtime)
                        events.append(outcome)
                elif kind == "progress":
                    events.append(Progress._make(packet[1:]))
                elif kind == "ready":
                    self.nursery.unborn.discard(child)
                elif (job := jobs.pop(packet[1], None)) is not None:
                    events.append(Unstarted(job))
            # The end of the stream is only news to the selector: the server reports the child's end.
            with contextlib.suppress(KeyError):
                self.selector.unregister(child.outcomes.end)
        if child.unsent:
            child.push()

    def _hear(self, server: ForkServer) -> None:
        """What a fork server reports of its children, and of itself."""
        try:
            reports = server.events()
        except EOFError:
            self._gone(server)
            return
        for report in reports:
            if isinstance(report, Ready):
                if server is self.servers.coming:
                    self._switch()
                continue
            child = self.children.get(report.slot) or self.leaving.get(report.slot)
            if child is None or child.server is not server:
                continue
            if isinstance(report, Spawned):
                child.pid, child.spawned = report.pid, time.monotonic()
            elif isinstance(report, Refused):
                logger.error("A child process could not be forked: %s", report.why)
                self._bury(child, None)
            elif child.pid == report.pid:
                self._bury(child, report.code)

    def _bury(self, child: ChildHandle, code: int | None, *, replace: bool = True) -> None:
        """A child has ended: its outcomes count, what it had not read goes on, what it was at is lost.

        `code` is None for one that never was.
        """
        self._read(child)
        self.events.extend(Unstarted(job) for job in child.take_back())
        self.events.extend(losses(child, self.slots, code or 0))
        child.jobs.clear()
        with contextlib.suppress(KeyError):
            self.selector.unregister(child.outcomes.end)
        self._ready.discard(child)
        self.nursery.unborn.discard(child)
        child.close()
        left = self.leaving.pop(child.slot, None) is not None
        self.children.pop(child.slot, None)
        if self._closing:
            return
        if code is not None and code != RECYCLED and not (left and not code):
            logger.error("Child process pid:%d exited with %s", child.pid, in_words(code))
        if replace and not left:
            now = time.monotonic()
            hasty = not child.ended and now - child.born < TOO_SOON
            self.nursery.due.append(now + TOO_SOON if hasty or code is None else now)
            self.nursery.tend(now)

    def _gone(self, server: ForkServer) -> None:
        """A fork server has ended; its children ended before, or end with it."""
        servers = self.servers
        lost = [child for child in self._all() if child.server is server]
        if server is servers.coming:
            logger.error("The pool does not begin anew: its new fork server ended before it was ready; see its error")
        elif server is servers.current or lost:
            more = "; starting another" if server is servers.current else ""
            logger.error("The fork server pid:%d is gone, and its children with it%s", server.pid, more)
        server.kill(alone=len(servers.all) > 1)
        for child in lost:
            # Their end is certain but not instant: what they still say is waited for, up to the end of the stream.
            child.outcomes.end.setblocking(True)
            child.outcomes.end.settimeout(1.0)
            with contextlib.suppress(TimeoutError):
                self._read(child)
            child.outcomes.end.setblocking(False)
            self._bury(child, -signal.SIGKILL, replace=False)
        if server is servers.current:
            self.nursery.due.clear()
        servers.reap(server)
        if self._closing:
            servers.start_at = None

    def _start_server(self) -> None:
        try:
            self.servers.start()
        except OSError as error:
            logger.error("No fork server could be started: %s", error)
            return
        self._fill()

    # -- another size, another server -----------------------------------------------------------------------------

    def grow(self, n: int) -> None:
        """Raises ValueError where this process may not open so many files, or ends."""
        if self._closing:
            raise ValueError("the worker stops: its pool cannot grow any more")
        allow_files(self.concurrency + n + len(self.leaving))
        self.concurrency += n
        if self.servers.current.pid:
            self.nursery.due.extend([0.0] * n)
            self.nursery.tend(time.monotonic())

    def shrink(self, n: int) -> int:
        n = min(n, self.concurrency - 1)
        # First those that are not there, then those with the highest slots.
        done = min(n, self.concurrency - len(self.children))
        del self.nursery.due[:done]
        for child in sorted(self.children.values(), key=lambda each: -each.slot):
            if done < n and not child.jobs:
                self._leave(child)
                done += 1
        self.concurrency -= done
        return done

    def _leave(self, child: ChildHandle) -> None:
        """Let it end what it has begun, and then itself."""
        self.events.extend(Unstarted(job) for job in child.take_back())
        self.leaving[child.slot] = self.children.pop(child.slot)
        child.end()

    def restart(self, modules: Sequence[str] = ()) -> None:
        if self._closing:
            raise ValueError("the worker stops: its pool cannot begin anew")
        if self.servers.coming is not None:
            raise ValueError("the pool is about to begin anew already")
        if 2 * self.concurrency + len(self.leaving) > self.slots.count:
            raise ValueError(f"{len(self.leaving)} processes of earlier restarts still end their tasks; wait for them")
        allow_files(2 * self.concurrency + len(self.leaving))
        self.servers.call(modules)

    def _switch(self) -> None:
        """The new server is ready: from now on its children are given the jobs."""
        self.servers.switch()
        for child in list(self.children.values()):
            self._leave(child)
        still = sum(1 for child in self.leaving.values() if child.jobs)
        logger.info("The pool begins anew: fork server pid:%d; %d tasks still run", self.servers.current.pid, still)
        self._fill()

    # -- now and then ---------------------------------------------------------------------------------------------

    def tend(self, now: float) -> float | None:
        """Replace what has died, keep limits, take back what lies behind a long run."""
        wanted: list[float] = []
        servers = self.servers
        if (start_at := servers.start_at) is not None:
            if now >= start_at:
                self._start_server()
            else:
                wanted.append(start_at)
        if servers.coming is not None:
            wanted.append(servers.late(now))
        if self.nursery.due or self.nursery.unborn:
            wanted.append(self.nursery.tend(now))
        for child in self.children.values():
            if child.jobs:
                wanted.append(keep(child, self.slots, now, self.events))
        for child in self.leaving.values():
            if child.jobs:
                wanted.append(keep(child, self.slots, now, self.events))
        return min(wanted, default=None)

    def _all(self) -> list[ChildHandle]:
        return [*list(self.children.values()), *list(self.leaving.values())]

    def running(self) -> list[int]:
        found = [(self.slots.in_hand(child.slot).claim, child) for child in self._all()]
        return [claim for claim, child in found if claim in child.jobs]

    def begun(self) -> dict[int, Begun]:
        found = [(self.slots.in_hand(child.slot), child) for child in self._all()]
        return {
            in_hand.claim: Begun(in_hand.since, child.pid) for in_hand, child in found if in_hand.claim in child.jobs
        }

    def processes(self) -> list[int]:
        return [child.pid for child in self._all() if child.pid]

    def withdraw(self) -> list[Job]:
        return [job for child in self._all() for job in child.take_back()]

    def recall(self, claims: Collection[int]) -> list[Job]:
        found: list[Job] = []
        for child in self._all():
            if not child.jobs.keys().isdisjoint(claims):
                for job in child.take_back():
                    if job.message.claim in claims:
                        found.append(job)
                    else:
                        self.events.append(Unstarted(job))
        return found

    def terminate(self, claim: int, signum: int) -> bool:
        for child in self._all():
            if claim in child.jobs:
                child.ending.setdefault(claim, (signum, None))
                return True
        return False

    def close(self) -> None:
        self._closing = True
        self.servers.forget_coming()
        self.nursery.due.clear()
        for child in self._all():
            child.end()

    def join(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (self.children or self.leaving) and (left := deadline - time.monotonic()) > 0:
            for key, _ in self.selector.select(left):
                key.data()
            while self.servers.speaking:
                self._hear(self.servers.speaking.pop())

    def kill(self) -> None:
        self._closing = True
        if self._killed:
            return
        self._killed = True
        self.nursery.due.clear()
        self.servers.close()
        for child in self._all():
            self._bury(child, -signal.SIGKILL)
