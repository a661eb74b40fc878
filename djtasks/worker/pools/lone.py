"""A pool of one child process, in which everything runs: how the child and its fork server begin, and are replaced."""

import contextlib
import logging
import math
import selectors
import signal
import socket
import time
from abc import abstractmethod

from djtasks import signals
from djtasks.conf import settings
from djtasks.worker.pools import packets
from djtasks.worker.pools.base import Event, Job, Lost, Pool, Unstarted
from djtasks.worker.pools.child import ChildOptions, as_fields
from djtasks.worker.pools.forkserver import Exited, ForkServer, Refused, Spawned
from djtasks.worker.pools.handle import ChildHandle
from djtasks.worker.pools.slots import InHand, Slots

logger = logging.getLogger("djtasks.worker")

#: A child that ends sooner than this is not replaced at once; and so a fork server.
TOO_SOON = 1.0
SERVER_TOO_SOON = 5.0
#: How long, at the least, an interpreter may take to import the project's tasks, in seconds.
BOOT = 60.0


class CrowdHandle(ChildHandle):
    """The worker's side of a crowd's process."""

    def __init__(self, server: ForkServer) -> None:
        super().__init__(0, server, None)
        #: It has begun to take jobs.
        self.up = False
        #: Why it is being killed: the claim and its hard limit, or None for the end of a revoked run.
        self.killed_for: tuple[int, float | None] | None = None

    def _send(self, job: Job) -> bool:
        try:
            packets.send(self.tasks, (*as_fields(job), job.soft, job.hard))
        except OSError:
            return False
        return True

    def order_end(self, claim: int, signum: int) -> None:
        """Have a run end that has begun."""
        # With the socket full it is asked for again by a signal, and in the end killed.
        with contextlib.suppress(OSError):
            packets.send(self.outcomes.end, ("end", claim, signum))


class LonePool(Pool):
    """One process with `concurrency` seats: each has a slot, which says what it has begun."""

    def __init__(self, concurrency: int, options: ChildOptions, prefetch_multiplier: int = 0) -> None:
        super().__init__(concurrency, prefetch_multiplier)
        self.options = options
        self.slots = Slots(concurrency)
        self.server = ForkServer(self.slots, options)
        self.child: CrowdHandle | None = None
        self.events: list[Event] = []
        #: By claim: what has limits, and what is to end (the signal, and when it was asked for).
        self.limited: dict[int, Job] = {}
        self.ending: dict[int, tuple[int, float]] = {}
        self._news = self._server_news = False
        self._spawn_at: float | None = None
        self._server_born = -math.inf
        self._start_server_at: float | None = None
        self._closing = self._killed = False

    @abstractmethod
    def hear(self, child: CrowdHandle) -> None:
        """Take in everything that the child has sent, up to the end of the stream."""

    def prepare(self) -> None:
        """Fork the server."""
        self.server.fork()

    @property
    def process_group(self) -> int | None:
        return self.server.group or None

    def processes(self) -> list[int]:
        child = self.child
        return [] if child is None or not child.pid else [child.pid]

    def has_begun(self, child: CrowdHandle) -> dict[int, tuple[int, float]]:
        """What has begun, and has not ended as far as we know: its slot, and since when, by its claim."""
        found: list[InHand] = [self.slots.in_hand(slot) for slot in range(self.concurrency)]
        return {each.claim: (slot, each.since) for slot, each in enumerate(found) if each.claim in child.jobs}

    def take_in_news(self) -> None:
        """Hear the server and the child, if they have said something."""
        if self._server_news:
            self._server_news = False
            self._hear_server()
        if self._news:
            self._news = False
            if self.child is not None:
                self.hear(self.child)

    def see_to_processes(self, now: float) -> list[float]:
        """Start what is to be started now; when to look again."""
        wanted: list[float] = []
        child = self.child
        if child is not None and not child.up and child.spawned is not None:
            late = max(BOOT, settings.WORKER_PROC_ALIVE_TIMEOUT)
            if now - child.spawned > late:
                logger.error("Child process pid:%d was not ready within %g seconds: it is replaced", child.pid, late)
                self.server.tell("kill", 0, child.pid, int(signal.SIGKILL))
            wanted.append(max(now + 1.0, child.spawned + late))
        if self._start_server_at is not None:
            if now >= self._start_server_at:
                self._start_server()
            else:
                wanted.append(self._start_server_at)
        if self._spawn_at is not None:
            if now >= self._spawn_at:
                self._spawn()
            else:
                wanted.append(self._spawn_at)
        return wanted

    def start(self, selector: selectors.BaseSelector) -> None:
        self.selector = selector
        self._watch_server()
        self._spawn()

    def _watch_server(self) -> None:
        self.selector.register(self.server.control, selectors.EVENT_READ, self._server_speaks)

    def _server_speaks(self) -> None:
        self._server_news = True

    def _child_speaks(self) -> None:
        self._news = True

    def _spawn(self) -> None:
        self._spawn_at = None
        if signals.worker_before_create_process.receivers:
            signals.worker_before_create_process.send(sender=self)
        for slot in range(self.concurrency):
            self.slots.clear(slot)
        self.child = CrowdHandle(self.server)
        self.selector.register(self.child.outcomes.end, selectors.EVENT_READ, self._child_speaks)

    def _hear_server(self) -> None:
        try:
            reports = self.server.events()
        except EOFError:
            self._replace_server()
            return
        child = self.child
        for report in reports:
            if child is None:
                continue
            if isinstance(report, Spawned):
                child.pid, child.spawned = report.pid, time.monotonic()
            elif isinstance(report, Exited) and child.pid == report.pid:
                self._bury(child, report.code)
            elif isinstance(report, Refused):
                logger.error("A process for tasks could not be started: %s", report.why)
                self._bury(child, 1)

    def _bury(self, child: CrowdHandle, code: int) -> None:
        """It has ended: its outcomes count, what had not begun goes on, what had is lost."""
        self.hear(child)
        self.events.extend(Unstarted(job) for job in child.take_back())
        how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
        begun = self.has_begun(child)
        for claim, job in child.jobs.items():
            if claim not in begun:
                self.events.append(Unstarted(job))
                continue
            hard = child.killed_for[1] if child.killed_for and child.killed_for[0] == claim else None
            signum = self.ending[claim][0] if claim in self.ending else None
            self.events.append(Lost(job, how, hard, signum if hard is None else None))
        child.jobs.clear()
        self.limited.clear()
        self.ending.clear()
        with contextlib.suppress(KeyError, ValueError):
            self.selector.unregister(child.outcomes.end)
        child.close()
        self.child = None
        if self._closing:
            return
        logger.error("Child process pid:%d exited with %s", child.pid, how)
        now = time.monotonic()
        self._spawn_at = now if child.ended or now - child.born >= TOO_SOON else now + TOO_SOON

    def _replace_server(self) -> None:
        """The fork server was killed, and so was its child."""
        logger.error("The fork server pid:%d is gone, and its child with it; starting another", self.server.pid)
        self.selector.unregister(self.server.control)
        self.server.kill()
        if (child := self.child) is not None:
            # Its end is certain but not instant: what it still says is waited for, up to the end of the stream.
            child.outcomes.end.settimeout(1.0)
            with contextlib.suppress(TimeoutError):
                self.hear(child)
            child.outcomes.end.setblocking(False)
            self._bury(child, -signal.SIGKILL)
        self.server.close()
        self._spawn_at = None
        if not self._closing:
            self._start_server_at = max(time.monotonic(), self._server_born + SERVER_TOO_SOON)

    def _start_server(self) -> None:
        self._start_server_at = None
        self._server_born = time.monotonic()
        self.server.execute()
        self._watch_server()
        self._spawn()

    def close(self) -> None:
        self._closing = True
        self._start_server_at = self._spawn_at = None
        if self.child is not None:
            with contextlib.suppress(OSError):
                self.child.tasks.shutdown(socket.SHUT_WR)

    def join(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.child is not None and (left := deadline - time.monotonic()) > 0:
            for key, _ in self.selector.select(left):
                key.data()
            if self._server_news:
                self._server_news = False
                self._hear_server()

    def kill(self) -> None:
        self._closing = True
        if self._killed:
            return
        self._killed = True
        self._start_server_at = self._spawn_at = None
        with contextlib.suppress(KeyError, ValueError, AttributeError):
            self.selector.unregister(self.server.control)
        self.server.close()
        if self.child is not None:
            self._bury(self.child, -signal.SIGKILL)
